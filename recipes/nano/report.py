"""Stage 7, the report: do tokens say more than words, and more tokens more, on pictures never trained on?

For held-out pictures, re-created from their caption and from 1, 4, 16 and 75 tokens with the same
seed, steps and guidance, it measures against the source

    feature distance   1 - cosine of EfficientNet-Lite0 features
    retrieval rank     the source's place among all held-out sources by that distance, 1 at best
    squared error      of pixels in 0..1
"""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image

from recipes.nano.features import Lite0Features, features_of
from recipes.nano.presets import Preset
from vilex.grid import grid
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon

COUNTS = (1, 4, 16, 75)
GRID_ROWS = 10


def write_report(preset: Preset, out: Path) -> None:
    """Write report.json and report.png to `out`/report for the model in `out`/nano."""
    settings = preset.report
    table = pyarrow.parquet.read_table(out / "held-out.parquet").slice(0, settings.images).to_pydict()
    sources = [Image.open(io.BytesIO(content)).convert("RGB") for content in table["image"]]
    captions = [row[1] for row in table["captions"]]
    lexicon = VisualLexicon.from_pretrained(out / "nano", device=preset.device)
    common = {
        "guidance": Guidance(settings.cfg),
        "steps": settings.steps,
        "seed": preset.seed,
        "batch_size": settings.batch,
    }
    drawn = {"caption": lexicon.generate(captions, **common)}
    for count in COUNTS:
        drawn[f"{count} tokens"] = lexicon.reconstruct(sources, count, **common)
    results = measure(sources, drawn)
    results["settings"] = {"images": len(sources), "steps": settings.steps, "cfg": settings.cfg, "seed": preset.seed}
    results["command"] = "python -m recipes.nano report --preset PRESET --data DIR --out OUT"
    folder = out / "report"
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(results, indent=2) + "\n")
    shown = [[sources[i], *(pictures[i] for pictures in drawn.values())] for i in range(GRID_ROWS)]
    grid(shown, ["source", *drawn]).save(folder / "report.png")
    print(json.dumps(results, indent=2))


def measure(sources: list[Image.Image], drawn: dict[str, list[Image.Image]]) -> dict[str, dict]:
    """The three measures for each way of drawing, means with 95% bootstrap intervals."""
    network = Lite0Features()
    reference = features_of(sources, network)
    pixels = _pixels(sources)
    results = {}
    for name, pictures in drawn.items():
        similarity = features_of(pictures, network) @ reference.T
        own = similarity.diagonal()
        results[name] = {
            "lite0_feature_distance": _interval(1 - own.numpy()),
            "lite0_retrieval_rank": _interval(1 + (similarity > own[:, None]).sum(1).numpy()),
            "squared_error": _interval(((_pixels(pictures) - pixels) ** 2).mean((1, 2, 3))),
        }
    return results


def _pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).astype(np.float64) / 255


def _interval(values: np.ndarray, draws: int = 2000) -> dict[str, float]:
    rng = np.random.default_rng(0)
    means = rng.choice(values, (draws, len(values))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": round(float(values.mean()), 5), "low": round(float(low), 5), "high": round(float(high), 5)}
