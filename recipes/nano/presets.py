"""A preset: every number of every stage, from one TOML file (`cpu.toml`, `gpu.toml`)."""

from dataclasses import dataclass, field

from vilex.train.config import TrainConfig


@dataclass(frozen=True)
class DataPreset:
    focus_concepts: int = 212  # about 1,100 drawings; each wants 500 showings and more before it has a shape
    focus_scenes: int = 150_000
    broad_scenes: int = 0  # of all named concepts, where fewer are drilled: grounds, places, colours
    other_scenes: int = 30_000  # of all other concepts, without a name: what colours can look like
    held_out_scenes: int = 400
    photos: int = 0  # of Tiny-ImageNet among the scenes; its licence is research only
    held_out_photos: int = 0
    tower_photos: int = 40_000  # of Tiny-ImageNet, and all of Flickr8k's 500, for the tower's eyes alone


@dataclass(frozen=True)
class AutoencoderPreset:
    channels: tuple[int, ...] = (24, 48, 96, 192)  # from 64 pixels a side down to 8
    layers: int = 1
    latent_channels: int = 16
    images: int = 36_000
    batch: int = 8
    lr: float = 1e-3
    optimizer: str = "muon"  # for matrices, and AdamW for the rest; or adamw for all
    linear_share: float = 0.1  # of the steps spent on the closed-form code
    shake: float = 0.08  # the strongest noise on codes before they are decoded; their variance is one
    equivariance_share: float = 0.0  # of the batches, mirrored and made smaller (EQ-VAE)
    whitened_images: int = 12_000  # more for the decoder, once the code has variance one


@dataclass(frozen=True)
class WordsPreset:
    images: int = 200_000  # what is said of them, that is: no picture is drawn
    batch: int = 16
    lr: float = 2e-3
    warmup: int = 60
    optimizer: str = "muon"  # for matrices, and AdamW for the rest; or adamw for all
    memory: float = 0.05  # weight of the words that came before
    foresight: float = 1.0  # weight of what the picture's cells look like


@dataclass(frozen=True)
class TextToImagePreset:
    text_width: int = 192
    text_layers: int = 3
    unet_channels: tuple[int, ...] = (128, 192)
    time_scale_shift: str = "default"  # noise level and pooled text are added to a layer; or `scale_shift` it
    raster_images: int = 24_000  # first, whole mosaics under strong noise: which word belongs where
    images: int = 1_200_000  # in all
    text_images: int = 600_000  # of them, in which the text encoder trains; then it rests, a quarter of the cost
    batch: int = 32  # three times 96's steps are worth far more than its half higher speed
    lr: float = 1e-3
    warmup: int = 200
    optimizer: str = "muon"  # for matrices, and AdamW for the rest; or adamw for all
    empty_share: float = 0.1  # of captions dropped, for classifier-free guidance
    mosaic_share: float = 0.2  # of captions that begin with a mosaic
    dense_share: float = 0.4  # of the other captions that leave out nothing; of the rest, two in five are names
    told_share: float = 0.5  # of mosaics whose first words give way to a dense caption, in one vector and in three
    blend_share: float = 0.2  # of the others said in a few vectors, each the sum of neighbouring words
    min_snr_gamma: float = 0.0  # 5: min-SNR weighting; 0: none
    immiscible: bool = False  # noise is matched to pictures within a batch
    contrastive: float = 0.0  # weight of the distance to other pictures' targets (contrastive flow matching)
    alignment: float = 0.0  # weight of an inner layer's likeness to the teacher's features (REPA)


@dataclass(frozen=True)
class TowerPreset:
    width: int = 192
    layers: int = 6
    patch: int = 8
    seen: int = 40_000  # of each table, evenly spaced, that the teacher looks at: 40 a second and core; 0: all
    images: int = 200_000
    batch: int = 64
    lr: float = 1e-3
    optimizer: str = "adamw"  # or muon, for matrices, and AdamW for the rest


@dataclass(frozen=True)
class PoolerPreset:
    images: int = 80_000  # 0 leaves the head start out; it is after 25,000 that places fall into place
    go_on: bool = False  # with the encoder of `start`, instead of anew on the tower before ViLex
    batch: int = 48
    lr: float = 1e-3
    optimizer: str = "muon"  # for matrices, and AdamW for the rest; or adamw for all


@dataclass(frozen=True)
class BaselinesPreset:
    steps: int = 1200  # of each, ViLex itself among them: the same pictures, frozen model and head start
    short: int = 150  # steps of each variant of the ablations; 0 leaves them out


@dataclass(frozen=True)
class JudgePreset:
    scenes: int = 40_000
    images: int = 400_000
    batch: int = 128
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
    cfg: float = 3.0  # of all tables but that of the names: what tokens are closest with
    names_cfg: float = 5.0  # a bare name says less than tokens do, and wants more
    batch: int = 40


@dataclass(frozen=True)
class TowersPreset:
    control_images: int = 0  # of the control; 0: as many as head start and ViLex showed
    labelled_images: int = 250_000  # of the tower that learns from names
    vilex_steps: int = 3_000  # of each short ViLex run: a quarter of the main one
    zoomed_scenes: int = 8_000  # five pictures each, for the run that sees quarters, too


@dataclass(frozen=True)
class UnderstandingPreset:
    scenes: int = 12_000  # of training; validation and test are of held-out drawings
    clips: int = 2_000
    tested_scenes: int = 1_000  # of validation, and of test
    tested_clips: int = 300
    width: int = 192  # of the language model: two million parameters
    layers: int = 4
    heads: int = 4
    hidden: int = 512  # of its MLP, gated
    least: int = 2  # times that a word must occur to be one
    epochs: float = 2.0  # over pictures, each with all its questions
    batch: int = 32  # pictures
    rates: tuple[float, ...] = (7e-4, 1.4e-3)  # tried for every row alike, by the first seed
    seeds: int = 3
    tables: tuple[str, ...] = ("3", "4", "5", "A1", "A2", "A3", "4Z")  # in this order
    redrawn: int = 64  # pictures of the reconstruction distance; 0 leaves it out
    resamples: int = 2_000  # of each interval


@dataclass(frozen=True)
class Preset:
    version: str = "3"  # of the model that this recipe makes; tables and `vilex info` name it
    device: str = "cpu"
    threads: int = 2
    niceness: int = 0  # 10 leaves other work its right of way
    precision: str = "auto"  # of matrix products: bf16, fp32, or whichever this machine does faster
    save_minutes: float = 3.0  # between two states of a stage
    seed: int = 0
    compile: bool = False  # of U-Net and text encoder: a sixth faster in bfloat16, no faster with AVX2 alone
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
    towers: TowersPreset = field(default_factory=TowersPreset)
    understanding: UnderstandingPreset = field(default_factory=UnderstandingPreset)

    @property
    def crew(self) -> int:
        """Threads that share a training step (`crew.py`); what is compiled, or runs on a GPU, is not shared."""
        return self.threads if self.device == "cpu" and not self.compile else 1
