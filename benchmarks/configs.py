"""`python -m benchmarks.configs [-o docs/costs.md]`: what each ready configuration takes, by arithmetic.

`vilex train --plan` on the published shapes, without weights and without a card: memory and FLOPs are counted by
running the step on shapes alone. Hours follow from the FLOPs and a speed that is assumed and said.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import shapes
from vilex.plan.plan import Plan, make_plan
from vilex.train.config import TrainConfig
from vilex.train.toml import load_toml

CONFIGS = Path(__file__).parents[1] / "configs"
DEVICES = {"24gb": (1, 24), "8gpu": (8, 80), "paper": (64, 80)}  # by the end of a file's name: how many, of how many GB
SPEED = 1e14  # FLOP a second and device
HEAD = f"""\
# What a run takes

The ready configurations, as `vilex train configs/NAME.toml data.path=... --plan` counts them on the published shapes.
Made by

    python -m benchmarks.configs -o docs/costs.md

Memory is a device's peak, arithmetic that of all devices together, what checkpointing computes again included. The
last column is no measurement: it is that arithmetic at {SPEED / 1e12:g} TFLOP a second and device, whatever the device;
how near yours comes is what `--plan --measure 2` times there. None of these runs has been made to its end yet.

| configuration | base | devices | memory a device | images a step | steps | TFLOP a step | EFLOP in all | hours |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/costs.md"))
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(CONFIGS.glob("*.toml")):
            config = load_toml(TrainConfig, path, ["data.path=images"])
            devices, gigabytes = DEVICES[path.stem.rpartition("-")[2]]
            plan = make_plan(localised(config, Path(folder) / path.stem), devices)
            rows.append(row(path.stem, config.model.base, gigabytes, plan))
            print(rows[-1], flush=True)
    arguments.out.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


def localised(config: TrainConfig, folder: Path) -> TrainConfig:
    """The same run on folders that hold the published configurations of its models."""
    folder.mkdir(parents=True)
    base = shapes.PUBLISHED[config.model.base](folder / "base")
    tower = shapes.tower(folder / "tower", config.model.tower)
    return replace(config, model=replace(config.model, base=str(base), tower=str(tower)))


def row(name: str, base: str, gigabytes: int, plan: Plan) -> str:
    """A line of the table."""
    whole = plan.all_flops
    hours = whole / (SPEED * plan.processes) / 3600
    cells = (
        f"`{name}`", base, f"{plan.processes} of {gigabytes} GB", f"{plan.peak / 2**30:.1f} GB", f"{plan.batch_size:,}",
        f"{plan.steps:,}", f"{plan.flops / 1e12:,.0f}", f"{whole / 1e18:,.0f}", f"{hours:,.0f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
