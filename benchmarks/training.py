"""A step of `vilex train` against its floor and against the usual loop; reading data against a step."""

import io
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.plain import PlainLoop
from benchmarks.syncs import counting_syncs
from vilex.composition import compose, inject
from vilex.data import Batch, make_loader, open_sources
from vilex.data.config import DataConfig
from vilex.encoder import EMBEDDED, ViLexEncoder
from vilex.prompt import Prompt, Slot
from vilex.t2i import Condition, load_t2i
from vilex.train.config import TrainConfig
from vilex.train.toml import build
from vilex.train.training import Training

NANO = EMBEDDED["nano"]
BATCH = 32
SEVERAL = 16  # batches in a row: more than the workers read ahead


def new_training(micro_batch: int = 0) -> Training:
    """`vilex train` on the embedded model, all tokens kept; micro_batch: images at a time, 0 for all."""
    folder = Path(tempfile.mkdtemp())
    (folder / "images").mkdir()
    Image.new("RGB", (64, 64)).save(folder / "images" / "one.png")
    config = build(
        TrainConfig,
        {
            "model": {"base": str(NANO / "t2i"), "encoder": str(NANO)},
            "data": {"path": str(folder / "images")},
            "objective": {"tail_drop": "off"},
            "optim": {"name": "adamw"},
            "run": {"out": str(folder / "out"), "device": "cpu", "batch_size": BATCH, "micro_batch": micro_batch},
        },
    )
    return Training(config)


def new_plain_loop() -> PlainLoop:
    return PlainLoop(load_t2i(NANO / "t2i"), ViLexEncoder.from_pretrained(NANO, dtype=torch.float32))


def random_images(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels for the auto-encoder, [BATCH, 3, 64, 64], and the tower's input of side `size`."""
    return torch.rand(BATCH, 3, 64, 64) * 2 - 1, torch.randn(BATCH, 3, size, size)


def our_step(training: Training):
    pixels, pixel_values = random_images(training.bare.config.image_size)

    def step():
        visits, weights = torch.arange(BATCH), torch.ones(BATCH)
        training.update(Batch(pixels.clone(), pixel_values.clone(), [""] * BATCH, visits, weights))

    return step


def plain_step(plain: PlainLoop):
    images = random_images(plain.encoder.config.image_size)
    return lambda: plain.step(*images)


def floor_pair():
    """A whole step, and the least that must be computed for it with the same shapes."""
    training = new_training()
    t2i, encoder = training.t2i, training.encoder
    _, pixel_values = random_images(training.bare.config.image_size)
    x_t, t = torch.randn(BATCH, *t2i.latent_shape), torch.randint(0, 1000, (BATCH,))
    layout = compose(Prompt((Slot("v", 75),)), t2i.frame)
    ids = layout.ids.expand(BATCH, -1)

    def floor():
        tokens = encoder(pixel_values).tokens
        embeddings = inject(t2i.embed(ids), [layout] * BATCH, [{"v": one} for one in tokens])
        t2i.predict(x_t, t, Condition(t2i.encoders[0](ids, embeddings)[0])).square().mean().backward()
        encoder.zero_grad()

    return our_step(training), floor


def plain_pair():
    """A whole step, and the same step written the usual way."""
    return our_step(new_training()), plain_step(new_plain_loop())


def loading_pair(workers: int = 2):
    """Sixteen batches of photograph-sized JPEGs with captions out of tar shards, by two workers with nothing beside
    them to do, and sixteen steps."""
    training = new_training()
    config = DataConfig(path=str(photo_shards(Path(tempfile.mkdtemp()), workers)), workers=workers)
    loader = make_loader(
        open_sources(config), config, batch_size=BATCH, seed=0, start=0, steps=10_000,
        image_size=training.t2i.image_size, preprocess=training.bare.preprocessing,
    )  # fmt: skip
    batches, step = iter(loader), our_step(training)

    def load():
        for _ in range(SEVERAL):
            next(batches)

    def train():
        for _ in range(SEVERAL):
            step()

    return load, train


def count_syncs() -> dict[str, float]:
    """How often a step of four micro-batches waits for the device; once is allowed."""
    step = our_step(new_training(micro_batch=BATCH // 4))
    step()
    with counting_syncs() as waits:
        step()
    return {"ours": waits.total(), "other": 1, "ratio": float(waits.total())}


def photo_shards(folder: Path, shards: int, images: int = 128) -> Path:
    """A folder of tar shards of smooth random 500 x 375 JPEGs, about 40 kB each as photographs of that size are."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for i in range(images):
                coarse = Image.fromarray(rng.integers(0, 256, (75, 100, 3), dtype=np.uint8))
                content = io.BytesIO()
                coarse.resize((500, 375), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
                for name, data in ((f"{i}.jpg", content.getvalue()), (f"{i}.txt", b"a photo")):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    return folder
