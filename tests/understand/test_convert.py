"""Published files to JSON lines by the command: counted, decontaminated, and nothing said in vain."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.understand.test_tasks import COCO, INSTANCES, NOTES, QUESTIONS, REFS, saved
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.understand.examples import read_examples
from vilex.understand.mask_codec import CodecShape, MaskCodec, load_codec
from vilex.understand.masks import words_to_masks
from vilex.understand.metrics.score import score
from vilex.understand.rle import write_mask
from vilex.understand.tasks.refer import mask_of
from vilex.understand.tasks.registry import TASKS


def converted(task, *files, images, out, **options):
    """The command's summary; its error raised."""
    words = ["understand", "convert", task, *files, "--images", images, "-o", out, "--json"]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", *([] if one is True else [one])]
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception:
        raise done.exception
    return json.loads(done.stdout)


def pictures(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", (80, 50)).save(folder / name)
    return folder


def instances(folder, *numbers):
    """COCO's file of some pictures with a thing each, and references to those in a split each."""
    images = [{**INSTANCES["images"][0], "id": i, "file_name": f"{i}.jpg"} for i in numbers]
    notes = [{**INSTANCES["annotations"][0], "id": 70 + i, "image_id": i} for i in numbers]
    return saved(folder / "instances.json", {"images": images, "annotations": notes})


def refs(path, split, *numbers):
    return saved(path, [{**REFS[0], "ref_id": i, "ann_id": 70 + i, "image_id": i, "split": split} for i in numbers])


def test_captions_and_what_is_missing(tmp_path):
    images, file = pictures(tmp_path / "images", "b.jpg"), saved(tmp_path / "captions.json", COCO)
    out = tmp_path / "val.jsonl"
    with pytest.raises(InputError, match=r"images: 1 of 2 examples lack their picture, .*42\.jpg first; add them, or"):
        converted("cococap", file, images=images, out=out)
    assert not out.exists()
    found = converted("cococap", file, images=images, out=out, skip_missing=True)
    assert found == {"file": str(out), "task": "cococap", "root": str(tmp_path), "examples": 1, "pictures": 1,
                     "suffixes": 1, "taken_out": 0, "missing": 1}  # fmt: skip
    (one,) = read_examples(out)
    assert one.images[0].is_file() and one.suffixes == ("A dog.",)
    with pytest.raises(InputError, match=r"val\.jsonl: exists"):
        converted("cococap", file, images=images, out=out)
    away = tmp_path / "lists" / "val.jsonl"
    found = converted("cococap", file, images=images, out=away, skip_missing=True)
    assert found["root"] == str(images) and read_examples(away, images)[0].images[0].is_file()
    with pytest.raises(InputError, match="lies outside"):
        converted("cococap", file, images=images, out=tmp_path / "c.jsonl", root=away.parent, skip_missing=True)


def test_settings_that_say_nothing_are_refused(tmp_path):
    images = pictures(tmp_path / "images", "COCO_val2014_000000000009.jpg")
    questions, notes = saved(tmp_path / "q.json", QUESTIONS), saved(tmp_path / "a.json", NOTES)
    out = tmp_path / "out.jsonl"
    assert converted("vqav2", questions, notes, images=images, out=out)["suffixes"] == 10
    for task, options, line in (
        ("okvqa", {"split": "val"}, "okvqa: each of its splits has files of its own, so that 'val' says nothing"),
        ("okvqa", {"language": "de"}, "okvqa: is in English alone"),
        ("okvqa", {"codec": "shipped"}, "okvqa: is not answered by masks"),
        ("vqav2", {"split": "minival"}, "minival: 1 examples are no more than 10240"),
        ("vqav2", {"split": "val"}, "no split 'val'; it has minival, not-minival"),
        ("vqa", {}, "there is no 'vqa'; did you mean"),
    ):
        with pytest.raises(InputError, match=line):
            converted(task, questions, notes, images=images, out=tmp_path / "no.jsonl", **options)
    with pytest.raises(InputError, match=r"captions\.json: one split by itself"):
        captions = saved(tmp_path / "captions.json", COCO)
        converted("cococap", captions, images=images, out=tmp_path / "no.jsonl", split="val")


def test_tested_pictures_are_taken_out_of_combined_training(tmp_path):
    images, coco = pictures(tmp_path / "images", "1.jpg", "2.jpg", "3.jpg"), instances(tmp_path, 1, 2, 3)
    plus = refs(tmp_path / "refs+.json", "val", 2)
    tested = tmp_path / "plus-val.jsonl"
    with pytest.raises(InputError, match=r"--codec: refcoco is answered by words of masks; give vae-oid\.npz"):
        converted("refcoco", plus, coco, images=images, out=tested, split="val")
    with pytest.raises(InputError, match=r"holds several splits, of which none is named: val"):
        converted("refcoco", plus, coco, images=images, out=tested, codec="none")
    assert converted("refcoco", plus, coco, images=images, out=tested, split="val", codec="none")["suffixes"] == 0
    train, out = refs(tmp_path / "refs.json", "train", 1, 2, 3), tmp_path / "train.jsonl"
    found = converted("refcoco", train, coco, images=images, out=out, split="train", codec="shipped", without=tested)
    assert (found["examples"], found["pictures"], found["taken_out"]) == (4, 2, 2)
    examples = read_examples(out)
    assert {example.fields["image_id"] for example in examples} == {1, 3}
    (drawn,) = words_to_masks(load_codec(), examples[0].suffixes, [(50, 80)])
    assert (drawn & mask_of(examples[0])).sum() > 0.8 * (drawn | mask_of(examples[0])).sum()
    lines = tmp_path / "lines.jsonl"  # the same picture, but known by its file alone
    mask = write_mask(mask_of(examples[0]))
    saved(lines, {"image": "1.jpg", "height": 50, "width": 80, "samples": [{"sentences": ["x"], "mask": mask}]})
    with pytest.raises(InputError, match="known by 'image_id' on one side and by their files on the other"):
        converted("refcoco", lines, images=images, out=tmp_path / "l.jsonl", codec="none", without=tested)
    by_file = tmp_path / "by-file.jsonl"
    converted("refcoco", lines, images=images, out=by_file, codec="none")
    with pytest.raises(InputError, match=r"by-file\.jsonl: has every picture of this set"):
        converted("refcoco", lines, images=images, out=tmp_path / "l.jsonl", codec="none", without=by_file)


def test_words_are_scored_by_their_own_codec(tmp_path):
    images, coco = pictures(tmp_path / "images", "1.jpg"), instances(tmp_path, 1)
    train, out = refs(tmp_path / "refs.json", "train", 1), tmp_path / "train.jsonl"
    other = MaskCodec(CodecShape((2, 2, 2, 4), 4, 8)).eval()
    other.save(tmp_path / "codec")
    converted("refcoco", train, coco, images=images, out=out, split="train", codec=tmp_path / "codec")
    examples = read_examples(out)
    said = {example.id: example.suffixes[0] for example in examples}
    assert score(TASKS["refcoco"], said, examples, load_codec(tmp_path / "codec"))["invalid"] == 0
    with pytest.raises(InputError, match=rf"words are those of the mask codec {other.digest()}, not of .*--codec"):
        score(TASKS["refcoco"], said, examples)


def test_own_masks_become_words(tmp_path):
    images = pictures(tmp_path / "images", "a.jpg")
    mask = np.zeros((50, 80), dtype=np.uint8)
    mask[10:30, 10:40] = 255
    Image.fromarray(mask).save(images / "a-mask.png")
    own = saved(tmp_path / "own.jsonl", {"image": "a.jpg", "prefix": "the box", "mask": "a-mask.png", "id": "1"})
    out = tmp_path / "out.jsonl"
    assert converted("refcoco", own, images=images, out=out, codec="shipped")["suffixes"] == 1
    (one,) = read_examples(out)
    assert one.suffixes[0].startswith("<loc0205><loc0128><loc0614><loc0512><seg")
    assert (mask_of(one) == (mask > 0)).all()


def test_a_pickle_is_refused_with_the_remedy(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "opened",)

    images = pictures(tmp_path / "images", "1.jpg")
    for task, name in (("refcoco", "refs(unc).p"), ("coco35l", "coco.pkl")):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        files, codec = [tmp_path / name, instances(tmp_path, 1)], {"codec": "none"} if task == "refcoco" else {}
        if task == "coco35l":
            files = [tmp_path / name, saved(tmp_path / "k.json", {"images": []})]
        with pytest.raises(InputError, match=r"a pickle, .* make JSON of it: python -c .*json\.dump\(pickle\.load"):
            converted(task, *files, images=images, out=tmp_path / "no.jsonl", **codec)
    assert not (tmp_path / "opened").exists()
