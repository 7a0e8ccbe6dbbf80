"""Processes, precision and sharding: one encoder trained by one device or many, hidden behind a few verbs.

accelerate starts the processes and handles mixed precision and DDP; sharding is torch's own FSDP2
(`fully_shard`), which runs on CPUs as well. Frozen parts are never wrapped: every process has its own,
and no gradients of their weights exist.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast
from unittest.mock import patch

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from vilex.device import check_device
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.train.config import RunConfig

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
REPLICAS: dict[str, Any] = {"gradient_as_bucket_view": True, "broadcast_buffers": False}
PRECISION = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Engine:
    """The processes of a run, started by nothing special, `accelerate launch` or `torchrun`.

    Attributes:
        rank, world: this process's number, and how many there are.
        device: this process's own.
    Raises:
        InputError: `run.device` is not here, or does not go with the other settings.
    """

    def __init__(self, run: RunConfig):
        if run.threads:
            torch.set_num_threads(run.threads)
        if run.tf32:
            torch.set_float32_matmul_precision("high")
        self.sharded = run.parallel == "fsdp"
        if self.sharded and run.mixed_precision == "fp16":
            raise InputError("run.parallel: fsdp needs run.mixed_precision bf16 or no: fp16 scales losses by process")
        with _named_device(run.device):
            self.accelerator = _accelerator(run)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.device, self.precision = self.accelerator.device, PRECISION[run.mixed_precision]

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def prepare(self, encoder: ViLexEncoder) -> nn.Module:
        """The encoder on its device, ready to be called by all processes: sharded, replicated or as it is.

        Call it before an optimiser is made: sharding replaces the parameters.
        """
        self.bare = encoder.to(self.device)
        if not self.sharded:
            self.encoder = self.accelerator.prepare_model(encoder)
            return self.encoder
        if self.world == 1:
            raise InputError("run.parallel: fsdp shards over several processes; start with torchrun, or use ddp")
        policy = MixedPrecisionPolicy(param_dtype=self.precision, cast_forward_inputs=False)
        for block in repeated_blocks(encoder):
            fully_shard(block, mp_policy=policy)
        self.encoder = fully_shard(encoder, mp_policy=policy)
        return self.encoder

    def replicate(self, waiting: Sequence[nn.Parameter] = ()) -> nn.Module:
        """The encoder again, where it is replicated: replicas then share all gradients but those of what waits.

        Replicas wait for the gradient of every weight that learned when they were made. A shard waits for none, and a
        single process has nobody to share with: they stay as they are.
        """
        replica = self.encoder
        if isinstance(replica, DistributedDataParallel):
            with _not_learning(waiting):
                self.encoder = DistributedDataParallel(
                    self.bare, device_ids=replica.device_ids, output_device=replica.output_device, **REPLICAS
                )
        return self.encoder

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser as it is, or under fp16's loss scaler."""
        self.optimizer = optimizer
        return self.accelerator.prepare_optimizer(optimizer) if self._scaler else optimizer

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Backward passes in here keep their gradients to this process; the next one outside shares all."""
        if self.world == 1:
            yield
        elif self.sharded:
            self.encoder.set_requires_gradient_sync(False)
            yield
            self.encoder.set_requires_gradient_sync(True)
        else:
            with self.encoder.no_sync():
                yield

    def autocast(self) -> AbstractContextManager[None]:
        """In it a step computes in `run.mixed_precision`."""
        return self.accelerator.autocast() if self.precision else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, scaled where fp16 needs it."""
        self.accelerator.backward(loss)

    def clip(self, parameters: list[nn.Parameter], limit: float) -> Tensor:
        """Clip the gradients' norm over all processes, unless the limit is 0; returns what it was, on the device."""
        if self._scaler:
            self._scaler.unscale_(self.optimizer)
        return gathered(nn.utils.clip_grad_norm_(parameters, limit or float("inf")))

    @property
    def skipped(self) -> bool:
        """Whether fp16's scaler found an overflow and left the last step out."""
        return bool(self._scaler and self.accelerator.optimizer_step_was_skipped)

    @property
    def scales(self) -> bool:
        """Whether losses are scaled (fp16): gradients may then overflow, and such a step is left out."""
        return self._scaler is not None

    def sum(self, values: Sequence[float | Tensor]) -> list[float]:
        """Each number's sum over all processes. Of a step's work, this alone waits for the device."""
        row = torch.stack([torch.as_tensor(value, dtype=torch.float32).to(self.device) for value in values])
        return (self.accelerator.reduce(row, "sum") if self.world > 1 else row).tolist()

    def gather(self, value: Any) -> list[Any]:
        """One plain value of each process, in order, for all of them."""
        return gather_object([value]) if self.world > 1 else [value]

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()

    def encoder_state(self) -> dict[str, Tensor]:
        """The encoder's whole state dict on the CPU. All processes must ask together."""
        if not self.sharded:
            return self.bare.state_dict()
        return cast(dict[str, Tensor], get_model_state_dict(self.encoder, options=_WHOLE))

    def load_encoder_state(self, state: dict[str, Tensor]) -> None:
        """The opposite of `encoder_state`."""
        if not self.sharded:
            self.bare.load_state_dict(state)
        else:
            set_model_state_dict(self.encoder, cast(dict[str, Any], state), options=_WHOLE)

    def optimizer_state(self, fresh: Sequence[nn.Parameter] = ()) -> dict[str, Any]:
        """The optimiser's whole state, by parameter name, with its groups. All processes must ask together.

        Args:
            fresh: parameters that have not learned yet, and have no state.
        """
        with _not_learning(fresh):
            return get_optimizer_state_dict(self.bare, self.optimizer, options=_WHOLE)

    def load_optimizer_state(self, state: dict[str, Any], fresh: Sequence[nn.Parameter] = ()) -> None:
        """The opposite of `optimizer_state`."""
        with _not_learning(fresh):
            set_optimizer_state_dict(self.bare, self.optimizer, state, options=_WHOLE)

    def scaler_state(self) -> dict[str, Any]:
        """What fp16's scaler has found out; empty without one."""
        return self._scaler.state_dict() if self._scaler else {}

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """The opposite of `scaler_state`."""
        if self._scaler:
            self._scaler.load_state_dict(state)

    @property
    def _scaler(self) -> Any:
        return self.accelerator.scaler


def learning(module: nn.Module) -> list[nn.Parameter]:
    """Those of a module's parameters that learn."""
    return [p for p in module.parameters() if p.requires_grad]


@contextmanager
def _not_learning(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """In it these parameters ask for no gradient: torch then expects nothing of them."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def gathered(tensor: Tensor) -> Tensor:
    """A tensor with all its shards. All processes must ask together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, sharded and placed as a parameter is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The units of sharding: what repeats, as the layers of a tower or the blocks of a pooler, whatever their class.

    Blocks are the members, two or more of one type, of a list of modules; blocks inside blocks are not parted.
    """
    members = list(module.children())
    in_row = isinstance(module, nn.ModuleList | nn.Sequential) and len(members) > 1
    if in_row and len({type(one) for one in members}) == 1 and next(members[0].parameters(), None) is not None:
        return members
    return [block for one in members for block in repeated_blocks(one)]


def _accelerator(run: RunConfig) -> Accelerator:
    # An earlier run in this process may have had another precision, or another device.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    replicas = DistributedDataParallelKwargs(**REPLICAS)
    try:
        made = Accelerator(cpu=run.device == "cpu", mixed_precision=run.mixed_precision, kwargs_handlers=[replicas])
    except ValueError as error:  # a precision that the device has not
        raise InputError(f"run.mixed_precision: {str(error).splitlines()[0].rstrip('.')}; use bf16 or no") from None
    if run.mixed_precision == "fp16" and made.scaler is None:
        raise InputError(f"run.mixed_precision: fp16 does not train on {made.device.type}; use bf16 or no")
    return made


@contextmanager
def _named_device(name: str) -> Iterator[None]:
    """Let accelerate take the device that `run.device` names; of several processes, each takes its own of the kind.

    Raises:
        InputError: there is no such device here, or it is one device for several processes.
    """
    if name == "auto":
        yield
        return
    device = check_device(name, "run.device")
    if device.index is None or device.type == "cpu":
        yield
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(f"run.device: {name} is one device for several processes; give {device.type} or auto")
    with patch.dict(os.environ, ACCELERATE_TORCH_DEVICE=name):
        yield
