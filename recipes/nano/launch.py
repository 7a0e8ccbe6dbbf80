"""How the recipe's stages call `vilex train`: settings in a TOML file, a process a thread, one precision a folder."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipes.nano.abreast import run_abreast
from recipes.nano.precision import choose_precision
from recipes.nano.presets import Preset
from vilex.paths import write_text
from vilex.train.config import TrainConfig
from vilex.train.loop import train
from vilex.train.toml import to_dict


def train_shared(config: TrainConfig, processes: int) -> None:
    """`vilex train`, in as many processes of a thread as there are threads: each has its part of the batch.

    On two cores that is a third faster than two threads of one process. Settings lie in a TOML file beside the run.
    """
    if processes == 1:
        train(config)
        return
    path = Path(config.run.out).with_suffix(".toml")
    write_toml(replace(config, run=replace(config.run, threads=1)), path)
    launch = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    run_abreast([[sys.executable, *launch, "-m", "vilex", "train", str(path)]])


def settled_precision(preset: Preset, out: Path) -> str:
    """What `vilex train` multiplies in: measured once for a folder, for a run that goes on keeps its own."""
    if preset.precision != "auto":
        return preset.precision
    path = out / "state" / "precision.txt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(choose_precision(preset.device))
    return path.read_text()


def write_toml(config: Any, path: Path) -> None:
    """A run's settings that are not empty, as a TOML file, whole or not at all."""
    lines = []
    for section, values in to_dict(config).items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value not in ("", (), None)]
    write_text(path, "\n".join(lines) + "\n")
