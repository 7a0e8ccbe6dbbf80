"""Stage 7, ViLex: `vilex train` itself on the now frozen model."""

from dataclasses import replace
from pathlib import Path

from recipes.nano.frozen import frozen_model
from recipes.nano.launch import settled_precision, train_shared
from recipes.nano.presets import Preset
from recipes.nano.start import begun_encoder
from vilex.train.config import TrainConfig


def train_vilex(preset: Preset, out: Path) -> None:
    """Train the encoder on the frozen model, from the head start or on from `start`'s; the run lies in `out`/vilex.

    Checkpoints of its last three quarters stay: Table A1 compares those of a quarter and of half (`understanding`).
    """
    config, begun = vilex_config(preset, out), begun_encoder(out)
    if begun is not None:
        config = replace(config, model=replace(config.model, encoder=str(begun), tower=""))
    kept = max(config.run.keep, 3 * config.run.steps // (4 * config.run.save_every) + 1)
    train_shared(replace(config, run=replace(config.run, keep=kept)), preset.crew)


def vilex_config(preset: Preset, out: Path) -> TrainConfig:
    """The preset's [vilex] section with the stages' own paths and precision filled in."""
    config = preset.vilex
    start = {"encoder": str(out / "pooler")} if preset.pooler.images else {"tower": str(out / "tower")}
    return replace(
        config,
        model=replace(config.model, base=str(frozen_model(out)), **start),
        data=replace(config.data, path=str(out / "scenes.parquet")),
        run=replace(
            config.run,
            out=str(out / "vilex"),
            threads=preset.threads,
            seed=preset.seed,
            device=preset.device,
            mixed_precision="bf16" if settled_precision(preset, out) == "bf16" else "no",
        ),
    )
