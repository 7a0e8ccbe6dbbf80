"""Stage 8, the report: do tokens say more than words, and more tokens more, on pictures never trained on?

For held-out pictures, re-created from their names, from a full sentence and from 1, 4, 16 and 75 tokens
with the same seed, steps and guidance, it measures against the source

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
CAPTIONS = ("name", "sentence")  # the first two captions of every picture
SETS = {
    "held-out": "Known concepts in drawings never trained on",
    "unseen": 'Other concepts in drawings never trained on, named "a drawing"',
}
GRID_ROWS = 10
INTRODUCTION = """\
Held-out pictures, re-created by the text-to-image model alone from what they show (name: "a skull") and from a
full true sentence ("a picture of a skull at the top right on the grass, in rendered 3d style"), and from 1, 4, 16
and 75 tokens, with the same seed ({seed}), {steps} steps and guidance {cfg}. Means with 95% bootstrap intervals;
lower is better everywhere. The features are EfficientNet-Lite0's (ImageNet), so this is no FID.
"""


def write_report(preset: Preset, out: Path) -> None:
    """Write report.json and a grid for each set of pictures to `out`/report.

    The model is that of `out`/nano; where nothing was trained there, the embedded one.
    """
    folder = out / "report"
    folder.mkdir(exist_ok=True)
    trained = out / "nano"
    lexicon = VisualLexicon.from_pretrained(trained if trained.is_dir() else "nano", device=preset.device)
    settings = preset.report
    results: dict = {
        "command": "python -m recipes.nano data report --preset cpu --data DIR --out OUT",
        "settings": {"steps": settings.steps, "cfg": settings.cfg, "seed": preset.seed},
    }
    for name in SETS:
        table = pyarrow.parquet.read_table(out / f"{name}.parquet").slice(0, settings.images).to_pydict()
        sources = [Image.open(io.BytesIO(content)).convert("RGB") for content in table["image"]]
        captions = {title: [row[i] for row in table["captions"]] for i, title in enumerate(CAPTIONS)}
        drawn = draw(lexicon, sources, captions, preset)
        results[name] = {"images": len(sources), **measure(sources, drawn)}
        shown = [[sources[i], *(pictures[i] for pictures in drawn.values())] for i in range(GRID_ROWS)]
        grid(shown, ["source", *drawn]).save(folder / f"{name}.png")
        (folder / "report.json").write_text(json.dumps(results, indent=2) + "\n")
        (folder / "results.md").write_text(to_markdown(results))
    print(to_markdown(results))


def draw(
    lexicon: VisualLexicon, sources: list[Image.Image], captions: dict[str, list[str]], preset: Preset
) -> dict[str, list[Image.Image]]:
    """Every source from its captions of each kind, and from each number of tokens; same seed, steps and guidance."""
    settings = preset.report
    common = {
        "guidance": Guidance(settings.cfg),
        "steps": settings.steps,
        "seed": preset.seed,
        "batch_size": settings.batch,
    }
    drawn = {title: lexicon.generate(texts, **common) for title, texts in captions.items()}
    for count in COUNTS:
        drawn[f"{count} tokens" if count > 1 else "1 token"] = lexicon.reconstruct(sources, count, **common)
    return drawn


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


def to_markdown(results: dict) -> str:
    """The report as a page: a table and a grid for each set."""
    settings = results["settings"]
    lines = [
        "# What vilex-nano shows",
        "",
        *INTRODUCTION.format(**settings).splitlines(),
        "",
        f"    {results['command']}",
    ]
    for name in (name for name in SETS if name in results):
        rows = {row: values for row, values in results[name].items() if row != "images"}
        measures = list(next(iter(rows.values())))
        titles = [measure.replace("_", " ") for measure in measures]
        lines += ["", f"## {SETS[name]} ({results[name]['images']} pictures)", ""]
        lines += ["| from | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(titles)]
        for row, values in rows.items():
            cells = [f"{values[m]['mean']:.4g} ({values[m]['low']:.4g} to {values[m]['high']:.4g})" for m in measures]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        lines += ["", f"![{name}](images/{name}.png)"]
    return "\n".join(lines) + "\n"


def _pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).astype(np.float64) / 255


def _interval(values: np.ndarray, draws: int = 2000) -> dict[str, float]:
    rng = np.random.default_rng(0)
    means = rng.choice(values, (draws, len(values))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": round(float(values.mean()), 5), "low": round(float(low), 5), "high": round(float(high), 5)}
