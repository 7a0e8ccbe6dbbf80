"""Tables A2 and A3, their reconstruction columns: short runs that differ in one thing, by `vilex eval ablate`.

Runs with the head start differ in objective and tower; the pooler's depth is compared without it, since a head
start is of one depth.
"""

from pathlib import Path
from typing import Any

from recipes.nano.launch import write_toml
from recipes.nano.presets import Preset
from recipes.nano.vilex import vilex_config
from vilex.eval.ablate import Ablation, MeasureConfig, Variant, run_ablation

FROM_NOTHING = ("model.encoder=", "model.heads=4")


def variants(out: Path, steps: int) -> tuple[Variant, ...]:
    """Everything that is compared, at `steps` steps but for one."""
    tower = f"model.tower={out / 'tower'}"
    return (
        Variant("as shipped, but brief"),
        Variant("a third of the steps", (f"run.steps={max(1, steps // 3)}",)),
        Variant("no TailDrop", ("objective.tail_drop=off",)),
        Variant("uniform TailDrop", ("objective.tail_drop=uniform",)),
        Variant("no joint text", ("objective.caption_share=0.0",)),
        Variant("all noise levels", ("objective.noise_from=0.0",)),
        Variant("frozen tower", ("optim.tower_lr=0.0",)),
        Variant("tower frozen for a third of the steps", (f"optim.tower_frozen_steps={max(1, steps // 3)}",)),
        *(Variant(f"{n} blocks, no head start", (tower, *FROM_NOTHING, f"model.blocks={n}")) for n in (2, 5, 8)),
    )


def ablate(preset: Preset, out: Path) -> dict[str, Any]:
    """One row a variant; runs lie in `out`/ablations."""
    folder, settings = out / "ablations", preset.report
    write_toml(vilex_config(preset, out), folder / "run.toml")
    steps = preset.baselines.short
    grid = Ablation(
        str(folder / "run.toml"),
        (f"run.steps={steps}", "run.sample_every=0", f"run.save_every={steps}"),
        MeasureConfig(
            str(out / "held-out.parquet"), settings.ablated, (1, 4, 16, 75), (0,), ("lite0",), ("distance", "error"),
            settings.cfg, settings.steps,
        ),
        variants(out, steps),
    )  # fmt: skip
    rows = run_ablation(grid, folder, preset.device, quiet=True)["rows"]
    return {"steps": steps, "pictures": settings.ablated, "rows": rows}
