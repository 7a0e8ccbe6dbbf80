"""Stage 9, baselines: other ways to give a picture to the same frozen model, all trained alike.

Same pictures, frozen model, head start, rates and number of steps, so that only the way differs:

    vilex           ViLex itself, no longer trained than the others
    de-diffusion    75 words of the vocabulary, chosen by Gumbel-softmax (arXiv 2311.00618)
    ip-adapter      16 tokens past the text encoder, by decoupled cross-attention (arXiv 2308.06721)
    blip-diffusion  16 tokens at fixed places before the words, no TailDrop (arXiv 2305.14720)
"""

from dataclasses import replace
from pathlib import Path

from recipes.nano.presets import Preset
from recipes.nano.vilex import vilex_config
from vilex.train.config import TrainConfig
from vilex.train.loop import train

MODEL = {
    "vilex": {},
    "de-diffusion": {"method": "de-diffusion"},
    "ip-adapter": {"method": "ip-adapter", "num_tokens": 16},
    "blip-diffusion": {"num_tokens": 16},
}
OBJECTIVE = {
    "vilex": {},
    "de-diffusion": {"tail_drop": "off", "caption_share": 0.0},  # all its words are read, and they are the caption
    "ip-adapter": {"tail_drop": "off"},
    "blip-diffusion": {"tail_drop": "off"},
}


def train_baselines(preset: Preset, out: Path) -> None:
    """Train what is not trained yet; the runs lie in `out`/baselines."""
    for name in MODEL:
        train(baseline_config(preset, out, name))


def baseline_config(preset: Preset, out: Path, name: str) -> TrainConfig:
    """ViLex's own run with a baseline's settings."""
    config = vilex_config(preset, out)
    steps = preset.baselines.steps
    return replace(
        config,
        model=replace(config.model, **MODEL[name]),
        objective=replace(config.objective, **OBJECTIVE[name]),
        run=replace(config.run, out=str(out / "baselines" / name), steps=steps, save_every=200),
    )


def baseline_encoder(out: Path, name: str) -> Path:
    """The folder of a trained baseline's encoder."""
    return out / "baselines" / name / "encoder"
