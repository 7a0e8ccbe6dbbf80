"""Training to answer over frozen features: what learns, what does not, and that a run goes on as if never stopped."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import PaliGemmaForConditionalGeneration
from typer.testing import CliRunner

from tests.understand import small
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.settings import build
from vilex.train.checkpoint import list_checkpoints
from vilex.understand.answers import read_answers
from vilex.understand.config import TransferConfig
from vilex.understand.samples import AskedData, Order, VisitSampler, rows_of
from vilex.understand.tasks.science import science_prefix, science_suffix
from vilex.understand.transfer import Transfer
from vilex.understand.transfer_learning import make_transfer_optimizer
from vilex.understand.transfer_loop import transfer
from vilex.understand.vlm_folder import load_vlm

COLOURS = ["red", "blue", "green", "yellow"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {"paligemma": str(small.paligemma(folder / "p")), "llama": str(small.llama(folder / "l"))}


@pytest.fixture
def task(tmp_path):
    """Sixteen pictures, each of one colour, asked for it in two ways."""
    lines = []
    for i in range(16):
        colour = COLOURS[i % 4]
        Image.new("RGB", (20 + i, 24), colour).save(tmp_path / f"{i}.png")
        asked = ["what colour is this", "caption en"][i // 8]
        answer = colour if i < 8 else [f"a {colour} square", f"this is {colour}"]
        lines.append(json.dumps({"image": f"{i}.png", "prefix": asked, "suffix": answer, "id": str(i)}))
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def configure(tmp_path, bases, model_folder, task):
    def make(out="run", base="paligemma", **sections):
        settings = {
            "model": {"base": bases[base], "encoder": str(model_folder)},
            "data": {"train": str(task)},
            "optim": {"lr": 3e-3},
            "run": {"out": str(tmp_path / out), "steps": 6, "batch_size": 4, "device": "cpu", "log_every": 1,
                    "look_every": 0, "save_every": 100},
        }  # fmt: skip
        for section, values in sections.items():
            settings.setdefault(section, {}).update(values)
        return build(TransferConfig, settings)

    return make


def losses(config):
    lines = map(json.loads, Path(config.run.out, "log.jsonl").read_text().splitlines())
    return {row["step"]: row["loss"] for row in lines}


def weights(config):
    return load_file(f"{config.run.out}/vlm/model.safetensors")


@pytest.mark.parametrize(("base", "pack"), [("paligemma", 0), ("llama", 0), ("paligemma", 4)])
def test_it_learns_to_say_what_it_sees(configure, task, base, pack, tmp_path):
    config = configure(
        base=base, features={"kind": "patches+tokens", "cache": str(tmp_path / "cache")},
        data={"validation": str(task), "pack": pack}, run={"steps": 120, "batch_size": 8, "look_every": 120},
    )  # fmt: skip
    folder = transfer(config, quiet=True)
    vlm = load_vlm(folder)
    pictures = [Image.new("RGB", (40, 30), colour) for colour in COLOURS]
    assert vlm.answer(pictures, ["what colour is this"] * 4) == COLOURS
    looked = read_answers(Path(config.run.out) / "looks" / "step-0000120.jsonl")
    assert len(looked) == 16 and sum(one.matches for one in looked) >= 15
    row = json.loads(Path(config.run.out, "log.jsonl").read_text().splitlines()[-1])
    assert row["look_match"] >= 15 / 16 and row["look_loss"] < 0.8


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("train", ["lm", "lora"])
def test_resume_equals_the_uninterrupted_run(configure, monkeypatch, train):
    how = {"model": {"train": train}, "objective": {"dropout": 0.1, "label_smoothing": 0.1}, "run": {"save_every": 2}}
    straight, broken = configure("straight", **how), configure("broken", **how)
    transfer(straight, quiet=True)
    original = Transfer.update

    def update(self, *given):
        if self.step == 5:
            raise Interrupted
        return original(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Transfer, "update", update)
        with pytest.raises(Interrupted):
            transfer(broken, quiet=True)
    steps = [path.name for path in list_checkpoints(Path(broken.run.out) / "checkpoints")]
    assert steps == ["step-0000002", "step-0000004"]
    transfer(broken, quiet=True)
    assert losses(broken) == losses(straight) and len(losses(straight)) == 6
    own, other = weights(broken), weights(straight)
    assert own.keys() == other.keys() and all(torch.equal(own[key], other[key]) for key in own)


def test_cached_features_train_the_same_and_pictures_are_not_read_again(configure, monkeypatch, tmp_path):
    plain = configure("plain", features={"kind": "patches+tokens"})
    kept = configure(
        "kept", features={"kind": "patches+tokens", "cache": str(tmp_path / "cache"), "cache_dtype": "float32"}
    )
    transfer(plain, quiet=True)
    transfer(kept, quiet=True)
    assert losses(kept) == pytest.approx(losses(plain), rel=1e-4)
    looked = []
    features = type(Transfer(configure("third")).vlm.features)
    monkeypatch.setattr(features, "__call__", lambda self, pixels: looked.append(1))
    again = configure("again", features=vars(kept.features))
    transfer(again, quiet=True)
    assert not looked and losses(again) == losses(kept)


def test_micro_batches_change_nothing(configure):
    whole, parts = configure("whole"), configure("parts", run={"micro_batch": 1})
    transfer(whole, quiet=True)
    transfer(parts, quiet=True)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)


@pytest.mark.parametrize(
    ("model", "moved"),
    [
        ({"train": "lm"}, {"language_model", "multi_modal_projector"}),
        ({"train": "lm", "train_projector": False}, {"language_model"}),
        ({"train": "projector"}, {"multi_modal_projector"}),
        ({"train": "lora", "train_projector": False}, {"language_model"}),
    ],
)
def test_only_what_the_configuration_says_learns(configure, bases, model_folder, model, moved):
    config = configure(model=model)
    transfer(config, quiet=True)
    after = PaliGemmaForConditionalGeneration.from_pretrained(f"{config.run.out}/vlm").state_dict()
    before = PaliGemmaForConditionalGeneration.from_pretrained(bases["paligemma"]).state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])} - {"lm_head.weight"}
    assert {key.split(".")[1] for key in changed if "vision_tower" not in key} == moved
    tower = load_file(model_folder / "model.safetensors")
    assert all(torch.equal(after[f"model.vision_{key}"], tower[key]) for key in tower if key.startswith("tower."))


def test_weight_decay_is_absolute_and_finds_what_big_visions_finds(configure):
    config = configure(optim={"lr": 1e-3, "weight_decay": 1e-4}, features={"kind": "patches+tokens"})
    run = Transfer(config)
    before = run.vlm.lm.model.multi_modal_projector.linear.weight.detach().clone()
    for group in run.optimizer.param_groups:
        group["lr"] = 1e-3
    for parameter in run.trained.values():
        parameter.grad = torch.zeros_like(parameter)
    word = run.vlm.lm.model.language_model.layers[0].mlp.up_proj.weight.detach().clone()
    run.optimizer.step()
    assert torch.allclose(run.vlm.lm.model.multi_modal_projector.linear.weight, before * (1 - 1e-4), atol=1e-7)
    assert torch.equal(run.vlm.lm.model.language_model.layers[0].mlp.up_proj.weight, word)
    everything = configure(optim={"lr": 1e-3, "weight_decay": 1e-4, "decay": "matrices"})
    groups = make_transfer_optimizer(run.vlm, everything).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert id(run.vlm.lm.model.language_model.layers[0].mlp.up_proj.weight) in decayed
    assert all(p.ndim >= 2 for group in groups if group["weight_decay"] for p in group["params"])


def test_each_epoch_has_every_example_once_and_suffixes_come_without_replacement():
    order = Order(7, seed=3)
    epochs = [[order.visit(7 * epoch + place)[0] for place in range(7)] for epoch in range(6)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs) and len({tuple(one) for one in epochs}) > 1
    assert epochs[0] != list(range(7))  # an answer in the file's order never leaks
    for example in range(3):
        said = [order.suffix(example, epoch, 3) for epoch in range(6)]
        assert sorted(said[:3]) == sorted(said[3:]) == [0, 1, 2]
    firsts = {order.suffix(example, 0, 5) for example in range(40)}
    assert firsts == set(range(5))
    parts = [list(VisitSampler(8, 2, 4, rank, 2)) for rank in range(2)]
    together = [[*one, *other] for one, other in zip(*parts, strict=True)]
    assert together == [list(range(16, 24)), list(range(24, 32))]


def test_a_broken_picture_is_left_out_and_named_too_many_end_the_run(configure, task):
    (task.parent / "3.png").write_bytes(b"no picture")
    config = configure(run={"steps": 4, "save_every": 1})
    transfer(config, quiet=True)
    lines = Path(config.run.out, "skipped.jsonl").read_text()
    assert "3.png: not a readable image" in lines
    data = AskedData(*_data_of(Transfer(configure("other"))))
    (batch,) = data.collate([data[i] for i in range(16)])
    assert batch.weights.sum() == 15
    for i in range(16):
        (task.parent / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"pictures are broken, more than data.max_bad_share = 0.05"):
        transfer(configure("third", run={"steps": 40}), quiet=True)


def _data_of(run):
    return run.examples, run.gallery, run.vlm.layout, 0, 0


def test_packed_rows_learn_what_their_questions_learn_one_by_one(configure, task):
    lines = []
    for i in range(16):
        line = {"image": f"{i}.png", "prefix": "what colour is this", "suffix": COLOURS[i % 4], "id": str(i)}
        lines += [line, {**line, "prefix": "caption en", "suffix": "a square", "id": f"{i}c"}][: 1 + i % 2]
    task.write_text("\n".join(map(json.dumps, lines)))
    packed, alone = configure("packed", data={"pack": 8}), configure("alone", data={"pack": 1})
    runs = []
    for config, count in ((packed, 16), (alone, 24)):
        run = Transfer(config)
        data = AskedData(run.examples, run.gallery, run.vlm.layout, 0, 3, run.rows, run.vary)
        assert len(run.rows) == count
        runs.append(run.update(data.collate([data[i] for i in range(count)]))[0])
    for name in ("loss", "grad_norm"):
        assert float(runs[0][name]) == pytest.approx(float(runs[1][name]), rel=1e-4)
    transfer(configure("through", data={"pack": 8}, run={"steps": 3}), quiet=True)
    assert load_vlm(Path(packed.run.out).parent / "through" / "vlm").layout.apart
    assert rows_of(Transfer(alone).examples, 2)[1] == (1, 2)


def test_what_can_be_asked_in_another_way_is_asked_so_each_time(configure, task):
    choices = ["red", "blue", "green"]
    fields = {"question": "what colour", "hint": "", "choices": choices, "answer": 1}
    line = {"image": "0.png", "prefix": science_prefix("what colour", "", choices), "suffix": science_suffix(1)}
    task.write_text(json.dumps({**line, **fields}))
    run = Transfer(configure(data={"task": "scienceqa", "text_length": 200}))
    data = AskedData(run.examples, run.gallery, run.vlm.layout, 0, 0, run.rows, run.vary)
    asked = [data[number].examples[0] for number in range(12)]
    assert [data[number].examples[0].prefix for number in range(12)] == [one.prefix for one in asked]
    assert len({one.prefix for one in asked}) > 3
    for one in asked:
        letter = one.suffixes[0].removeprefix("The answer is ")[0]
        assert f"({letter}) blue" in one.prefix
    with pytest.raises(InputError, match=r"config: data.task: there is no 'sciencqa'; did you mean 'scienceqa'"):
        configure(data={"task": "sciencqa"}).check()


def test_a_run_with_other_settings_is_refused_unless_they_are_accepted(configure, task):
    transfer(configure(run={"steps": 4}), quiet=True)
    other = {"optim": {"lr": 1e-3}, "run": {"steps": 8}}
    with pytest.raises(InputError, match=r"holds a run with optim.lr = 0.003, not 0.001; .* --accept optim.lr to go"):
        transfer(configure(**other), quiet=True)
    with pytest.raises(InputError, match=r"run.steps = 4, not 8"):
        transfer(configure(**other), quiet=True, accept=["optim.lr"])
    config = configure(**other)
    transfer(config, quiet=True, accept=["optim.lr", "run.steps"])
    rows = [json.loads(line) for line in Path(config.run.out, "log.jsonl").read_text().splitlines()]
    fresh = configure("fresh", **other)
    transfer(fresh, quiet=True)
    rates = [json.loads(line)["lr"] for line in Path(fresh.run.out, "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 9)) and [row["lr"] for row in rows][4:] == rates[4:]
    with pytest.raises(InputError, match=r"is at step 8 already, past the run's 6"):
        transfer(configure(optim={"lr": 1e-3}), quiet=True, accept=["optim.lr", "run.steps"])
    with pytest.raises(InputError, match=r"--accept features.kind: expected one of"):
        transfer(configure(**other), quiet=True, accept=["features.kind"])
    task.write_text(task.read_text().splitlines()[0])
    with pytest.raises(InputError, match=r"was trained on 16 examples, not 1"):
        transfer(configure(**other), quiet=True)
    transfer(configure(optim={"lr": 1e-3}, run={"steps": 9}), quiet=True, accept=["data.train", "run.steps"])


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"model": {"base": ""}}, "model.base is missing"),
        ({"data": {"train": ""}}, "data.train is missing"),
        ({"model": {"scratch": True, "train": "lora"}}, "model.scratch: random weights never learn"),
        ({"model": {"train": "projector", "train_projector": False}}, "nothing learns"),
        ({"run": {"steps": 0, "epochs": 0.0}}, "both 0"),
        ({"run": {"batch_size": 0}}, "run.batch_size: expected a whole number from 1"),
    ],
)
def test_settings_that_cannot_work_are_one_line(configure, sections, said):
    with pytest.raises(InputError, match=said):
        transfer(configure(**sections), quiet=True)


def run_cli(*arguments):
    said = CliRunner().invoke(app, ["understand", *map(str, arguments)])
    if said.exception and not isinstance(said.exception, SystemExit):
        raise said.exception
    return said


def test_from_a_toml_file_to_an_answer_as_a_user_would(tmp_path, bases, task):
    (tmp_path / "run.toml").write_text(
        f'[model]\nbase = "{bases["llama"]}"\nencoder = "nano"\n[features]\nkind = "tokens"\ncache = "cache"\n'
        '[data]\ntrain = "train.jsonl"\n[optim]\nlr = 3e-3\n'
        '[run]\nout = "run"\nsteps = 3\nbatch_size = 4\ndevice = "cpu"\nlook_every = 0\n'
    )
    assert "16 pictures" in run_cli("cache", tmp_path / "run.toml").stdout
    assert "trained model" in run_cli("train", tmp_path / "run.toml").stdout
    vlm = tmp_path / "run" / "vlm"
    said = run_cli("ask", vlm, tmp_path / "0.png", "what colour is this", "--json")
    assert json.loads(said.stdout)["prefix"] == "what colour is this"
    (tmp_path / "5.png").unlink()
    done = CliRunner().invoke(
        app, ["understand", "eval", str(vlm), str(task), "-o", str(tmp_path / "a"), "--max-new-tokens", "3"]
    )
    assert done.exit_code == 2 and "15 answers" in done.stdout
    answers = read_answers(tmp_path / "a" / "predictions.jsonl")
    assert [one.id for one in answers] == [str(i) for i in range(16) if i != 5] and answers[0].truths == ("red",)
    with pytest.raises(InputError, match="exists"):
        run_cli("eval", vlm, task, "-o", tmp_path / "a")
    scored = CliRunner().invoke(
        app, ["understand", "eval", str(vlm), str(task), "-o", str(tmp_path / "b"), "--task", "gqa", "--json",
              "--max-new-tokens", "3"]
    )  # fmt: skip
    found = json.loads(scored.stdout)
    assert found["scores"]["count"] == 15 and len(found["scores"]) > 1 and len(found["refused"]) == 1
    with pytest.raises(InputError, match="there is no 'gqua'; did you mean 'gqa'"):
        run_cli("eval", vlm, task, "-o", tmp_path / "c", "--task", "gqua")
    with pytest.raises(InputError, match=r"no vilex-vlm.json"):
        run_cli("ask", tmp_path, tmp_path / "0.png", "what")
