"""The tab Compose: up to four pictures among words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vilex.app.examples import Examples, example_button
from vilex.app.limits import SEEDS, SWEEP, WEIGHT, WORDS
from vilex.app.mask import painter, read_mask
from vilex.app.sentence import Remarks, complete, remarks
from vilex.app.studio import Drawn, OnStep, Part, Shown, Studio, Upload, in_one_line
from vilex.app.widgets import Results, Settings, buttons, picture_box, slider, wire, wire_stop
from vilex.errors import InputError
from vilex.extras import needs
from vilex.guidance import Guidance
from vilex.prompt import image_name, parse

with needs("app"):
    import gradio as gr

NAMES = ("one", "two", "three", "four")
FIELDS = 4  # a picture's: itself, its name, tokens, weight
SENTENCE = "<one:4> in the snow"
INSERT = """
(sentence, name, tokens) => {
  const slot = tokens > 0 ? `<${name}:${tokens}>` : `<${name}>`;
  const box = document.querySelector('#sentence textarea');
  const at = box && box.value === sentence ? box.selectionStart : sentence.length;
  const before = sentence.slice(0, at), after = sentence.slice(at);
  const gap = (text, end) => text && !(end ? /\\s$/ : /^\\s/).test(text) ? ' ' : '';
  return before + gap(before, true) + slot + gap(after, false) + after;
}
"""


@dataclass(frozen=True)
class Named:
    """A picture that was given: as what the sentence knows it, its tokens where a slot names none, its weight."""

    picture: Upload
    name: str
    tokens: int
    weight: float


def compose_tab(studio: Studio, examples: Examples) -> None:
    """Lay the tab out."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            sentence = gr.Textbox(SENTENCE, label="Sentence", lines=2, elem_id="sentence", render=False)
            boxes = [field for name in NAMES for field in _picture_fields(studio, name, sentence)]
            sample = example_button(examples, "e.g. dog", ["dog"], [boxes[0]], False)
            with gr.Accordion("Start from a picture, or change a part of it", open=False):
                start = picture_box("Start", 200)
                mask = painter(start)
                strength = slider(0.05, 1.0, 0.8, "Strength", 0.05, "How far to leave the start behind.")
            settings = Settings(studio, cfg=2.0, sizes=True)
        with gr.Column(scale=2, min_width=300):
            sentence.render()
            said = gr.Textbox(
                "Picture 1 is missing.", show_label=False, container=False, interactive=False, lines=1, max_lines=6,
                elem_classes="said",
            )  # fmt: skip
            with gr.Row():
                tfg = slider(0.0, WEIGHT, 4.0, "TFG", 0.5, "Words against the pictures alone; 0 leaves the words out.")
                negative = gr.Textbox("", label="Steer away from", placeholder="words, or <name>")
            draw, stop = buttons("Compose")
            sweep = gr.Button(f"Sweep TFG: {', '.join(f'{weight:g}' for weight in SWEEP)}")
            results = Results(studio, len(SWEEP), "Put a picture in, write a sentence, then Compose.")
    inputs = [
        sentence, negative, settings.cfg, tfg, settings.steps, settings.scale, settings.seed, settings.seeds,
        start, mask, strength, settings.width, settings.height, *boxes,
    ]  # fmt: skip
    jobs = [
        wire(draw, _compose(studio, None), inputs, results.outputs, "compose", "Pictures among words."),
        wire(
            sweep, _compose(studio, SWEEP), inputs, results.outputs, "sweep",
            f"The same at text-free guidance of {', '.join(f'{weight:g}' for weight in SWEEP)}.",
        ),
    ]  # fmt: skip
    wire_stop(studio, stop, results.status, [*jobs, sample], public=False)
    gr.on(
        [box.change for box in (sentence, *boxes)], _check(studio), [sentence, *boxes], said, queue=False,
        show_progress="hidden", trigger_mode="always_last", api_name="check",
        api_description="What a sentence lacks, before anything is drawn.",
    )  # fmt: skip


def _picture_fields(studio: Studio, name: str, sentence: Any) -> list[Any]:
    """A picture's box, name, tokens and weight, and a button that puts it into the sentence."""
    with gr.Accordion(f"Picture {NAMES.index(name) + 1}", open=name == NAMES[0]):
        box = picture_box("Picture", 160, show_label=False)
        written = gr.Textbox(name, label="Name", max_length=60)
        tokens = slider(0, studio.lexicon.num_tokens, 4, "Tokens, 0 for all that fit")
        weight = slider(0.0, 2.0, 1.0, "Weight, 0 to leave it out", 0.1)
        insert = gr.Button("Insert into the sentence", size="sm")
    insert.click(None, [sentence, written, tokens], sentence, js=INSERT, queue=False, api_visibility="private")
    return [box, written, tokens, weight]


def named(*fields: Any) -> list[Named]:
    """The fields of all pictures, (picture, name, tokens, weight) each; without those that have no picture.

    Names are what prompts know them by, where they can be.
    """
    rows = [fields[i : i + FIELDS] for i in range(0, len(fields), FIELDS)]
    return [Named(picture, image_name(str(name)) or str(name)[:60], *more) for picture, name, *more in rows if picture]


def _check(studio: Studio) -> Any:
    def check(
        sentence: str,
        picture_1: Upload | None = None, name_1: str = "one", tokens_1: int = 4, weight_1: float = 1.0,
        picture_2: Upload | None = None, name_2: str = "two", tokens_2: int = 4, weight_2: float = 1.0,
        picture_3: Upload | None = None, name_3: str = "three", tokens_3: int = 4, weight_3: float = 1.0,
        picture_4: Upload | None = None, name_4: str = "four", tokens_4: int = 4, weight_4: float = 1.0,
    ) -> str:  # fmt: skip
        """What a sentence lacks, before anything is drawn."""
        given = named(
            picture_1, name_1, tokens_1, weight_1, picture_2, name_2, tokens_2, weight_2,
            picture_3, name_3, tokens_3, weight_3, picture_4, name_4, tokens_4, weight_4,
        )  # fmt: skip
        found = _remarks(studio, sentence, given)
        return "\n".join([*found.wrong, *found.odd]) or "Nothing is lacking."

    return check


def _compose(studio: Studio, sweep: Sequence[float] | None) -> Any:
    def compose(
        request: gr.Request, sentence: str, negative: str, cfg: float, tfg: float, steps: int, scale: int,
        seed: int, seeds: int,
        start: Upload | None = None, mask: str | None = None, strength: float = 0.8,
        width: int | None = None, height: int | None = None,
        picture_1: Upload | None = None, name_1: str = "one", tokens_1: int = 4, weight_1: float = 1.0,
        picture_2: Upload | None = None, name_2: str = "two", tokens_2: int = 4, weight_2: float = 1.0,
        picture_3: Upload | None = None, name_3: str = "three", tokens_3: int = 4, weight_3: float = 1.0,
        picture_4: Upload | None = None, name_4: str = "four", tokens_4: int = 4, weight_4: float = 1.0,
        progress: Any = gr.Progress(),  # noqa: B008 (gradio finds it here)
    ) -> Iterator[tuple[Shown, str]]:  # fmt: skip
        """Draw a sentence with pictures in it."""
        given = named(
            picture_1, name_1, tokens_1, weight_1, picture_2, name_2, tokens_2, weight_2,
            picture_3, name_3, tokens_3, weight_3, picture_4, name_4, tokens_4, weight_4,
        )  # fmt: skip
        with in_one_line(request):
            if wrong := _remarks(studio, sentence, given).wrong:
                raise InputError(" ".join(wrong))
            prompt = complete(sentence, {one.name: one.tokens for one in given})
            size = width or studio.lexicon.t2i.image_size, height or studio.lexicon.t2i.image_size
            how = Wanted(prompt, negative[:WORDS], cfg, steps, scale, seed, seeds, start, mask, strength, size, given)
            weights = [tfg] if sweep is None else sweep
            parts = [_part(studio, how, weight, 1 if sweep else seeds) for weight in weights]
            yield from studio.draw(parts, scale, request, progress)

    return compose


def _remarks(studio: Studio, sentence: str, given: Sequence[Named]) -> Remarks:
    lexicon, names = studio.lexicon, [one.name for one in given]
    reads = lexicon.t2i.reads_emphasis, lexicon.encoder.adapter is None
    return remarks(sentence, names, lexicon.t2i.frame, lexicon.num_tokens, *reads)


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn, as the page has it."""

    prompt: str
    negative: str
    cfg: float
    steps: int
    scale: int
    seed: int
    seeds: int
    start: Upload | None
    mask: str | None
    strength: float
    size: tuple[int, int]  # width, height
    given: Sequence[Named]

    def used(self) -> list[Named]:
        """The pictures that the sentence or what is steered away from names."""
        names = {*parse(self.prompt).names, *parse(self.negative).names}
        return [one for one in self.given if one.name in names]


def _part(studio: Studio, how: Wanted, tfg: float, count: int) -> Part:
    """`count` pictures at one weight of text-free guidance."""

    def drawn(on_step: OnStep) -> list[Drawn]:
        start = how.start.picture() if how.start else None
        mask = read_mask(how.mask, start.size) if start else None
        strength = None if start is None else how.strength
        used = how.used()
        pictures = studio.lexicon.generate(
            how.prompt, {one.name: one.picture.picture() for one in used}, num_images=count, seed=how.seed,
            weights={one.name: one.weight for one in used}, negative=how.negative, guidance=Guidance(how.cfg, tfg),
            steps=how.steps, width=how.size[0], height=how.size[1], start=start,
            strength=strength, mask=mask, on_step=on_step, batch_size=SEEDS,
        )  # fmt: skip
        settings = {
            "command": "generate", "prompt": how.prompt, "images": {one.name: one.picture.name for one in used},
            "image_sha256": {one.name: one.picture.sha256 for one in used},
            "weights": {one.name: one.weight for one in used}, "tokens": None, "cfg": how.cfg, "tfg": tfg,
            "interval": [0.0, 1.0], "negative": how.negative, "steps": how.steps, "scheduler": "dpm++",
            "start": how.start and how.start.name, "strength": strength, "mask": "painted" if mask else None,
            "start_sha256": {"start": how.start.sha256} if how.start else {}, "size": list(how.size),
            "scale": how.scale,
        }  # fmt: skip
        return [
            Drawn(one, f"TFG {tfg:g}, seed {how.seed + k}", f"tfg-{tfg:g}-seed-{how.seed + k}.png",
                  {**settings, "seed": how.seed + k})
            for k, one in enumerate(pictures)
        ]  # fmt: skip

    return Part(f"TFG {tfg:g}", drawn)
