"""Captions of pictures: `caption en` -> one of a picture's captions at a time, scored by CIDEr."""

from collections import defaultdict

from vilex.errors import InputError
from vilex.understand.examples import Example, inside
from vilex.understand.tasks.reading import (
    Record,
    needs_split,
    not_empty,
    read_json,
    read_lines,
    read_record,
    the_files,
    unpacked,
)
from vilex.understand.tasks.task import DecodeNumbers, Published, Task, TransferNumbers

SCICAP = "1-lowercase-and-token-and-remove-figure-index"  # the form of a caption that big_vision learns


def caption_prefix(language: str = "en") -> str:
    """How a caption is asked for."""
    return f"caption {language}"


def read_coco(source: Published) -> list[Example]:
    """`captions_*.json` of COCO, or `dataset_coco.json` of Karpathy, whose splits are train, restval, val and test.

    `train+restval` reads both, as training does.

    Raises:
        InputError: the file has another form.
    """
    (path,) = the_files(source, 1, "captions_*.json or dataset_coco.json")
    data = read_record(path)
    if "annotations" not in data:
        return _karpathy(data, source)
    if source.split:
        raise InputError(f"{path}: one split by itself, so that no split {source.split!r} is in it; name none")
    files = {image.whole("id"): image.text("file_name") for image in data.records("images")}
    captions: dict[int, list[str]] = defaultdict(list)
    for note in data.records("annotations"):
        if (image := note.whole("image_id")) not in files:
            raise InputError(f"{note.where}: 'image_id': {image} is not among the images of {path}")
        captions[image].append(note.text("caption"))
    examples = [
        Example((inside(source.images, files[image], str(path)),), caption_prefix(), tuple(texts), str(image))
        for image, texts in captions.items()
    ]
    return not_empty(examples, source)


def _karpathy(data: Record, source: Published) -> list[Example]:
    images = list(data.records("images"))
    known = {image.text("split") for image in images}
    wanted = source.split.split("+")
    for split in wanted:
        needs_split(Published(source.files, source.images, split), known)
    examples = []
    for image in images:
        if image.text("split") in wanted:
            folder = f"{image.text('filepath')}/" if "filepath" in image else ""
            path = inside(source.images, folder + image.text("filename"), image.where)
            texts = tuple(sentence.text("raw").strip() for sentence in image.records("sentences"))
            name = image.name("cocoid") if "cocoid" in image else image.name("imgid")
            examples.append(Example((path,), caption_prefix(), texts, name))
    return not_empty(examples, source)


def read_coco35l(source: Published) -> list[Example]:
    """`coco_mt_{train,dev}.jsonl` of Crossmodal-3600, with Karpathy's `dataset_coco.json`, which knows the pictures.

    Captions are the tokenized ones, as big_vision learns and scores them. English is that which was translated.
    """
    lines, karpathy = the_files(source, 2, "coco_mt_*.jsonl and dataset_coco.json")
    paths = {}
    for image in read_record(karpathy).records("images"):
        name = f"{image.text('filepath')}/{image.text('filename')}"
        paths[image.name("cocoid")] = inside(source.images, name, image.where)
    english = source.language == "en"
    captions: dict[str, list[str]] = defaultdict(list)
    languages = {"en"}
    for line in read_lines(lines):
        languages.add(target := line.text("trg_lang"))
        if target == ("de" if english else source.language):  # each English caption stands once beside each language
            image_id = line.text("image_id").split("_")[0]
            if image_id not in paths:
                raise InputError(f"{line.where}: 'image_id': {image_id} is not among the images of {karpathy}")
            captions[image_id].append(line.text("caption_tokenized" if english else "translation_tokenized"))
    if source.language not in languages:
        raise InputError(f"{lines}: no captions in {source.language!r}; it has {', '.join(sorted(languages))}")
    prefix = caption_prefix(source.language)
    examples = [
        Example(
            (paths[image],), prefix, tuple(texts), f"{image}_{source.language}", fields={"language": source.language}
        )
        for image, texts in captions.items()
    ]
    return not_empty(examples, source)


def read_textcaps(source: Published) -> list[Example]:
    """`TextCaps_0.1_*.json`: captions are learnt in lower case, and scored as they are."""
    (path,) = the_files(source, 1, "TextCaps_0.1_*.json")
    captions: dict[str, list[str]] = {}
    for row in read_record(path).records("data"):
        texts = captions.setdefault(row.text("image_id"), [])
        if row.values.get("caption_str"):
            texts.append(row.text("caption_str"))
    examples = [
        Example((inside(source.images, f"{image}.jpg", str(path)),), caption_prefix(),
                tuple(text.lower() for text in texts), image, tuple(texts))
        for image, texts in captions.items()
    ]  # fmt: skip
    return not_empty(examples, source)


def read_scicap(source: Published) -> list[Example]:
    """`file_idx.json` of `List-of-Files-for-Each-Experiments/First-Sentence/No-Subfig/SPLIT`, below `scicap_data`.

    Captions come from `SciCap-Caption-All/SPLIT` of the same folder; `images` is `SciCap-No-Subfig-Img/SPLIT`.
    """
    (path,) = the_files(source, 1, "file_idx.json")
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: expected a list of names of files, got {names!r:.60}")
    split, root = path.parent.name, path.parents[4] if len(path.parents) > 4 else path.parent
    examples = []
    for name in names:
        note = inside(root / "SciCap-Caption-All" / split, f"{name.removesuffix('.png')}.json", str(path))
        caption = Record(read_record(note).get(SCICAP), f"{note}: '{SCICAP}'").text("caption")
        examples.append(Example((inside(source.images, name, str(path)),), caption_prefix(), (caption,), name))
    return not_empty(examples, source)


def read_flickr8k(source: Published) -> list[Example]:
    """A Parquet table with `image`, `file` and `captions`, whose pictures are written into `images`."""
    (path,) = the_files(source, 1, "a Parquet table with image, file and captions")
    examples = [
        Example((image,), caption_prefix(), row.texts("captions"), row.text("file"))
        for image, row in unpacked(path, source.images, ["file", "captions"])
    ]
    return not_empty(examples, source)


COCO = TransferNumbers(epochs=5, weight_decay=1e-6)
CAPTIONING = (
    Task("cococap", "captions_*.json or dataset_coco.json", read_coco, "captions", "cider", COCO, DecodeNumbers(2),
         splits=True),
    Task("coco35l", "coco_mt_*.jsonl and dataset_coco.json", read_coco35l, "captions", "cider",
         TransferNumbers(epochs=0, examples=566_435, lr=1e-4), languages=True),
    Task("textcaps", "TextCaps_0.1_*.json", read_textcaps, "captions", "cider", COCO, DecodeNumbers(3)),
    Task("scicap", "file_idx.json", read_scicap, "captions", "cider",
         TransferNumbers(text_length=96, epochs=80, lr=3e-5, label_smoothing=0.1, dropout=0.1),
         DecodeNumbers(max_new_tokens=96)),
    Task("flickr8k", "a Parquet table with image, file and captions", read_flickr8k, "captions", "cider", COCO,
         DecodeNumbers(2)),
)  # fmt: skip
