"""The bill of a transfer: every number beside the one that the run itself has, and PaliGemma 3B's without a weight."""

import json

import pytest
import torch
from PIL import Image
from transformers import GemmaConfig, PaliGemmaConfig
from typer.testing import CliRunner

from tests.understand import small
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.plan.memory import LiveBytes, bytes_of
from vilex.settings import build
from vilex.understand.config import TransferConfig
from vilex.understand.samples import AskedData
from vilex.understand.transfer import Transfer
from vilex.understand.vlm_plan import describe_transfer, plan_transfer

SO400M = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 14, "intermediate_size": 4304, "vision_use_head": False,
}  # fmt: skip
GEMMA_2B = {
    "vocab_size": 257_216, "hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 18,
    "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
}  # fmt: skip


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    published = folder / "3b"
    small.tokenizer().save_pretrained(published)
    PaliGemmaConfig(
        vision_config=SO400M, text_config=GemmaConfig(**GEMMA_2B).to_dict(), image_token_index=257_152,
        projection_dim=2048, hidden_size=2048,
    ).save_pretrained(published)  # fmt: skip
    return {"paligemma": small.paligemma(folder / "p"), "llama": small.llama(folder / "l"), "3b": published}


@pytest.fixture
def configure(tmp_path, bases, model_folder):
    lines = []
    for i in range(12):
        Image.new("RGB", (24, 24), (20 * i, 0, 0)).save(tmp_path / f"{i % 6}.png")
        asked = "what colour is this" + " red" * (i == 7)
        lines.append({"image": f"{i % 6}.png", "prefix": asked, "suffix": ["red", "blue blue"], "id": str(i)})
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def make(base="paligemma", **sections):
        settings = {
            "model": {"base": str(bases[base]), "encoder": "" if base == "3b" else str(model_folder)},
            "data": {"train": str(tmp_path / "train.jsonl")},
            "run": {"out": str(tmp_path / "run"), "epochs": 10, "batch_size": 4, "device": "cpu", "look_every": 0},
        }
        for section, values in sections.items():
            settings.setdefault(section, {}).update(values)
        return build(TransferConfig, settings)

    return make


CASES = [
    ("paligemma", {"features": {"kind": "patches+tokens"}}),
    ("llama", {"features": {"kind": "patches"}, "model": {"train": "projector"}}),
    ("paligemma", {"model": {"train": "lora", "lora_rank": 2}}),
    ("paligemma", {"data": {"pack": 2}, "objective": {"dropout": 0.1}}),
]


@pytest.mark.parametrize(("base", "sections"), CASES)
def test_a_plan_is_what_the_run_takes(configure, base, sections):
    config = configure(base, **sections)
    plan, run = plan_transfer(config), Transfer(config)
    assert plan.steps == run.steps and plan.vectors == run.vlm.features.count
    assert plan.asked.rows == len(run.rows) and plan.asked.examples == 12 and plan.asked.pictures == 6
    assert sum(plan.trained.values()) == sum(p.numel() for p in run.trained.values())
    assert plan.memory["frozen weights"] + plan.memory["trained weights"] == bytes_of(run.vlm)
    assert plan.memory["what looks"] == sum(map(bytes_of, run.vlm.features.modules))
    data = AskedData(run.examples, run.gallery, run.vlm.layout, 0, 0, run.rows, run.vary)
    (batch,) = data.collate([data[i] for i in range(len(run.rows))][: config.run.batch_size])
    text = batch.laid.ids.shape[1] - int(batch.laid.image[0].sum())
    assert abs(text - plan.asked.tokens) <= 2  # the longest row may not be in this batch
    with LiveBytes() as count:
        run._forward_backward(batch, batch.questions, 0)
    planned = plan.memory["activations"] + plan.memory["gradients"]
    assert planned == pytest.approx(count.peak, rel=0.2)
    run.optimizer.step()
    states = [leaf for state in run.optimizer.state.values() for leaf in state.values()]
    assert plan.memory["optimiser"] == sum(leaf.numel() * leaf.element_size() for leaf in states)


def test_paligemma_3b_without_its_weights(configure):
    """Parameters are the published model's; 16 bytes each of what learns, 3.7 TFLOP a sample as counted by hand."""
    config = configure("3b", run={"batch_size": 8, "epochs": 2})
    layer = 2 * 2048**2 + 2 * 2048 * 256 + 3 * 2048 * 16_384 + 2 * 2048
    plan = plan_transfer(config, processes=2)
    assert plan.trained == {"language model": 257_216 * 2048 + 18 * layer + 2048, "projectors": 1152 * 2048 + 2048}
    assert plan.frozen == {"language model": 0, "projectors": 0, "what looks": 412_442_352}
    assert (plan.steps, plan.vectors, plan.micro_batch) == (3, 256, 4)
    learnt = 4 * sum(plan.trained.values())
    assert plan.memory["gradients"] == plan.memory["trained weights"] == learnt
    assert plan.memory["optimiser"] == pytest.approx(2 * learnt, rel=1e-3)
    assert 3e12 < plan.flops / 8 < 4.5e12
    cached = configure("3b", run={"batch_size": 8}, features={"cache": "kept"}, model={"train": "lora"})
    light = plan_transfer(cached)
    assert light.memory["what looks"] == plan.memory["what looks"] and light.cache == 6 * 256 * 1152 * 2
    assert light.memory["optimiser"] < 0.02 * plan.memory["optimiser"] and light.flops < plan.flops


def test_settings_that_save_memory_save_it_in_the_plan(configure):
    whole = plan_transfer(configure(run={"batch_size": 32}))
    sharded = plan_transfer(configure(run={"batch_size": 32, "parallel": "fsdp"}), processes=2)
    assert sharded.memory["optimiser"] == whole.memory["optimiser"] // 2 and sharded.micro_batch == 16
    checkpointed = plan_transfer(configure(run={"batch_size": 32, "gradient_checkpointing": True}))
    assert checkpointed.memory["activations"] < 0.9 * whole.memory["activations"]
    assert checkpointed.flops > 1.1 * whole.flops
    parts = plan_transfer(configure(run={"batch_size": 64, "micro_batch": 32}))
    assert parts.accumulate == 2 and parts.flops == 2 * whole.flops
    assert parts.memory["activations"] > whole.memory["activations"]  # gradients are there meanwhile
    with pytest.raises(InputError, match=r"run\.batch_size: 32 is no multiple of the 3 processes"):
        plan_transfer(configure(run={"batch_size": 32}), processes=3)


def test_time_is_that_of_the_log_or_of_steps_here(configure, tmp_path):
    config = configure()
    assert plan_transfer(config).seconds is None and "time" not in describe_transfer(plan_transfer(config))
    (tmp_path / "run").mkdir()
    log = tmp_path / "run" / "log.jsonl"
    log.write_text(
        "".join(json.dumps({"step": i, "images_per_second": speed}) + "\n" for i, speed in enumerate((2, 8, 9)))
    )
    plan = plan_transfer(config)
    assert plan.seconds == 0.5 and plan.measured == str(log)
    assert "15.0 seconds in all" in describe_transfer(plan)["time"]
    measured = plan_transfer(config, measure=1)
    assert 0 < measured.seconds < 60 and measured.measured == "1 steps here, on random weights"


def test_the_command_prints_it(configure, tmp_path, bases, model_folder):
    (tmp_path / "run.toml").write_text(
        f'[model]\nbase = "{bases["paligemma"]}"\nencoder = "{model_folder}"\n[data]\ntrain = "train.jsonl"\n'
        '[run]\nout = "run"\nepochs = 2\nbatch_size = 4\n'
    )
    configure()
    words = ["understand", "train", str(tmp_path / "run.toml"), "--plan"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "6 steps, 24 pictures seen, 2 epochs of 12 examples" in done.stdout
    assert "learns  language model" in done.stdout and "GB a device: what looks" in done.stdout
    done = CliRunner().invoke(app, [*words, "--json", "data.train=nowhere.jsonl", "run.steps=5"])
    found = json.loads(done.stdout)
    assert found["steps"] == 5 and found["asked"]["tokens"] == 33 and found["peak"] == sum(found["memory"].values())
    refused = CliRunner().invoke(app, [*words, "data.train=nowhere.jsonl"])
    assert isinstance(refused.exception, InputError) and "run.epochs says no number of steps" in str(refused.exception)
    assert not (tmp_path / "run").exists()
    assert torch.get_default_device().type == "cpu"
