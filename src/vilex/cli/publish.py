"""`vilex export` and `vilex push`: an encoder for serving, and for others."""

from pathlib import Path
from typing import Annotated

import typer

from vilex.cli.options import Json, Model, Quiet, print_summary
from vilex.errors import InputError

DEFAULT_FILE = Path("encoder.onnx")


def export(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="File to write: .onnx or .pt2 (torch.export).")
    ] = DEFAULT_FILE,
    siglip: Annotated[
        Path | None, typer.Option(help="Instead: the tower alone, as a vision model of transformers, into this folder.")
    ] = None,
    paligemma: Annotated[
        str | None,
        typer.Option(
            help="Instead: this published PaliGemma, folder or hub id, with the tower in it, to the folder -o."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what was written before.")] = False,
    model: Model = "nano",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write tower and pooler as one file that needs no vilex: pixels in, tokens out; or the tower for other models."""
    if siglip or paligemma:
        _export_tower(siglip, paligemma, out, overwrite, model, quiet, as_json)
        return
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


def _export_tower(
    siglip: Path | None, paligemma: str | None, out: Path, overwrite: bool, model: str, quiet: bool, as_json: bool
) -> None:
    from vilex.hub.plain_tower import export_paligemma, export_tower

    if siglip and paligemma:
        raise InputError("--siglip and --paligemma: give one of them")
    if paligemma and out == DEFAULT_FILE:
        raise InputError("--paligemma: give the folder to write with -o")
    if siglip and out != DEFAULT_FILE:
        raise InputError(f"-o {out}: --siglip names the folder itself; leave -o out")
    folder = siglip or out
    about = export_paligemma(model, paligemma, out, overwrite) if paligemma else export_tower(model, folder, overwrite)
    print_summary({"folder": str(folder), **about}, f"{model}'s tower -> {folder}", quiet, as_json)


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
