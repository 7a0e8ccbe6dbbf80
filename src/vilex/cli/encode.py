"""`vilex encode`: images to tokens, a few files or a whole collection."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilex.cli.options import Device, Json, Model, Quiet, print_summary, progress_bar, refuse
from vilex.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

ENCODE_BATCH = 32


def encode(
    images: Annotated[list[Path] | None, typer.Argument(help="Image files.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder, tables, tar shards or hf:NAME, instead of files.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Token file to write; a folder of token shards with --data.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens an image; all by default.")] = None,
    model: Model = "nano",
    device: Device = "cpu",
    processes: Annotated[
        int | None, typer.Option(min=1, help="With --data: processes; by default 1, or one a GPU; on Ray one a device.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="With --data: a Ray cluster; auto, ray://HOST:PORT, or local to start one.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn images into tokens, kept as safetensors with their provenance."""
    from vilex.cli.manifest import unique_names
    from vilex.encoder import encoder_folder, load_encoder
    from vilex.hub.folder import file_hash, weights_hash
    from vilex.pictures.load import load_each
    from vilex.tokens import save_tokens

    if bool(images) == bool(data):
        raise InputError("encode: expected image files, or --data with a folder, tables or shards")
    if data:
        _encode_collection(data, out or Path("tokens"), tokens, model, _runner(device, processes, ray), quiet, as_json)
        return
    out = out or Path("tokens.safetensors")
    paths = images or []
    folder = encoder_folder(model) if any(path.is_file() for path in paths) else None
    encoder = load_encoder(folder).to(device) if folder else None
    tokens_by_path: dict[Path, Tensor] = {}
    refused: list[str] = []
    with progress_bar("encoding", quiet or as_json) as on_step:
        for start in range(0, len(paths), ENCODE_BATCH):
            good, bad = load_each(paths[start : start + ENCODE_BATCH])
            refused += bad
            if good and encoder:
                tokens_by_path |= dict(zip(good, encoder.encode(list(good.values()), tokens), strict=True))
            on_step(min(start + ENCODE_BATCH, len(paths)), len(paths))
    if folder and tokens_by_path:
        names = dict(zip(unique_names(list(tokens_by_path)), tokens_by_path, strict=True))
        origin = {"model": model, "encoder_sha256": weights_hash(folder)}
        provenance = {name: {**origin, "file": path.name, "sha256": file_hash(path)} for name, path in names.items()}
        _make_parent(out)
        save_tokens(out, {name: tokens_by_path[path] for name, path in names.items()}, provenance)
        shape = list(next(iter(tokens_by_path.values())).shape)
        summary = {"file": str(out), "tokens": shape, "images": provenance, "refused": refused}
        print_summary(summary, f"{len(names)} image(s) x {shape[0]} tokens -> {out}", quiet, as_json)
    refuse(refused)


def _encode_collection(
    data: str, out: Path, tokens: int | None, model: str, runner: Any, quiet: bool, as_json: bool
) -> None:
    from vilex.bulk.encode import Job, encode_collection
    from vilex.data.config import SourceConfig

    with progress_bar("encoding", quiet or as_json) as on_shard:
        count, refused = encode_collection(
            Job(SourceConfig(path=data, allow_pipe=True), out, model, tokens), runner, on_shard
        )
    summary = {"folder": str(out), "model": model, "images": count, "refused": refused}
    print_summary(summary, f"{count} image(s) -> {out}", quiet, as_json)
    refuse(refused)


def _runner(device: str, processes: int | None, ray: str | None) -> Any:
    """Who encodes a collection: a Ray cluster, every local GPU, or processes that share the CPU."""
    import torch

    from vilex.bulk.encode import on_devices
    from vilex.bulk.ray import on_ray

    if ray:
        return on_ray(ray, processes, gpu=device.startswith("cuda"))
    if device != "cuda":
        return on_devices([device] * (processes or 1))
    return on_devices([f"cuda:{i}" for i in range(processes or torch.cuda.device_count())] or ["cuda"])


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another file with -o") from None
