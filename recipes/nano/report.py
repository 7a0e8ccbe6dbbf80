"""Stage 10, the report: the paper's tables on the nano model, each from pictures that were never trained on.

Every table is a module of `tables/`; results go to `out`/report/results.json, and from there to pages. What is
drawn, learned or trained stays, so that an interrupted report goes on.
"""

import json
from pathlib import Path
from typing import Any

from recipes.nano.presets import Preset
from recipes.nano.tables.ablations import ablate
from recipes.nano.tables.judge import load_judge
from recipes.nano.tables.names import check_judge, read_names
from recipes.nano.tables.page import write_pages
from recipes.nano.tables.probes import probe
from recipes.nano.tables.reconstruction import SETS, baseline_rows, protocol, reconstruct
from recipes.nano.tables.subjects import draw_subjects
from recipes.nano.tables.verdicts import judge_rows
from vilex.eval.picture_store import PictureStore
from vilex.eval.rows import rows_of
from vilex.lexicon import VisualLexicon


def write_report(preset: Preset, data: Path, out: Path) -> None:
    """Write results.json and pages to `out`/report.

    The model is that of `out`/nano; where nothing was trained there, the embedded one. Baselines that were not
    trained in `out` are left out, and the pages say so.
    """
    trained = out / "nano"
    lexicon = VisualLexicon.from_pretrained(trained if trained.is_dir() else "nano", device=preset.device)
    settings = protocol(preset, out, SETS[0])
    baselines = baseline_rows(preset, out, settings)
    version = getattr(lexicon.encoder.config, "version", preset.version)
    results: dict[str, Any] = {"version": version, "reconstruction": reconstruct(preset, out, lexicon, baselines)}
    judge = load_judge(preset, data, out)
    rows = {**rows_of(lexicon, settings), **baselines}
    found = results["reconstruction"][SETS[0]]
    results["verdicts"] = judge_rows(
        judge, out / f"{SETS[0]}.parquet", PictureStore.open(settings.out),
        {title: row.place(title) for title, row in rows.items()}, found["images"], found["seeds"],
    )  # fmt: skip
    results["names"] = read_names(preset, out, lexicon, judge)
    results["judge"] = check_judge(preset, data, judge)
    results["subjects"] = draw_subjects(preset, data, out, lexicon, judge)
    results["probes"] = probe(preset, out, lexicon)
    results["ablations"] = ablate(preset, out) if preset.baselines.short and (out / "tower").is_dir() else {}
    (out / "report" / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    write_pages(out / "report", out / "report")
