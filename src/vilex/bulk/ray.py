"""Bulk encoding on a Ray cluster: Ray Data deals shard numbers out, and a dead worker's to another one.

Only numbers and counts travel through Ray. Images are read and token shards written where the workers
are, so data, model and the folder of shards must lie on storage that every node sees under the same path.
"""

import logging
import os
import socket
from typing import Any

from vilex.bulk.encode import EncodingJob, Runner, Worker
from vilex.bulk.plan import ShardTask
from vilex.errors import InputError
from vilex.extras import needs


def on_ray(address: str, workers: int | None = None, gpu: bool = False) -> Runner:
    """Workers on a Ray cluster.

    Args:
        address: "auto" or "ray://host:port" of a running cluster; "local" starts one on this machine.
        workers: how many; by default one for each GPU, or each CPU, of the cluster.
        gpu: whether each holds a GPU.
    Raises:
        InputError: Ray is not installed, no cluster answers, or it has too few devices.
    """

    def run(job: EncodingJob, tasks: list[ShardTask], origin: dict[str, Any]) -> None:
        ray = _connect(address, workers if not gpu else None)
        try:
            _deal(ray, job, tasks, origin, workers, gpu)
        finally:
            ray.shutdown()

    return run


class _RayWorker:
    """A worker as Ray Data calls it: with batches of one shard number."""

    def __init__(self, job: EncodingJob, tasks: list[ShardTask], origin: dict[str, Any], device: str, folder: str):
        try:
            os.chdir(folder)  # where the command was given: relative paths mean the same here
        except FileNotFoundError:
            raise InputError(
                f"{folder}: not there on {os.uname().nodename}; Ray needs storage all nodes share"
            ) from None
        self.worker, self.tasks = Worker(job, origin, device), {task.number: task for task in tasks}

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for number in batch["number"].tolist():
            self.worker.make([self.tasks[number]])
        return batch


def _deal(
    ray: Any, job: EncodingJob, tasks: list[ShardTask], origin: dict[str, Any], workers: int | None, gpu: bool
) -> None:
    kind = "GPU" if gpu else "CPU"
    there = int(ray.cluster_resources().get(kind, 0))
    wanted = min(workers or there, len(tasks))
    if not 0 < wanted <= there:
        raise InputError(f"--ray: the cluster has {there} {kind}s for {workers or 'some'} workers; ask for fewer")
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = ray.data.from_items([{"number": task.number} for task in tasks], override_num_blocks=len(tasks))
    finished = numbers.map_batches(
        _RayWorker,
        fn_constructor_args=(job, tasks, origin, "cuda" if gpu else "cpu", os.getcwd()),
        compute=ray.data.ActorPoolStrategy(size=wanted),
        batch_size=1,
        num_gpus=1 if gpu else None,
    )
    try:
        finished.materialize()
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        raise cause if isinstance(cause, InputError) else InputError(f"--ray: {error}") from None


def _connect(address: str, workers: int | None) -> Any:
    with needs("ray"):
        import ray
        import ray.data
    if ":" in address:
        _check_reachable(address)
    own: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"--ray {address}: {error}; `ray start --head` starts a cluster") from None
    return ray


def _check_reachable(address: str) -> None:
    """Ray waits for minutes where nobody answers; this does not."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise InputError(f"--ray {address}: no cluster answers ({error}); `ray start --head` starts one") from None
