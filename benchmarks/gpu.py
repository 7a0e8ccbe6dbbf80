"""What one CUDA card makes of Stable Diffusion 1.5 and SigLIP So400m: `python -m benchmarks.gpu [-o docs]`.

Weights are random, shapes are the published ones. Images a second, model-FLOPs utilisation (the arithmetic that the
model asks for, nothing computed twice, over what the card's data sheet promises in dense bfloat16) and peak memory
beside what was planned go to benchmarks-gpu.json and into the page benchmarks.md.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import shapes
from benchmarks.random_weights import fill_stable_diffusion, fill_tower, make_encoder
from benchmarks.training import photo_shards
from vilex.data import Batch
from vilex.data.config import DataConfig
from vilex.encoder import load_encoder
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.plan.memory import sampling_memory
from vilex.plan.plan import make_plan
from vilex.t2i import shape_of
from vilex.train.config import ModelConfig, OptimConfig, RunConfig, TrainConfig
from vilex.train.training import Training

BEGIN, END = "<!-- benchmarks.gpu -->\n", "<!-- end of benchmarks.gpu -->\n"
DENSE_BF16 = {  # FLOP/s by a part of the card's name, the first that fits; from NVIDIA's data sheets
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


@dataclass(frozen=True)
class Models:
    """Folders with random weights, and the pooler between them."""

    base: Path
    tower: Path
    encoder: Path
    num_tokens: int = 75
    blocks: int = 5
    heads: int = 12

    def config(self, data: Path, out: Path, device: str, **run: object) -> TrainConfig:
        """A run in bfloat16 on the device; `run`: settings of its section."""
        model = ModelConfig(
            str(self.base), str(self.tower), num_tokens=self.num_tokens, blocks=self.blocks, heads=self.heads,
            frozen_dtype="bfloat16",
        )  # fmt: skip
        chosen = {"out": str(out), "device": device, "mixed_precision": "bf16", "sample_every": 0, **run}
        optim = OptimConfig(warmup_steps=0, pooler_lr=1e-3)
        return TrainConfig(model, DataConfig(path=str(data), workers=2), optim=optim, run=RunConfig(**chosen))


@dataclass(frozen=True)
class Row:
    """One line of the page.

    Attributes:
        rate: images or pictures a second. flops: of one of them. memory, planned: bytes at peak, None where the device
            does not tell.
    """

    what: str
    rate: float
    flops: float
    memory: int | None = None
    planned: int | None = None


def published_models(folder: Path, device: str) -> Models:
    """Stable Diffusion 1.5 in bfloat16, SigLIP So400m/14, a pooler of five blocks."""
    base = fill_stable_diffusion(shapes.stable_diffusion(folder / "base", 1), torch.bfloat16, device)
    tower = fill_tower(shapes.tower(folder / "tower", "google/siglip-so400m-patch14-224"), device)
    return Models(base, tower, make_encoder(folder / "encoder", base, tower, 768, 75, 5, 12))


def train(config: TrainConfig, what: str, steps: int) -> Row:
    """Steps of training on random pixels, after three that warm up and compile."""
    training = Training(config)
    size, tower_size, count = training.t2i.image_size, training.bare.config.image_size, config.run.batch_size
    pixels, pixel_values = torch.rand(count, 3, size, size) * 2 - 1, torch.randn(count, 3, tower_size, tower_size)

    def step() -> None:
        batch = Batch(pixels, pixel_values, ["a cat in the snow"] * count, torch.arange(count), torch.ones(count))
        training.update(batch)

    for _ in range(3):
        step()
    seconds, memory = _timed(step, steps, config.run.device)
    plan = once = make_plan(config)
    if config.run.gradient_checkpointing:
        once = make_plan(replace(config, run=replace(config.run, gradient_checkpointing=False)))
    return Row(what, count / seconds, once.flops / count, memory, plan.peak)


def encode(models: Models, device: str, count: int, rounds: int) -> Row:
    """The encoder in bfloat16 on images that are on the device already."""
    encoder = load_encoder(models.encoder).to(device, torch.bfloat16).eval().requires_grad_(False)
    size = encoder.config.image_size
    pixel_values = torch.randn(count, 3, size, size, device=device, dtype=torch.bfloat16)

    @torch.inference_mode()
    def forward() -> None:
        encoder(pixel_values)

    flops = _flops(forward)
    seconds, memory = _timed(forward, rounds, device)
    return Row("encode", count / seconds, flops / count, memory)


def draw(models: Models, device: str, offload: str | None, count: int, steps: int) -> Row:
    """`VisualLexicon.generate` in bfloat16 with classifier-free guidance, `count` pictures at once."""
    lexicon = VisualLexicon.from_pretrained(models.encoder, device=device, dtype=torch.bfloat16, offload=offload)
    tokens = torch.randn(models.num_tokens, lexicon.t2i.width, device=device, dtype=torch.bfloat16)

    def generate() -> None:
        lexicon.generate("<cat>", {"cat": tokens}, guidance=Guidance(3.0), num_images=count, steps=steps)

    flops = _flops(generate)
    seconds, memory = _timed(generate, 1, device)
    counted = sampling_memory(shape_of(models.base, torch.bfloat16), rows=2 * count)
    planned = counted.offloaded if offload else counted.resident
    return Row(f"draw, {steps} steps" + ", offloaded" * bool(offload), count / seconds, flops / count, memory, planned)


def measure(models: Models, device: str, folder: Path, count: int = 8, steps: int = 20) -> list[Row]:
    """Every row, `count` images at once; `steps` of training and of sampling."""
    data = photo_shards(folder / "photos", shards=2)
    plain = models.config(data, folder / "plain", device, batch_size=count)
    again = replace(plain, run=replace(plain.run, gradient_checkpointing=True, out=str(folder / "again")))
    compiled = replace(plain, run=replace(plain.run, compile=True, out=str(folder / "compiled")))
    rows = [train(plain, "train", steps), train(again, "train, activations made again", steps)]
    rows += [encode(models, device, 8 * count, steps)]
    rows += [draw(models, device, offload, count, steps) for offload in (None, "model")]
    if torch.device(device).type == "cuda":  # where compiling pays; last, since its caches keep the model
        rows.append(train(compiled, "train, compiled", steps))
    return rows


def report(rows: list[Row], card: str) -> dict[str, object]:
    """Results as they are kept."""
    return {"command": "python -m benchmarks.gpu", "card": card, "torch": torch.__version__,
            "peak": peak_flops(card), "rows": [asdict(row) for row in rows]}  # fmt: skip


def peak_flops(card: str) -> float | None:
    """FLOP/s that a card promises in dense bfloat16, if it is known."""
    return next((value for name, value in DENSE_BF16.items() if name in card), None)


def table(results: dict | None) -> str:
    """The page's part on a GPU; without results, that there are none."""
    if results is None:
        return "No card was at hand: images a second, model-FLOPs utilisation and memory are not measured.\n"
    lines = [f"{results['card']}, torch {results['torch']}.", ""]
    lines += ["| what | a second | FLOPs utilisation | peak memory | planned |", "| --- | ---: | ---: | ---: | ---: |"]
    for row in results["rows"]:
        used = f"{row['rate'] * row['flops'] / results['peak']:.0%}" if results["peak"] else "card not known"
        sizes = [f"{row[name] / 2**30:.1f} GB" if row[name] else "" for name in ("memory", "planned")]
        lines.append(f"| {row['what']} | {row['rate']:.3g} | {used} | {sizes[0]} | {sizes[1]} |")
    return "\n".join(lines) + "\n"


def write_page(page: Path, results: dict | None) -> None:
    """Put the table into its place in the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + BEGIN + table(results) + END + after)


def _flops(function: Callable[[], None]) -> float:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def _timed(function: Callable[[], None], rounds: int, device: str) -> tuple[float, int | None]:
    """Seconds of one round, after one that is not counted, and bytes at peak."""
    gc.collect()  # what was measured before is not to count
    function()
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    for _ in range(rounds):
        function()
    if cuda:
        torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - start) / rounds
    return seconds, torch.cuda.max_memory_allocated(device) if cuda else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs"), help="folder of benchmarks.md")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: no CUDA device here; docs/benchmarks.md stays as it is")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(published_models(Path(folder), "cuda"), "cuda", Path(folder))
    results = report(rows, torch.cuda.get_device_name())
    (arguments.out / "benchmarks-gpu.json").write_text(json.dumps(results, indent=2) + "\n")
    write_page(arguments.out / "benchmarks.md", results)


if __name__ == "__main__":
    main()
