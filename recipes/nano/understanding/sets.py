"""The benchmark as files of examples that `vilex understand` reads: our scenes and clips, and two sets of others.

    train.jsonl        everything, each picture with all that is asked about it
    validation.jsonl   short answers alone; sweeps choose by the share of right ones
    test.jsonl         everything, kind by kind

Each example names its `set`, its `kind` (results are told by kind), its `task` (how it is scored) and its `picture`
(what is drawn together by the bootstrap). Sets that are not here are left out, and `about.json` says which:

    easy-vqa   PyPI's `easy-vqa` (MIT), 5,000 pictures of one shape; its own test set, validation out of its training
    nlvr       people's sentences, true or false of three boxes (Suhr et al. 2017, CC-BY-4.0); a box a picture
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from PIL import Image

from recipes.nano.understanding.data import Sizes, compose_benchmark, read_rows
from recipes.nano.understanding.questions import CAPTION, REFER
from vilex.paths import replacing, write_text
from vilex.understand.examples import Example, write_examples
from vilex.understand.mask_codec import load_codec
from vilex.understand.masks import own_box
from vilex.understand.rle import write_mask
from vilex.understand.tasks.refer import with_words
from vilex.understand.tasks.registry import find_task, load_examples
from vilex.understand.tasks.task import Published

TASK_OF = {CAPTION: "cococap", "clip-caption": "cococap", REFER: "refcoco"}  # all other kinds have short answers
SHORT = "gqa"
EASY, NLVR = "easy-vqa", "nlvr"
HELD_BACK = 100  # pictures of each of the others' training sets are for validation, but no more than a tenth
BOXES = ((0, 100), (150, 250), (300, 400))  # columns of NLVR's three boxes

Splits = dict[str, list[Example]]


def make_sets(data: Path, out: Path, sizes: Sizes) -> Path:
    """Write all files, once; returns their folder below `out`, which is named by what is in it."""
    found = {name: place for name, place in {EASY: easy_vqa_folder(), NLVR: _nlvr(data)}.items() if place}
    about = {"sizes": asdict(sizes), "sets": ["scenes", "clips", *found], "form": 1}
    folder = out / f"sets-{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]}"
    if (folder / "about.json").is_file():
        return folder
    compose_benchmark(data / "emoji-64px.parquet", folder / "tables", sizes)
    parts = [_ours(folder, kind) for kind in ("scenes", "clips")]
    if EASY in found:
        parts.append(_easy_vqa(found[EASY], folder))
    if NLVR in found:
        parts.append(_boxes(found[NLVR], folder))
    for split in ("train", "validation", "test"):
        examples = [example for part in parts for example in part[split]]
        if split != "train":
            examples.sort(key=lambda example: (example.fields["set"], example.fields["kind"]))
        if split == "validation":
            examples = [example for example in examples if example.fields["task"] == SHORT]
        write_examples(folder / f"{split}.jsonl", examples)
    write_text(folder / "about.json", json.dumps(about, indent=2) + "\n")
    return folder


def sets_of(folder: Path) -> list[str]:
    """Which sets a folder of `make_sets` has."""
    return list(json.loads((folder / "about.json").read_text())["sets"])


def easy_vqa_folder() -> Path | None:
    """Where the installed package `easy-vqa` has its data; None where it is not installed."""
    found = importlib.util.find_spec("easy_vqa")
    return Path(found.origin).parent / "data" if found and found.origin else None


def _nlvr(data: Path) -> Path | None:
    path = data / "nlvr.parquet"
    return path if path.is_file() else None


def _ours(folder: Path, table: str) -> Splits:
    codec = load_codec()
    return {
        split: with_masks_in_words(examples_of_table(folder, table, split), codec)
        for split in ("train", "validation", "test")
    }


def with_masks_in_words(examples: Iterable[Example], codec) -> list[Example]:
    """Referring examples answered by the words of their masks; all others as they are."""
    examples = list(examples)
    spoken = {one.id: one for one in with_words([one for one in examples if "mask" in one.fields], codec)}
    return [spoken.get(one.id, one) for one in examples]


def examples_of_table(folder: Path, table: str, split: str) -> Iterator[Example]:
    """A table's examples, its pictures beside it; those that refer have no answer yet (`with_masks_in_words`)."""
    for i, (frames, questions, masks) in enumerate(read_rows(folder / "tables" / f"{table}-{split}.parquet")):
        name = f"{table}-{split}-{i:05d}"
        images = tuple(_kept(frame, folder / "pictures" / f"{name}-{k}.png") for k, frame in enumerate(frames))
        for number, question in enumerate(questions):
            fields = {"set": table, "kind": question.kind, "task": TASK_OF.get(question.kind, SHORT), "picture": name}
            if question.thing is not None:
                mask = masks[question.thing]
                fields |= {"mask": write_mask(mask), "box": list(own_box(mask))}
            said = (question.suffix,) if question.suffix else ()
            yield Example(images, question.prefix, said, f"{name}-{number}", fields=fields)


def _easy_vqa(data: Path, folder: Path) -> Splits:
    """Pictures are copied, so that all lies below one root."""
    task, found = find_task(EASY), {}
    for split in ("train", "test"):
        own = load_examples(task, Published((data / split / "questions.json",), data / split / "images"))
        found[split] = [
            replace(
                one,
                id=f"{EASY}-{split}-{one.id}",
                images=(_copied(one.images[0], folder / "pictures" / f"{EASY}-{split}-{one.images[0].name}"),),
                fields=_fields(EASY, f"{split}-{one.images[0].stem}"),
            )
            for one in own
            if isinstance(one.images[0], Path)
        ]
    return _held_back(found)


def _boxes(table: Path, folder: Path) -> Splits:
    """NLVR, its three boxes as three pictures; the orders of one sentence stay on one side of a split."""
    task, found = find_task(NLVR), {}
    for split in ("train", "test"):
        own = load_examples(task, Published((table,), folder / "nlvr", split))
        found[split] = [
            replace(
                one,
                id=f"{NLVR}-{split}-{one.id}",
                images=tuple(_cut(one.images[0], folder / "pictures" / f"{NLVR}-{split}-{one.id}")),
                fields=_fields(NLVR, one.fields["identifier"]),
            )
            for one in own
            if isinstance(one.images[0], Path)
        ]
    return _held_back(found)


def _held_back(found: Splits) -> Splits:
    """Some of the training pictures, by the hashes of their names, are for validation."""
    train = found["train"]
    pictures = sorted(
        {str(one.fields["picture"]) for one in train}, key=lambda name: hashlib.sha256(name.encode()).digest()
    )
    held = set(pictures[: min(HELD_BACK, max(1, len(pictures) // 10))])
    sides: Splits = {"train": [], "validation": []}
    for one in train:
        sides["validation" if one.fields["picture"] in held else "train"].append(one)
    return {**found, **sides}


def _fields(name: str, picture: str) -> dict[str, str]:
    return {"set": name, "kind": name, "task": SHORT, "picture": f"{name}-{picture}"}


def _cut(path: Path, stem: Path) -> Iterator[Path]:
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    for k, (left, right) in enumerate(BOXES):
        yield _kept(whole.crop((left, 0, right, whole.height)), stem.with_name(f"{stem.name}-{k}.png"))


def _kept(picture: Image.Image, path: Path) -> Path:
    if not path.is_file():
        with replacing(path) as aside:
            picture.save(aside, "PNG")
    return path


def _copied(source: Path, path: Path) -> Path:
    if not path.is_file():
        with replacing(path) as aside:
            aside.write_bytes(source.read_bytes())
    return path
