"""Speed and memory against a floor or a peer in the same run: `python -m benchmarks [NAME ...] [-o FILE]`.

encode     VisualLexicon's encoder                  floor: the bare tower
generate   VisualLexicon.generate, words alone      peer: diffusers' own pipeline, equal denoiser calls
train      one step of `vilex train`                floor: encoder and denoiser forward and backward
plain      one step of `vilex train`                peer: the same step written the usual way
load       16 batches of photographs, two workers   16 training steps, which it must not hold up
memory     three training steps                     peer: the usual loop, run on the embedded model
memory-sd  a training step, Stable Diffusion 1.5    peer: the usual loop, counted on shapes
flops-sd   its arithmetic                           peer: the usual loop, counted on shapes
syncs      a step of four micro-batches             goal: waits for the device once
"""

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import inference, memory, training
from benchmarks.compare import compare
from vilex.lexicon import VisualLexicon

GOALS = {
    "encode": 2.0,
    "generate": 1.1,
    "train": 1.15,
    "plain": 0.77,
    "load": 1.0,
    "memory": 0.6,
    "memory-sd": 0.6,
    "flops-sd": 0.77,
    "syncs": 1.0,
}
UNITS = {"memory": "MB", "memory-sd": "MB", "flops-sd": "TFLOP", "syncs": "waits"}  # of the others: ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(GOALS), help="which ones; all by default")
    parser.add_argument("-o", "--out", type=Path, help="write the results as JSON")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(GOALS):
        parser.error(f"unknown benchmark '{unknown.pop()}'; there are {', '.join(GOALS)}")
    measures = make_measures(arguments.rounds)
    report = {
        "command": "python -m benchmarks",
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "results": {name: measures[name]() for name in arguments.names},
    }
    table = Table("what", "ours", "floor or peer", "unit", "ratio", "goal")
    for name, row in report["results"].items():
        unit = UNITS.get(name, "ms")
        table.add_row(name, f"{row['ours']:.0f}", f"{row['other']:.0f}", unit, f"{row['ratio']:.2f}", f"{GOALS[name]}")
    Console().print(table)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def make_measures(rounds: int) -> dict[str, Callable[[], dict[str, float]]]:
    return {
        "encode": lambda: compare(*inference.encode_pair(VisualLexicon.from_pretrained("nano")), rounds),
        "generate": lambda: compare(*inference.generate_pair(VisualLexicon.from_pretrained("nano")), rounds),
        "train": lambda: compare(*training.floor_pair(), rounds),
        "plain": lambda: compare(*training.plain_pair(), rounds),
        "load": lambda: compare(*training.loading_pair(), max(1, rounds // 3)),
        "memory": memory.run_in_turn,
        "memory-sd": memory.count_memory,
        "flops-sd": memory.count_arithmetic,
        "syncs": training.count_syncs,
    }


if __name__ == "__main__":
    main()
