"""`vilex encode`: images to tokens, a few files or a whole collection."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilex.cli.options import (
    DTYPES,
    Device,
    Dtype,
    FitName,
    Json,
    Model,
    Quiet,
    errors,
    parse_fit,
    print_summary,
    progress_bar,
    refuse,
)
from vilex.errors import InputError, printable, said_as

if TYPE_CHECKING:
    from torch import Tensor

    from vilex.bulk.encode import Runner
    from vilex.pictures.fit import Fit


def encode(
    images: Annotated[list[Path] | None, typer.Argument(help="Image files.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder, tables, tar shards or hf:NAME, instead of files.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Token file to write; a folder of token shards with --data.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the token file.")] = False,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens an image; all by default.")] = None,
    fit: FitName = None,
    model: Model = "nano",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    batch_size: Annotated[int, typer.Option(min=1, max=65536, help="Images encoded at once.")] = 32,
    processes: Annotated[
        int | None, typer.Option(min=1, help="With --data: processes; by default 1, or one a GPU; on Ray one a device.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="With --data: processes that read and decode for each of those.")
    ] = 0,
    ray: Annotated[
        str | None, typer.Option(help="With --data: a Ray cluster; auto, ray://HOST:PORT, or local to start one.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn images into tokens, kept as safetensors with their provenance."""
    from vilex.device import check_device

    if bool(images) == bool(data):
        raise InputError("encode: expected image files, or --data with a folder, tables or shards")
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: expected {', '.join(DTYPES)}")
    way = parse_fit(fit)
    if not ray:
        check_device(device, "--device")
    if images:
        out = out or Path("tokens.safetensors")
        _encode_files(images, out, overwrite, tokens, way, model, device, dtype, batch_size, quiet, as_json)
        return
    from vilex.bulk.encode import EncodingJob
    from vilex.data.config import SourceConfig

    source = SourceConfig(path=data or "", allow_pipe=True)
    job = EncodingJob(
        source,
        out or Path("tokens"),
        model,
        tokens,
        way,
        batch_size=batch_size,
        dtype=dtype,
        workers=workers,
    )
    _encode_collection(job, _runner(device, processes, ray), quiet, as_json)


def _encode_files(
    paths: list[Path],
    out: Path,
    overwrite: bool,
    tokens: int | None,
    fit: "Fit | None",
    model: str,
    device: str,
    dtype: str,
    batch_size: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """The target is looked at first; whatever ends the work early, what is encoded by then is written."""
    import torch

    from vilex.cli.manifest import check_file
    from vilex.encoder import encoder_folder, load_encoder
    from vilex.hub.folder import weights_hash
    from vilex.pictures.fit import much_cut, warn_of_cuts
    from vilex.pictures.load import load_each
    from vilex.tokens import SUFFIX

    check_file(out, overwrite)
    if out.suffix != SUFFIX:
        raise InputError(f"-o {out}: expected a name that ends in {SUFFIX}, by which token files are known")
    folder = encoder_folder(model) if any(map(os.path.isfile, paths)) else None
    encoder = load_encoder(folder).to(torch.device(device), getattr(torch, dtype)) if folder else None
    way = fit or (encoder.config.fit if encoder else None)
    origin = {"model": model, "encoder_sha256": weights_hash(folder), "fit": str(way)} if folder else {}
    found: dict[Path, Tensor] = {}
    cut: list[str] = []
    refused: list[str] = []
    try:
        with progress_bar("encoding", quiet or as_json) as on_step:
            for start in range(0, len(paths), batch_size):
                side = encoder.config.image_size if encoder else None
                good, bad = load_each(paths[start : start + batch_size], side)
                refused += bad
                if good and encoder:
                    cut += [str(path) for path, picture in good.items() if way and much_cut(picture.size, way)]
                    found |= dict(zip(good, encoder.encode(list(good.values()), tokens, way).cpu(), strict=True))
                on_step(min(start + batch_size, len(paths)), len(paths))
    except BaseException:
        if found:
            written, _ = _save(out, overwrite, found, origin)
            errors.print(f"stopped: {len(found)} of {len(paths)} image(s) -> {printable(written)}", markup=False)
        raise
    warn_of_cuts(cut, len(found))
    if found:
        written, provenance = _save(out, overwrite, found, origin)
        shape = list(next(iter(found.values())).shape)
        summary = {"file": str(written), "tokens": shape, "images": provenance, "refused": refused}
        text = f"{len(found)} image(s) x {shape[0]} tokens -> {written}"
        print_summary(summary, text, quiet, as_json)
    refuse(refused)


def _save(
    out: Path, overwrite: bool, tokens: "dict[Path, Tensor]", origin: dict[str, str]
) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Write tokens [n, d] by path; returns the name the file got, and where each image came from, by name.

    A file that has come to lie there since the target was looked at is not replaced either.
    """
    from vilex.hub.folder import file_hash
    from vilex.paths import replacing, unique_names, write_new
    from vilex.tokens import save_tokens

    names = dict(zip(map(printable, unique_names([path.stem for path in tokens])), tokens, strict=True))
    provenance: dict[str, dict[str, Any]] = {
        name: {**origin, "file": printable(path.name), "sha256": file_hash(path)} for name, path in names.items()
    }
    named = {name: tokens[path] for name, path in names.items()}
    try:
        if overwrite:
            with replacing(out) as aside:
                save_tokens(aside, named, provenance)
            return out, provenance
        with tempfile.TemporaryDirectory() as folder:
            save_tokens(Path(folder, "tokens"), named, provenance)
            return write_new(out, Path(folder, "tokens").read_bytes()), provenance
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another file with -o") from None


def _encode_collection(job: Any, runner: "Runner", quiet: bool, as_json: bool) -> None:
    from vilex.bulk.encode import encode_collection
    from vilex.cli.manifest import check_folder

    check_folder(job.out)

    def say(line: str) -> None:
        if not quiet and not as_json:
            print(printable(line))

    try:
        with said_as("data.path: ", "--data "), progress_bar("encoding", quiet or as_json) as on_shard:
            count, refused = encode_collection(job, runner, on_shard, say)
    except KeyboardInterrupt:
        errors.print(
            f"stopped: whole token shards stay in {printable(job.out)}; the same command goes on", markup=False
        )
        raise
    summary = {"folder": str(job.out), "model": job.model, "images": count, "refused": refused}
    print_summary(summary, f"{count} image(s) -> {job.out}", quiet, as_json)
    refuse(refused)


def _runner(device: str, processes: int | None, ray: str | None) -> "Runner":
    """Who encodes a collection: a Ray cluster, every local GPU, or processes that share the CPU."""
    import torch

    from vilex.bulk.encode import on_devices

    if ray:
        from vilex.bulk.ray import on_ray

        return on_ray(ray, processes, gpu=device.startswith("cuda"))
    if device != "cuda":
        return on_devices([device] * (processes or 1))
    return on_devices([f"cuda:{i}" for i in range(processes or torch.cuda.device_count())])
