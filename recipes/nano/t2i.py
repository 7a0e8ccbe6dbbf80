"""Stage 3, the text-to-image model: a CLIP text encoder and a U-Net over latents, v-prediction.

A U-Net knows where it is only from its zero padding, and a caption's 77 positions are strangers to it. So
training starts with what teaches nothing but places: whole mosaics under strong noise.

Saved as a diffusers StableDiffusionPipeline folder, so that whatever reads Stable Diffusion reads it.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from recipes.nano.autoencoder import PATCH, encode_all
from recipes.nano.data import read_pixels
from recipes.nano.loop import Trainer, batches
from recipes.nano.mosaic import LENGTH, LEVEL_ENDS, place_vectors, word_parts, word_vectors
from recipes.nano.presets import Preset, TextToImagePreset
from recipes.nano.scenes import SIZE
from recipes.nano.tokenizer import POSITIONS, learn_tokenizer
from recipes.nano.words import train_words
from vilex.pictures.grid import grid

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
RASTER_NOISE = 0.6  # of the noise levels are left out while words learn their places
SAMPLES = 6  # times that training looks at its pictures
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

    Sample grids of `PROBES` go to `out`/logs, some on the way.
    """
    settings = preset.t2i
    torch.manual_seed(preset.seed)
    table = out / "scenes.parquet"
    vae = AutoencoderTiny.from_pretrained(out / "vae")
    tokenizer = learn_tokenizer(table)
    unet = new_unet(settings, vae.config.latent_channels, SIZE // PATCH)
    text_encoder = new_text_encoder(tokenizer, settings)
    train_words(text_encoder, tokenizer, preset, table, out)
    pipeline = assemble(vae, text_encoder, tokenizer, unet)
    pipeline.to(preset.device)
    unet.to(memory_format=torch.channels_last)
    latents = encode_all(vae, read_pixels(table), preset.device)
    captions = CaptionBank(table, tokenizer, settings, preset.seed)
    torch.manual_seed(preset.seed + 1)
    text_encoder.train(), unet.train()
    predict = torch.compile(unet) if preset.compile else unet
    noise_schedule = DDPMScheduler(**SCHEDULE)
    raster = settings.raster_images // settings.batch
    steps = raster + settings.images // settings.batch
    trained = nn.ModuleList([text_encoder, unet])
    words = text_encoder.get_input_embeddings().weight  # rare words would be shaken by full steps
    trainer = Trainer(trained, settings.lr, steps, out / "logs" / "t2i.jsonl", warmup=settings.warmup, slow=words)

    def save() -> None:
        pipeline.save_pretrained(out / "t2i", safe_serialization=True)
        save_probes(pipeline, out / "logs" / f"t2i-{trainer.step_count:06d}.png")
        save_mosaics(pipeline, out / "held-out.parquet", out / "logs" / f"mosaic-{trainer.step_count:06d}.png")

    levels = noise_schedule.config.num_train_timesteps
    for index in batches(len(latents), settings.batch, steps * settings.batch, preset.seed):
        on_raster = trainer.step_count < raster
        if trainer.step_count == int(settings.text_share * steps):
            text_encoder.requires_grad_(False)
        x0 = latents[index].float().to(preset.device, memory_format=torch.channels_last)
        noise = torch.randn_like(x0)
        t = torch.randint(int(RASTER_NOISE * levels) if on_raster else 0, levels, (len(x0),), device=preset.device)
        with torch.autocast(preset.device, torch.bfloat16, enabled=preset.device == "cuda"):
            context = text_encoder(captions.draw(index, whole_mosaics=on_raster).to(preset.device)).last_hidden_state
            v = predict(noise_schedule.add_noise(x0, noise, t), t, context, return_dict=False)[0]
        trainer.step(F.mse_loss(v.float(), noise_schedule.get_velocity(x0, noise, t)))
        if trainer.step_count % max(1, steps // SAMPLES) == 0 and trainer.step_count < steps:
            with trainer.averaged():
                save()
    trainer.use_average()
    save()


def new_text_encoder(tokenizer: CLIPTokenizer, settings: TextToImagePreset) -> CLIPTextModel:
    """Random but for the mosaics' words and places, which begin with `word_vectors` and `place_vectors`."""
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.text_width,
            intermediate_size=4 * settings.text_width,
            num_hidden_layers=settings.text_layers,
            num_attention_heads=settings.text_width // 48,
            max_position_embeddings=POSITIONS,
            projection_dim=settings.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    table = text_encoder.get_input_embeddings().weight
    words = list(word_parts())
    generator = torch.Generator().manual_seed(0)
    vectors = word_vectors(words, settings.text_width, generator)
    (places,) = (p for name, p in text_encoder.named_parameters() if name.endswith("position_embedding.weight"))
    with torch.no_grad():
        places[1 : 1 + LENGTH] = place_vectors(settings.text_width, generator) * places.std()
        table[tokenizer.convert_tokens_to_ids([word + "</w>" for word in words])] = vectors * table.std()
    return text_encoder


def new_unet(settings: TextToImagePreset, channels: int, size: int) -> UNet2DConditionModel:
    depth = len(settings.unet_channels)
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=settings.unet_channels,
        down_block_types=("CrossAttnDownBlock2D",) * depth,
        up_block_types=("CrossAttnUpBlock2D",) * depth,
        layers_per_block=1,
        cross_attention_dim=settings.text_width,
        attention_head_dim=4,  # diffusers' historical name: the number of heads
        norm_num_groups=16,
        addition_embed_type="text",  # pooled text joins the time embedding, as in the paper's Imagen
        addition_embed_type_num_heads=4,
    )


class CaptionBank:
    """A table's captions as token ids; `draw` says of each row a mosaic, a caption, one after the other, or nothing.

    A mosaic is cut anywhere, most often at the end of a level, so that its first words learn to say most.
    """

    def __init__(self, table: Path, tokenizer: CLIPTokenizer, settings: TextToImagePreset, seed: int):
        columns = pyarrow.parquet.read_table(table, columns=["captions", "mosaic"]).to_pydict()
        flat = tokenizer([caption for row in columns["captions"] for caption in row], add_special_tokens=False)
        each = len(columns["captions"][0])
        self.captions = [flat.input_ids[i : i + each] for i in range(0, len(flat.input_ids), each)]
        self.mosaics = torch.tensor(tokenizer(columns["mosaic"], add_special_tokens=False).input_ids, dtype=torch.int16)
        self.ends = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.settings, self.rng = settings, np.random.default_rng(seed)

    def draw(self, index: Tensor, whole_mosaics: bool = False) -> Tensor:
        """[B] row numbers to [B, 77] token ids, padded with [EOS] as CLIP's tokenizer does."""
        bos, eos = self.ends
        ids = torch.full((len(index), POSITIONS), eos)
        for row, place in zip(ids, index.tolist(), strict=True):
            said = self.mosaics[place].tolist() if whole_mosaics else self._say(place)[: POSITIONS - 2]
            row[: len(said) + 1] = torch.tensor([bos, *said])
        return ids

    def _say(self, place: int) -> list[int]:
        chance = self.rng.random()
        if chance < self.settings.empty_share:
            return []
        caption = self.captions[place][self.rng.integers(len(self.captions[place]))]
        if chance > self.settings.empty_share + self.settings.mosaic_share:
            return caption
        mosaic = self.mosaics[place, : self._mosaic_length()].tolist()
        fits = len(mosaic) + len(caption) <= POSITIONS - 2
        return mosaic + caption if fits and self.rng.random() < 0.5 else mosaic

    def _mosaic_length(self) -> int:
        if self.rng.random() < 0.4:
            return int(self.rng.integers(1, LENGTH + 1))
        return int(self.rng.choice(LEVEL_ENDS, p=(0.1, 0.15, 0.3, 0.45)))


def assemble(
    vae: AutoencoderTiny, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE),
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
