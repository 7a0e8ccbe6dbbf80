"""The page in a real browser: Debian's Chromium, driven by Playwright.

`pytest tests/app/test_browser.py --write-golden` takes the screenshots of docs/app.md anew.
"""

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
WAIT = 120_000  # milliseconds


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, address):
    """Pages by their size. Afterwards: none has asked another server for anything, or complained."""
    contexts, asked, complaints = [], [], []

    def make(width=1200, height=900, **more):
        context = chromium.new_context(viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.goto(address)
        page.get_by_role("button", name="Re-create").wait_for()
        return page

    yield make
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert [line for line in complaints if "422" not in line and "404" not in line] == []


@pytest.fixture
def shoot(request, tmp_path):
    """A screenshot, small; into docs/images where they are taken anew."""
    folder = ROOT / "docs" / "images" if request.config.getoption("--write-golden") else tmp_path

    def take(page, name, **more):
        page.mouse.move(0, 0)
        page.wait_for_timeout(400)
        picture = Image.open(io.BytesIO(page.screenshot(animations="disabled", **more))).convert("RGB")
        path = folder / f"app-{name}.png"
        picture.quantize(256).save(path, optimize=True)
        assert path.stat().st_size < 150_000

    return take


def tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()
    page.wait_for_timeout(300)


def visible(page, role, name):
    return page.get_by_role(role, name=name, exact=True).locator("visible=true")


def give(page, path, box=0):
    page.locator("input[type=file]").locator("xpath=ancestor::*[contains(@class, 'block')][1]").locator(
        "visible=true"
    ).nth(box).locator("input[type=file]").set_input_files(str(path))


def thumbnails(page):
    return page.locator(".pictures .grid-container button").locator("visible=true")


def set_number(page, label, value):
    box = page.get_by_label(f"number input for {label}").locator("visible=true")
    box.fill(str(value))
    box.press("Tab")


def settings(page):
    page.get_by_text("Settings", exact=True).locator("visible=true").click()
    page.wait_for_timeout(300)


def said(page, text):
    """Wait until a line of the page says something."""
    page.wait_for_function(
        "text => [...document.querySelectorAll('.said textarea')]"
        ".some(one => one.offsetParent && one.value.match(text))",
        arg=text,
    )


def filled(page, count):
    """Wait until so many boxes show a picture."""
    page.wait_for_function(
        "count => [...document.querySelectorAll('img[src*=\"file=\"]')]"
        ".filter(one => one.offsetParent).length >= count",
        arg=count,
    )


def test_a_picture_is_re_created_and_carries_its_settings(open_page, dog, shoot, tmp_path):
    page = open_page(accept_downloads=True)
    give(page, dog)
    filled(page, 1)
    set_number(page, "One more number of tokens", 32)
    visible(page, "button", "Re-create").click()
    page.get_by_text(re.compile(r"\d+/20 steps")).wait_for()
    said(page, "^5 pictures.$")
    assert thumbnails(page).count() == 6
    assert page.locator(".caption-label").locator("visible=true").all_inner_texts() == [
        "source", *(f"{count} token{'s' * (count > 1)}, seed 0" for count in (1, 4, 16, 32, 75)),
    ]  # fmt: skip
    tops = {round(one.bounding_box()["y"]) for one in thumbnails(page).all()}
    assert len(tops) == 1, "side by side"
    shoot(page, "recreate")
    thumbnails(page).nth(3).click()
    page.get_by_text('"reconstruct"').wait_for()
    with page.expect_download() as download:
        visible(page, "button", "Download this PNG").click()
    picture = Image.open(download.value.path())
    assert download.value.suggested_filename == "16-tokens-seed-0.png"
    inside = json.loads(picture.text["vilex"])
    assert (inside["tokens"], inside["seed"], inside["source"]) == (16, 0, "dog.png")


def test_several_seeds_are_rows(open_page, dog):
    page = open_page()
    give(page, dog)
    settings(page)
    set_number(page, "Seeds", 2)
    set_number(page, "Steps", 2)
    visible(page, "button", "Re-create").click()
    said(page, "^8 pictures.$")
    tops = [round(one.bounding_box()["y"]) for one in thumbnails(page).all()]
    assert len(tops) == 10 and len(set(tops[:5])) == len(set(tops[5:])) == 1 and tops[0] < tops[5]


def test_a_stop_stops(open_page, dog):
    page = open_page()
    give(page, dog)
    settings(page)
    set_number(page, "Seeds", 4)
    set_number(page, "Steps", 100)
    visible(page, "button", "Re-create").click()
    page.get_by_text(re.compile(r"[1-9]\d*/400 steps")).wait_for()
    visible(page, "button", "Stop").click()
    said(page, "^Stopped. What was finished is kept.$")
    set_number(page, "Seeds", 1)
    set_number(page, "Steps", 2)
    visible(page, "button", "Re-create").click()
    said(page, "^4 pictures.$")


def test_errors_are_one_line_of_text(open_page, tmp_path):
    page = open_page()
    visible(page, "button", "Re-create").click()
    page.get_by_text("no picture; drop one, or take an example").wait_for()
    letter = tmp_path / "letter.png"
    letter.write_text("Dear all")
    give(page, letter)
    page.get_by_text("letter.png: not a readable image; convert it to PNG or JPEG").wait_for()


def test_names_with_markup_are_text(open_page, dog):
    page = open_page()
    page.evaluate("() => { window.alert = () => { window.broken = true; }; }")
    tab(page, "Compose")
    give(page, dog)
    name = "<img src=x onerror=alert(1)>"
    visible(page, "textbox", "Name").fill(name)
    said(page, "is no name; use letters")
    visible(page, "button", "Insert into the sentence").click()
    visible(page, "button", "Compose").click()
    page.get_by_text(name).locator("visible=true").first.wait_for()
    page.wait_for_timeout(500)
    assert not page.evaluate("window.broken") and page.locator("img[src=x]").count() == 0


def test_a_sentence_is_composed_around_a_painted_mask(open_page, dog, butterfly, shoot):
    page = open_page(height=1320)
    tab(page, "Compose")
    give(page, dog)
    said(page, "^Nothing is lacking.$")
    sentence = page.locator("#sentence textarea")
    sentence.fill("at night")
    said(page, "'one' is not in the sentence")
    sentence.evaluate("box => box.setSelectionRange(0, 0)")
    visible(page, "button", "Insert into the sentence").click()
    page.wait_for_function("document.querySelector('#sentence textarea').value === '<one:4> at night'")
    sentence.fill("<one:4> and <two:4> at night")
    said(page, "<two> has no picture; give one that name, or take it out.")
    sentence.fill("<one:4> at night")
    page.get_by_text("Start from a picture, or change a part of it").click()
    give(page, butterfly, 1)
    canvas = page.get_by_label("Paint where the picture is drawn anew")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.25)
    page.mouse.down()
    for across, down in ((0.8, 0.25), (0.8, 0.5), (0.2, 0.5)):
        page.mouse.move(box["x"] + box["width"] * across, box["y"] + box["height"] * down, steps=8)
    page.mouse.up()
    set_number(page, "Strength", 1)
    visible(page, "button", "Compose").click()
    said(page, "^1 picture.$")
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "compose")
    thumbnails(page).first.click()
    page.get_by_text('"painted"').wait_for()


def test_the_sweep_stands_side_by_side(open_page):
    page = open_page()
    tab(page, "Compose")
    visible(page, "button", "e.g. dog").click()
    said(page, "^Nothing is lacking.$")
    settings(page)
    set_number(page, "Steps", 4)
    page.get_by_role("button", name=re.compile("^Sweep TFG")).click()
    said(page, "^5 pictures.$")
    assert len({round(one.bounding_box()["y"]) for one in thumbnails(page).all()}) == 1


def test_pictures_are_mixed_and_their_tokens_saved(open_page, shoot):
    page = open_page()
    tab(page, "Mix")
    visible(page, "button", "e.g. dog and cat").click()
    filled(page, 2)
    visible(page, "button", "Mix").click()
    said(page, "^5 pictures.$")
    shoot(page, "mix")
    with page.expect_response(re.compile("queue/join")):
        visible(page, "button", "Save tokens").click()
    page.locator(".file-preview").locator("visible=true").get_by_text("tokens").first.wait_for()


def test_tokens_are_explored(open_page, shoot):
    page = open_page(height=1130)
    tab(page, "Explore")
    visible(page, "button", "e.g. heart").click()
    filled(page, 1)
    set_number(page, "Tokens", 7)
    visible(page, "button", "Nearest words").click()
    page.get_by_text(re.compile(r"\w+ \(\d\.\d\d\), \w+")).locator("visible=true").first.wait_for()
    visible(page, "button", "Leave out").click()
    said(page, "^8 pictures.$")
    shoot(page, "explore")


def test_it_fits_a_phone(open_page, dog, shoot):
    page = open_page(390, 844, has_touch=True, is_mobile=True)
    give(page, dog)
    visible(page, "button", "Re-create").click()
    said(page, "^4 pictures.$")
    shoot(page, "phone", full_page=True)
    for name in ("Re-create", "Compose", "Mix", "Explore"):
        tab(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
        small = page.evaluate(
            "[...document.querySelectorAll('button, input, textarea')].filter(one => one.offsetParent)"
            ".map(one => one.getBoundingClientRect()).filter(box => box.right > 391 || box.left < -1).length"
        )
        assert small == 0, name


def test_another_browser_sees_nothing_of_it(open_page, dog):
    one, other = open_page(), open_page()
    give(one, dog)
    visible(one, "button", "Re-create").click()
    said(one, "^4 pictures.$")
    for source in one.eval_on_selector_all(".pictures img", "all => all.map(one => one.src)"):
        fetched = "async url => (await fetch(url)).status"
        assert one.evaluate(fetched, source) == 200 and other.evaluate(fetched, source) == 404
