"""Stage 9, baselines: other ways to give a picture to the same frozen model, all trained alike.

Same pictures, frozen model, head start, rates and number of steps, so that only the way differs:

    vilex             ViLex itself, no longer trained than the others
    de-diffusion      75 words that captions are written in, chosen by Gumbel-softmax (arXiv 2311.00618)
    de-diffusion-all  the same of the whole vocabulary, the mosaics' words among them
    ip-adapter        16 tokens past the text encoder, by decoupled cross-attention (arXiv 2308.06721)
    blip-diffusion    16 tokens at fixed places before the words, no TailDrop (arXiv 2305.14720)
"""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet

from recipes.nano.launch import train_shared
from recipes.nano.presets import Preset
from recipes.nano.vilex import vilex_config
from vilex.train.config import TrainConfig

MODEL = {
    "vilex": {},
    "de-diffusion": {"method": "de-diffusion"},
    "de-diffusion-all": {"method": "de-diffusion"},
    "ip-adapter": {"method": "ip-adapter", "num_tokens": 16},
    "blip-diffusion": {"num_tokens": 16},
}
_WHOLE = {"tail_drop": "off", "caption_share": 0.0}  # all of De-Diffusion's words are read, and they are the caption
OBJECTIVE = {
    "vilex": {},
    "de-diffusion": _WHOLE,
    "de-diffusion-all": _WHOLE,
    "ip-adapter": {"tail_drop": "off"},
    "blip-diffusion": {"tail_drop": "off"},
}


def train_baselines(preset: Preset, out: Path) -> None:
    """Train what is not trained yet; the runs lie in `out`/baselines."""
    for name in MODEL:
        train_shared(baseline_config(preset, out, name), preset.crew)


def baseline_config(preset: Preset, out: Path, name: str) -> TrainConfig:
    """ViLex's own run with a baseline's settings."""
    config = vilex_config(preset, out)
    steps = preset.baselines.steps
    words = {"words": str(natural_words(out))} if name == "de-diffusion" else {}
    return replace(
        config,
        model=replace(config.model, **MODEL[name], **words),
        objective=replace(config.objective, **OBJECTIVE[name]),
        run=replace(config.run, out=str(out / "baselines" / name), steps=steps, save_every=200),
    )


def natural_words(out: Path) -> Path:
    """A file of the words that the scenes' captions are written in, a line each: what De-Diffusion may say.

    In the paper it writes natural language. Mosaics are a code of this recipe; with their words it would speak that.
    """
    path = out / "baselines" / "words.txt"
    if not path.is_file():
        captions = pyarrow.parquet.read_table(out / "scenes.parquet", columns=["captions"])["captions"]
        words = {word.strip(",.") for cell in captions for caption in cell.as_py() for word in caption.lower().split()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(sorted(words - {""})) + "\n", encoding="utf-8")
    return path


def baseline_encoder(out: Path, name: str) -> Path:
    """The folder of a trained baseline's encoder."""
    return out / "baselines" / name / "encoder"
