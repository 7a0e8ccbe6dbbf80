"""A training run's configuration: one TOML file, one frozen dataclass a section."""

from dataclasses import dataclass, field
from typing import Literal

from vilex.data.config import DataConfig
from vilex.errors import InputError


@dataclass(frozen=True)
class ModelConfig:
    """What trains, on what."""

    base: str = ""  # the frozen text-to-image model: folder or hub id
    tower: str = ""  # a pre-trained vision model: folder, hub id or open_clip:NAME/WEIGHTS
    encoder: str = ""  # start from this ViLex encoder instead of a bare tower
    # how images speak to the frozen model: as ViLex, or by a baseline trained in the same way
    method: Literal["vilex", "de-diffusion", "ip-adapter"] = "vilex"
    num_tokens: int = 75
    blocks: int = 5
    heads: int = 8
    mlp_ratio: float = 4.0
    pooler_width: int = 0  # of the pooler's blocks; as wide as tokens if 0, too wide where text encoders are several
    frozen_dtype: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True)
class ObjectiveConfig:
    """The denoising loss and what is drawn at random around it."""

    tail_drop: Literal["uniform", "square", "log", "off"] = "uniform"  # law of the number of kept tokens
    caption_share: float = 0.5  # of images trained as [v, c]; the others as v alone
    caption_tokens: int = 32  # images with a caption keep at most 75 - this many tokens
    noise_from: float = 0.0  # so large a share of the noise levels, the faintest, is left out: they teach tokens little
    min_snr_gamma: float = 0.0  # 0: the plain loss; 5: min-SNR weighting (arXiv 2303.09556)


@dataclass(frozen=True)
class OptimConfig:
    """The paper's recipe by default."""

    name: Literal["adafactor", "adamw"] = "adafactor"
    tower_lr: float = 1e-5
    pooler_lr: float = 3e-4
    weight_decay: float = 0.01
    warmup_steps: int = 10_000
    clip_norm: float = 1.0
    ema_decay: float = 0.9999  # 0 keeps no average


@dataclass(frozen=True)
class RunConfig:
    """How long, how large, on what, and what is written when."""

    out: str = "out"
    steps: int = 300_000
    batch_size: int = 32  # images a step, of all processes together: the recipe's, whatever the hardware
    micro_batch: int = 0  # images a process takes at once; the rest of its part is accumulated. 0: all
    seed: int = 0
    device: str = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"  # every process has the whole encoder, or a shard (FSDP2)
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False  # of the frozen denoiser and the tower: less memory, a third slower
    compile: bool = False  # the frozen denoiser and the encoder, by torch.compile
    tf32: bool = True
    threads: int = 0  # CPU threads; 0 leaves torch's own choice
    log_every: int = 50
    wandb: str = ""  # a Weights & Biases project to log to as well
    sample_every: int = 1000
    sample_images: int = 6
    save_every: int = 1000
    keep: int = 2  # newest checkpoints kept


@dataclass(frozen=True)
class TrainConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def check(self) -> None:
        """Raise InputError for values that cannot work together."""
        if not self.model.base:
            raise InputError("config: model.base is missing; name the frozen model's folder or hub id")
        if not (self.model.tower or self.model.encoder):
            raise InputError("config: model.tower is missing; name a vision model's folder or hub id")
        if self.data.path and self.data.sources:
            raise InputError("config: data.path and data.sources are both given; keep one of them")
        if not all(source.path for source in self.data.all_sources):
            raise InputError("config: data.path is missing; name a folder of images, tables or shards")
        if not all(source.weight > 0 for source in self.data.all_sources):
            raise InputError("config: data.sources: expected weights over 0; leave out a source that is not wanted")
        for name, value in (("run.steps", self.run.steps), ("run.batch_size", self.run.batch_size)):
            if value < 1:
                raise InputError(f"config: {name}: expected at least 1, got {value}")
        if self.run.parallel == "fsdp" and self.optim.name == "adafactor":
            raise InputError('config: run.parallel: fsdp needs optim.name = "adamw"; Adafactor takes no shards')
        if self.model.method == "ip-adapter" and self.objective.tail_drop != "off":
            raise InputError(
                'config: model.method: ip-adapter needs objective.tail_drop = "off"; its tokens have no order'
            )
        if self.run.parallel == "fsdp" and self.model.method != "vilex":
            raise InputError(f'config: run.parallel: {self.model.method} needs run.parallel = "ddp"')
        if not 0 <= self.objective.noise_from < 1:
            raise InputError(f"config: objective.noise_from: expected 0 to under 1, got {self.objective.noise_from}")
        if not 0 <= self.objective.caption_share <= 1:
            raise InputError(f"config: objective.caption_share: expected 0 to 1, got {self.objective.caption_share}")
