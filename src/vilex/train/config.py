"""A training run's configuration: one TOML file, one frozen dataclass a section, each number with its range."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from vilex.data.config import DataConfig
from vilex.device import parse_device
from vilex.errors import InputError
from vilex.settings import DefaultFloat, DefaultInt, Names, Range, check

MOST_TOKENS = 75  # fit between [BOS] and [EOS] in CLIP's 77 positions

Rate = Annotated[float, Range(0, 1, "0 freezes the part")]
Often = Annotated[int, Range(1, 10**9)]


@dataclass(frozen=True)
class ModelConfig:
    """What trains, on what."""

    base: Annotated[str, Names.MODEL] = ""  # the frozen text-to-image model: nano, folder or hub id
    tower: Annotated[str, Names.MODEL] = ""  # a pre-trained vision model: folder, hub id or open_clip:NAME/WEIGHTS
    encoder: Annotated[str, Names.MODEL] = ""  # start from this ViLex encoder instead of a bare tower
    # how images speak to the frozen model: as ViLex, or by a baseline trained in the same way
    method: Literal["vilex", "de-diffusion", "ip-adapter"] = "vilex"
    # of de-diffusion: a text file of the words it may choose, a word or phrase a line; empty is the whole vocabulary
    words: Annotated[str, Names.FILE] = ""
    # The pooler's five may be left out beside `encoder`, whose pooler goes on.

    # tokens of an image; beside `encoder` they may be fewer than its own
    num_tokens: Annotated[int, Range(1, MOST_TOKENS)] = DefaultInt(75)
    blocks: Annotated[int, Range(1, 64)] = DefaultInt(5)  # transformer blocks of the pooler
    heads: Annotated[int, Range(1, 256)] = DefaultInt(8)  # of its attention; they divide its width
    mlp_ratio: Annotated[float, Range(0.25, 64)] = DefaultFloat(4.0)  # hidden width of its MLPs over its own
    # of the pooler's blocks; 0 would be too wide where text encoders are several
    pooler_width: Annotated[int, Range(0, 65536, "0 is as wide as tokens")] = DefaultInt(0)
    frozen_dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # precision of the frozen model
    # how the frozen denoiser's and text encoders' matrices are kept: as they are, or in 8 bits, or (on CUDA cards) in 4
    quantize: Literal["", "int8", "nf4"] = ""


@dataclass(frozen=True)
class ObjectiveConfig:
    """The denoising loss and what is drawn at random around it."""

    tail_drop: Literal["uniform", "square", "log", "off"] = "uniform"  # law of the number of kept tokens
    # of images trained as [v, c]; the others as v alone
    caption_share: Annotated[float, Range(0, 1)] = 0.5
    # images with a caption keep at most 75 - this many tokens
    caption_tokens: Annotated[int, Range(0, MOST_TOKENS - 1)] = 32
    # so large a share of the noise levels, the faintest, is left out: they teach tokens little
    noise_from: Annotated[float, Range(0, 0.99, "0 trains on all levels")] = 0.0
    # 5: min-SNR weighting (arXiv 2303.09556)
    min_snr_gamma: Annotated[float, Range(0, 1000, "0 is the plain loss")] = 0.0


@dataclass(frozen=True)
class OptimConfig:
    """The paper's recipe by default."""

    name: Literal["adafactor", "adamw", "muon"] = "adafactor"  # the optimiser; muon is of linear layers alone
    tower_lr: Rate = 1e-5  # the tower's learning rate at the end of the warm-up
    pooler_lr: Rate = 3e-4  # the pooler's
    # steps in which the pooler learns alone, before both learn
    tower_frozen_steps: Annotated[int, Range(0, 10**9, "0 trains both from the first step")] = 0
    weight_decay: Annotated[float, Range(0, 1)] = 0.01  # of both parts, times the rate
    # over which the rates rise evenly, before they fall by a cosine; no longer than the run
    warmup_steps: Annotated[int, Range(0, 10**9)] = 10_000
    clip_norm: Annotated[float, Range(0, 1e6, "0 is off")] = 1.0  # longest gradient that is taken as it is
    ema_decay: Annotated[float, Range(0, 0.9999999, "0 keeps no average")] = 0.9999  # of the weights' average


@dataclass(frozen=True)
class RunConfig:
    """How long, how large, on what, and what is written when."""

    out: Annotated[str, Names.FILE] = "out"  # the run's folder
    steps: Annotated[int, Range(1, 10**9)] = 300_000  # of the optimiser
    # images a step, of all processes together: the recipe's, whatever the hardware
    batch_size: Annotated[int, Range(1, 10**6)] = 2048
    # images a process takes at once; the rest of its part is accumulated
    micro_batch: Annotated[int, Range(0, 10**6, "0 takes all at once")] = 0
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0  # of the pooler's first weights, and of all that is drawn at random
    device: str = "auto"  # the best there is; or cpu, cuda, cuda:1, mps
    parallel: Literal["ddp", "fsdp"] = "ddp"  # every process has the whole encoder, or a shard (FSDP2)
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"  # autocast of the step; fp16 on a GPU only
    gradient_checkpointing: bool = False  # of the frozen denoiser and the tower: less memory, a third slower
    compile: bool = False  # the frozen denoiser and the encoder, by torch.compile
    tf32: bool = True  # float32 products by TF32, on CUDA cards that have it
    threads: Annotated[int, Range(0, 1024, "0 leaves torch's own choice")] = 0  # of the CPU
    log_every: Often = 50  # steps between two lines of the log
    wandb: str = ""  # a Weights & Biases project to log to as well
    sample_every: Annotated[int, Range(0, 10**9, "0 draws no samples")] = 1000  # steps between two grids and scores
    sample_images: Annotated[int, Range(1, 1024)] = 6  # pictures of each
    save_every: Often = 1000  # steps between two checkpoints
    keep: Annotated[int, Range(1, 10**6)] = 2  # newest checkpoints kept


@dataclass(frozen=True)
class TrainConfig:
    """A training run: what trains, on which pictures, by which loss, how, and for how long."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def check(self) -> None:
        """Raise InputError for values out of their range, or that cannot work together; nothing is loaded."""
        check(self)
        if self.run.device != "auto":
            parse_device(self.run.device, "config: run.device")
        for problem in (*self._missing(), *self._contradictions()):
            raise InputError(f"config: {problem}")

    def _missing(self) -> list[str]:
        model, data, problems = self.model, self.data, []
        if not model.base:
            problems.append("model.base is missing; name the frozen model's folder or hub id")
        if not (model.tower or model.encoder):
            problems.append("model.tower is missing; name a vision model's folder or hub id")
        if data.path and data.sources:
            problems.append("data.path and data.sources are both given; keep one of them")
        if not all(source.path for source in data.all_sources):
            problems.append("data.path is missing; name a folder of images, tables or shards")
        if not self.run.out:
            problems.append("run.out is empty; name a folder")
        return problems

    def _contradictions(self) -> list[str]:
        model, optim, run, problems = self.model, self.optim, self.run, []
        width = model.pooler_width
        if width % model.heads:
            problems.append(
                f"model.heads: {model.heads} do not divide model.pooler_width = {width}; change one of them"
            )
        if optim.warmup_steps > run.steps:
            problems.append(
                f"optim.warmup_steps: {optim.warmup_steps} is more than run.steps = {run.steps}; "
                f"set it lower, say {run.steps // 30}"
            )
        problems += self._wrong_stages()
        if not (optim.tower_lr or optim.pooler_lr):
            problems.append("optim.tower_lr and optim.pooler_lr are both 0, so nothing trains; raise one of them")
        if run.parallel == "fsdp" and optim.name != "adamw":
            problems.append(f'run.parallel: fsdp needs optim.name = "adamw"; {optim.name} takes no shards')
        if run.parallel == "fsdp" and len(self.data.sizes) > 1:
            problems.append("run.parallel: fsdp takes one size of data.sizes: processes would have other micro-batches")
        if run.parallel == "fsdp" and run.mixed_precision == "fp16":
            problems.append("run.parallel: fsdp needs run.mixed_precision bf16 or no: fp16 scales losses by process")
        if run.parallel == "fsdp" and model.method != "vilex":
            problems.append(f'run.parallel: {model.method} needs run.parallel = "ddp"')
        if model.words and model.method != "de-diffusion":
            problems.append(f'model.words: are of model.method = "de-diffusion", not of {model.method}; leave them out')
        if model.method == "ip-adapter" and self.objective.tail_drop != "off":
            problems.append('model.method: ip-adapter needs objective.tail_drop = "off"; its tokens have no order')
        return problems

    def _wrong_stages(self) -> list[str]:
        """What is wrong with a run in two stages."""
        optim, alone, steps = self.optim, self.optim.tower_frozen_steps, self.run.steps
        if not alone:
            return []
        named = f"optim.tower_frozen_steps: {alone}"
        if alone >= steps:
            return [f"{named} leaves the tower none of run.steps = {steps}; to freeze it throughout, set tower_lr = 0"]
        if not (optim.tower_lr and optim.pooler_lr):
            still = "tower" if optim.pooler_lr else "pooler"
            return [f"{named}, but optim.{still}_lr is 0; raise it, or leave the stages out"]
        if optim.warmup_steps > steps - alone:
            return [
                f"optim.warmup_steps: {optim.warmup_steps} is more than the {steps - alone} steps after "
                f"optim.tower_frozen_steps = {alone}, in which the tower warms up, too; set it lower"
            ]
        return []
