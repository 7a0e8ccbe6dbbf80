"""A preset: every number of every stage, from one TOML file (`cpu.toml`, `gpu.toml`)."""

from dataclasses import dataclass, field

from vilex.train.config import TrainConfig


@dataclass(frozen=True)
class DataPreset:
    focus_concepts: int = 16  # about 80 drawings; each wants 500 showings and more before it has a shape
    focus_scenes: int = 30_000
    broad_scenes: int = 12_000  # of 110 concepts: grounds, places, colours
    other_scenes: int = 18_000  # of all other concepts, without a name: what colours can look like
    held_out_scenes: int = 400
    photos: int = 0  # of Tiny-ImageNet as well; its licence is research only
    held_out_photos: int = 0


@dataclass(frozen=True)
class AutoencoderPreset:
    channels: int = 32
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 2, 1)
    latent_channels: int = 16
    images: int = 44_000
    batch: int = 8
    lr: float = 2e-3
    linear_share: float = 0.35  # of the steps spent on the closed-form code
    whitened_images: int = 9_000  # more for the decoder, once the code has variance one


@dataclass(frozen=True)
class WordsPreset:
    captions: int = 16_000
    batch: int = 64
    lr: float = 1e-3


@dataclass(frozen=True)
class TextToImagePreset:
    text_width: int = 192
    text_layers: int = 3
    unet_channels: tuple[int, ...] = (128, 192)
    raster_images: int = 24_000  # first, whole mosaics under strong noise: which word belongs where
    images: int = 146_000
    batch: int = 32
    lr: float = 1e-3
    warmup: int = 200
    text_share: float = 0.5  # of the steps in which the text encoder trains; then it rests, a third of the cost
    empty_share: float = 0.1  # of captions dropped, for classifier-free guidance
    mosaic_share: float = 0.45  # of captions that begin with a mosaic


@dataclass(frozen=True)
class TowerPreset:
    width: int = 192
    layers: int = 6
    patch: int = 8
    images: int = 16_000
    batch: int = 48
    lr: float = 1e-3


@dataclass(frozen=True)
class PoolerPreset:
    images: int = 80_000  # 0 leaves the head start out; it is after 25,000 that places fall into place
    batch: int = 48
    lr: float = 1e-3


@dataclass(frozen=True)
class BaselinesPreset:
    steps: int = 1200  # of each, ViLex itself among them: the same pictures, frozen model and head start
    short: int = 150  # steps of each variant of the ablations


@dataclass(frozen=True)
class JudgePreset:
    scenes: int = 20_000
    images: int = 80_000
    batch: int = 64
    lr: float = 2e-3


@dataclass(frozen=True)
class ReportPreset:
    images: int = 160  # of each set
    measures: tuple[str, ...] = ("distance", "kid", "rank", "error", "psnr", "is")
    subjects: int = 6  # of the subject protocol
    inversion_steps: int = 300
    dreambooth_steps: int = 200
    probed: int = 4000  # training pictures of the linear probes
    ablated: int = 64  # pictures that each ablation draws again
    seeds: int = 3
    steps: int = 16
    cfg: float = 2.0
    batch: int = 40


@dataclass(frozen=True)
class Preset:
    device: str = "cpu"
    threads: int = 2
    seed: int = 0
    compile: bool = False  # of the U-Net; on two cores compiling costs more than it saves
    data: DataPreset = field(default_factory=DataPreset)
    autoencoder: AutoencoderPreset = field(default_factory=AutoencoderPreset)
    words: WordsPreset = field(default_factory=WordsPreset)
    t2i: TextToImagePreset = field(default_factory=TextToImagePreset)
    tower: TowerPreset = field(default_factory=TowerPreset)
    pooler: PoolerPreset = field(default_factory=PoolerPreset)
    vilex: TrainConfig = field(default_factory=TrainConfig)  # as `vilex train` reads it; paths are filled in
    baselines: BaselinesPreset = field(default_factory=BaselinesPreset)
    judge: JudgePreset = field(default_factory=JudgePreset)
    report: ReportPreset = field(default_factory=ReportPreset)
