"""Speed against a floor and a peer in the same run: `python -m benchmarks [-o FILE]`.

    encode     VisualLexicon's encoder               floor: the bare tower
    generate   VisualLexicon.generate, words alone    peer: diffusers' own pipeline, equal denoiser calls
    train      one step of `vilex train`              floor: encoder and denoiser forward and backward

Every pair is timed in turn, A B A B ..., and the medians' ratio is reported: absolute times are this
machine's, ratios travel.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from rich.console import Console
from rich.table import Table

from vilex.encoder.towers import patches_of
from vilex.guidance import Guidance
from vilex.lexicon import EMBEDDED, VisualLexicon
from vilex.prompt import Prompt, Slot, compose, inject
from vilex.train.config import TrainConfig
from vilex.train.data import Batch
from vilex.train.loop import Training
from vilex.train.toml import build

NANO = EMBEDDED["nano"]
BATCH = 32
GOALS = {"encode": 2.0, "generate": 1.1, "train": 1.15}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, help="write the results as JSON")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    lexicon = VisualLexicon.from_pretrained("nano")
    results = {
        "encode": compare(*encode_pair(lexicon), arguments.rounds),
        "generate": compare(*generate_pair(lexicon), arguments.rounds),
        "train": compare(*train_pair(), arguments.rounds),
    }
    report = {
        "command": "python -m benchmarks",
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "results": results,
    }
    table = Table("what", "ours (ms)", "floor or peer (ms)", "ratio", "goal")
    for name, row in results.items():
        table.add_row(name, f"{row['ours_ms']:.0f}", f"{row['other_ms']:.0f}", f"{row['ratio']:.2f}", f"{GOALS[name]}")
    Console().print(table)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def compare(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median milliseconds of both, and the median of the ratios pair by pair."""
    ours(), other()
    pairs = [(_milliseconds(ours), _milliseconds(other)) for _ in range(rounds)]
    return {
        "ours_ms": round(statistics.median(a for a, _ in pairs), 2),
        "other_ms": round(statistics.median(b for _, b in pairs), 2),
        "ratio": round(statistics.median(a / b for a, b in pairs), 3),
    }


def encode_pair(lexicon: VisualLexicon):
    pixel_values = torch.randn(BATCH, 3, lexicon.encoder.config.image_size, lexicon.encoder.config.image_size)

    @torch.inference_mode()
    def ours():
        lexicon.encoder(pixel_values)

    @torch.inference_mode()
    def bare_tower():
        patches_of(lexicon.encoder.tower, pixel_values)

    return ours, bare_tower


def generate_pair(lexicon: VisualLexicon):
    pipeline = StableDiffusionPipeline.from_pretrained(NANO / "t2i", dtype=torch.float32, safety_checker=None)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)

    def ours():
        lexicon.generate("a cat in the snow", guidance=Guidance(3.0), num_images=4, steps=10)

    def diffusers():
        seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
        pipeline(
            "a cat in the snow", guidance_scale=3.0, num_images_per_prompt=4, num_inference_steps=10, generator=seeds
        )

    return ours, diffusers


def train_pair():
    """A whole step, and the least that must be computed for it with the same shapes."""
    folder = Path(tempfile.mkdtemp())
    Image.new("RGB", (64, 64)).save(folder / "one.png")
    config = build(
        TrainConfig,
        {
            "model": {"base": str(NANO / "t2i"), "encoder": str(NANO)},
            "data": {"path": str(folder)},
            "objective": {"tail_drop": "off"},
            "optim": {"name": "adamw"},
            "run": {"out": str(folder / "out"), "device": "cpu", "batch_size": BATCH},
        },
    )
    training = Training(config)
    t2i, encoder = training.t2i, training.encoder
    size = encoder.config.image_size
    pixels, pixel_values = torch.rand(BATCH, 3, 64, 64) * 2 - 1, torch.randn(BATCH, 3, size, size)
    x_t, t = torch.randn(BATCH, *t2i.latent_shape), torch.randint(0, 1000, (BATCH,))
    layout = compose(Prompt((Slot("v", 75),)), t2i.tokenizer, t2i.positions)
    ids = layout.ids.expand(BATCH, -1)

    def ours():
        visits, weights = torch.arange(BATCH), torch.ones(BATCH)
        training.update(Batch(pixels.clone(), pixel_values.clone(), [""] * BATCH, visits, weights))

    def floor():
        tokens = encoder(pixel_values).tokens
        embeddings = inject(t2i.embed(ids), [layout] * BATCH, [{"v": one} for one in tokens])
        t2i.predict(x_t, t, t2i.condition(ids, embeddings)).square().mean().backward()
        encoder.zero_grad()

    return ours, floor


def _milliseconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()
