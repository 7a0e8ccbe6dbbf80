"""Published files of a few items each, in the shapes that their authors publish; what is odd is one line."""

import io
import json
import pickle
import random
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vilex.errors import InputError
from vilex.understand.examples import Example, read_examples, write_examples
from vilex.understand.mask_codec import CodecShape, MaskCodec
from vilex.understand.metrics.score import score
from vilex.understand.rle import read_mask, write_mask
from vilex.understand.tasks.refer import decontaminated, mask_of, with_words
from vilex.understand.tasks.registry import TASKS, find_task, load_examples
from vilex.understand.tasks.science import shuffled
from vilex.understand.tasks.task import Published
from vilex.understand.tasks.video import frames_of, sampled
from vilex.understand.tasks.vqa import minival


def saved(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def load(task, folder, *files, **where):
    return load_examples(find_task(task), Published(tuple(files), folder / "images", **where))


def images(folder, *names):
    return [folder / "images" / name for name in names]


COCO = {
    "images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg"}, {"id": 7, "file_name": "b.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 42, "caption": "A cat."},
        {"id": 2, "image_id": 7, "caption": "A dog."},
        {"id": 3, "image_id": 42, "caption": "A grey cat."},
    ],
}
KARPATHY = {
    "images": [
        {"filepath": "val2014", "filename": "a.jpg", "cocoid": 5, "split": split, "sentences": [{"raw": f"{split} "}]}
        for split in ("train", "restval", "val", "test")
    ]
}


def test_coco_captions(tmp_path):
    first, second = load("cococap", tmp_path, saved(tmp_path / "captions.json", COCO))
    assert first == Example(
        (images(tmp_path, "COCO_val2014_000000000042.jpg")[0],), "caption en", ("A cat.", "A grey cat."), "42"
    )
    assert second.suffixes == ("A dog.",)


def test_karpathys_splits(tmp_path):
    path = saved(tmp_path / "dataset_coco.json", KARPATHY)
    (one,) = load("cococap", tmp_path, path, split="test")
    assert one.images == tuple(images(tmp_path, "val2014/a.jpg")) and one.suffixes == ("test",) and one.id == "5"
    both = load("cococap", tmp_path, path, split="train+restval")
    assert [example.suffixes[0] for example in both] == ["train", "restval"]
    with pytest.raises(InputError, match=r"dataset_coco\.json: no split 'dev'; it has restval, test, train, val"):
        load("cococap", tmp_path, path, split="dev")


def test_coco_in_35_languages(tmp_path):
    karpathy = saved(tmp_path / "dataset_coco.json", KARPATHY)
    lines = [
        {"image_id": "5_0", "trg_lang": lang, "caption_tokenized": "a cat", "translation_tokenized": told}
        for lang, told in (("de", "eine Katze"), ("fr", "un chat"))
    ]
    path = tmp_path / "coco_mt_dev.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for language, told in (("en", "a cat"), ("de", "eine Katze"), ("fr", "un chat")):
        (one,) = load("coco35l", tmp_path, path, karpathy, language=language)
        assert (one.prefix, one.suffixes, one.fields["language"]) == (f"caption {language}", (told,), language)
    with pytest.raises(InputError, match="no captions in 'it'; it has de, en, fr"):
        load("coco35l", tmp_path, path, karpathy, language="it")


def test_textcaps_is_learnt_in_lower_case_and_scored_as_it_is(tmp_path):
    rows = [{"image_id": "ab", "image_name": "ab", "caption_str": text} for text in ("A Sign.", "STOP")]
    (one,) = load("textcaps", tmp_path, saved(tmp_path / "TextCaps.json", {"data": rows}))
    assert one.images == tuple(images(tmp_path, "ab.jpg"))
    assert one.suffixes == ("a sign.", "stop") and one.truths == ("A Sign.", "STOP")


def test_scicap(tmp_path):
    root = tmp_path / "scicap_data"
    index = root / "List-of-Files-for-Each-Experiments" / "First-Sentence" / "No-Subfig" / "val" / "file_idx.json"
    saved(index, ["1.2-Figure1-1.png"])
    note = {"1-lowercase-and-token-and-remove-figure-index": {"caption": "the loss falls ."}}
    saved(root / "SciCap-Caption-All" / "val" / "1.2-Figure1-1.json", note)
    (one,) = load("scicap", tmp_path, index)
    assert one.suffixes == ("the loss falls .",) and one.images == tuple(images(tmp_path, "1.2-Figure1-1.png"))


QUESTIONS = {
    "data_subtype": "val2014",
    "questions": [{"question_id": 9001, "image_id": 9, "question": "what is it?"}],
}
ANSWERS = [{"answer": "cat", "answer_id": i, "answer_confidence": "yes"} for i in range(1, 11)]
NOTES = {"annotations": [{"question_id": 9001, "image_id": 9, "question_type": "what is", "answer_type": "other",
                          "answers": ANSWERS}]}  # fmt: skip


@pytest.mark.parametrize("task", ["vqav2", "okvqa"])
def test_vqav2_and_okvqa(tmp_path, task):
    questions, notes = saved(tmp_path / "q.json", QUESTIONS), saved(tmp_path / "a.json", NOTES)
    (one,) = load(task, tmp_path, questions, notes)
    assert one.images == tuple(images(tmp_path, "COCO_val2014_000000000009.jpg"))
    assert (one.prefix, one.suffixes, one.id) == ("answer en what is it?", ("cat",) * 10, "9001")
    assert one.fields == {"question_type": "what is", "answer_type": "other"}
    (kept_back,) = load(task, tmp_path, saved(tmp_path / "t.json", {**QUESTIONS, "data_subtype": "test-dev2015"}))
    assert kept_back.suffixes == () and kept_back.images[0].name == "COCO_test2015_000000000009.jpg"
    assert score(find_task(task), {"9001": "cat"}, [one])[find_task(task).headline] == 100


def test_textvqa_vizwiz_gqa_and_easy_vqa(tmp_path):
    row = {"question_id": 3, "image_id": "ab", "question": "what does it say?", "answers": ["stop"] * 10}
    (text,) = load("textvqa", tmp_path, saved(tmp_path / "TextVQA.json", {"data": [row]}))
    assert (text.id, text.suffixes, text.images) == ("3", ("stop",) * 10, tuple(images(tmp_path, "ab.jpg")))
    row = {"image": "VizWiz_val_1.jpg", "question": "what?", "answers": ANSWERS, "answer_type": "other"}
    (viz,) = load("vizwiz", tmp_path, saved(tmp_path / "val.json", [row]))
    assert (viz.id, viz.suffixes, viz.prefix) == ("VizWiz_val_1.jpg", ("cat",) * 10, "answer en what?")
    asked = {"201307251": {"imageId": "n16", "question": "is it tall?", "answer": "no", "isBalanced": True}}
    (gqa,) = load("gqa", tmp_path, saved(tmp_path / "testdev_balanced_questions.json", asked))
    assert (gqa.id, gqa.suffixes, gqa.images) == ("201307251", ("no",), tuple(images(tmp_path, "n16.jpg")))
    rows = [["what shape?", "circle", 0], ["what colour?", "red", 0]]
    easy = load("easy-vqa", tmp_path, saved(tmp_path / "questions.json", rows))
    assert [(one.id, one.suffixes[0], one.images[0].name) for one in easy] == [
        ("0", "circle", "0.png"),
        ("1", "red", "0.png"),
    ]


PROBLEM = {"question": "Which is warm?", "choices": ["ice", "fire", "snow"], "answer": 1, "hint": "",
           "image": "image.png", "split": "test", "subject": "natural science", "grade": "grade2"}  # fmt: skip


def test_scienceqa_and_its_options_in_another_order(tmp_path):
    problems = saved(tmp_path / "problems.json", {"4": PROBLEM, "5": {**PROBLEM, "image": None}})
    splits = saved(tmp_path / "pid_splits.json", {"test": ["4", "5"], "train": []})
    (one,) = load("scienceqa", tmp_path, problems, splits, split="test")
    assert one.prefix == "Question: Which is warm?\nContext: N/A\nOptions: (A) ice, (B) fire, (C) snow\nAnswer:"
    assert one.suffixes == ("The answer is B.",) and one.images == tuple(images(tmp_path, "test/4/image.png"))
    rng, letters = random.Random(0), set()
    for _ in range(40):
        mixed = shuffled(one, rng)
        letter = mixed.suffixes[0].removeprefix("The answer is ")[0]
        letters.add(letter)
        assert f"({letter}) fire" in mixed.prefix and sorted(mixed.fields["choices"]) == ["fire", "ice", "snow"]
        assert score(TASKS["scienceqa"], {"4": f"The answer is {letter}."}, [mixed])["accuracy"] == 100
    assert letters == set("ABC")
    found = score(TASKS["scienceqa"], {"4": "fire"}, [one])
    assert (found["accuracy"], found["unread"]) == (0, 100)


def test_tables_with_pictures_inside(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    content = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(content, "PNG")
    flickr = [{"image": content.getvalue(), "file": "a.jpg", "captions": ["a red square", "red"]}]
    pa.parquet.write_table(pa.Table.from_pylist(flickr), tmp_path / "flickr8k.parquet")
    (one,) = load("flickr8k", tmp_path, tmp_path / "flickr8k.parquet")
    assert one.suffixes == ("a red square", "red") and Image.open(one.images[0]).getpixel((0, 0)) == (255, 0, 0)
    rows = [
        {
            "image": content.getvalue(),
            "sentence": "It is red.",
            "label": label,
            "split": split,
            "identifier": "9-1",
            "order": 0,
        }
        for label, split in (("true", "train"), ("false", "test"))
    ]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "nlvr.parquet")
    (one,) = load("nlvr", tmp_path, tmp_path / "nlvr.parquet", split="test")
    assert (one.prefix, one.suffixes) == ("answer en is it true? It is red.", ("false",))
    assert one.fields == {"identifier": "9-1"}


SQUARE = [[10.0, 10.0, 40.0, 10.0, 40.0, 30.0, 10.0, 30.0]]
INSTANCES = {
    "images": [{"id": 5, "file_name": "a.jpg", "height": 50, "width": 80}],
    "annotations": [{"id": 77, "image_id": 5, "segmentation": SQUARE, "bbox": [10.0, 10.0, 30.0, 20.0]}],
}
REFS = [
    {"ref_id": 3, "ann_id": 77, "image_id": 5, "split": "val", "sentences": [{"sent": "the box"}, {"sent": "left one"}]}
]


def test_refcoco_as_json_and_as_lines(tmp_path):
    refs, instances = saved(tmp_path / "refs.json", REFS), saved(tmp_path / "instances.json", INSTANCES)
    first, second = load("refcoco", tmp_path, refs, instances, split="val")
    assert (first.prefix, second.prefix, first.id, second.id) == ("the box", "left one", "3-0", "3-1")
    assert first.images == tuple(images(tmp_path, "a.jpg")) and first.fields["box"] == [0.2, 0.125, 0.6, 0.5]
    mask = mask_of(first)
    assert mask.sum() == 600 and mask[10:30, 10:40].all()
    line = {
        "image": "a.jpg",
        "height": 50,
        "width": 80,
        "samples": [{"sentences": ["the box"], "mask": write_mask(mask)}],
    }
    (one,) = load("refcoco", tmp_path, saved(tmp_path / "m.jsonl", line))
    assert (mask_of(one) == mask).all() and one.prefix == "the box"
    codec = MaskCodec(CodecShape((2, 2, 2, 4), 4, 8)).eval()
    answered = with_words([first, one], codec)
    assert all(example.suffixes[0].startswith("<loc0205><loc0128><loc0614><loc0512><seg") for example in answered)
    found = score(TASKS["refcoco"], {"3-0": answered[0].suffixes[0], "3-1": "no"}, [first, second], codec)
    assert set(found) == {"miou", "ciou", "invalid", "count"} and found["invalid"] == 50
    path = tmp_path / "own.jsonl"
    (tmp_path / "images").mkdir(exist_ok=True)
    write_examples(path, answered[:1], tmp_path / "images")
    (again,) = load("refcoco", tmp_path, path)
    assert again.suffixes == answered[0].suffixes and (mask_of(again) == mask).all()


def test_pickles_are_refused_and_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "opened",)

    for name in ("refs(unc).p", "refs.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        for files in ([tmp_path / name], [tmp_path / name, saved(tmp_path / "i.json", INSTANCES)]):
            with pytest.raises(InputError, match=r"a pickle, .* make JSON of it: python -c .*json\.dump\(pickle\.load"):
                load("refcoco", tmp_path, *files, split="val")
    assert not (tmp_path / "opened").exists()


def test_pictures_of_tests_leave_the_training_of_combined_sets():
    def example(name, image):
        return Example((Path(f"{name}/{image}.jpg"),), "x", id=name, fields={"image_id": image})

    training = [example("a", 1), example("b", 2), example("c", 3)]
    assert [one.id for one in decontaminated(training, [example("t", 2), example("u", 9)])] == ["a", "c"]


def test_videos_as_folders_of_frames(tmp_path):
    data = {
        "videos": [{"video_id": "video7", "split": "test"}, {"video_id": "video8", "split": "train"}],
        "sentences": [{"video_id": "video7", "caption": "a man runs"}, {"video_id": "video7", "caption": "running"}],
    }
    path = saved(tmp_path / "videodatainfo.json", data)
    with pytest.raises(InputError, match="1 of 1 clips are missing, video7 among them"):
        load("msrvtt", tmp_path, path, split="test")
    for i in range(20):
        frame = tmp_path / "images" / "video7" / f"{i:03d}.png"
        frame.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(frame)
    (one,) = load("msrvtt", tmp_path, path, split="test")
    assert [image.stem for image in one.images] == ["000", "009", "018"] * 5 + ["000"]
    assert one.suffixes == ("a man runs", "running") and one.prefix == "caption en"


def test_videos_as_mp4(tmp_path):
    av = pytest.importorskip("av")
    clip = tmp_path / "video7.mp4"
    with av.open(str(clip), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for i in range(21):
            grey = np.full((32, 32, 3), 10 * i, dtype=np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        video.mux(stream.encode(None))
    frames = frames_of(clip, tmp_path / "frames", frames=4)
    greys = [np.asarray(Image.open(frame)).mean() for frame in frames]
    assert greys == pytest.approx([0, 90, 180, 0], abs=6)
    clip.write_bytes(b"")  # the frames are kept: the video is not opened again
    assert frames_of(clip, tmp_path / "frames", frames=4) == frames
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"broken\.mp4: cannot be read as a video"):
        frames_of(broken, tmp_path / "frames")


def test_frames_of_short_and_long_clips():
    assert sampled(1) == [0] * 16
    assert sampled(1000) == [9 * i for i in range(16)]
    assert sampled(19, frames=5) == [0, 9, 18, 0, 9]


def test_vqav2_is_cut_as_big_vision_cuts_it():
    examples = [Example((Path("a.jpg"),), "x", id=str(i)) for i in range(12)]
    more, measured = minival(examples, 5)
    assert [one.id for one in measured] == ["7", "8", "9", "10", "11"] and len(more) == 7
    with pytest.raises(InputError, match="minival: 12 examples are no more than 10240"):
        minival(examples)


BAD = [
    ("cococap", [{"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}], "'image_id': 1 is not among"),
    ("cococap", [{"images": [{"id": 1}], "annotations": []}], r"images\[0\]: no 'file_name', only id"),
    ("cococap", [{"images": [], "annotations": []}], "no examples in it"),
    ("cococap", [[]], r"expected an object, got \[\]"),
    ("cococap", [COCO, COCO], r"expected captions_\*\.json or dataset_coco\.json, got 2 files"),
    ("vqav2", [QUESTIONS, {"annotations": [{"question_id": 1}]}], "'question_id': 9001 has no annotation"),
    ("vqav2", [{**QUESTIONS, "data_subtype": 3}], "'data_subtype': expected a text, got 3"),
    (
        "vqav2",
        [{**QUESTIONS, "questions": [{"question_id": 1, "image_id": -1, "question": "x"}]}],
        "'image_id': expected a whole",
    ),
    ("textvqa", [{"data": [{"question_id": 1, "image_id": "../../x", "question": "x"}]}], "lies outside"),
    ("vizwiz", [{}], "expected a list of questions"),
    ("gqa", [{"1": {"imageId": "a"}}], "1: no 'question', only imageId"),
    ("easy-vqa", [[["x", "y"]]], r"\[0\]: expected \[question, answer, number of the image\]"),
    ("scienceqa", [{"4": {**PROBLEM, "answer": 3}}, {"test": ["4"]}], "'answer': 3 is none of 3 choices"),
    ("scienceqa", [{}, {"test": ["4"]}], "no '4', only nothing"),
    ("refcoco", [REFS, {"images": [], "annotations": []}], "'ann_id': 77 is not in instances"),
    ("refcoco", [[{**REFS[0], "split": "train"}], INSTANCES], "no split 'test'; it has train"),
    ("refcoco", [{"a": 1}], "expected JSON lines"),
]


@pytest.mark.parametrize(("task", "contents", "said"), BAD)
def test_what_is_odd_is_one_line_that_names_the_file(tmp_path, task, contents, said):
    files = [saved(tmp_path / f"file{i}.json", content) for i, content in enumerate(contents)]
    split = "val" if "ann_id" in said else "test" if task == "scienceqa" or "no split" in said else ""
    with pytest.raises(InputError, match=said) as at:
        load(task, tmp_path, *files, split=split)
    assert "file" in str(at.value)


def test_files_that_are_no_json(tmp_path):
    path = tmp_path / "captions.json"
    with pytest.raises(InputError, match=r"captions\.json: cannot be read"):
        load("cococap", tmp_path, path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"captions\.json: not valid JSON"):
        load("cococap", tmp_path, path)


def test_tasks_by_name_and_their_numbers():
    with pytest.raises(InputError, match="there is no 'vqa2'; did you mean 'vqav2'"):
        find_task("vqa2")
    table = {
        name: (t.transfer.epochs, t.transfer.batch_size, t.transfer.lr, t.decode.beams) for name, t in TASKS.items()
    }
    assert table["cococap"] == (5, 256, 1e-5, 2) and table["textcaps"] == (5, 256, 1e-5, 3)
    assert table["scicap"] == (80, 256, 3e-5, 1) and table["okvqa"] == (10, 128, 5e-6, 1)
    assert table["scienceqa"] == (20, 128, 1e-5, 1) and table["refcoco"] == (100, 256, 3e-5, 1)
    frozen = {name for name, task in TASKS.items() if task.transfer.freeze_tower}
    assert frozen == {"scienceqa", "msrvtt"} and TASKS["msrvtt"].frames == 16


def test_scores_name_what_is_missing():
    examples = [Example((Path("a.jpg"),), "x", ("a",), "1"), Example((Path("b.jpg"),), "x", ("b",), "2")]
    assert score(TASKS["gqa"], {"1": "a", "2": "c"}, examples) == {"exact_match": 50.0, "count": 2.0}
    with pytest.raises(InputError, match="predictions: none for example 2 and 0 more"):
        score(TASKS["gqa"], {"1": "a"}, examples)
    with pytest.raises(InputError, match="predictions: 3 and 0 more are of no example"):
        score(TASKS["gqa"], {"1": "a", "2": "a", "3": "a"}, examples)
    with pytest.raises(InputError, match="example 3: nothing to score against"):
        score(TASKS["gqa"], {"3": "a"}, [Example((Path("a.jpg"),), "x", id="3")])
    with pytest.raises(InputError, match="example 1: expected at least 4 people's answers"):
        score(TASKS["vqav2"], {"1": "a", "2": "c"}, examples)


def test_captions_in_several_languages_are_scored_each_for_itself():
    examples = [
        Example((Path("a.jpg"),), "x", (text,), f"{i}-{language}", fields={"language": language})
        for language, texts in (("en", ["a cat sits", "two dogs run"]), ("de", ["eine Katze sitzt", "zwei Hunde"]))
        for i, text in enumerate(texts)
    ]
    told = {example.id: example.suffixes[0] if example.id.endswith("en") else "nichts" for example in examples}
    found = score(TASKS["coco35l"], told, examples)
    assert found["cider/de"] == 0 and found["cider/en"] > 500
    assert found["cider"] == pytest.approx(found["cider/en"] / 2) and found["count"] == 4


def test_predictions_of_own_examples(tmp_path):
    path = tmp_path / "own.jsonl"
    write_examples(path, [Example((tmp_path / "a.jpg",), "answer en what?", ("cat",), "q")])
    examples = read_examples(path)
    assert load_examples(TASKS["gqa"], Published((path,), tmp_path)) == examples
    assert score(TASKS["gqa"], {"q": "cat"}, examples)["exact_match"] == 100


def test_masks_of_polygons_and_of_runs_are_those_of_pycocotools():
    golden = json.loads((Path(__file__).parents[1] / "golden" / "rle.json").read_text())["masks"]
    for one in golden:
        height, width = one["size"]
        mask = read_mask(one["polygons"], height, width, "x")
        assert write_mask(mask) == {"size": [height, width], "counts": one["counts"]}
        assert (read_mask(write_mask(mask), height, width, "x") == mask).all()
    assert len(golden) == 12


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ({"size": [3, 4], "counts": [12]}, r"'size': expected \[4, 4\]"),
        ({"size": [4, 4], "counts": [12]}, "runs of 12 pixels, expected 4 x 4"),
        ({"size": [4, 4], "counts": [20, -4]}, "expected lengths of runs"),
        ({"size": [4, 4], "counts": "o"}, "end amid one"),
        ({"size": [4, 4], "counts": "\x01"}, "no packed runs"),
        ({"size": [4, 4], "counts": None}, "expected lengths of runs"),
        ([], "expected polygons"),
        ([[1, 2, 3, 4]], "x, y of three points"),
        ([[1, 2, "a", 4, 5, 6]], "x, y of three points"),
        ([[0, 0, 1e9, 0, 1, 1]], "x, y of three points"),
    ],
)
def test_bad_masks_are_named(segmentation, said):
    with pytest.raises(InputError, match=said):
        read_mask(segmentation, 4, 4, "note 3")


CONFIGS = Path(__file__).parents[2] / "configs" / "understand"


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("flickr8k", "easy-vqa", "nlvr")])
def test_ready_configurations_hold_the_same_numbers(name):
    config, task = tomllib.loads((CONFIGS / f"paligemma-{name}.toml").read_text()), TASKS[name]
    optim, transfer = config["optim"], task.transfer
    assert config["data"].get("text_length", 32) == transfer.text_length
    assert (optim["lr"], optim.get("weight_decay", 0)) == (transfer.lr, transfer.weight_decay)
    assert config.get("objective", {}).get("label_smoothing", 0) == transfer.label_smoothing
    assert config.get("objective", {}).get("dropout", 0) == transfer.dropout
    assert config["run"]["batch_size"] == transfer.batch_size
    assert config["decode"].get("beams", 1) == task.decode.beams
    if not transfer.examples:
        assert config["run"]["epochs"] == transfer.epochs
