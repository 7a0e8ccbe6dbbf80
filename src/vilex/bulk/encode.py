"""Whole collections to tokens: shards in, token shards out, on every device, and on again after a stop.

A stream's shard, or a run of rows of a source with random access, becomes one safetensors file. It is written aside
and renamed, so what lies there is whole, and the same command does only what is missing, new, changed or failed.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from vilex.bulk.loading import Prepared, PreparedPieces, pieces_of, prepared_by
from vilex.bulk.plan import ShardTask, plan_tasks
from vilex.bulk.shard import Contents, read_contents, write_shard
from vilex.checks import shown
from vilex.data.config import SourceConfig
from vilex.data.counting import count_found
from vilex.data.indexed import file_stamp
from vilex.data.sources import Indexed, Source, open_source
from vilex.encoder import encoder_folder, load_encoder
from vilex.encoder.config import ViLexConfig
from vilex.errors import InputError
from vilex.hub.folder import read_encoder_config, weights_hash
from vilex.pictures.fit import FITS, Fit, check_fit, warn_of_cuts

LOCK = ".vilex-encode.lock"


@dataclass(frozen=True)
class EncodingJob:
    """What to encode, and how.

    Attributes:
        source: the images; see `SourceConfig.path`. Their captions are not read.
        out: folder of the token shards.
        model: embedded name, folder or hub id of the encoder.
        num_tokens: kept of each image; all if None.
        fit: how pictures that are not square are brought to the encoder; its own way if None.
        rows: a shard's images, where the source has no shards of its own.
        batch_size: images encoded at once.
        dtype: to compute in: float32, bfloat16 or float16.
        workers: processes that read and decode, for each device; 0 does so in the process of the device.
    """

    source: SourceConfig
    out: Path
    model: str = "nano"
    num_tokens: int | None = None
    fit: Fit | None = None
    rows: int = 1000
    batch_size: int = 32
    dtype: str = "float32"
    workers: int = 0

    def open_source(self, side: int | None = None) -> Source:
        """The images, without captions; see `vilex.data.sources.open_source`."""
        return open_source(replace(self.source, caption_column=""), side)

    def path(self, number: int) -> Path:
        """Where a token shard lies."""
        return self.out / f"tokens-{number:06d}.safetensors"


Runner = Callable[
    [EncodingJob, list[ShardTask], dict[str, Any]], None
]  # does these tasks; the dictionary is their shards' origin


def encode_collection(
    job: EncodingJob,
    run: Runner,
    on_shard: Callable[[int, int], None] | None = None,
    on_begin: Callable[[str], None] | None = None,
) -> tuple[int, list[str]]:
    """Encode what `job.out` does not hold yet, by `on_devices` or `vilex.bulk.ray.on_ray`.

    Args:
        on_shard: called with (finished, all) shards about once a second, from a thread.
        on_begin: called with a line: what was found, what is there already, and what is to be done.
    Returns:
        How many images its shards hold, and a line for each image or shard that was refused.
    Raises:
        InputError: the source or the model cannot be read, the folder holds another model's shards, or somebody else
            is encoding into it.
    """
    origin, source = _origin(job), _with_captions(job)
    with _locked(job.out):
        there = _token_shards(job, origin)
        tasks = plan_tasks(source, there, job.rows)
        if on_begin:
            done = sum(len(contents.names) for contents in there.values())
            shards = f"{len(tasks)} token shard{'s' * (len(tasks) != 1)} to make"
            on_begin(f"{job.source.path}: {count_found(source)} | {done} encoded in {job.out}, {shards}")
        if tasks:
            with _watched(job, tasks, on_shard):
                run(job, tasks, origin)
        made = _token_shards(job, origin).values()
    count = sum(len(one.names) for one in made)
    warn_of_cuts([name for one in made for name in one.cut], count)
    return count, [line for one in made for _, line in one.refused]


def on_devices(devices: list[str]) -> Runner:
    """One local process a device."""

    def run(job: EncodingJob, tasks: list[ShardTask], origin: dict[str, Any]) -> None:
        if len(devices) == 1:
            _work(0, job, devices, tasks, origin)
            return
        try:
            spawn(_work, (job, devices, tasks, origin), nprocs=min(len(devices), len(tasks)))
        except (ProcessRaisedException, ProcessExitedException) as error:
            reason = str(error).strip().splitlines()[-1].removeprefix("vilex.errors.InputError: ")
            raise InputError(
                f"encode: a process ended ({reason}); what is done stays, the same command goes on"
            ) from None

    return run


class Worker:
    """An encoder on one device, which makes one token shard after another."""

    def __init__(self, job: EncodingJob, origin: dict[str, Any], device: str):
        self.job, self.origin, self.device = job, origin, torch.device(device)
        self.encoder = load_encoder(job.model).to(self.device, getattr(torch, job.dtype))
        self.source = job.open_source(self.encoder.config.image_size)
        self.num_tokens = job.num_tokens or self.encoder.config.num_tokens

    def make(self, tasks: list[ShardTask]) -> None:
        """Encode and write the token shards of these tasks, each as soon as it is complete.

        Raises:
            InputError: a shard cannot be written, tokens are no numbers, or the device has no memory for a batch.
        """
        pieces = pieces_of(tasks, self.job.batch_size)
        waiting = Counter(piece.task for piece in pieces)
        fit = self.job.fit or self.encoder.config.fit
        preprocess = self.encoder.preprocessing_by(fit)
        loaded = PreparedPieces(self.source, pieces, self.job.batch_size, preprocess, fit)
        parts: dict[int, list[tuple[Prepared, Tensor]]] = {}
        for prepared in prepared_by(self.job.workers, loaded, pin_memory=self.device.type == "cuda"):
            parts.setdefault(prepared.task, []).append((prepared, self._encode(prepared)))
            waiting[prepared.task] -= prepared.last
            if not waiting[prepared.task]:
                self._write(tasks[prepared.task], parts.pop(prepared.task))

    @torch.inference_mode()
    def _encode(self, prepared: Prepared) -> Tensor:
        """[B, n, d] in half precision, left on the device: a shard waits for it once."""
        if prepared.pixel_values is None:
            return torch.empty(0, self.num_tokens, self.encoder.config.width, dtype=torch.half, device=self.device)
        pixel_values = prepared.pixel_values.to(self.device, non_blocking=True).to(self.encoder.dtype)
        try:
            tokens: Tensor = self.encoder(pixel_values, self.num_tokens).tokens
        except torch.OutOfMemoryError:
            raise InputError(
                f"encode: {self.device} has no memory for {len(pixel_values)} images at once; lower --batch-size"
            ) from None
        return tokens.half()

    def _write(self, task: ShardTask, parts: list[tuple[Prepared, Tensor]]) -> None:
        """A token shard of what was encoded, and of what of it was there and needed no encoding."""
        names = [name for prepared, _ in parts for name in prepared.names]
        stamps = [stamp for prepared, _ in parts for stamp in prepared.stamps]
        refused = [pair for prepared, _ in parts for pair in prepared.refused]
        cut = [name for prepared, _ in parts for name in prepared.cut]
        tokens, path = torch.cat([one for _, one in parts]).cpu(), self.job.path(task.number)
        if not tokens.isfinite().all():
            raise InputError(f"{path}: tokens are NaN or infinite; encode in float32, or fetch the model again")
        part = ("", "") if task.shard is None else self._part(task.shard)
        if task.shard is None and path.is_file():
            before, renewed = read_contents(path), {*names, *(name for name, _ in refused)}
            kept = [i for i, name in enumerate(before.names) if name not in renewed]
            tokens = torch.cat([load_file(path)["tokens"][kept], tokens])
            names, stamps = [before.names[i] for i in kept] + names, [before.stamps[i] for i in kept] + stamps
            refused = [pair for pair in before.refused if pair[0] not in renewed] + refused
            cut = [name for name in before.cut if name not in renewed] + cut
        write_shard(path, tokens, Contents(names, stamps, refused, self.origin, part, cut))

    def _part(self, shard: int) -> tuple[str, str]:
        assert not isinstance(self.source, Indexed)
        return self.source.shards[shard], self.source.stamp(shard)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """The folder of token shards, made if need be, and nobody else's until the end."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{out}: another command is encoding into it; wait for it, or give another folder") from None
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another folder with -o") from None
    try:
        for left in out.glob(".tokens-*.tmp"):  # by a process that was killed
            left.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


@contextmanager
def _watched(job: EncodingJob, tasks: list[ShardTask], on_shard: Callable[[int, int], None] | None) -> Iterator[None]:
    """Counts the token shards that come to lie in `out`, whoever makes them."""
    before = {task.number: file_stamp(job.path(task.number)) for task in tasks}
    over = threading.Event()

    def watch() -> None:
        while on_shard and not over.wait(1):
            on_shard(sum(file_stamp(job.path(number)) != stamp for number, stamp in before.items()), len(tasks))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _work(rank: int, job: EncodingJob, devices: list[str], tasks: list[ShardTask], origin: dict[str, Any]) -> None:
    """One device's share of the tasks."""
    Worker(job, origin, devices[rank]).make(tasks[rank :: len(devices)])


def _token_shards(job: EncodingJob, origin: dict[str, Any]) -> dict[int, Contents]:
    """The token shards that are there, by number.

    Raises:
        InputError: one is damaged, or was made with other settings.
    """
    there = {}
    for path in sorted(job.out.glob("tokens-*.safetensors")):
        number = path.stem.partition("-")[2]
        if not number.isdecimal():
            raise InputError(f"{path}: no token shard's name, tokens-NUMBER; move it elsewhere")
        contents = read_contents(path)
        made = {"fit": FITS[0], **contents.origin}  # of versions that only cropped
        if made != origin:
            differences = _differences(made, origin)
            raise InputError(f"{path}: made with other settings ({differences}); give another folder with -o")
        there[int(number)] = contents
    return there


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {shown(there.get(key))} there, {shown(now.get(key))} now"
        for key in sorted({*there, *now})
        if there.get(key) != now.get(key)
    )


def _with_captions(job: EncodingJob) -> Source:
    """The source, to plan with and to count in; captions are counted where they can be read, and needed nowhere."""
    try:
        return open_source(job.source)
    except InputError:
        return job.open_source()


def _origin(job: EncodingJob) -> dict[str, Any]:
    folder = encoder_folder(job.model)
    config = read_encoder_config(folder)
    limit = config.get("num_tokens", ViLexConfig().num_tokens)
    if job.num_tokens is not None and not 1 <= job.num_tokens <= limit:
        raise InputError(f"expected 1 to {limit} tokens of an image, got {job.num_tokens}")
    return {
        "encoder_sha256": weights_hash(folder),
        "num_tokens": job.num_tokens,
        "fit": check_fit(job.fit or config.get("fit", FITS[0])),
        "dtype": job.dtype,
        "data": job.source.path,
    }
