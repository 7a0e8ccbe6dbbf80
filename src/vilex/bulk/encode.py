"""Whole collections to tokens: shards in, token shards out, on every device, and on again after a stop.

A stream's shard, or a run of rows of a source with random access, becomes one safetensors file. It is
written aside and renamed, so what lies there is whole, and the same command does only what is missing.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from vilex.data.config import SourceConfig
from vilex.data.example import Example
from vilex.data.reading import parts_of, read_part
from vilex.data.sources import open_source
from vilex.encoder import ViLexEncoder, encoder_folder, load_encoder
from vilex.errors import InputError
from vilex.hub.folder import weights_hash

FORMAT = "vilex-token-shard"


@dataclass(frozen=True)
class Job:
    """What to encode, and how.

    Attributes:
        source: the images; see `SourceConfig.path`.
        out: folder of the token shards.
        model: embedded name, folder or hub id of the encoder.
        num_tokens: kept of each image; all if None.
        rows: a shard's images, where the source has no shards of its own.
        batch_size: images encoded at once.
    """

    source: SourceConfig
    out: Path
    model: str = "nano"
    num_tokens: int | None = None
    rows: int = 1000
    batch_size: int = 32


@dataclass(frozen=True)
class TokenShard:
    """tokens: [N, n, d] in half precision; names: of the N images; refused: a line for each broken one.

    origin: what makes it what it is: the encoder's hash, the tokens kept, the images.
    """

    tokens: Tensor
    names: list[str]
    refused: list[str]
    origin: dict[str, Any]


Runner = Callable[[Job, list[int], dict[str, Any]], None]  # encodes the shards of these numbers, of this origin


def encode_collection(
    job: Job, run: Runner, on_shard: Callable[[int, int], None] | None = None
) -> tuple[int, list[str]]:
    """Encode what `job.out` does not hold yet, by `on_devices` or `vilex.bulk.ray.on_ray`.

    Args:
        on_shard: called with (finished, all) shards about once a second, from a thread.
    Returns:
        How many images its shards hold, and a line for each image or shard that was refused.
    Raises:
        InputError: the source or the model cannot be read, or the folder holds another model's shards.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    origin = _origin(job)
    count = len(parts_of(open_source(job.source), job.rows))
    missing = [i for i in range(count) if not _is_done(_shard_path(job, i), origin)]
    if missing:
        with _watched(job.out, count, on_shard):
            run(job, missing, origin)
    shards = [_about(_shard_path(job, i)) for i in range(count)]
    return sum(len(shard["names"]) for shard in shards), [line for shard in shards for line in shard["refused"]]


def on_devices(devices: list[str]) -> Runner:
    """One local process a device."""

    def run(job: Job, missing: list[int], origin: dict[str, Any]) -> None:
        if len(devices) == 1:
            _work(0, job, devices, missing, origin)
        else:
            spawn(_work, (job, devices, missing, origin), nprocs=len(devices))

    return run


class Worker:
    """An encoder on one device, which makes one token shard after another."""

    def __init__(self, job: Job, origin: dict[str, Any], device: str):
        self.encoder, self.job, self.origin = load_encoder(job.model).to(device), job, origin
        self.source = open_source(job.source)
        self.parts = parts_of(self.source, job.rows)

    def make(self, number: int) -> None:
        """Encode and write one shard."""
        shard = _encode(self.encoder, read_part(self.source, self.parts[number]), self.job, self.origin)
        _write(_shard_path(self.job, number), shard)


def load_shard(path: str | Path) -> TokenShard:
    """Read one token shard.

    Raises:
        InputError: the file is damaged or holds something else.
    """
    about = _about(path)
    return TokenShard(load_file(path)["tokens"], about["names"], about["refused"], about["origin"])


@contextmanager
def _watched(out: Path, count: int, on_shard: Callable[[int, int], None] | None) -> Iterator[None]:
    """Counts the shards that lie in `out` meanwhile, whoever makes them."""
    over = threading.Event()

    def watch() -> None:
        while on_shard and not over.wait(1):
            on_shard(len(list(out.glob("tokens-*.safetensors"))), count)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _about(path: str | Path) -> dict[str, Any]:
    """What a token shard says of itself, without its tokens; see `load_shard` for what raises."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: damaged token shard ({error}); remove it and encode again") from None
    if FORMAT not in metadata:
        raise InputError(f"{path}: no token shard; make one with `vilex encode --data`")
    return json.loads(metadata[FORMAT])


def _work(rank: int, job: Job, devices: list[str], missing: list[int], origin: dict[str, Any]) -> None:
    """One device's share of the missing shards."""
    worker = Worker(job, origin, devices[rank])
    for number in missing[rank :: len(devices)]:
        worker.make(number)


@torch.inference_mode()
def _encode(
    encoder: ViLexEncoder, examples: Iterator[Example | InputError], job: Job, origin: dict[str, Any]
) -> TokenShard:
    n = job.num_tokens or encoder.config.num_tokens
    tokens, names, refused = [torch.empty(0, n, encoder.config.width, dtype=torch.half)], [], []
    while batch := list(islice(examples, job.batch_size)):
        good = [example for example in batch if isinstance(example, Example)]
        refused += [str(example) for example in batch if not isinstance(example, Example)]
        if good:
            pixel_values = encoder.preprocess([example.image for example in good])
            tokens.append(encoder(pixel_values, n).tokens.half().cpu())
            names += [example.name for example in good]
    return TokenShard(torch.cat(tokens), names, refused, origin)


def _write(path: Path, shard: TokenShard) -> None:
    about = json.dumps({"origin": shard.origin, "names": shard.names, "refused": shard.refused})
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({"tokens": shard.tokens}, aside, metadata={FORMAT: about})
    os.replace(aside, path)


def _is_done(path: Path, origin: dict[str, Any]) -> bool:
    """Whether a shard is there already.

    Raises:
        InputError: it is there, but of another model or length.
    """
    if not path.is_file():
        return False
    found = _about(path)["origin"]
    if found != origin:
        raise InputError(f"{path}: made with other settings ({found}); give another folder with -o")
    return True


def _origin(job: Job) -> dict[str, Any]:
    return {
        "encoder_sha256": weights_hash(encoder_folder(job.model)),
        "num_tokens": job.num_tokens,
        "data": job.source.path,
        "rows": job.rows,
    }


def _shard_path(job: Job, number: int) -> Path:
    return job.out / f"tokens-{number:06d}.safetensors"
