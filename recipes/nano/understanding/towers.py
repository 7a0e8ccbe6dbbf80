"""Stage `towers`: the encoders that the tables compare and that no other stage makes. Each is kept once it is made.

control          the tower before ViLex, trained on by its own loss for as many of the same pictures as the pooler's
                 head start and ViLex showed it, at ViLex's own rate (Table 3's missing row)
quarter, half    the ViLex run's encoder at those shares of its steps (Table A1)
blocks-2, -5, -8 short ViLex runs from the tower, without a head start, whose poolers differ in depth (Table A2)
labelled         a tower that learnt concepts and styles from their names instead of a teacher's features (Table A3)
labelled-vilex   it after a short ViLex run, as long as that of `blocks-5`
zoomed           the final encoder after a short ViLex run more, on scenes and their quarters (beside Table 4)
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import SiglipVisionModel

from recipes.nano.autoencoder import to_model
from recipes.nano.data import read_pixels
from recipes.nano.launch import train_shared
from recipes.nano.loop import Trainer
from recipes.nano.presets import Preset
from recipes.nano.start import encoder_images, started
from recipes.nano.tower import distil, new_student, new_tower, scene_labels
from recipes.nano.understanding.zoomed import compose_zoomed
from recipes.nano.vilex import vilex_config
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.paths import replacing_folder
from vilex.train.checkpoint import list_checkpoints, load_checkpoint
from vilex.train.optim import choose_trained

DEPTHS = (2, 5, 8)
SHARES = {"quarter": 4, "half": 2}  # of the steps: one in so many
EXPERIMENTS = ("control", *SHARES, *(f"blocks-{n}" for n in DEPTHS), "labelled", "labelled-vilex", "zoomed")


class Missing(InputError):
    """An earlier stage's result is not there; the message names it."""


def make_towers(preset: Preset, data: Path, out: Path) -> None:
    """Make what is not made yet; what cannot be made for want of an earlier stage's result is told, and left out."""
    for name in EXPERIMENTS:
        if not encoder_folder(out, name).is_dir():
            try:
                _MAKERS[name](preset, data, out)
            except Missing as error:
                print(f"towers: {name} is not made: {error}", file=sys.stderr, flush=True)


def encoder_folder(out: Path, name: str) -> Path:
    """Where an experiment's encoder or tower lies, once it is made."""
    if name == "before":
        return out / "tower"
    if name == "after":
        own = out / "vilex" / "encoder"
        return own if own.is_dir() else started(out) or own
    if name in ("control", "labelled", *SHARES):
        return out / "understanding" / "encoders" / name
    return out / "understanding" / "vilex" / name / "encoder"


def shown_by_vilex(preset: Preset, out: Path) -> int:
    """Pictures that the tower saw between `before` and `after`."""
    return sum(encoder_images(preset, out, own=encoder_folder(out, "after") != started(out)))


def _train_control(preset: Preset, out: Path) -> None:
    before = _needs(out / "tower", "tower")
    student, settings = new_student(preset), preset.towers
    student[0] = SiglipVisionModel.from_pretrained(before)
    table = _needs(out / "scenes.parquet", "data")
    shown = replace(
        preset.tower, images=settings.control_images or shown_by_vilex(preset, out), batch=preset.vilex.run.batch_size,
        lr=preset.vilex.optim.tower_lr, seen=0,
    )  # fmt: skip
    tower = distil("control", student, shown, preset, out, [table], fit=True)
    _save(tower, encoder_folder(out, "control"))


def _take_share(name: str, preset: Preset, out: Path) -> None:
    """The averaged encoder of a checkpoint of the ViLex run."""
    final, run = _needs(encoder_folder(out, "after"), "vilex"), preset.vilex.run
    wanted = out / "vilex" / "checkpoints" / f"step-{run.steps // SHARES[name]:07d}"
    if not wanted.is_dir():
        there = ", ".join(path.name for path in list_checkpoints(wanted.parent)) or "none"
        raise Missing(
            f"{wanted}: was not kept ({there}), and Table A1 needs it; stage vilex keeps it, a run before it did not"
        )
    tensors, state = load_checkpoint(wanted)
    encoder = ViLexEncoder.from_pretrained(final)
    choose_trained(encoder, vilex_config(preset, out).optim)
    names = [key for key, p in encoder.named_parameters() if p.requires_grad]
    averaged = preset.vilex.optim.ema_decay > 0
    average = {key: tensors["ema"][str(i)] for i, key in enumerate(names)} if averaged else {}
    encoder.load_state_dict({**tensors["encoder"], **average})
    encoder.config.training = {"steps": state["step"], "images": state["step"] * run.batch_size}
    _save(encoder, encoder_folder(out, name))


def _train_blocks(depth: int, preset: Preset, out: Path) -> None:
    tower = _needs(out / "tower", "tower")
    _short_vilex(f"blocks-{depth}", preset, out, encoder="", tower=str(tower), blocks=depth)


def _train_labelled(preset: Preset, out: Path) -> None:
    """Concepts and styles of the scenes, each by a yes or no, off the mean patch."""
    table = _needs(out / "scenes.parquet", "data")
    pixels, labels = read_pixels(table), scene_labels(table)
    settings = replace(preset.tower, images=preset.towers.labelled_images)
    torch.manual_seed(preset.seed + 1)
    tower = new_tower(settings, size=pixels.shape[1])
    student = nn.ModuleList([tower, nn.Linear(settings.width, labels.shape[1])]).to(preset.device)
    trainer = Trainer("labelled", student, settings, preset, out, seed=preset.seed + 1)
    for step in trainer:
        index = step.rows(len(pixels))
        with trainer.autocast():
            said = student[1](tower(to_model(pixels[index.numpy()], preset.device)).last_hidden_state.mean(1)).float()
        trainer.update(F.binary_cross_entropy_with_logits(said, labels[index].to(said.device)))
    trainer.use_average()
    _save(tower, encoder_folder(out, "labelled"))


def _train_labelled_vilex(preset: Preset, out: Path) -> None:
    if not encoder_folder(out, "labelled").is_dir():
        _train_labelled(preset, out)
    _short_vilex("labelled-vilex", preset, out, encoder="", tower=str(encoder_folder(out, "labelled")))


def _train_zoomed(preset: Preset, data: Path, out: Path) -> None:
    start, table = _needs(encoder_folder(out, "after"), "vilex"), out / "understanding" / "zoomed.parquet"
    if not table.is_file():
        compose_zoomed(data / "emoji-64px.parquet", table, preset.towers.zoomed_scenes)
    _short_vilex("zoomed", preset, out, table, encoder=str(start), tower="")


def _short_vilex(name: str, preset: Preset, out: Path, table: Path | None = None, **model: str | int) -> None:
    """A ViLex run of `towers.vilex_steps`, by settings of its own of the model, on another table if one is given."""
    config = vilex_config(preset, out)
    data = replace(config.data, path=str(table)) if table else config.data
    home, steps = encoder_folder(out, name).parent, preset.towers.vilex_steps
    run = replace(config.run, out=str(home), steps=steps, sample_every=0)
    train_shared(replace(config, model=replace(config.model, **model), data=data, run=run), preset.crew)


def _save(module: nn.Module, folder: Path) -> None:
    """A model's folder, whole or not there."""
    with replacing_folder(folder) as aside:
        module.save_pretrained(aside, safe_serialization=True)  # type: ignore[operator]


def _needs(path: Path, stage: str) -> Path:
    if not path.exists():
        raise Missing(f"{path}: missing; run stage {stage} first")
    return path


_MAKERS = {
    "control": lambda preset, data, out: _train_control(preset, out),
    **{name: lambda preset, data, out, name=name: _take_share(name, preset, out) for name in SHARES},
    **{f"blocks-{n}": lambda preset, data, out, n=n: _train_blocks(n, preset, out) for n in DEPTHS},
    "labelled": lambda preset, data, out: _train_labelled(preset, out),
    "labelled-vilex": lambda preset, data, out: _train_labelled_vilex(preset, out),
    "zoomed": _train_zoomed,
}
