"""Referring segmentation: an expression -> the box and outline of what it means, as `<loc>` and `<seg>` words.

RefCOCO, RefCOCO+ and RefCOCOg are published as a pickle of expressions beside COCO's `instances.json`. A pickle may
run any program, so that it is never opened here; the error says how to make JSON of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vilex.errors import InputError
from vilex.understand.examples import Example, inside, read_examples
from vilex.understand.mask_codec import MaskCodec, load_codec
from vilex.understand.mask_sources import mask_of_picture
from vilex.understand.masks import Box, mask_to_words, own_box
from vilex.understand.rle import Mask, check_size, read_mask, write_mask
from vilex.understand.tasks.reading import Record, needs_split, not_empty, read_json, read_lines, read_record, the_files
from vilex.understand.tasks.task import DecodeNumbers, Published, Task, TransferNumbers

NEW_TOKENS = 4 + 16 + 4  # `<loc>`, `<seg>`, and some to end


def refer_prefix(expression: str) -> str:
    """How a thing is asked for: by the expression itself, without another word."""
    return expression


def read_refer(source: Published) -> list[Example]:
    """Expressions as JSON (`refs(unc).json`) and COCO's `instances.json`, or JSON lines that hold both.

    A line: `{"image": ..., "height": ..., "width": ..., "samples": [{"sentences": [...], "mask": {size, counts},
    "bbox": [x, y, w, h]}]}`, `bbox` if it is another than the mask's own.

    Each expression is an example of its own. `fields` holds the mask, packed, and its box; suffixes are made of them
    by `with_words`, where `source` names a codec.
    """
    if not 1 <= len(source.files) <= 2:
        the_files(source, 2, "refs as JSON and instances.json, or one file of JSON lines")
    found = _from_lines(source) if len(source.files) == 1 else _from_refs(source)
    return _answered(not_empty(found, source), source)


def read_own_refer(source: Published) -> list[Example]:
    """Own examples with `mask` among their fields: packed runs, or the name of a picture below `source.images`."""
    packed = []
    for example in read_examples(source.files[0], source.images):
        if isinstance(name := example.fields.get("mask"), str):
            mask = mask_of_picture(inside(source.images, name, f"example {example.id}"))
            example = replace(example, fields={**example.fields, "mask": write_mask(mask)})
        packed.append(example)
    return _answered(packed, source)


def _answered(examples: list[Example], source: Published) -> list[Example]:
    return with_words(examples, load_codec(source.codec)) if source.codec else examples


def with_words(examples: Sequence[Example], codec: MaskCodec, batch_size: int = 256) -> list[Example]:
    """The examples, each answered by the words of its mask; the field `codec` says whose words they are.

    Raises:
        InputError: an example carries no mask.
    """
    made: list[Example] = []
    whose = {"codec": codec.digest()}
    for start in range(0, len(examples), batch_size):
        some = examples[start : start + batch_size]
        words = mask_to_words(codec, [mask_of(example) for example in some], [_box(example) for example in some])
        made += [
            replace(example, suffixes=(text,), fields={**example.fields, **whose})
            for example, text in zip(some, words, strict=True)
        ]
    return made


def mask_of(example: Example) -> Mask:
    """An example's true mask; see `unpack_mask`."""
    return unpack_mask(example.fields, f"example {example.id}")


def unpack_mask(fields: Mapping[str, Any], where: str) -> Mask:
    """The mask that an example's fields carry, [h, w] bool.

    Raises:
        InputError: they carry none.
    """
    where, packed = f"{where}: 'mask'", fields.get("mask")
    if not isinstance(packed, dict) or not isinstance(packed.get("size"), list) or len(packed["size"]) != 2:
        raise InputError(f'{where}: expected {{"size": [h, w], "counts": "..."}}, got {packed!r:.60}')
    height, width = check_size(packed["size"][0], packed["size"][1], where)
    return read_mask(packed, height, width, where)


def decontaminated(training: Iterable[Example], tested: Iterable[Example]) -> list[Example]:
    """Training without every picture of a validation or test set, by COCO's number where examples have one.

    RefCOCO, RefCOCO+ and RefCOCOg share pictures across their splits: together they leak without this.
    """
    seen = {_picture(example) for example in tested}
    return [example for example in training if _picture(example) not in seen]


def _picture(example: Example) -> str:
    return str(example.fields.get("image_id", example.images[0]))


def _from_refs(source: Published) -> list[Example]:
    refs_file, instances_file = source.files
    rows = read_json(refs_file)
    if not isinstance(rows, list):
        raise InputError(f"{refs_file}: expected a list of refs, got {rows!r:.60}")
    refs = [Record(row, f"{refs_file}: [{i}]") for i, row in enumerate(rows)]
    needs_split(source, {ref.text("split") for ref in refs})
    instances = read_record(instances_file)
    notes = {note.whole("id"): note for note in instances.records("annotations")}
    images = {image.whole("id"): image for image in instances.records("images")}
    examples = []
    for ref in (ref for ref in refs if ref.text("split") == source.split):
        note, image = _known(notes, ref, "ann_id"), _known(images, ref, "image_id")
        height, width = check_size(image.get("height"), image.get("width"), image.where)
        mask = read_mask(note.get("segmentation"), height, width, f"{note.where}: 'segmentation'")
        path = inside(source.images, image.text("file_name"), image.where)
        fields = _fields(mask, note, ref.where) | {"image_id": ref.whole("image_id"), "ref_id": ref.whole("ref_id")}
        for i, sentence in enumerate(ref.records("sentences")):
            name = f"{ref.whole('ref_id')}-{i}"
            examples.append(Example((path,), refer_prefix(sentence.text("sent")), (), name, fields=fields))
    return examples


def _from_lines(source: Published) -> list[Example]:
    examples = []
    if source.files[0].suffix.lower() not in (".jsonl", ".ndjson"):
        read_json(source.files[0])  # says what is wrong with a pickle
        raise InputError(f"{source.files[0]}: expected JSON lines (.jsonl), or refs as JSON with instances.json")
    if source.split:
        raise InputError(f"{source.files[0]}: one split by itself, so that no {source.split!r} is in it; name none")
    for number, row in enumerate(read_lines(source.files[0])):
        path = inside(source.images, row.text("image"), row.where)
        height, width = check_size(row.get("height"), row.get("width"), row.where)
        for k, sample in enumerate(row.records("samples")):
            mask = read_mask(sample.get("mask"), height, width, f"{sample.where}: 'mask'")
            fields = _fields(mask, sample, sample.where)
            for i, sentence in enumerate(sample.texts("sentences")):
                name = f"{number}-{k}-{i}"
                examples.append(Example((path,), refer_prefix(sentence), (), name, fields=fields))
    return examples


def _known(records: dict[int, Record], ref: Record, key: str) -> Record:
    if (number := ref.whole(key)) not in records:
        raise InputError(f"{ref.where}: '{key}': {number} is not in instances.json; give that of the same COCO year")
    return records[number]


def _fields(mask: Mask, note: Record, where: str) -> dict[str, Any]:
    """The mask, and its box as shares: top, left, bottom, right."""
    if not mask.any():
        raise InputError(f"{where}: an empty mask; leave it out")
    box = own_box(mask)
    if "bbox" in note:
        numbers = note.list("bbox")
        if len(numbers) != 4 or not all(isinstance(one, int | float) and one >= 0 for one in numbers):
            raise InputError(f"{note.where}: 'bbox': expected [x, y, width, height], got {numbers!r:.60}")
        (height, width), (x, y, w, h) = mask.shape, numbers
        box = (y / height, x / width, min((y + h) / height, 1.0), min((x + w) / width, 1.0))
    return {"mask": write_mask(mask), "box": list(box)}


def _box(example: Example) -> Box | None:
    box = example.fields.get("box")
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(one, int | float) for one in box):
        raise InputError(f"example {example.id}: 'box': expected [top, left, bottom, right] as shares, got {box!r:.60}")
    return box[0], box[1], box[2], box[3]


REFER = (
    Task("refcoco", "refs as JSON and instances.json, or JSON lines", read_refer, "segmentation", "miou",
         TransferNumbers(text_length=48, epochs=100, lr=3e-5, label_smoothing=0.3, dropout=0.1),
         DecodeNumbers(max_new_tokens=NEW_TOKENS), splits=True),
)  # fmt: skip
