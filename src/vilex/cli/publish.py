"""`vilex export` and `vilex push`: an encoder for serving, and for others."""

from pathlib import Path
from typing import Annotated

import typer

from vilex.cli.options import Json, Model, Quiet, print_summary
from vilex.errors import InputError


def export(
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write: .onnx or .pt2 (torch.export).")] = Path(
        "encoder.onnx"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file and its .json.")] = False,
    model: Model = "nano",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write tower and pooler as one file that needs no vilex: pixels in, tokens out."""
    from vilex.cli.manifest import check_file
    from vilex.encoder import load_encoder
    from vilex.hub.export import SUFFIX, export_encoder
    from vilex.hub.loading import quiet_loading

    kind = next((kind for kind, suffix in SUFFIX.items() if out.suffix == suffix), None)
    if kind is None:
        raise InputError(f"-o {out}: expected a name that ends in {' or '.join(SUFFIX.values())}")
    for path in (out, out.with_suffix(".json")):
        check_file(path, overwrite)
    encoder = load_encoder(model)
    with quiet_loading():
        about = export_encoder(encoder, out, kind)
    shape = about["output"]["tokens"][1:]
    text = f"{shape[0]} x {shape[1]} tokens, equal to {about['difference']:.1g} -> {out}"
    print_summary({"file": str(out), **about}, text, quiet, as_json)


def push(
    folder: Annotated[Path, typer.Argument(help="A finished encoder, as `vilex train` leaves it in run/encoder.")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub.")],
    private: Annotated[bool, typer.Option(help="Make the repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to upload to.")] = None,
    base: Annotated[
        str | None, typer.Option(help="OWNER/NAME of the frozen model, if the encoder names a folder here.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make a new commit of files that the repository has.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Only write the model card into the folder.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Upload an encoder to the hub, with a model card written from its configuration."""
    from vilex.hub.card import write_card
    from vilex.hub.push import push as upload

    if card:
        path = write_card(folder, repository, base)
        print_summary({"card": str(path)}, str(path), quiet, as_json)
        return
    address = upload(folder, repository, private, revision, base, overwrite)
    print_summary({"commit": address}, address, quiet, as_json)
