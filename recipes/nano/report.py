"""Stage 8, the report: do tokens say more than words, and more tokens more, on pictures never trained on?

The reconstruction protocol (`vilex eval reconstruction`) on two sets of held-out pictures, each drawn from its
name, from a full sentence and from 1, 4, 16 and 75 tokens.
"""

import json
import shutil
from pathlib import Path

from recipes.nano.presets import Preset
from vilex.eval.reconstruction import Reconstruction, evaluate_reconstruction
from vilex.eval.tables import to_markdown
from vilex.lexicon import VisualLexicon
from vilex.train.config import SourceConfig

SETS = {
    "held-out": "Known concepts in drawings never trained on",
    "unseen": 'Other concepts in drawings never trained on, named "a drawing"',
}
CAPTIONS = ("name", "sentence")  # the first two captions of every picture
INTRODUCTION = """\
# What vilex-nano shows

Held-out pictures, re-created by the text-to-image model alone from what they show (name: "a skull") and from a
full true sentence ("a picture of a skull at the top right on the grass, in rendered 3d style"), and from 1, 4, 16
and 75 tokens, in {steps} steps with guidance {cfg}; picture by picture all rows begin from the same noise. Means
with 95% bootstrap intervals over pictures. By distance, rank and squared error lower is better, by PSNR higher.
The distance is 1 - cosine of EfficientNet-Lite0's ImageNet features, so this is no FID; the rank is the source's
place among all sources by it, 1 at best.

    python -m recipes.nano data report --preset cpu --data DIR --out OUT
"""


def write_report(preset: Preset, out: Path) -> None:
    """Write results.json, results.md and a grid for each set of pictures to `out`/report.

    The model is that of `out`/nano; where nothing was trained there, the embedded one.
    """
    folder, trained, settings = out / "report", out / "nano", preset.report
    shutil.rmtree(folder, ignore_errors=True)
    lexicon = VisualLexicon.from_pretrained(trained if trained.is_dir() else "nano", device=preset.device)
    results = {}
    for name in SETS:
        protocol = Reconstruction(
            SourceConfig(path=str(out / f"{name}.parquet")), folder / name, settings.images, captions=CAPTIONS,
            measures=("distance", "rank", "error", "psnr"), seeds=tuple(range(settings.seeds)), cfg=settings.cfg,
            steps=settings.steps, batch_size=settings.batch,
        )  # fmt: skip
        found, _ = evaluate_reconstruction(lexicon, protocol)
        results[name] = {**found, "settings": {**found["settings"], "data": f"{name}.parquet"}}
        for file, suffix in (("grid.png", ".png"), ("curves.svg", ".svg")):
            (folder / name / file).rename(folder / f"{name}{suffix}")
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "results.md").write_text(to_page(results))
    print(to_page(results))


def to_page(results: dict) -> str:
    """The report as a page: a table, curves and a grid for each set."""
    parts = [INTRODUCTION.format(**next(iter(results.values()))["settings"])]
    for name, found in results.items():
        parts.append(f"## {SETS[name]} ({found['images']} pictures, seeds {', '.join(map(str, found['seeds']))})\n")
        parts.append(to_markdown(found["rows"]))
        parts.append(f"![{name}, over tokens](images/{name}.svg)\n\n![{name}](images/{name}.png)\n")
    return "\n".join(parts)
