"""Stage `understanding`: every row of the tables trained and tested alike, then the page.

    OUT/understanding/sets-XXXXXXXX/         files of examples (`sets.py`)
    OUT/understanding/features/              features, each computed once, whoever asks
    OUT/understanding/contest-XXXXXXXX/      one setting of all: language/, run.toml, runs/, results.json, results.md

A row is a sweep of `vilex understand sweep`: the same rates for every row tried by the first seed, the best on
validation run by the others, all of them tested. Stopped at any moment, the same command goes on; after every row the
page is written anew, and says of the others that they have not been run yet. The same command in two processes at once
shares the rows between them: with `threads=1` each, that is faster than two threads of one.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recipes.nano.frozen import frozen_model
from recipes.nano.launch import settled_precision, write_toml
from recipes.nano.presets import Preset, UnderstandingPreset
from recipes.nano.understanding.contest_page import write_results
from recipes.nano.understanding.contestants import CONTESTANTS, TABLES, Contestant
from recipes.nano.understanding.data import Sizes
from recipes.nano.understanding.redrawing import redraw
from recipes.nano.understanding.sets import make_sets
from recipes.nano.understanding.towers import Missing, encoder_folder
from vilex.errors import InputError
from vilex.hub.folder import weights_hash
from vilex.understand.config import (
    AskingConfig,
    DecodeConfig,
    SeeingConfig,
    TransferConfig,
    TransferOptim,
    TransferRun,
)
from vilex.understand.examples import read_examples, texts_of
from vilex.understand.features import FeaturesConfig
from vilex.understand.language import LanguageConfig, make_language
from vilex.understand.sweep import Sweep, run_sweep

TEXT_LENGTH = 96  # of a question and its answer; captions of four things and a sign need 80
LONGEST = 80  # of an answer
MICRO = 8  # pictures at once: of like lengths, for clips are four times as long as scenes
SHARED = ("rates", "seeds", "tables", "redrawn", "resamples")  # settings that do not make other runs


def write_tables(preset: Preset, data: Path, out: Path) -> None:
    """Run what is not run yet, row by row, in the order of `understanding.tables`.

    Raises:
        InputError: a table that there is not, or as `run_sweep`.
    """
    settings = preset.understanding
    if strange := [number for number in settings.tables if number not in TABLES]:
        raise InputError(f"understanding.tables: there is no '{strange[0]}'; there are {', '.join(TABLES)}")
    (out / "understanding").mkdir(parents=True, exist_ok=True)
    with FileLock(out / "understanding" / "sets.lock"):
        sets = make_sets(data, out / "understanding", sizes_of(settings))
        home = prepare(preset, out, sets)
    sweeps: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    distances: dict[str, dict[str, float]] = {}
    names = list(dict.fromkeys(one for number in settings.tables for one in TABLES[number].columns))
    for done, name in enumerate(in_turn(names, home / "locks"), 1):
        contestant = CONTESTANTS[name]
        print(f"understanding: row {done} of {len(names)}: {contestant.title}", flush=True)
        try:
            sweeps[name] = compete(contestant, preset, out, sets, home)
        except Missing as error:
            missing[name] = str(error)
            print(f"understanding: {contestant.title} is not run: {error}", flush=True)
            continue
        if settings.redrawn and contestant.draws and (found := redraw(preset, out, contestant.encoder, home)):
            distances[name] = found
        write_results(home, sets, sweeps, missing, distances, settings)
    write_results(home, sets, sweeps, missing, distances, settings)
    print(f"understanding: {len(sweeps)} rows, {len(missing)} not yet run -> {home / 'results.md'}", flush=True)


def in_turn(names: Sequence[str], locks: Path, patience: float = 5.0) -> Iterator[str]:
    """Names, each while no other process has it, in their order but for those that are taken; waits for the last ones.

    Args:
        patience: seconds between two looks whether one is free.
    """
    locks.mkdir(parents=True, exist_ok=True)
    left = [(name, FileLock(locks / f"{name}.lock")) for name in names]
    while left:
        for one in left:
            with suppress(Timeout):
                one[1].acquire(timeout=0)
                break
        else:
            time.sleep(patience)
            continue
        left.remove(one)
        try:
            yield one[0]
        finally:
            one[1].release()


def sizes_of(settings: UnderstandingPreset) -> Sizes:
    """Of the benchmark's tables."""
    return Sizes(settings.scenes, settings.clips, settings.tested_scenes, settings.tested_clips)


def prepare(preset: Preset, out: Path, sets: Path) -> Path:
    """The folder of one setting of all, with language and run.toml."""
    settings = preset.understanding
    kept = {key: value for key, value in asdict(settings).items() if key not in SHARED} | {"sets": sets.name, "form": 1}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
    home = out / "understanding" / f"contest-{digest}"
    if not (home / "language" / "config.json").is_file():
        examples = read_examples(sets / "train.jsonl")
        shape = LanguageConfig(settings.width, settings.layers, settings.heads, settings.hidden, settings.least)
        make_language(texts_of(examples), home / "language", shape)
    write_toml(run_config(preset, out, sets, home), home / "run.toml")
    return home


def run_config(preset: Preset, out: Path, sets: Path, home: Path) -> TransferConfig:
    """What all runs share."""
    settings = preset.understanding
    return TransferConfig(
        model=SeeingConfig(base=str(home / "language"), scratch=True),
        features=FeaturesConfig(cache=str(out / "understanding" / "features")),
        data=AskingConfig(
            train=str(sets / "train.jsonl"), validation=str(sets / "validation.jsonl"), text_length=TEXT_LENGTH, pack=16
        ),
        optim=TransferOptim(weight_decay=1e-5, decay="matrices", b2=0.99),
        decode=DecodeConfig(max_new_tokens=LONGEST, batch_size=64),
        run=TransferRun(
            epochs=settings.epochs, batch_size=settings.batch, micro_batch=MICRO,
            device=preset.device, threads=preset.threads,
            mixed_precision="bf16" if settled_precision(preset, out) == "bf16" else "no",
            look_every=0, save_every=100, keep=1,
        ),
    )  # fmt: skip


def compete(contestant: Contestant, preset: Preset, out: Path, sets: Path, home: Path) -> dict[str, Any]:
    """A row's sweep, with the folder that it lies in.

    Raises:
        Missing: there is no such encoder yet.
    """
    encoder = encoder_folder(out, contestant.encoder)
    if not encoder.is_dir():
        stage = {"before": "tower", "after": "vilex"}.get(contestant.encoder, "towers")
        raise Missing(f"{encoder}: no such encoder; run stage {stage} first")
    folder = home / "runs" / f"{contestant.name}-{weights_hash(encoder)[:8]}"
    settings = preset.understanding
    sweep = Sweep(
        train=str(home / "run.toml"),
        set=tuple(f"features.{key}={json.dumps(value)}" for key, value in features_of(contestant, out).items()),
        encoders=(str(encoder),),
        seeds=tuple(range(settings.seeds)),
        scouts=1,
        grid={"optim.lr": list(settings.rates)},
        score="task",
        test=str(sets / "test.jsonl"),
    )
    return {**run_sweep(sweep, folder), "folder": str(folder), "weights_sha256": weights_hash(encoder)}


def features_of(contestant: Contestant, out: Path) -> Mapping[str, Any]:
    """A row's own settings of what is seen."""
    chosen = replace(
        FeaturesConfig(), kind=contestant.kind, tokens_per_view=contestant.tokens_per_view, grid=contestant.grid
    )
    own = {"kind": chosen.kind, "tokens_per_view": chosen.tokens_per_view, "grid": chosen.grid}
    return own | ({"vae": str(frozen_model(out))} if chosen.kind == "vae" else {})
