"""Make vilex-nano from data to weights: `python -m recipes.nano STAGE... --preset cpu --data DIR --out DIR`.

A run takes a day of two cores. It can be stopped or killed at any moment; the same command goes on. In the
background, out of other work's way, with its log in a file:

    setsid nohup python -m recipes.nano --skip-finished --data DIR --out DIR niceness=10 >> run.log 2>&1 &

Stages joined by + run side by side, each with its share of the threads; a comma lets one follow another there:
`python -m recipes.nano data autoencoder+tower,words t2i ...`
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from recipes.nano.abreast import branches_of, run_abreast
from recipes.nano.autoencoder import train_autoencoder
from recipes.nano.baselines import train_baselines
from recipes.nano.data import compose
from recipes.nano.entry import run_main
from recipes.nano.export import export
from recipes.nano.pooler import train_pooler
from recipes.nano.presets import Preset
from recipes.nano.report import write_report
from recipes.nano.start import start_from
from recipes.nano.t2i import train_t2i
from recipes.nano.tables.judge import load_judge
from recipes.nano.tower import train_tower
from recipes.nano.understanding.contest import write_tables
from recipes.nano.understanding.towers import make_towers
from recipes.nano.vilex import train_vilex
from recipes.nano.words import train_words
from vilex.encoder import EMBEDDED
from vilex.train.toml import load_toml

STAGES = {
    "start": lambda preset, arguments: start_from(EMBEDDED["nano"], arguments.out),
    "data": lambda preset, arguments: compose(preset, arguments.data, arguments.out),
    "autoencoder": lambda preset, arguments: train_autoencoder(preset, arguments.out),
    "words": lambda preset, arguments: train_words(preset, arguments.out),
    "t2i": lambda preset, arguments: train_t2i(preset, arguments.out),
    "tower": lambda preset, arguments: train_tower(preset, arguments.out),
    "pooler": lambda preset, arguments: train_pooler(preset, arguments.out),
    "vilex": lambda preset, arguments: train_vilex(preset, arguments.out),
    "export": lambda preset, arguments: export(preset, arguments.out),
    "baselines": lambda preset, arguments: train_baselines(preset, arguments.out),
    "judge": lambda preset, arguments: load_judge(preset, arguments.data, arguments.out),
    "report": lambda preset, arguments: write_report(preset, arguments.data, arguments.out),
    "towers": lambda preset, arguments: make_towers(preset, arguments.data, arguments.out),
    "understanding": lambda preset, arguments: write_tables(preset, arguments.data, arguments.out),
}
# The embedded model instead of nothing to begin with; the report's judge, which it trains itself if need be; and what
# takes as long again as all the others together.
ON_REQUEST = ("start", "judge", "towers", "understanding")


# What a stage leaves when it is through, of those that would begin anew.
RESULTS = {
    "start": "start/config.json",
    "data": "unseen.parquet",
    "autoencoder": "vae/config.json",
    "words": "words/config.json",
    "t2i": "t2i/model_index.json",
    "tower": "tower/config.json",
    "pooler": "pooler/config.json",
    "judge": "judge/model.safetensors",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [name for name in STAGES if name not in ON_REQUEST]
    stages_help = f"any of {', '.join(STAGES)}; all but {', '.join(ON_REQUEST)} by default"
    parser.add_argument("stages", nargs="*", default=usual, help=stages_help)
    parser.add_argument("--preset", default="cpu", help="cpu, gpu, or the path of a TOML file")
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet tables")
    parser.add_argument("--out", type=_absolute, required=True, help="folder for tables, logs and weights")
    parser.add_argument("--skip-finished", action="store_true", help="leave out stages whose result is there")
    arguments = parser.parse_intermixed_args()
    overrides = [word for word in arguments.stages if "=" in word]
    stages = [word for word in arguments.stages if "=" not in word] or usual
    path = Path(arguments.preset)
    if not path.suffix:
        path = Path(__file__).parent / f"{path}.toml"
    preset = load_toml(Preset, path, overrides)
    torch.set_num_threads(preset.threads)
    os.nice(preset.niceness)
    plan = [branches_of(word) for word in stages]
    for stage in (stage for branches in plan for branch in branches for stage in branch):
        if stage not in STAGES:
            parser.error(f"unknown stage '{stage}'; stages are {', '.join(STAGES)}")
    for branches in plan:
        if len(branches) > 1:
            run_abreast(
                [_command(branch, arguments, overrides, preset.threads // len(branches)) for branch in branches]
            )
            continue
        for stage in branches[0]:
            started = time.time()
            if arguments.skip_finished and stage in RESULTS and (arguments.out / RESULTS[stage]).is_file():
                continue
            STAGES[stage](preset, arguments)
            print(f"{stage}: {time.time() - started:.0f} s", flush=True)


def _absolute(text: str) -> Path:
    """A folder that a run's settings may name: relative paths of a TOML file are relative to that file."""
    return Path(text).absolute()


def _command(stages: list[str], arguments: argparse.Namespace, overrides: list[str], threads: int) -> list[str]:
    """This command for some stages alone; a process inherits its niceness."""
    own = ["--preset", arguments.preset, "--data", str(arguments.data), "--out", str(arguments.out)]
    skip = ["--skip-finished"] if arguments.skip_finished else []
    settings = [*overrides, f"threads={max(1, threads)}", "niceness=0"]
    return [sys.executable, "-m", "recipes.nano", *stages, *settings, *own, *skip]


if __name__ == "__main__":
    run_main(main)
