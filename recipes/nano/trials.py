"""Paired trials of the text-to-image model's levers: what each gives, from the same seed and the same pictures.

    python -m recipes.nano.trials --data DIR --out DIR [NAME ...]

Needs the tables, the auto-encoder and the words of a run in `--out`. Every trial trains text encoder and U-Net from the
same start for as many pictures, with one thing changed; then its averaged weights are asked about held-out scenes:

    v loss      mean squared error of v from a name, a sentence, a dense sentence, the mosaic, and nothing; lower is
                better; the same noise, at ten levels; of names and dense sentences also at the strongest four
    right       with `--judge`: concepts and styles that the judge (`tables/judge.py`) reads right in pictures drawn
                from names and from sentences; only long trials draw what it can read

Results go to `--out`/trials/NAME.json, and all there are to one table, trials.md.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline

from recipes.nano.autoencoder import encode_all
from recipes.nano.captions import with_article
from recipes.nano.data import read_pixels
from recipes.nano.presets import Preset
from recipes.nano.sprites import word_of
from recipes.nano.t2i import latents_of, train_t2i
from recipes.nano.tables.judge import load_judge
from recipes.nano.terms import SCHEDULE
from vilex.train.toml import load_toml

ROWS = 256  # held-out scenes asked about
LEVELS = 10
STRONG = 6  # and above: where words say what is drawn, and a lever that looks good on the whole may cost most
DRAWN = 212  # pictures drawn from names, and from sentences
STEPS = 12
GUIDANCE = 3.0

SHORT = ("t2i.images=38400", "t2i.text_images=38400", "t2i.raster_images=9600")  # unless told otherwise
TRIALS: dict[str, dict[str, object]] = {
    "base": {},  # the preset as it stands
    "AdamW": {"optimizer": "adamw"},
    "no mosaics": {"mosaic_share": 0.0, "raster_images": 0},
    "more mosaics": {"mosaic_share": 0.45},
    "min-SNR": {"min_snr_gamma": 5.0},
    "immiscible": {"immiscible": True},
    "contrastive": {"contrastive": 0.05},
    "alignment": {"alignment": 0.5},
    "no blended words": {"blend_share": 0.0},
    "no told mosaics": {"told_share": 0.0},
    "short captions": {"dense_share": 0.0},
    "wider": {"unet_channels": (160, 256)},
    "deeper": {"unet_channels": (128, 192, 256)},
    "scale and shift": {"time_scale_shift": "scale_shift"},
    "batch 96": {"batch": 96},
    "batch 16": {"batch": 16},
}


@dataclass(frozen=True)
class Found:
    """One trial's numbers, as the table shows them."""

    values: dict[str, float]
    seconds: float


def run_trial(name: str, preset: Preset, data: Path, out: Path, judged: bool) -> Found:
    """Train one variant in `out`/trials/NAME, and ask it."""
    folder = out / "trials" / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    latents_of(AutoencoderKL.from_pretrained(out / "vae"), out / "scenes.parquet", preset.device, out)
    state = [path.relative_to(out) for path in (out / "state").glob("*-*.safetensors")]  # of tables, not of stages
    for shared in ("scenes.parquet", "held-out.parquet", "vae", "words", "judge", *state):
        if (out / shared).exists() and not (folder / shared).exists():
            (folder / shared).parent.mkdir(exist_ok=True)
            (folder / shared).symlink_to((out / shared).resolve())
    started = time.monotonic()
    train_t2i(replace(preset, t2i=replace(preset.t2i, **(TRIALS["base"] | TRIALS[name]))), folder)
    seconds = time.monotonic() - started
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "t2i", safety_checker=None)
    found = losses(pipeline, folder / "held-out.parquet")
    return Found(found | (readings(pipeline, preset, data, folder) if judged else {}), seconds)


@torch.inference_mode()
def losses(pipeline: StableDiffusionPipeline, table: Path) -> dict[str, float]:
    """Mean squared error of v by what is said."""
    rows = pyarrow.parquet.read_table(table, columns=["captions", "mosaic"]).slice(0, ROWS).to_pylist()
    x0 = encode_all(pipeline.vae, read_pixels(table)[:ROWS], "cpu").float()
    said = {
        "name": [row["captions"][0] for row in rows],
        "sentence": [row["captions"][1] for row in rows],
        "dense": [row["captions"][2] for row in rows],
        "mosaic": [row["mosaic"] for row in rows],
        "nothing": ["" for _ in rows],
    }
    schedule, found = DDPMScheduler(**SCHEDULE), {}
    for kind, texts in said.items():
        ids = pipeline.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        context = pipeline.text_encoder(ids).last_hidden_state
        levels = []
        for i in range(LEVELS):
            noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(i))
            t = torch.full((len(x0),), int((i + 0.5) / LEVELS * schedule.config.num_train_timesteps))
            v = pipeline.unet(schedule.add_noise(x0, noise, t), t, context, return_dict=False)[0]
            levels.append((v - schedule.get_velocity(x0, noise, t)).square().mean().item())
        found[f"v loss, {kind}"] = float(np.mean(levels))
        if kind in ("name", "dense"):
            found[f"v loss, {kind}, strong noise"] = float(np.mean(levels[STRONG:]))
    return found


def readings(pipeline: StableDiffusionPipeline, preset: Preset, data: Path, out: Path) -> dict[str, float]:
    """Shares of pictures in which the judge reads what was asked for."""
    judge = load_judge(preset, data, out)
    rows = pyarrow.parquet.read_table(out / "held-out.parquet", columns=["captions", "concepts", "styles"]).to_pylist()
    single = [row for row in rows if len(row["concepts"]) == 1][:DRAWN]
    names = [with_article(word_of(concept)) for concept in judge.concepts][:DRAWN]
    drawn = judge.read(_draw(pipeline, names))
    found = {"name: concept right": _right(drawn.concept, [judge.concepts.index(c) for c in judge.concepts[:DRAWN]])}
    told = judge.read(_draw(pipeline, [row["captions"][1] for row in single]))
    found["sentence: concept right"] = _right(
        told.concept, [judge.concepts.index(row["concepts"][0]) for row in single]
    )
    found["sentence: style right"] = _right(told.style, [judge.styles.index(row["styles"][0]) for row in single])
    return found


def _draw(pipeline: StableDiffusionPipeline, prompts: list[str]) -> list:
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for start in range(0, len(prompts), 53):
        part = prompts[start : start + 53]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        pictures += pipeline(part, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators).images
    return pictures


def _right(probabilities: torch.Tensor, true: list[int]) -> float:
    return float(np.mean(probabilities.argmax(1).numpy() == np.array(true)))


def write_table(out: Path) -> None:
    """All results there are, one row a trial."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted((out / "trials").glob("*.json"))}
    columns = list(next(iter(found.values()))["values"])
    lines = [f"| trial | {' | '.join(columns)} | minutes |", "| --- |" + " ---: |" * (len(columns) + 1)]
    for name, result in found.items():
        cells = [
            f"{result['values'][column]:.4f}" if column.startswith("v ") else f"{result['values'][column]:.2f}"
            for column in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {result['seconds'] / 60:.0f} |")
    (out / "trials" / "trials.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", help=f"any of {', '.join(TRIALS)}; all by default; or settings, section.key=value"
    )
    parser.add_argument("--preset", type=Path, default=Path(__file__).parent / "cpu.toml")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", action="store_true", help="also draw, and let the judge read")
    arguments = parser.parse_intermixed_args()
    names = [word for word in arguments.names if "=" not in word] or list(TRIALS)
    preset = load_toml(Preset, arguments.preset, [*SHORT, *(w for w in arguments.names if "=" in w)])
    torch.set_num_threads(preset.threads)
    for name in names:
        if name not in TRIALS:
            parser.error(f"unknown trial '{name}'; trials are {', '.join(TRIALS)}")
        path = arguments.out / "trials" / f"{name.replace(' ', '-')}.json"
        if not path.is_file():
            found = run_trial(name, preset, arguments.data, arguments.out, arguments.judge)
            path.write_text(json.dumps({"values": found.values, "seconds": found.seconds}, indent=1) + "\n")
        write_table(arguments.out)


if __name__ == "__main__":
    main()
