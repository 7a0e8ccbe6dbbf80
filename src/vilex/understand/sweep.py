"""A sweep, as the paper's appendix has them: the same grid for every encoder, the best chosen on validation alone.

All runs stay in the table, the others' spread beside the best; the test file is answered once, by the best settings.
"""

import itertools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, Literal

from vilex.errors import InputError
from vilex.hub.folder import read_json
from vilex.paths import file_name, write_text
from vilex.settings import Names, Range
from vilex.train.toml import load_toml, to_dict
from vilex.understand.answers import answer_all, mean_loss, share_of_matches, write_answers
from vilex.understand.config import TransferConfig
from vilex.understand.examples import read_examples
from vilex.understand.samples import Gallery
from vilex.understand.transfer_loop import transfer
from vilex.understand.vlm_folder import load_vlm

RESULT = "result.json"


@dataclass(frozen=True)
class Sweep:
    """What all runs share, what tells them apart, and what they are chosen by."""

    train: Annotated[str, Names.FILE] = ""  # the runs' TOML file, as `vilex understand train` takes it
    set: tuple[str, ...] = ()  # section.key=value for all runs
    encoders: tuple[str, ...] = ("",)  # each is given the whole grid; empty is PaliGemma's own tower
    seeds: tuple[Annotated[int, Range(0, 2**32 - 1)], ...] = (0,)  # each setting is run with all of them
    grid: dict[str, Any] = field(default_factory=dict)  # [grid] "optim.lr" = [1e-5, 3e-5]: all combinations
    # on the validation file: the share of answers that are one of the truths, or the mean loss of the suffixes
    score: Literal["match", "loss"] = "match"
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
    runs = [
        _run(sweep, encoder, settings, seed, out, quiet)
        for encoder in sweep.encoders
        for settings in combinations
        for seed in sweep.seeds
    ]
    best = {encoder: _best([run for run in runs if run.encoder == encoder], combinations) for encoder in sweep.encoders}
    tested = {encoder: _test(sweep, one, out) for encoder, one in best.items()} if sweep.test else {}
    table = {
        "runs": [asdict(run) for run in runs],
        "best": {
            encoder: {
                "settings": list(chosen[0].settings),
                "validation": [run.score for run in chosen],
                "test": tested.get(encoder),
            }
            for encoder, chosen in best.items()
        },
    }
    write_text(out / "sweep.json", json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    write_text(out / "sweep.md", _markdown(sweep, runs, best, tested))
    return table


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
    examples = read_examples(Path(config.data.validation), Path(config.data.root) if config.data.root else None)
    gallery = Gallery(vlm.features.views)
    if sweep.score == "loss":
        loss = mean_loss(vlm, examples, gallery)
        if loss is None:
            raise InputError(f"{config.data.validation}: no suffixes, so no loss to choose by")
        score = -loss
    else:
        answers = answer_all(vlm, examples, gallery, config.decode)
        write_answers(folder / "validation.jsonl", answers)
        score = share_of_matches(answers)
    write_text(folder / RESULT, json.dumps({"score": score, **made_by}) + "\n")
    return SweepRun(encoder, settings, seed, folder.name, score)


def _best(runs: list[SweepRun], combinations: list[tuple[str, ...]]) -> list[SweepRun]:
    """The runs, one a seed, of the settings with the best mean; the first of equals."""
    groups = [[run for run in runs if run.settings == settings] for settings in combinations]
    return max(groups, key=lambda group: mean(run.score for run in group))


def _test(sweep: Sweep, chosen: list[SweepRun], out: Path) -> list[float]:
    scores = []
    for run in chosen:
        config = load_toml(TransferConfig, sweep.train, [*sweep.set, *run.settings])
        vlm = load_vlm(out / run.folder / "vlm")
        examples = read_examples(Path(sweep.test), Path(config.data.root) if config.data.root else None)
        answers = answer_all(vlm, examples, Gallery(vlm.features.views), config.decode)
        write_answers(out / run.folder / "test.jsonl", answers)
        scores.append(share_of_matches(answers))
    return scores


def _markdown(
    sweep: Sweep, runs: list[SweepRun], best: dict[str, list[SweepRun]], tested: dict[str, list[float]]
) -> str:
    rows = [
        f"| {run.encoder or 'own'} | {' '.join(run.settings)} | {run.seed} | {run.score:.4f} | "
        f"{'best' if run in best[run.encoder] else ''} |"
        for run in runs
    ]
    head = ["| encoder | settings | seed | validation | |", "| --- | --- | ---: | ---: | --- |"]
    tests = [
        f"\n{encoder or 'own'}, test (match): {', '.join(f'{one:.4f}' for one in tested[encoder])}"
        for encoder in tested
    ]
    return "\n".join([f"Score: {sweep.score}, larger is better.\n", *head, *rows, *tests]) + "\n"
