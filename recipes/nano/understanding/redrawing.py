"""The reconstruction distance that stands beside a row: held-out pictures drawn again from all of its tokens."""

import json
from pathlib import Path

from recipes.nano.presets import Preset
from recipes.nano.tables.reconstruction import SETS
from recipes.nano.understanding.towers import encoder_folder
from vilex.encoder import load_encoder
from vilex.eval.ablate import MeasureConfig, evaluate
from vilex.hub.folder import weights_hash
from vilex.paths import write_text


def redraw(preset: Preset, out: Path, encoder: str, home: Path) -> dict[str, float] | None:
    """Mean distance by EfficientNet-Lite0's features, low and high; lower is better. None without the pictures."""
    pictures, folder = out / f"{SETS[0]}.parquet", encoder_folder(out, encoder)
    if not pictures.is_file():
        return None
    settings, count = preset.understanding, load_encoder(str(folder)).config.num_tokens
    kept = home / "redrawn" / f"{encoder}-{weights_hash(folder)[:8]}-{settings.redrawn}"
    path = kept / "distance.json"
    if not path.is_file():
        measure = MeasureConfig(
            str(pictures), settings.redrawn, (count,), (0,), ("lite0",), ("distance",),
            preset.report.cfg, preset.report.steps,
        )  # fmt: skip
        rows = evaluate(measure, folder, count, kept, preset.device)["rows"]
        (row,) = (values for title, values in rows.items() if "token" in title)
        (found,) = row.values()
        write_text(path, json.dumps({key: found[key] for key in ("mean", "low", "high")}) + "\n")
    return json.loads(path.read_text())
