"""The benchmark's scenes: what is said of them is measured in their pixels."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image, ImageDraw

from recipes.nano.sprites import CONCEPTS, STYLES, Sprite, word_of
from recipes.nano.understanding.clips import CHANGES, FRAMES, random_clip
from recipes.nano.understanding.data import Sizes, compose_benchmark, drawings_of, read_rows
from recipes.nano.understanding.questions import KINDS, NUMBERS, expression_of, questions_of
from recipes.nano.understanding.scenes import PLACES, SIDE, random_wide_scene

WORDS = [word_of(concept) for concept in CONCEPTS[:20]]


@pytest.fixture(scope="module")
def sprites():
    """Discs, each concept of its own colour."""
    found = []
    for i, concept in enumerate(CONCEPTS[:20]):
        image = Image.new("RGBA", (64, 64))
        ImageDraw.Draw(image).ellipse((4, 4, 60, 60), fill=(10 * i, 255 - 10 * i, 128))
        found += [Sprite(concept, style, image) for style in STYLES]
    return found


@pytest.fixture
def emoji(sprites, tmp_path):
    """The drawings as a table in the real one's shape."""
    rows = []
    for sprite in sprites:
        content = io.BytesIO()
        sprite.image.save(content, "PNG")
        rows.append({"image": content.getvalue(), "name": sprite.concept, "style": sprite.style})
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "emoji.parquet")
    return tmp_path / "emoji.parquet"


def scenes(sprites, count=200):
    rng = np.random.default_rng(0)
    return [(random_wide_scene(sprites, rng), rng) for _ in range(count)]


def test_nothing_overlaps_and_masks_are_where_the_pixels_are(sprites):
    for scene, _ in scenes(sprites):
        covered = np.zeros((SIDE, SIDE), dtype=int)
        pixels = np.asarray(scene.render()).astype(int)
        for thing in scene.things:
            mask = scene.mask(thing)
            covered += mask
            colour = np.asarray(thing.sprite.image)[32, 32, :3].astype(int)
            rows, columns = np.nonzero(mask)
            assert np.abs(pixels[int(rows.mean()), int(columns.mean())] - colour).max() <= 2
            assert thing.place == PLACES[int(rows.mean() * 3 / SIDE) * 3 + int(columns.mean() * 3 / SIDE)]
        if scene.sign:
            covered[scene.sign.y : scene.sign.y + 26, scene.sign.x : scene.sign.x + 38] += 1
            assert scene.sign.x + 38 <= SIDE and scene.sign.y + 26 <= SIDE
        assert covered.max() == 1
        assert len({thing.sprite.word for thing in scene.things}) == len(scene.things)


def test_answers_are_true_and_every_kind_is_asked(sprites):
    kinds, yes = set(), []
    for scene, rng in scenes(sprites):
        things = {thing.sprite.word: thing for thing in scene.things}
        for question in questions_of(scene, rng, WORDS):
            kinds.add(question.kind)
            text = question.prefix.removeprefix("answer en ").rstrip("?")
            if question.kind == "count":
                assert question.suffix == NUMBERS[len(things)]
            elif question.kind == "what":
                assert things[question.suffix].place == text.removeprefix("what is at the ")
                assert sum(thing.place == things[question.suffix].place for thing in scene.things) == 1
            elif question.kind == "where":
                assert things[text.removeprefix("where is the ")].place == question.suffix
            elif question.kind == "relation":
                side = next(s for s in (" to the left of ", " to the right of ", " above ", " below ") if s in text)
                a, b = (things[part].centre for part in text.removeprefix("is the ").split(f"{side}the "))
                holds = {" to the left of ": a[0] < b[0], " to the right of ": a[0] > b[0], " above ": a[1] < b[1],
                         " below ": a[1] > b[1]}[side]  # fmt: skip
                assert question.suffix == ("yes" if holds else "no")
            elif question.kind == "is-there":
                yes.append(question.suffix == "yes")
                assert yes[-1] == any(text.endswith(f" {word}") for word in things)
            elif question.kind == "sign":
                assert question.suffix == scene.sign.text
    assert kinds == set(KINDS) and 0.35 < np.mean(yes) < 0.65


def test_an_expression_means_one_thing(sprites):
    for scene, rng in scenes(sprites):
        for i, thing in enumerate(scene.things):
            said = expression_of(scene, i, rng)
            facts = [
                {one.sprite.word, f"thing at the {one.place}", f"{one.big} thing",
                 f"thing in {STYLES[one.sprite.style][0]}"} for one in scene.things
            ]  # fmt: skip
            assert [said.removeprefix("the ") in of for of in facts] == [one is thing for one in scene.things]


def test_clips_show_what_they_say(sprites):
    rng, seen = np.random.default_rng(1), set()
    for _ in range(60):
        clip = random_clip(sprites, rng)
        seen.add(clip.change)
        word = next(q.suffix for q in clip.questions() if q.kind == "clip").removeprefix("the ")
        name = word.removesuffix(f" {clip.change}")
        there = [{thing.sprite.word: thing for thing in scene.things} for scene in clip.scenes]
        first, last = there[0].get(name), there[-1].get(name)
        if clip.change in ("comes", "vanishes"):
            assert (first is None) == (clip.change == "comes") and (last is None) == (clip.change == "vanishes")
        elif clip.change in ("grows", "shrinks"):
            assert (last.size > first.size) == (clip.change == "grows") and last.size != first.size
        else:
            moved = np.subtract(last.centre, first.centre)
            expected = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}
            assert tuple(np.sign(moved)) == expected[clip.change]
        assert len(clip.render()) == FRAMES
    assert seen == set(CHANGES)


def test_tables_come_back_and_no_held_out_drawing_is_in_two_splits(sprites, emoji, tmp_path):
    assert not {(s.concept, s.style) for s in drawings_of(sprites, "validation")} & {
        (s.concept, s.style) for s in drawings_of(sprites, "test")
    }
    assert all(sprite.held_out for split in ("validation", "test") for sprite in drawings_of(sprites, split))
    assert not any(sprite.held_out for sprite in drawings_of(sprites, "train"))
    sizes = Sizes(scenes=12, clips=4, tested_scenes=3, tested_clips=2)
    compose_benchmark(emoji, tmp_path / "a", sizes)
    compose_benchmark(emoji, tmp_path / "b", sizes)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    rows = list(read_rows(tmp_path / "a" / "scenes-train.parquet"))
    assert len(rows) == 12
    for frames, questions, masks in rows:
        assert frames[0].size == (SIDE, SIDE) and all(mask.any() for mask in masks)
        refer = next(question for question in questions if question.kind == "refer")
        assert masks[refer.thing].shape == (SIDE, SIDE)
    clips = list(read_rows(tmp_path / "a" / "clips-test.parquet"))
    assert [len(frames) for frames, _, _ in clips] == [FRAMES] * 2
