"""`vilex eval eyes`: does a tower see better than another?"""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vilex.cli.manifest import check_folder
from vilex.cli.options import Device, Json, Quiet, parse_numbers, print_summary, progress_bar, refuse
from vilex.errors import said_as
from vilex.extras import needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Set = Annotated[str, typer.Option(help="Pictures with classes: a folder of folders, Parquet tables, hf:NAME.")]
Dense = Annotated[Path | None, typer.Option(help="Pictures with masks: a folder with images/ and masks/.")]
Template = Annotated[
    list[str] | None, typer.Option(help="Of zero-shot's texts, {} for the class; give it again for several.")
]


def eyes(
    encoder: Annotated[str, typer.Argument(help="ViLex encoder, or vision model: folder, hub id, or nano.")],
    against: Annotated[
        list[str] | None, typer.Option(help="Other eyes to compare with, say the tower before; again for several.")
    ] = None,
    classes: Set = "",
    test: Annotated[str, typer.Option(help="As --classes, to test on; else a fifth of those.")] = "",
    label: Annotated[str, typer.Option(help="Of a table, the column of classes.")] = "label",
    dense: Dense = None,
    dense_test: Annotated[Path | None, typer.Option(help="As --dense, to test on; else a fifth of those.")] = None,
    mmvp: Annotated[Path | None, typer.Option(help="Folder of MMVP-VLM, with Questions.csv.")] = None,
    zero_shot: Annotated[bool, typer.Option("--zero-shot", help="Classify the test pictures by their names.")] = False,
    template: Template = None,
    text: Annotated[str, typer.Option(help="CLIP or SigLIP whose text side goes with eyes that have none.")] = "",
    tokens: Annotated[int, typer.Option(min=0, help="Probe so many of an encoder's tokens, too.")] = 0,
    seeds: Annotated[str, typer.Option(help="Of which pictures teach, comma-separated.")] = "0,1,2",
    images: Annotated[int | None, typer.Option(min=2, help="Only so many of each set; all by default.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for features and results.")] = Path("eyes"),
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures looked at at once.")] = 32,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Better eyes? k-NN, linear and dense probes, zero-shot classification, MMVP-VLM; with intervals."""
    with needs("eval"):
        from vilex.eval.eyesight.asked import EyesSettings
        from vilex.eval.eyesight.protocol import evaluate_eyes, to_tables
        from vilex.eval.eyesight.text_side import TEMPLATES
    from vilex.device import check_device

    check_device(device, "--device")
    check_folder(out)
    settings = EyesSettings(
        tuple(dict.fromkeys([encoder, *(against or [])])), out, classes, test, label, dense, dense_test, mmvp,
        zero_shot, tuple(template or TEMPLATES), text, tokens, tuple(parse_numbers(seeds, "--seeds")), images,
        batch_size, device,
    )  # fmt: skip
    with _named(), _looking(quiet or as_json) as on_picture:
        results, refused = evaluate_eyes(settings, on_picture)
    print_summary({"folder": str(out), **results}, f"{to_tables(results)}\n-> {out}", quiet, as_json)
    refuse(refused)


@contextmanager
def _looking(quiet: bool) -> "Iterator[Callable[[str, int, int], None]]":
    """A bar over the pictures that eyes look at, one set after the other."""
    with progress_bar("looking", quiet) as on_picture:
        yield lambda what, done, total: on_picture(done, total)


@contextmanager
def _named() -> "Iterator[None]":
    """Errors name the option that was typed."""
    with (
        said_as("data.path: ", ""),
        said_as("data.caption_column: ", "--label: "),
        said_as("features.tokens_per_view: ", "--tokens "),
    ):
        yield
