"""A grid of short training runs from one TOML file, and one table of what each is worth.

    train = "run.toml"                    # what all variants share
    set = ["run.steps=2000"]              # changes for all of them

    [measure]
    data = "held-out.parquet"             # pictures to re-create
    counts = [1, 4, 16]

    [[variants]]
    name = "2 blocks"
    set = ["model.blocks=2"]

Runs go on where they stopped, and what is evaluated stays, so the command can be interrupted and repeated.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from vilex.data.config import SourceConfig
from vilex.errors import InputError
from vilex.eval.picture_store import folder_name
from vilex.eval.reconstruction import evaluate_reconstruction
from vilex.eval.rows import Reconstruction
from vilex.lexicon import VisualLexicon
from vilex.paths import write_keeping
from vilex.settings import Names, Range
from vilex.train.config import MOST_TOKENS, TrainConfig
from vilex.train.consistency import settle
from vilex.train.loop import train
from vilex.train.toml import load_toml


@dataclass(frozen=True)
class MeasureConfig:
    """What every variant's encoder is measured by; see `vilex.eval.rows.Reconstruction`."""

    data: Annotated[str, Names.PICTURES] = ""  # the pictures to re-create, any source
    images: Annotated[int, Range(1, 10**9)] = 64  # only the first so many
    counts: tuple[Annotated[int, Range(1, MOST_TOKENS)], ...] = (1, 4, 16)  # numbers of tokens, a row each
    seeds: tuple[Annotated[int, Range(0, 2**32 - 1)], ...] = (0,)  # of the noise
    features: tuple[str, ...] = ("lite0",)  # networks that look at pictures, see `vilex.eval.features`
    measures: tuple[str, ...] = ("distance", "error")  # see `vilex.eval.measures`
    cfg: Annotated[float, Range(-1000, 1000, "1 is no guidance")] = 2.0  # classifier-free guidance
    steps: Annotated[int, Range(1, 1000)] = 16  # of the sampling


@dataclass(frozen=True)
class Variant:
    """One run of the grid."""

    name: str = ""  # its row's title, and its folder
    set: tuple[str, ...] = ()  # section.key=value


@dataclass(frozen=True)
class Ablation:
    """What all variants share, what tells them apart, and what each is measured by."""

    train: Annotated[str, Names.FILE] = ""  # the run's TOML file, as `vilex train` takes it
    set: tuple[str, ...] = ()  # section.key=value for all variants
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    variants: tuple[Variant, ...] = ()  # a run each
    folder: Annotated[str, Names.FILE] = ""  # what paths in `set` are relative to, if not to where one is


def load_grid(path: Path) -> Ablation:
    """A grid's TOML file, whose relative paths are relative to it; see `load_toml` for what raises."""
    grid = load_toml(Ablation, path)
    return replace(grid, folder=grid.folder or str(path.parent.absolute()))


def run_ablation(grid: Ablation, out: Path, device: str = "cpu", quiet: bool = False) -> dict[str, Any]:
    """Train and evaluate every variant; write results.json with a row a variant.

    Raises:
        InputError: the grid is incomplete, a setting is unknown, or a run fails.
    """
    if not (grid.train and grid.measure.data and grid.variants):
        raise InputError("ablation: expected train, measure.data and [[variants]]")
    names = [variant.name for variant in grid.variants]
    if not all(names) or len({folder_of(out, name) for name in names}) < len(names):
        raise InputError("ablation: expected a name for each of [[variants]], all different")
    configs = {variant.name: configure(grid, variant, out, device) for variant in grid.variants}  # all before one runs
    rows: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        encoder = train(config, quiet)
        found = evaluate(grid.measure, encoder, config.model.num_tokens, folder_of(out, name) / "eval", device)
        rows[name] = {
            f"{measure}, {row}": value
            for row, values in found["rows"].items()
            if "token" in row
            for measure, value in values.items()
        }
    results = {"grid": {"train": grid.train, "set": list(grid.set)}, "rows": rows}
    write_keeping(out / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def configure(grid: Ablation, variant: Variant, out: Path, device: str) -> TrainConfig:
    """A variant's run, below `out`."""
    config = load_toml(TrainConfig, grid.train, [*grid.set, *variant.set], Path(grid.folder) if grid.folder else None)
    config = replace(config, run=replace(config.run, out=str(folder_of(out, variant.name) / "run"), device=device))
    return settle(config)


def evaluate(measure: MeasureConfig, encoder: Path, num_tokens: int, out: Path, device: str) -> dict[str, Any]:
    """Results of a trained variant; numbers of tokens that it has not are left out."""
    settings = Reconstruction(
        SourceConfig(path=measure.data), out, measure.images, tuple(k for k in measure.counts if k <= num_tokens), (),
        measure.seeds, measure.features, measure.measures, cfg=measure.cfg, steps=measure.steps,
    )  # fmt: skip
    results, _ = evaluate_reconstruction(VisualLexicon.from_pretrained(encoder, device=device), settings)
    return results


def folder_of(out: Path, name: str) -> Path:
    """Where a variant's run and evaluation lie."""
    return out / folder_name(name)
