"""A rater's page in a real browser, on a desk and on a phone: Debian's Chromium, driven by Playwright.

`pytest tests/study/test_browser.py --write-golden` takes the screenshots of docs/study.md anew.
"""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vilex.study.answer_store import Answers
from vilex.study.dealing import Deal
from vilex.study.design import StudyPlan, make_study
from vilex.study.folders import read_method, read_sources
from vilex.study.rating import rating_server
from vilex.study.wording import Wording

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
DESK = {"viewport": {"width": 1200, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def study(tmp_path):
    """The sample pictures, clearer and less clear."""
    rng = np.random.default_rng(0)
    for path in (ROOT / "examples" / "images").glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB").resize((64, 64)))
        for name, noise in (("sources", 0.0), ("clear", 12.0), ("unclear", 45.0)):
            (tmp_path / name).mkdir(exist_ok=True)
            drawn = np.clip(pixels + rng.normal(0, 1, pixels.shape) * noise, 0, 255).astype(np.uint8)
            Image.fromarray(drawn).save(tmp_path / name / path.name)
    sources = read_sources(tmp_path / "sources")
    methods = [read_method(str(tmp_path / name), sources) for name in ("clear", "unclear")]
    return make_study(tmp_path / "study", methods, sources, StudyPlan(Deal(3, 0, 0, 1), raters=3, ties=True))


@pytest.fixture
def open_page(study):
    """Pages by their settings. Afterwards: none has asked another server for anything, or complained."""
    from playwright.sync_api import sync_playwright

    asked, complaints = [], []
    with rating_server(study) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def make(**settings):
            page = browser.new_context(**settings).new_page()
            page.set_default_timeout(120_000)
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda said: complaints.append(said.text))
            page.goto(address)
            return page

        yield make
        browser.close()
        assert [url for url in asked if not url.startswith(address)] == [] and complaints == []


def begin(page):
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/r/*")
    page.wait_for_load_state()


def turn(page, act):
    """Do what brings the next page, and wait for it."""
    with page.expect_navigation():
        act()


def shoot(request, page, name):
    if request.config.getoption("--write-golden"):
        picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
        picture.quantize(128, dither=Image.Dither.NONE).save(ROOT / "docs" / "images" / f"study-{name}.png")


def press(page, key):
    """Press a key and wait for the next question."""
    before = page.locator("h1").inner_text() + page.locator("progress").get_attribute("value")
    page.keyboard.press(key)
    page.wait_for_function("before => document.querySelector('h1').innerText + (document.querySelector('progress')"
                           "?.getAttribute('value') ?? '') !== before", arg=before)  # fmt: skip
    page.wait_for_load_state()


@pytest.mark.parametrize(("name", "settings"), [("desk", DESK), ("phone", PHONE)])
def test_source_and_both_methods_are_seen_at_once(request, open_page, name, settings):
    page = open_page(**settings)
    begin(page)
    for _ in range(3):  # practice
        turn(page, page.locator("button[value=left]").click)
    shoot(request, page, name)
    width, height = settings["viewport"].values()
    boxes = [one.bounding_box() for one in page.locator("img").all()]
    assert len(boxes) == 3 and all(box["width"] >= 120 for box in boxes)
    source, left, right = boxes
    assert source["y"] + source["height"] <= left["y"] == right["y"] and left["x"] + left["width"] < right["x"]
    for one in page.locator("h1, img, button").all():
        box = one.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= height
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_alone_answers_everything(study, open_page):
    page = open_page(**DESK)
    begin(page)
    keys = ["ArrowLeft", "ArrowRight", "ArrowDown"] * 4
    for key in keys:
        press(page, key)
    assert page.locator("h1").inner_text() == Wording().done
    answers = Answers(study)
    (rater,) = answers.raters()
    given = answers.of(rater)
    assert [one.choice for one in given] == ["left", "right", "tie"] * 4
    assert all(0 < one.seconds < 20 for one in given)


def test_going_back_and_answering_again_changes_nothing(study, open_page):
    page = open_page(**DESK)
    begin(page)
    press(page, "ArrowLeft")
    page.go_back()
    page.wait_for_load_state()
    turn(page, page.locator("button[value=right]").click)
    answers = Answers(study)
    by_question = {(one.trial, one.criterion): one.choice for one in answers.all()}
    assert by_question[0, "semantic"] == "left"


def test_without_a_script_everything_works(study, open_page):
    page = open_page(**PHONE, java_script_enabled=False)
    begin(page)
    turn(page, page.locator("button[value=right]").tap)
    (given,) = Answers(study).all()
    assert (given.choice, given.seconds) == ("right", None)
    turn(page, page.get_by_role("link", name=Wording().withdraw).click)
    turn(page, page.get_by_role("button", name=Wording().withdraw_yes).click)
    assert page.locator("h1").inner_text() == Wording().withdrawn and Answers(study).all() == []
