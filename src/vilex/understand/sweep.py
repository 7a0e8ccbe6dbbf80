"""A sweep, as the paper's appendix has them: the same grid for every encoder, the best chosen on validation alone.

All runs stay in the table, the others' spread beside the best; the test file is answered once, by the best settings.
"""

import itertools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

from vilex.errors import InputError
from vilex.hub.folder import read_json
from vilex.paths import file_name, write_text
from vilex.settings import Names, Range
from vilex.train.toml import load_toml, to_dict
from vilex.understand.config import TransferConfig
from vilex.understand.sweep_score import Score, Scored, file_sha256, score_file
from vilex.understand.transfer_loop import transfer
from vilex.understand.vlm_folder import load_vlm

RESULT, TESTED = "result.json", "test.json"


@dataclass(frozen=True)
class Sweep:
    """What all runs share, what tells them apart, and what they are chosen by."""

    train: Annotated[str, Names.FILE] = ""  # the runs' TOML file, as `vilex understand train` takes it
    set: tuple[str, ...] = ()  # section.key=value for all runs
    encoders: tuple[str, ...] = ("",)  # each is given the whole grid; empty is PaliGemma's own tower
    seeds: tuple[Annotated[int, Range(0, 2**32 - 1)], ...] = (0,)  # each setting is run with all of them
    # only the first so many seeds try the grid; the others run the best settings alone
    scouts: Annotated[int, Range(0, 1000, "0 is all of them")] = 0
    grid: dict[str, Any] = field(default_factory=dict)  # [grid] "optim.lr" = [1e-5, 3e-5]: all combinations
    # on the validation file: the score of its task (data.task, or the field `task` of its examples; the mean of
    # several), the share of answers that are one of the truths, or the mean loss of the suffixes
    score: Score = "match"
    test: Annotated[str, Names.FILE] = ""  # a file that the best settings of each encoder answer in the end


@dataclass(frozen=True)
class SweepRun:
    """One run: its encoder, settings and seed, and what it scored on validation; larger is better."""

    encoder: str
    settings: tuple[str, ...]
    seed: int
    folder: str
    score: float


def run_sweep(sweep: Sweep, out: Path, quiet: bool = False) -> dict[str, Any]:
    """Run what is not done yet, then the table: `out`/sweep.json and `out`/sweep.md.

    Returns:
        Every run, and the best settings of each encoder.
    Raises:
        InputError: a grid that is none, no validation file, or as `transfer`.
    """
    combinations = _combinations(sweep.grid)
    scouts = sweep.seeds[: sweep.scouts or None]
    runs: list[SweepRun] = []
    best: dict[str, list[SweepRun]] = {}
    for encoder in sweep.encoders:
        tried = [_run(sweep, encoder, some, seed, out, quiet) for some in combinations for seed in scouts]
        chosen = _best(tried, combinations)
        more = [_run(sweep, encoder, chosen[0].settings, seed, out, quiet) for seed in sweep.seeds[len(scouts) :]]
        runs += [*tried, *more]
        best[encoder] = [*chosen, *more]
    tested = {encoder: _test(sweep, one, out) for encoder, one in best.items()} if sweep.test else {}
    table = {
        "score": sweep.score,
        "runs": [asdict(run) for run in runs],
        "best": {encoder: _row(chosen, tested.get(encoder)) for encoder, chosen in best.items()},
    }
    write_text(out / "sweep.json", json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    write_text(out / "sweep.md", _markdown(sweep, runs, best, tested))
    return table


def _row(chosen: list[SweepRun], tested: list[Scored] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "settings": list(chosen[0].settings),
        "folders": [run.folder for run in chosen],
        "validation": [run.score for run in chosen],
        "test": None if tested is None else [one.score for one in tested],
    }
    return row | ({"numbers": [one.numbers for one in tested]} if tested and tested[0].numbers else {})


def _combinations(grid: dict[str, Any]) -> list[tuple[str, ...]]:
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f'sweep: grid: "{name}": expected a list of values, got {values!r}')
    lists = [[f"{name}={json.dumps(value)}" for value in values] for name, values in grid.items()]
    return list(itertools.product(*lists))


def _run(sweep: Sweep, encoder: str, settings: tuple[str, ...], seed: int, out: Path, quiet: bool) -> SweepRun:
    title = " ".join([encoder.replace("/", "_") or "own", *settings, f"seed={seed}"])
    folder = out / file_name(title)
    overrides = [*sweep.set, *settings, f"run.seed={seed}", f"run.out={json.dumps(str(folder))}"]
    config = load_toml(TransferConfig, sweep.train, [*overrides, f"model.encoder={json.dumps(encoder)}"])
    if not config.data.validation:
        raise InputError(f"{sweep.train}: data.validation is empty; a sweep chooses by it")
    made_by = json.loads(json.dumps({"config": to_dict(config), "chosen_by": sweep.score}))
    if (folder / RESULT).is_file():
        result = read_json(folder / RESULT)
        if {key: result.get(key) for key in made_by} != made_by:
            raise InputError(f"{folder}: holds a run with other settings; give another -o, or the same sweep to go on")
        return SweepRun(encoder, settings, seed, folder.name, result["score"])
    vlm = load_vlm(transfer(config, quiet))
    found = score_file(sweep.score, vlm, config, Path(config.data.validation), folder / "validation.jsonl")
    write_text(folder / RESULT, json.dumps({**asdict(found), **made_by}) + "\n")
    return SweepRun(encoder, settings, seed, folder.name, found.score)


def _best(runs: list[SweepRun], combinations: list[tuple[str, ...]]) -> list[SweepRun]:
    """The runs, one a seed, of the settings with the best mean; the first of equals."""
    groups = [[run for run in runs if run.settings == settings] for settings in combinations]
    return max(groups, key=lambda group: mean(run.score for run in group))


def _test(sweep: Sweep, chosen: list[SweepRun], out: Path) -> list[Scored]:
    """What the chosen runs score on the test file; answered once, and again only if the file is another."""
    by: Score = "match" if sweep.score == "loss" else sweep.score
    found = []
    for run in chosen:
        folder = out / run.folder
        of = {"file_sha256": file_sha256(Path(sweep.test)), "by": by}
        kept = read_json(folder / TESTED) if (folder / TESTED).is_file() else {}
        if {key: kept.get(key) for key in of} != of:
            config = load_toml(TransferConfig, sweep.train, [*sweep.set, *run.settings])
            scored = score_file(by, load_vlm(folder / "vlm"), config, Path(sweep.test), folder / "test.jsonl")
            kept = {**asdict(scored), **of}
            write_text(folder / TESTED, json.dumps(kept) + "\n")
        found.append(Scored(kept["score"], kept["numbers"]))
    return found


def _markdown(
    sweep: Sweep, runs: list[SweepRun], best: dict[str, list[SweepRun]], tested: dict[str, list[Scored]]
) -> str:
    rows = [
        f"| {run.encoder or 'own'} | {' '.join(run.settings)} | {run.seed} | {run.score:.4f} | "
        f"{'best' if run in best[run.encoder] else ''} |"
        for run in runs
    ]
    head = ["| encoder | settings | seed | validation | |", "| --- | --- | ---: | ---: | --- |"]
    by = "match" if sweep.score == "loss" else sweep.score
    tests = [
        f"\n{encoder or 'own'}, test ({by}): {', '.join(f'{one.score:.4f}' for one in tested[encoder])}"
        for encoder in tested
    ]
    return "\n".join([f"Score: {sweep.score}, larger is better.\n", *head, *rows, *tests]) + "\n"
