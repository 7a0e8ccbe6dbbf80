"""A transfer's configuration: a language model learns one task, or a mixture, over frozen features. One TOML file."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from vilex.device import parse_device
from vilex.errors import InputError, said_as
from vilex.settings import Names, Range, check
from vilex.understand.features import FeaturesConfig
from vilex.understand.tasks.registry import find_task

Often = Annotated[int, Range(1, 10**9)]


@dataclass(frozen=True)
class SeeingConfig:
    """Which language model, over whose eyes, and what of it learns."""

    base: Annotated[str, Names.MODEL] = ""  # PaliGemma, or a causal language model: folder or hub id
    scratch: bool = False  # of base, only configuration and words are read; its weights are random
    # a ViLex encoder or a vision model: nano, folder or hub id; empty keeps PaliGemma's own tower
    encoder: Annotated[str, Names.MODEL] = ""
    train: Literal["lm", "lora", "projector"] = "lm"  # all of the language model, updates of low rank, or none of it
    # PaliGemma's own projector learns too; big_vision's frozen tower takes it along. New projectors always learn.
    train_projector: bool = True
    lora_rank: Annotated[int, Range(1, 4096)] = 16  # of the updates
    lora_alpha: Annotated[int, Range(1, 65536)] = 32  # their scale is alpha / rank


@dataclass(frozen=True)
class AskedFile:
    """One task of a mixture."""

    path: Annotated[str, Names.FILE] = ""  # a file of JSON lines
    root: Annotated[str, Names.FILE] = ""  # folder that its images are relative to; empty is the file's own
    times: Annotated[int, Range(1, 1000)] = 1  # how often an epoch has each of its examples
    task: str = ""  # as data.task


@dataclass(frozen=True)
class AskingConfig:
    """The task: JSON lines of images, prefixes and suffixes."""

    train: Annotated[str, Names.FILE] = ""  # a file of JSON lines
    mixture: tuple[AskedFile, ...] = ()  # [[data.mixture]]: several tasks, instead of data.train
    validation: Annotated[str, Names.FILE] = ""  # a file that is looked at in training
    root: Annotated[str, Names.FILE] = ""  # folder that the images of train and validation are relative to
    # which task it is, as `vilex understand eval --task` knows it: training asks anew each time where the task can, as
    # scienceqa's options come in another order, and a sweep may choose by its score
    task: str = ""
    # questions of one image behind its vectors, at most; run.batch_size then counts images. The image sees no question,
    # which is a departure from PaliGemma
    pack: Annotated[int, Range(0, 1024, "0 packs none")] = 0
    # as big_vision's text_len: tokens of [BOS], prefix, newline, suffix and [EOS] less one; suffixes are cut to it
    text_length: Annotated[int, Range(2, 8192)] = 32
    workers: Annotated[int, Range(0, 1024, "0 reads in the training process")] = 0  # processes that read
    max_bad_share: Annotated[float, Range(0, 1)] = 0.05  # more broken pictures than this end the run

    @property
    def files(self) -> tuple[AskedFile, ...]:
        """All that is trained on."""
        return self.mixture or (AskedFile(self.train, self.root, task=self.task),)


@dataclass(frozen=True)
class SuffixConfig:
    """The loss of the suffix."""

    # share that goes to all other words, each eps / (V - 1)
    label_smoothing: Annotated[float, Range(0, 0.99, "0 is off")] = 0.0
    dropout: Annotated[float, Range(0, 0.99, "0 is off")] = 0.0  # of what attention and MLP add to the residual


@dataclass(frozen=True)
class TransferOptim:
    """Adam as big_vision's transfers have it."""

    lr: Annotated[float, Range(1e-12, 1)] = 1e-5  # at the end of the warm-up
    projector_lr: Annotated[float, Range(0, 1, "0 is lr")] = 0.0  # of projectors
    # absolute, as big_vision's: weights lose this share a step, times the schedule; AdamW's is this over lr
    weight_decay: Annotated[float, Range(0, 1)] = 0.0
    # whose: big_vision's `kernel`, which of PaliGemma matches the projector alone; or all matrices
    decay: Literal["projector", "matrices"] = "projector"
    warmup: Annotated[float, Range(0, 1)] = 0.05  # share of the steps over which the rate rises evenly
    b2: Annotated[float, Range(0, 0.999999)] = 0.999  # of Adam's second moment
    clip_norm: Annotated[float, Range(0, 1e6, "0 is off")] = 1.0  # longest gradient that is taken as it is


@dataclass(frozen=True)
class DecodeConfig:
    """How answers are made."""

    beams: Annotated[int, Range(1, 64, "1 is greedy")] = 1  # of the beam search
    max_new_tokens: Annotated[int, Range(1, 8192)] = 32  # of an answer
    batch_size: Annotated[int, Range(1, 4096)] = 16  # questions answered at once


@dataclass(frozen=True)
class TransferRun:
    """How long, how large, on what, and what is written when."""

    out: Annotated[str, Names.FILE] = "out"  # the run's folder
    epochs: Annotated[float, Range(0, 1e6)] = 1.0  # of the examples, where run.steps is 0
    steps: Annotated[int, Range(0, 10**9, "0 goes by epochs")] = 0  # of the optimiser
    batch_size: Annotated[int, Range(1, 10**6)] = 256  # examples a step, of all processes together
    # examples a process takes at once; the rest of its part is accumulated
    micro_batch: Annotated[int, Range(0, 10**6, "0 takes all at once")] = 0
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0  # of new weights, order, suffixes and dropout
    device: str = "auto"  # the best there is; or cpu, cuda, cuda:1, mps
    parallel: Literal["ddp", "fsdp"] = "ddp"  # every process has the whole model, or a shard (FSDP2)
    mixed_precision: Literal["no", "bf16"] = "no"  # autocast of the step
    gradient_checkpointing: bool = False  # of the language model: less memory, a third slower
    tf32: bool = True  # float32 products by TF32, on CUDA cards that have it
    threads: Annotated[int, Range(0, 1024, "0 leaves torch's own choice")] = 0  # of the CPU
    log_every: Often = 50  # steps between two lines of the log
    wandb: str = ""  # a Weights & Biases project to log to as well
    look_every: Annotated[int, Range(0, 10**9, "0 never looks")] = 500  # steps between two looks at the validation file
    look_examples: Annotated[int, Range(1, 10**6)] = 100  # of them, the first so many
    save_every: Often = 1000  # steps between two checkpoints
    keep: Annotated[int, Range(1, 10**6)] = 2  # newest checkpoints kept


@dataclass(frozen=True)
class TransferConfig:
    """A transfer: which model, what it sees, what it is asked, by which loss, how, and for how long."""

    model: SeeingConfig = field(default_factory=SeeingConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    data: AskingConfig = field(default_factory=AskingConfig)
    objective: SuffixConfig = field(default_factory=SuffixConfig)
    optim: TransferOptim = field(default_factory=TransferOptim)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    run: TransferRun = field(default_factory=TransferRun)

    def check(self) -> None:
        """Raise InputError for values out of their range, or that cannot work together; nothing is loaded."""
        check(self)
        if self.run.device != "auto":
            parse_device(self.run.device, "config: run.device")
        for name in filter(None, [self.data.task, *(one.task for one in self.data.files)]):
            with said_as("task: ", "config: data.task: "):
                find_task(name)
        for problem in self._problems():
            raise InputError(f"config: {problem}")

    def _problems(self) -> list[str]:
        model, run, problems = self.model, self.run, []
        if not model.base:
            problems.append("model.base is missing; name PaliGemma or a causal language model, folder or hub id")
        if self.data.train and self.data.mixture:
            problems.append("data.train and data.mixture are both given; keep one of them")
        if not all(one.path for one in self.data.files):
            problems.append("data.train is missing; name a file of JSON lines with image, prefix and suffix")
        if not run.out:
            problems.append("run.out is empty; name a folder")
        if not (run.steps or run.epochs):
            problems.append("run.steps and run.epochs are both 0; give one of them")
        if model.scratch and model.train != "lm":
            problems.append(f'model.scratch: random weights never learn with model.train = "{model.train}"; use "lm"')
        if model.train == "lora" and run.parallel == "fsdp":
            problems.append('run.parallel: lora needs run.parallel = "ddp"')
        return problems
