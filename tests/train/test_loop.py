import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.words import WORDS
from tests import tiny
from tests.runs import losses, same, weights
from vilex.data import make_loader
from vilex.encoder import ViLexEncoder
from vilex.hub.folder import fingerprint
from vilex.lexicon import VisualLexicon
from vilex.pictures.fit import square
from vilex.pictures.pixels import to_pixels
from vilex.train.checkpoint import list_checkpoints
from vilex.train.loop import train
from vilex.train.training import Training


@pytest.mark.parametrize("name", ["adafactor", "adamw", "muon"])
def test_loss_curve_is_the_golden_one(configure, request, name):
    config = configure(optim={"name": name})
    train(config, quiet=True)
    curve = [losses(config)[step] for step in range(1, 21)]
    golden = request.path.parents[1] / "golden" / f"loss-{name}.json"
    if request.config.getoption("--write-golden"):
        golden.write_text(json.dumps(curve) + "\n")
    assert curve == pytest.approx(json.loads(golden.read_text()), rel=2e-3)


def test_only_the_encoder_learns_and_it_can_be_used(configure, sd_folder, tower_folder, pictures):
    before = fingerprint(sd_folder[2])
    config = configure(run={"steps": 3, "sample_every": 3, "sample_images": 2})
    training = Training(config)
    frozen = [value.clone() for module in training.t2i.modules for value in module.state_dict().values()]
    start = {name: value.clone() for name, value in training.encoder.state_dict().items()}
    for _ in range(3):
        training.update(next(iter(loader_of(training))))
    assert all(
        torch.equal(a, b)
        for a, b in zip(frozen, (v for m in training.t2i.modules for v in m.state_dict().values()), strict=True)
    )
    moved = {
        name.split(".")[0]
        for name, value in training.encoder.state_dict().items()
        if not torch.equal(value, start[name])
    }
    assert moved == {"tower", "pooler"}
    folder = train(config, quiet=True)
    assert fingerprint(sd_folder[2]) == before
    assert len(list((folder.parent / "samples").glob("*.png"))) == 1 and any((folder.parent / "tensorboard").iterdir())
    lexicon = VisualLexicon.from_pretrained(folder)
    assert lexicon.encode(pictures[:2]).shape == (2, 8, 32)
    assert lexicon.encoder.config.training["steps"] == 3


def loader_of(training):
    run = training.config.run
    return make_loader(
        training.sources, training.config.data, batch_size=run.batch_size, seed=0, start=0, steps=run.steps,
        image_size=training.t2i.image_size, preprocess=training.bare.preprocessing,
    )  # fmt: skip


def test_eight_pictures_are_learnt(configure, tmp_path, sd_folder, pictures):
    """The frozen model can draw these pictures from words of its own; the encoder must find such words."""
    pixels = torch.stack([to_pixels(square(picture, 16)) for picture in pictures])
    base = tiny.drilled(tmp_path / "drilled", sd_folder[2], pixels, list(WORDS[:8]))
    config = configure(
        model={"base": str(base)},
        objective={"tail_drop": "off", "caption_share": 0.0},
        optim={"name": "muon", "tower_lr": 1e-3, "pooler_lr": 1e-2, "warmup_steps": 10, "ema_decay": 0.0},
        run={"steps": 300, "batch_size": 8},
    )
    train(config, quiet=True)
    curve = losses(config)
    first, last = (sum(curve[s] for s in steps) / 20 for steps in (range(1, 21), range(281, 301)))
    assert last < first / 2


class Interrupted(Exception):
    pass


def interrupt_at(monkeypatch, step):
    original = Training.update

    def update(self, *given):
        if self.step == step:
            raise Interrupted
        return original(self, *given)

    monkeypatch.setattr(Training, "update", update)


def test_resume_equals_the_uninterrupted_run(configure, monkeypatch):
    straight = configure("straight", run={"save_every": 4})
    train(straight, quiet=True)
    broken = configure("broken", run={"save_every": 4})
    with monkeypatch.context() as patch:
        interrupt_at(patch, 10)
        with pytest.raises(Interrupted):
            train(broken, quiet=True)
    assert list_checkpoints_steps(broken) == [4, 8]
    train(broken, quiet=True)
    assert losses(broken) == losses(straight)
    assert same(weights(broken), weights(straight))


def list_checkpoints_steps(config):
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(Path(config.run.out) / "checkpoints")]


def test_start_from_an_encoder(configure, model_folder, sd_folder):
    config = configure(model={"encoder": str(model_folder), "tower": "", "num_tokens": 75}, run={"steps": 1})
    training = Training(config)
    start = ViLexEncoder.from_pretrained(model_folder)
    assert same(start.state_dict(), training.encoder.state_dict())
    assert training.encoder.config.base_model == str(sd_folder[2])


@pytest.mark.parametrize("decay", [0.5, 0.0])
def test_what_is_exported_is_the_average_of_the_weights(configure, decay):
    """s' = d s + (1 - d) w with d = min(decay, 1 - k^(-3/4)) in step k; the weights themselves if decay is 0."""
    config = configure(run={"steps": 4}, optim={"ema_decay": decay, "warmup_steps": 1})
    training, batches = Training(config), iter(loader_of(Training(config)))
    names = [name for name, parameter in training.bare.named_parameters() if parameter.requires_grad]
    expected = [parameter.detach().clone() for parameter in training.parameters]
    for step in range(1, 5):
        training.update(next(batches))
        share = min(decay, 1 - step**-0.75)
        for average, parameter in zip(expected, training.parameters, strict=True):
            average.mul_(share).add_(parameter.detach(), alpha=1 - share)
    exported = load_file(training.export() / "model.safetensors")
    for name, average in zip(names, expected, strict=True):
        assert torch.allclose(exported[name], average, atol=1e-6), name
    assert not torch.allclose(exported["pooler.out.weight"], training.bare.pooler.out.weight) or not decay
