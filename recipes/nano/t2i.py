"""Stage 4, the text-to-image model: a CLIP text encoder and a U-Net over latents, v-prediction.

A U-Net knows where it is only from its zero padding, and a caption's 77 positions are strangers to it. So
training starts with what teaches nothing but places: whole mosaics under strong noise.

Saved as a diffusers StableDiffusionPipeline folder, so that whatever reads Stable Diffusion reads it.
"""

import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow.parquet
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from recipes.nano.autoencoder import PATCH, encode_all
from recipes.nano.data import read_pixels
from recipes.nano.loop import Trainer
from recipes.nano.mosaic import LEVEL_ENDS
from recipes.nano.precision import choose_precision
from recipes.nano.presets import Preset, TextToImagePreset
from recipes.nano.scenes import SIZE
from recipes.nano.speech import CaptionBank, Said, read
from recipes.nano.start import started
from recipes.nano.terms import SCHEDULE, Terms
from vilex.hub.folder import file_hash
from vilex.paths import replacing_folder
from vilex.pictures.grid import grid
from vilex.t2i.attention import use_plain_attention

RASTER_NOISE = 0.6  # of the noise levels are left out while words learn their places
PROBES = (
    "a cat",
    "a dog in the snow, in flat style",
    "a big red heart on a white background",
    "a rocket at night",
    "a strawberry to the left of a banana on a teal background",
    "a skull in mono style",
    "a house on the grass in 3d style",
    "a frog on a pink to blue gradient, in outline style",
)


def train_t2i(preset: Preset, out: Path) -> None:
    """Train text encoder and U-Net on the scenes' latents; save `out`/t2i.

    Sample grids of `PROBES` and of held-out mosaics go to `out`/logs, at fixed shares of the run.
    """
    settings = preset.t2i
    torch.manual_seed(preset.seed)
    table = out / "scenes.parquet"
    vae = AutoencoderKL.from_pretrained(out / "vae")
    begun = started(out)
    if begun is None:
        words = CLIPTextModel.from_pretrained(out / "words"), CLIPTokenizer.from_pretrained(out / "words")
        pipeline = new_pipeline(vae, *words, settings)
    else:
        pipeline = StableDiffusionPipeline.from_pretrained(
            begun / "t2i", vae=vae, dtype=torch.float32, safety_checker=None
        )
    pipeline.to(preset.device)
    unet, text_encoder, tokenizer = pipeline.unet, pipeline.text_encoder, pipeline.tokenizer
    use_plain_attention(unet, text_encoder)
    unet.to(memory_format=torch.channels_last)
    latents = latents_of(vae, table, preset.device, out)
    captions = CaptionBank(table, tokenizer, settings)
    torch.manual_seed(preset.seed + 1)
    if preset.compile:
        unet.compile(), text_encoder.encoder.compile()
    table_of_words = text_encoder.get_input_embeddings().weight  # rare ones would be shaken by full steps
    terms = Terms(unet, settings, out, preset.device)
    trained = nn.ModuleDict({"text_encoder": text_encoder, "unet": unet, "terms": terms})
    text_encoder.train(), unet.train()
    trainer = Trainer(
        "t2i",
        trained,
        settings,
        preset,
        out,
        warmup=settings.warmup,
        slow=table_of_words,
        seed=preset.seed,
        crew=preset.crew,
    )
    for step in trainer:
        images = step.number * settings.batch
        places = begun is None and images < settings.raster_images
        text_encoder.requires_grad_(images < settings.text_images)
        index, generator = step.rows(len(latents)), step.generator
        x0 = latents[index].float().to(preset.device, memory_format=torch.channels_last)
        noise = terms.noise(x0, generator)
        t = terms.levels(len(x0), generator, lowest=RASTER_NOISE if places else 0.0)
        said = captions.draw(index, step.rng, whole_mosaics=places)
        batch = Batch(x0, terms.schedule.add_noise(x0, noise, t), noise, t, said, index)
        trainer.learn(partial(losses_of, batch=batch, autocast=trainer.autocast))
        if trainer.looks:
            with trainer.averaged(), torch.compiler.set_stance("force_eager"):
                save_probes(pipeline, out / "logs" / f"t2i-{trainer.done:06d}.png")
                save_mosaics(pipeline, out / "held-out.parquet", out / "logs" / f"mosaic-{trainer.done:06d}.png")
    trainer.use_average()
    with replacing_folder(out / "t2i") as folder:
        pipeline.save_pretrained(folder, safe_serialization=True)
    with torch.compiler.set_stance("force_eager"):
        save_probes(pipeline, out / "logs" / "t2i.png")
        save_mosaics(pipeline, out / "held-out.parquet", out / "logs" / "mosaic.png")


@dataclass(frozen=True)
class Batch:
    """Latents, noisy latents and noise [B, c, 8, 8], timesteps [B], what is said, and rows of the table [B]."""

    x0: Tensor
    noisy: Tensor
    noise: Tensor
    t: Tensor
    said: Said
    index: Tensor


def losses_of(
    model: nn.Module, rows: slice, batch: Batch, autocast: Callable[[], AbstractContextManager[None]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean loss on some rows of a batch, and its parts for the log."""
    t = batch.t[rows]
    with autocast():
        states = read(model["text_encoder"], batch.said[rows], str(t.device))
        v = model["unet"](batch.noisy[rows], t, states, return_dict=False)[0]
        return model["terms"].loss(v.float(), batch.x0[rows], batch.noise[rows], t, batch.index[rows])


def latents_of(vae: AutoencoderKL, table: Path, device: str, out: Path) -> Tensor:
    """The table's latents, [N, c, 8, 8] in half precision, made once for each auto-encoder and table."""
    path = (
        out
        / "state"
        / f"latents-{table.stem}-{file_hash(out / 'vae' / 'diffusion_pytorch_model.safetensors')[:12]}.safetensors"
    )
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {"latents": encode_all(vae, read_pixels(table), device, choose_precision(device)).contiguous()},
            path.with_suffix(".tmp"),
        )
        os.replace(path.with_suffix(".tmp"), path)
    return load_file(path)["latents"]


def new_unet(settings: TextToImagePreset, width: int, channels: int, size: int) -> UNet2DConditionModel:
    """Random, over [B, channels, size, size] latents and states [B, 77, width]."""
    depth = len(settings.unet_channels)
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=settings.unet_channels,
        down_block_types=("CrossAttnDownBlock2D",) * depth,
        up_block_types=("CrossAttnUpBlock2D",) * depth,
        layers_per_block=1,
        cross_attention_dim=width,
        attention_head_dim=4,  # diffusers' historical name: the number of heads
        norm_num_groups=16,
        resnet_time_scale_shift=settings.time_scale_shift,
        addition_embed_type="text",  # pooled text joins the time embedding, as in the paper's Imagen
        addition_embed_type_num_heads=4,
    )


def new_pipeline(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, settings: TextToImagePreset
) -> StableDiffusionPipeline:
    """With a random U-Net."""
    unet = new_unet(settings, text_encoder.config.hidden_size, vae.config.latent_channels, SIZE // PATCH)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE, timestep_spacing="trailing", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_probes(pipeline: StableDiffusionPipeline, path: Path, columns: int = 4) -> None:
    """A row of samples for each probe prompt."""
    pipeline.set_progress_bar_config(disable=True)
    prompts = [prompt for prompt in PROBES for _ in range(columns)]
    generators = [torch.Generator().manual_seed(i % columns) for i in range(len(prompts))]
    images = pipeline(prompts, num_inference_steps=15, guidance_scale=3.0, generator=generators).images
    grid([images[i : i + columns] for i in range(0, len(images), columns)], labels=list(PROBES)).save(path)


def save_mosaics(pipeline: StableDiffusionPipeline, table: Path, path: Path, rows: int = 8) -> None:
    """Held-out pictures beside what their mosaics give, said up to the end of each level."""
    columns = pyarrow.parquet.read_table(table, columns=["image", "mosaic"]).slice(0, rows).to_pydict()
    sources = [Image.open(io.BytesIO(content)).convert("RGB") for content in columns["image"]]
    prompts = [" ".join(mosaic.split()[:end]) for mosaic in columns["mosaic"] for end in LEVEL_ENDS]
    generators = [torch.Generator().manual_seed(0) for _ in prompts]
    images = pipeline(prompts, num_inference_steps=15, guidance_scale=2.0, generator=generators).images
    each = len(LEVEL_ENDS)
    shown = [[source, *images[i * each : (i + 1) * each]] for i, source in enumerate(sources)]
    grid(shown, ["source", *(f"{end} words" for end in LEVEL_ENDS)]).save(path)
