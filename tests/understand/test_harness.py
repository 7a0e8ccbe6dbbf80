"""lmms-eval's side played by a stand-in of its registry and base class: found, asked, answered, and refused in a line.

The stand-in has what lmms-eval 0.7 calls: entry points that give a `ModelManifest`, `create_from_arg_string`,
`task_dict`, requests with `args`, `cache_hook`.
"""

import abc
import importlib
import sys
import tomllib
import types
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from PIL import Image

from tests.understand import small
from vilex.errors import InputError
from vilex.understand.features import FeaturesConfig
from vilex.understand.harness import answer_of, is_known, prefix_of
from vilex.understand.vlm_folder import make_vlm, save_vlm

ROOT = Path(__file__).parents[2]
SHORT = "\nAnswer the question using a single word or phrase."
UNSURE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'." + SHORT


@dataclass(frozen=True)
class ModelManifest:
    """Of lmms-eval's registry."""

    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


class Lmms(abc.ABC):
    """lmms-eval's base class, as far as it is called."""

    is_simple = True

    def __init__(self):
        self._rank, self._world_size, self.task_dict, self.cached = 0, 1, {}, []
        self.cache_hook = types.SimpleNamespace(add_partial=lambda *one: self.cached.append(one))

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...

    @classmethod
    def create_from_arg_string(cls, text, more):
        given = dict(one.split("=", 1) for one in text.split(",") if one)
        given = {key: int(value) if value.isdigit() else value for key, value in given.items()}
        return cls(**given, **{key: value for key, value in more.items() if value is not None})


@dataclass
class Instance:
    args: tuple


@pytest.fixture
def harness(monkeypatch):
    """The class that lmms-eval would find by this package's entry point."""
    named = {name: {} for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.models")}
    named |= {"lmms_eval.api.model": {"lmms": Lmms}}
    named |= {"lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest}}
    for name, content in named.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "vilex.understand.lmms_model", raising=False)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ((name, value),) = project["entry-points"]["lmms_eval.models"].items()
    manifest = EntryPoint(name, value, "lmms_eval.models").load()()
    assert isinstance(manifest, ModelManifest) and manifest.model_id == "vilex" and manifest.chat_class_path is None
    module, _, found = manifest.simple_class_path.rpartition(".")
    yield getattr(importlib.import_module(module), found)
    sys.modules.pop("vilex.understand.lmms_model", None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    base = small.paligemma(folder / "base")
    save_vlm(make_vlm(str(base), "", FeaturesConfig()), folder / "vlm")
    return folder / "vlm"


def request(context, number, task, **settings):
    shown = lambda sample: [sample["image"]] if "image" in sample else []  # noqa: E731
    return Instance((context, {"max_new_tokens": 3, **settings}, shown, number, task, "test"))


def samples(*colours):
    return {"test": [{"image": Image.new("RGB", (40, 30), one), "question": "what is this"} for one in colours]}


def test_tasks_are_asked_as_they_are_trained():
    sample = {"question": "what is it?"}
    for task, context, prefix in (
        ("vqav2_val_lite", "what is it?" + SHORT, "answer en what is it?"),
        ("textvqa_val", "What is it?\nReference OCR token: a" + SHORT, "answer en what is it?"),
        ("vizwiz_vqa_val", "What is it?" + UNSURE, "answer en what is it?"),
        ("coco2014_cap_val", "Provide a one-sentence caption for the provided image.", "caption en"),
        ("coco_karpathy_test", "Provide a caption.", "caption en"),
        ("textcaps_val", "Provide a caption.", "caption en"),
        ("vatex_val_zh", "...", "caption zh"),
        ("vatex_test", "...", "caption en"),
        ("pope", "Is there a dog?" + SHORT, "answer en Is there a dog?"),
        ("mine", "Is it?\nTwo lines?" + UNSURE, "answer en Is it?\nTwo lines?"),
    ):
        assert prefix_of(task, sample, context) == prefix, task
    science = {"question": "Which?", "hint": "", "choices": ["a", "b"]}
    asked = prefix_of("scienceqa_img", science, "Which?\nA. a\nB. b")
    assert asked == "Question: Which?\nContext: N/A\nOptions: (A) a, (B) b\nAnswer:"
    assert prefix_of("pope", sample, "Is it?" + SHORT, "{question} yes or no") == "Is it? yes or no"
    assert is_known("gqa_lite") and not is_known("pope")
    with pytest.raises(InputError, match=r"refcoco_seg_val: .* no referring segmentation; score that by `vilex"):
        prefix_of("refcoco_seg_val", sample, "x")


def test_answers_are_as_they_are_read():
    assert answer_of("scienceqa_img", "The answer is B.") == "B" and answer_of("scienceqa_img", "why ") == "why"
    assert answer_of("textvqa_val", " a cat ASSISTANT: no", ("ASSISTANT:", "")) == "a cat"


def test_requests_are_answered_in_their_order(harness, trained):
    lm = harness.create_from_arg_string(f"pretrained={trained}", {"batch_size": "2", "device": "cpu"})
    lm.task_dict["vqav2_val"] = samples("red", "blue", "green")
    lm.task_dict["coco2014_cap_val"] = samples("yellow")
    asked = [
        ("vqav2_val", 0, {}),
        ("coco2014_cap_val", 0, {"num_beams": 2}),
        ("vqav2_val", 1, {}),
        ("vqav2_val", 2, {}),
    ]
    requests = [request("what is this" + SHORT, number, task, **more) for task, number, more in asked]
    found = lm.generate_until(requests)
    model, wanted = lm.model, []
    for task, number, more in asked:
        prefix = "caption en" if task.startswith("coco") else "answer en what is this"
        picture = lm.task_dict[task]["test"][number]["image"]
        wanted += model.answer([picture], [prefix], 3, more.get("num_beams", 1))
    assert found == wanted and len(set(found)) > 1
    assert [one[1][0] for one in lm.cached].count("what is this" + SHORT) == 4 and lm.device.type == "cpu"
    asked_otherwise = harness(pretrained=str(trained), device="cpu", prefix="caption en", beams=2)
    asked_otherwise.task_dict = lm.task_dict
    assert asked_otherwise.generate_until(requests[:1]) == model.answer(
        [lm.task_dict["vqav2_val"]["test"][0]["image"]], ["caption en"], 3, 2
    )


def test_videos_are_their_frames(harness, trained, tmp_path):
    for i in range(20):
        (tmp_path / "clip").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (10 * i, 0, 0)).save(tmp_path / "clip" / f"{i:02d}.png")
    lm = harness(pretrained=str(trained), device="cpu", frames=3)
    lm.task_dict["vatex_test"] = {"test": [{"image": str(tmp_path / "clip")}]}
    (said,) = lm.generate_until([request("...", 0, "vatex_test")])
    frames = [Image.open(tmp_path / "clip" / f"{i:02d}.png") for i in (0, 9, 18)]
    parts = lm.model.features.of_images(frames)
    assert said == lm.model.generate(parts, ["caption en"], 3, 3)[0]


def test_what_cannot_be_is_one_line(harness, trained):
    for given, line in (
        ({}, r"pretrained is missing; give pretrained=RUN/vlm"),
        ({"pretrained": str(trained), "colour": 1}, "unknown 'colour'; known are pretrained"),
        ({"pretrained": str(trained), "batch_size": "auto"}, "batch_size: expected a whole number from 1 to 4096"),
        ({"pretrained": str(trained.parent), "device": "cpu"}, r"no vilex-vlm\.json"),
        ({"pretrained": str(trained), "device": "tpu"}, "device: 'tpu' is no device"),
    ):
        with pytest.raises(InputError, match=line):
            harness(**given)
    lm = harness(pretrained=str(trained), device="cpu")
    lm.task_dict["pope"] = {"test": [{"question": "x"}, samples("red")["test"][0]]}
    with pytest.raises(InputError, match="pope: sample 0 has no picture"):
        lm.generate_until([request("x", 0, "pope")])
    with pytest.raises(InputError, match="pope: wants sampled answers; set --gen_kwargs"):
        lm.generate_until([request("x", 1, "pope", temperature=0.7)])
    with pytest.warns(UserWarning, match="pope: asked as 'answer en x'; --model_args prefix="):
        lm.generate_until([request("x" + SHORT, 1, "pope")])
    with pytest.raises(InputError, match="generate_until"):
        lm.loglikelihood([])
    with pytest.raises(InputError, match="generate_until"):
        lm.generate_until_multi_round([])


def test_lmms_eval_itself_finds_the_class():
    """Where it is installed, and this package with its entry points."""
    registry = pytest.importorskip("lmms_eval.models.registry_v2").ModelRegistryV2()
    registry.load_entrypoint_manifests()
    found = registry.get_model_class("vilex")
    assert found.__module__ == "vilex.understand.lmms_model" and found.is_simple
