"""A rater's pages as HTML. They work without a script; the script adds keys and measures time.

Nothing in them says which method made a picture, and nothing is asked of other servers.
"""

import re
from collections.abc import Sequence
from html import escape

from vilex.study.answer_store import Rater
from vilex.study.design import Study

POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
STYLE = """
:root { color-scheme: light; --line: #c9ccd3; --ink: #1d2026; --soft: #5b606b; --mark: #2f5bd0; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 56rem; padding: 0.75rem 1rem; color: var(--ink); background: #f4f5f7;
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
em { font-style: normal; color: var(--mark); }
h1 { font-size: 1.25rem; line-height: 1.3; margin: 0.4rem 0 0.1rem; text-align: center; }
p { margin: 0.5rem 0; }
.hint, .practice, footer { color: var(--soft); text-align: center; margin: 0; font-size: 0.9rem; }
.practice { color: #8a4b00; font-weight: 600; }
.top { display: flex; gap: 0.75rem; align-items: center; font-size: 0.9rem; color: var(--soft); }
progress { flex: 1; height: 0.5rem; accent-color: var(--mark); }
figure { margin: 0.6rem auto; text-align: center; }
figcaption, .label { display: block; font-weight: 600; padding: 0.2rem; }
img { display: block; width: min(29vh, 40vw, 20rem); height: min(29vh, 40vw, 20rem); object-fit: contain;
  margin: auto; }
.pair { display: flex; justify-content: center; gap: 0.75rem; direction: ltr; }
button { font: inherit; color: inherit; background: #fff; border: 2px solid var(--line); border-radius: 0.6rem;
  padding: 0.5rem; cursor: pointer; min-height: 2.75rem; }
button:hover, button:focus-visible { border-color: var(--mark); outline: none; }
button:disabled { opacity: 0.6; }
.tie { display: block; margin: 0.75rem auto 0; padding: 0.5rem 1.5rem; }
.main { background: var(--mark); border-color: var(--mark); color: #fff; padding: 0.6rem 2rem; font-weight: 600; }
.main:focus-visible { outline: 3px solid var(--ink); }
.text { background: #fff; border: 1px solid var(--line); border-radius: 0.6rem; padding: 0.5rem 1.25rem 1.25rem;
  margin-top: 1rem; }
.text h1 { text-align: start; margin: 0.6rem 0; }
.agree { display: flex; gap: 0.6rem; align-items: center; margin: 1rem 0; min-height: 2.75rem; }
.agree input { width: 1.4rem; height: 1.4rem; flex: none; }
.row { display: flex; flex-wrap: wrap; gap: 0.75rem; align-items: center; }
footer { margin-top: 1rem; }
footer a { color: var(--soft); display: inline-block; padding: 0.35rem 0.5rem; }
@media (hover: none) { .keys { display: none; } }
"""
SCRIPT = """
"use strict";
const form = document.querySelector("form.choice");
if (form) {
  let from = null;
  let sent = false;
  addEventListener("load", () => { from = performance.now(); });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  form.addEventListener("submit", (event) => {
    if (sent) { event.preventDefault(); return; }
    sent = true;
    if (from !== null) { form.elements.seconds.value = ((performance.now() - from) / 1000).toFixed(3); }
  });
  const keys = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" };
  addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) { return; }
    const button = keys[event.key] && form.querySelector(`button[value=${keys[event.key]}]`);
    if (button) { event.preventDefault(); button.click(); }
  });
}
"""


def welcome_page(study: Study) -> str:
    """What the study is, and the consent without which nothing begins."""
    text = study.wording
    return _page(
        study,
        f'<main class="text"><h1>{escape(text.title)}</h1>{_paragraphs(text.introduction)}{_paragraphs(text.consent)}'
        '<form method="post" action="/join"><label class="agree"><input type="checkbox" name="agree" value="yes" '
        f'required><span>{escape(text.agree)}</span></label><button class="main">{escape(text.start)}</button></form>'
        "</main>",
    )


def question_page(study: Study, rater: Rater, done: int, count: int, trial: int, criterion: str) -> str:
    """One question about one source and two pictures."""
    text, design = study.wording, study.design
    shown = design.slots[rater.slot][trial]
    pair = "".join(
        f'<button name="choice" value="{side}"><img src="/p/{design.picture(shown, what)}" alt=""><span class="label">'
        f"{escape(label)}</span></button>"
        for side, what, label in (("left", shown.left, text.method_a), ("right", shown.right, text.method_b))
    )
    tie = f'<button class="tie" name="choice" value="tie">{escape(text.tie)}</button>' if design.plan.ties else ""
    practice = f'<p class="practice">{escape(text.practice)}</p>' if shown.kind == "practice" else ""
    said = text.progress.format(done=done, all=count)
    return _page(
        study,
        f'<div class="top"><progress value="{done}" max="{count}" aria-label="{escape(said)}"></progress>'
        f"<span>{escape(said)}</span></div><main>{practice}"
        f"<h1>{_stressed(getattr(text.question, criterion))}</h1>"
        f'<p class="hint">{escape(getattr(text.question, f"{criterion}_hint"))}</p>'
        f'<figure><img src="/p/{design.picture(shown)}" alt=""><figcaption>{escape(text.source)}</figcaption></figure>'
        f'<form class="choice" method="post"><input type="hidden" name="trial" value="{trial}"><input type="hidden" '
        f'name="criterion" value="{criterion}"><input type="hidden" name="seconds" value=""><div class="pair">{pair}'
        f"</div>{tie}</form></main>"
        f'<footer><p class="keys">{escape(text.keys_tie if design.plan.ties else text.keys)}</p>'
        f"<p>{escape(text.keep_link)}</p>{_own(study, rater)}</footer>",
    )


def done_page(study: Study, rater: Rater) -> str:
    """Thanks, and what the rater can still do."""
    return _page(
        study, f'<main class="text"><h1>{escape(study.wording.done)}</h1></main><footer>{_own(study, rater)}</footer>'
    )


def sure_page(study: Study, rater: Rater) -> str:
    """Whether the answers are really to be deleted."""
    text = study.wording
    return _page(
        study,
        f'<main class="text"><h1>{escape(text.withdraw_sure)}</h1><form method="post" class="row">'
        f'<button class="main">{escape(text.withdraw_yes)}</button><a href="/r/{rater.token}">'
        f"{escape(text.withdraw_no)}</a></form></main>",
    )


def said_page(study: Study, words: str) -> str:
    """One sentence."""
    return _page(study, f'<main class="text"><h1>{escape(words)}</h1></main>')


def _own(study: Study, rater: Rater) -> str:
    """Links to a rater's own answers."""
    text = study.wording
    links: Sequence[tuple[str, str]] = (("answers.json", text.download), ("delete", text.withdraw))
    return "".join(f'<a href="/r/{rater.token}/{place}">{escape(words)}</a>' for place, words in links)


def _stressed(text: str) -> str:
    """What stands between stars stands out."""
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", escape(text))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n"))


def _page(study: Study, body: str) -> str:
    text = study.wording
    return (
        f'<!doctype html>\n<html lang="{escape(text.language)}" dir="{text.direction}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f'<title>{escape(text.title)}</title><link rel="stylesheet" href="/style.css">'
        f'</head><body>{body}<script src="/keys.js"></script></body></html>\n'
    )
