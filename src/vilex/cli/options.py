"""What the commands share: options, progress bars, summaries, and how bad input is said."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vilex import checks
from vilex.checks import PICTURES, STEPS, WEIGHTS, number
from vilex.errors import InputError
from vilex.pictures.fit import Fit, check_fit

MOST_SEED = 2**53
SECONDS_A_LINE = 30  # of progress, where no terminal shows a bar
DTYPES = ("float32", "bfloat16", "float16")

errors = Console(stderr=True, highlight=False, soft_wrap=True)

Model = Annotated[str, typer.Option(help="Embedded model (nano), folder, or hub id.")]
Base = Annotated[str | None, typer.Option(help="Frozen text-to-image model, if not the encoder's own.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option(help="Numbers to compute in: float32, bfloat16, float16.")]
Offload = Annotated[
    str | None,
    typer.Option(help="For models larger than the device: model (a part at a time) or sequential (a layer at a time)."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no summary.")]
Json = Annotated[bool, typer.Option("--json", help="Print the manifest as JSON, nothing else.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files of the same names; else new ones are numbered.")
]
Folder = Annotated[Path, typer.Option("-o", "--out", help="Folder for pictures and manifest.json.")]
Steps = Annotated[int, typer.Option(min=STEPS[0], max=STEPS[1], help="Denoising steps.")]
SchedulerName = Annotated[
    str,
    typer.Option(
        help="dpm++, dpm++-sde, ddim, ddpm, euler, euler-a, heun, lms, pndm, unipc, or a diffusers class; with options "
        "as in dpm++:use_karras_sigmas=true."
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the first picture; the next ones count up.")]
NumImages = Annotated[int, typer.Option(min=PICTURES[0], max=PICTURES[1], help="Pictures a prompt.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WIDTHxHEIGHT", help="Pixels of what is drawn, as 768x512; the frozen model's own by default."
    ),
]
FitName = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="crop|pad|squash",
        help="How pictures that are not square are brought to the encoder; its own way by default.",
    ),
]
Scale = Annotated[int, typer.Option(min=1, max=16, help="Times that pictures are written larger (Lanczos).")]
Upscale = Annotated[
    str | None, typer.Option(help="Model that makes pictures larger: SD x4, IF's second stage, or SD(XL) drawn over.")
]
Cfg = Annotated[float, typer.Option(min=WEIGHTS[0], max=WEIGHTS[1], help="Classifier-free guidance weight; 1 is none.")]


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar over all steps, in a log file a line now and then; yields the callback that moves it."""
    if quiet or not errors.is_terminal:
        yield _progress_lines(title, quiet)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _progress_lines(title: str, quiet: bool) -> Callable[[int, int], None]:
    said = time.monotonic()

    def on_step(done: int, total: int) -> None:
        nonlocal said
        if not quiet and time.monotonic() - said >= SECONDS_A_LINE:
            said = time.monotonic()
            errors.print(f"{title}: {done} of {total}", markup=False)

    return on_step


def print_summary(summary: dict[str, Any], text: str, quiet: bool, as_json: bool) -> None:
    """A command's last words: JSON, text or nothing."""
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
    elif not quiet:
        print(text)


def refuse(bad: list[str]) -> None:
    """List what was refused and end with status 2; the good ones are done by then."""
    if bad:
        for line in bad:
            errors.print(f"error: {line}", markup=False)
        raise typer.Exit(2)


def parse_pairs(values: list[str] | None, option: str) -> dict[str, str]:
    """NAME=VALUE options, each name once."""
    pairs: dict[str, str] = {}
    for value in values or []:
        name, _, content = value.partition("=")
        if not name or not content:
            raise InputError(f"{option} {value}: expected NAME=VALUE, as in {option} cat=...")
        if name in pairs:
            raise InputError(f"{option} {value}: '{name}' is given twice; give each its own name")
        pairs[name] = content
    return pairs


def parse_number(text: str, option: str) -> float:
    """A number that is written among others; `option`: what it is, as `--weight cat=` or `--tfg `."""
    try:
        return number(float(text), option, *WEIGHTS)
    except ValueError:
        raise InputError(f"{option}{text}: expected a number from {WEIGHTS[0]:g} to {WEIGHTS[1]:g}") from None


def parse_weights(values: list[str] | None) -> dict[str, float]:
    """`--weight NAME=W` options."""
    pairs = parse_pairs(values, "--weight")
    return {name: parse_number(value, f"--weight {name}=") for name, value in pairs.items()}


def parse_numbers(text: str, option: str, most: int = MOST_SEED) -> list[int]:
    """Whole numbers from 0 to `most`, comma-separated; one that comes again is left out."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text}: expected whole numbers, as in 1,4,16") from None
    if wrong := [value for value in values if not 0 <= value <= most]:
        raise InputError(f"{option} {wrong[0]}: expected 0 to {most}")
    return list(dict.fromkeys(values))


def parse_size(text: str | None) -> tuple[int, int] | tuple[None, None]:
    """`--size 768x512`: (width, height); of none is said where it is left out."""
    if text is None:
        return None, None
    if text.isdecimal() and len(text) < 3:
        larger = f"to write pictures {text} times larger: --scale {text}"
        raise InputError(f"--size: expected WIDTHxHEIGHT, as in 768x512, got {text}; {larger}")
    return checks.size(text, "--size")


def parse_fit(text: str | None) -> Fit | None:
    """`--fit pad`."""
    return None if text is None else check_fit(text, "--fit")


def parse_counts(text: str, limit: int) -> tuple[int, ...]:
    """`--tokens`: numbers of tokens, each 1 to `limit`."""
    counts = parse_numbers(text, "--tokens")
    check_counts(counts, limit)
    return tuple(counts)


def check_counts(counts: list[int], limit: int) -> None:
    """Raise InputError for a number of tokens that images have not."""
    for count in counts:
        if not 1 <= count <= limit:
            raise InputError(f"--tokens {count}: expected 1 to {limit}")
