"""Memory and arithmetic of training against the usual loop: run small, counted at Stable Diffusion's size.

Run, a process each: `python -m benchmarks.memory ours|plain` prints what its steps added to the resident memory.
Counted: the very steps on the shapes of Stable Diffusion 1.5 and SigLIP So400m/14 (see `vilex.plan.cost`).
"""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from benchmarks import shapes
from benchmarks.plain import PlainLoop
from benchmarks.training import new_plain_loop, new_training, our_step, plain_step
from vilex.plan.memory import measure
from vilex.plan.plan import make_plan
from vilex.t2i.stable_diffusion import StableDiffusion
from vilex.train.config import TrainConfig
from vilex.train.models import encoder_shape
from vilex.train.toml import load_toml

STEPS = 3
MICRO_BATCH = 4


def run_in_turn() -> dict[str, float]:
    """Megabytes that three steps of 32 images on the embedded model add, of both."""
    ours, plain = (
        float(subprocess.run([sys.executable, "-m", __spec__.name, kind], capture_output=True, check=True).stdout)
        for kind in ("ours", "plain")
    )
    return _row(ours, plain)


def count_memory() -> dict[str, float]:
    """Megabytes at Stable Diffusion 1.5's size: `configs/sd15-24gb.toml` against the usual loop."""
    config = real_size("run.gradient_checkpointing=true", "run.sample_every=0")
    (bytes_held, _) = count_plain(config)
    return _row(make_plan(config).peak / 2**20, bytes_held / 2**20)


def count_arithmetic() -> dict[str, float]:
    """TFLOP of a micro-batch at the same size, no activation computed twice."""
    config = real_size("run.gradient_checkpointing=false")
    (_, flops) = count_plain(config)
    plan = make_plan(config)
    return _row(plan.flops / plan.accumulate / 1e12, flops / 1e12)


def real_size(*overrides: str) -> TrainConfig:
    """`configs/sd15-24gb.toml` on folders of the published configurations, `MICRO_BATCH` images at a time."""
    folder = Path(tempfile.mkdtemp())
    micro = f"run.micro_batch={MICRO_BATCH}"
    config = load_toml(TrainConfig, Path("configs/sd15-24gb.toml"), [micro, *overrides])
    base = shapes.stable_diffusion(folder / "base", 1)
    tower = shapes.tower(folder / "tower", "google/siglip-so400m-patch14-224")
    return replace(
        config,
        model=replace(config.model, base=str(base), tower=str(tower)),
        data=replace(config.data, path="images"),
    )


def count_plain(config: TrainConfig) -> tuple[int, int]:
    """Bytes that the usual loop holds at its peak, and FLOPs of a micro-batch."""
    t2i = StableDiffusion.from_config(config.model.base)
    plain = PlainLoop(t2i, encoder_shape(config, t2i).train())
    pixels = torch.zeros(MICRO_BATCH, 3, 512, 512, device="meta")
    pixel_values = torch.zeros(MICRO_BATCH, 3, 224, 224, device="meta")
    peak, flops = measure(lambda: plain.forward_backward(pixels, pixel_values))
    weights = sum(4 * p.numel() for module in (*plain.t2i.modules, plain.encoder) for p in module.parameters())
    adam = sum(8 * p.numel() for p in plain.encoder.parameters())
    return weights + adam + peak, flops


def _row(ours: float, other: float) -> dict[str, float]:
    return {"ours": round(ours, 1), "other": round(other, 1), "ratio": round(ours / other, 3)}


def _grown(kind: str) -> float:
    """Megabytes of peak resident memory over what the imports alone take."""
    before = psutil.Process().memory_info().rss
    step = our_step(new_training()) if kind == "ours" else plain_step(new_plain_loop())
    for _ in range(STEPS):
        step()
    return (_peak() - before) / 2**20


def _peak() -> int:
    """Bytes at most resident since this program began. (ru_maxrss would count its parent's too.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(_grown(sys.argv[1]))
