"""Table 1 and Figure 7: pictures drawn again from words, from tokens, and by the baselines."""

from pathlib import Path
from typing import Any

from recipes.nano.baselines import MODEL, baseline_encoder
from recipes.nano.presets import Preset
from vilex.data.config import SourceConfig
from vilex.eval.reconstruction import evaluate_reconstruction
from vilex.eval.rows import Reconstruction, Row, from_encoder
from vilex.lexicon import VisualLexicon

SETS = ("held-out", "unseen")
CAPTIONS = ("name", "sentence")  # the first two captions of every picture
EQUAL = (1, 4, 16, 75)  # numbers of tokens of ViLex trained as briefly as the baselines


def protocol(preset: Preset, out: Path, name: str) -> Reconstruction:
    """The reconstruction protocol on one set of held-out pictures."""
    settings = preset.report
    return Reconstruction(
        SourceConfig(path=str(out / f"{name}.parquet")), out / "report" / name, settings.images, captions=CAPTIONS,
        measures=settings.measures, seeds=tuple(range(settings.seeds)),
        cfg=settings.cfg, steps=settings.steps, batch_size=settings.batch,
    )  # fmt: skip


def reconstruct(preset: Preset, out: Path, lexicon: VisualLexicon, baselines: dict[str, Row]) -> dict[str, Any]:
    """Results by set; baselines are further rows of the first one."""
    found = {}
    for name in SETS:
        more = baselines if name == SETS[0] else {}
        results, _ = evaluate_reconstruction(lexicon, protocol(preset, out, name), more)
        settings = {**results["settings"], "data": f"{name}.parquet"}
        found[name] = {**results, "settings": settings}
    return found


def baseline_rows(preset: Preset, out: Path, settings: Reconstruction) -> dict[str, Row]:
    """A row for each baseline that is trained in `out`, from all of its tokens; ViLex's own from 1, 4, 16 and 75."""
    rows = {}
    for name in MODEL:
        folder = baseline_encoder(out, name)
        if not folder.is_dir():
            continue
        own = VisualLexicon.from_pretrained(folder, device=preset.device)
        if name == "vilex":
            rows |= {row_of(name, count): from_encoder(own, settings, count) for count in EQUAL}
        else:
            rows[row_of(name)] = from_encoder(own, settings, own.num_tokens)
    return rows


def row_of(name: str, count: int = 0) -> str:
    """A baseline's row in tables; `count`: of ViLex's tokens, where it is trained as briefly."""
    return f"brief {name}, {count}" if count else f"brief {name}"
