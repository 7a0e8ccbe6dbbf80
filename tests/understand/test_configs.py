"""The ready configurations: they are read, they can work, and their numbers are the protocol's."""

from pathlib import Path

import pytest

from vilex.errors import InputError
from vilex.train.toml import load_toml
from vilex.understand.config import TransferConfig

FOLDER = Path(__file__).parents[2] / "configs" / "understand"
# big_vision, configs/proj/paligemma/transfers: text_len, epochs, batch, lr, wd, label smoothing, dropout, beams
PROTOCOL = {
    "cococap": (32, 5, 256, 1e-5, 1e-6, 0, 0, 2),
    "coco35l": (32, None, 256, 1e-4, 0, 0, 0, 1),
    "textcaps": (32, 5, 256, 1e-5, 1e-6, 0, 0, 3),
    "scicap": (96, 80, 256, 3e-5, 0, 0.1, 0.1, 1),
    "vqav2": (32, 10, 256, 1e-5, 1e-6, 0, 0, 1),
    "textvqa": (32, 5, 256, 3e-6, 0, 0, 0, 1),
    "okvqa": (32, 10, 128, 5e-6, 0, 0, 0, 1),
    "scienceqa": (512, 20, 128, 1e-5, 0, 0, 0, 1),
    "vizwiz": (48, 10, 256, 1e-5, 0, 0, 0, 1),
    "gqa": (32, 1, 256, 1e-5, 0, 0, 0, 1),
    "refcoco": (48, 100, 256, 3e-5, 0, 0.3, 0.1, 1),
    "msrvtt": (32, 20, 128, 1e-5, 0, 0, 0, 1),
}


def read(name):
    return load_toml(TransferConfig, FOLDER / f"{name}.toml", ["model.base=some/base", "data.train=train.jsonl"])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_configuration_can_work(path):
    config = read(path.stem)
    config.check()
    assert config.data.train.endswith("train.jsonl")


@pytest.mark.parametrize("task", PROTOCOL)
def test_paligemmas_numbers_are_big_visions(task):
    config = read(f"paligemma-{task}")
    length, epochs, batch, lr, decay, smoothing, dropout, beams = PROTOCOL[task]
    assert config.data.text_length == length and config.run.batch_size == batch
    assert config.run.epochs == epochs if epochs else config.run.steps == round(566_435 / 256)
    assert (config.optim.lr, config.optim.weight_decay) == (lr, decay)
    assert (config.objective.label_smoothing, config.objective.dropout) == (smoothing, dropout)
    assert (config.decode.beams, config.optim.b2, config.optim.warmup, config.optim.clip_norm) == (
        beams,
        0.999,
        0.05,
        1,
    )
    assert config.model.train_projector == (task not in ("scienceqa", "msrvtt"))
    assert config.data.task == task


@pytest.mark.parametrize("name", ["nano", "smollm2-captions"])
def test_a_base_that_is_nobodys_is_said_beside_the_empty_setting(name):
    text = (FOLDER / f"{name}.toml").read_text()
    before = text.split('base = ""')[0].splitlines()
    assert any("model.base=" in line for line in before[-4:])
    with pytest.raises(InputError, match=r"config: model\.base is missing; name PaliGemma or a causal language model"):
        load_toml(TransferConfig, FOLDER / f"{name}.toml", ["data.train=train.jsonl"]).check()


def test_every_task_of_the_paper_has_one():
    assert {path.stem for path in FOLDER.glob("paligemma-*.toml")} == {f"paligemma-{task}" for task in PROTOCOL}
