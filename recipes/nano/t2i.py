"""Stage 3, the text-to-image model: a CLIP text encoder and a U-Net over latents, v-prediction.

Saved as a diffusers StableDiffusionPipeline folder, so that whatever reads Stable Diffusion reads it.
"""

from pathlib import Path

import pyarrow.parquet
import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from recipes.nano.autoencoder import PATCH, encode_all
from recipes.nano.data import read_pixels
from recipes.nano.loop import Trainer, batches
from recipes.nano.presets import Preset, TextToImagePreset
from recipes.nano.scenes import SIZE
from recipes.nano.tokenizer import POSITIONS, learn_tokenizer
from recipes.nano.words import train_words
from vilex.grid import grid

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
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


def train_broad(preset: Preset, out: Path) -> None:
    """Stage 3a: grounds, places and colours, on scenes of many concepts; saves `out`/t2i."""
    settings = preset.t2i
    torch.manual_seed(preset.seed)
    vae = AutoencoderTiny.from_pretrained(out / "vae")
    tokenizer = learn_tokenizer(out / "train.parquet")
    unet = new_unet(settings, vae.config.latent_channels, SIZE // PATCH)
    text_encoder = new_text_encoder(tokenizer, settings)
    train_words(text_encoder, tokenizer, preset, out / "train.parquet", out)
    pipeline = assemble(vae, text_encoder, tokenizer, unet)
    train_t2i(pipeline, preset, out, out / "train.parquet", settings.images, settings.dense_share, "t2i")


def train_focus(preset: Preset, out: Path) -> None:
    """Stage 3b: the U-Net goes on with a few concepts, until it draws them well; saves `out`/t2i.

    The text encoder has learnt its words by now and rests: that saves a third of each step.
    """
    settings = preset.t2i
    pipeline = StableDiffusionPipeline.from_pretrained(out / "t2i", safety_checker=None)
    pipeline.text_encoder.requires_grad_(False)
    dense_share = settings.dense_share * 2 / 3
    train_t2i(pipeline, preset, out, out / "focus.parquet", settings.focus_images, dense_share, "focus")


def train_t2i(
    pipeline: StableDiffusionPipeline,
    preset: Preset,
    out: Path,
    table: Path,
    images: int,
    dense_share: float,
    name: str,
) -> None:
    """Train what requires gradients in a pipeline's text encoder and U-Net on a table's latents; save `out`/t2i.

    Sample grids of `PROBES` go to `out`/logs, six on the way.
    """
    settings = preset.t2i
    pipeline.to(preset.device)
    vae, text_encoder, unet = pipeline.vae, pipeline.text_encoder, pipeline.unet
    unet.to(memory_format=torch.channels_last)
    latents = encode_all(vae, read_pixels(table), preset.device)
    captions = CaptionBank(table, pipeline.tokenizer, dense_share, settings.empty_share, preset.seed)
    torch.manual_seed(preset.seed + 1)
    text_encoder.train(), unet.train()
    predict = torch.compile(unet) if preset.compile else unet
    noise_schedule = DDPMScheduler(**SCHEDULE)
    steps = images // settings.batch
    trained = nn.ModuleList([text_encoder, unet])
    trainer = Trainer(trained, settings.lr, steps, out / "logs" / f"{name}.jsonl", warmup=settings.warmup)

    def save() -> None:
        pipeline.save_pretrained(out / "t2i", safe_serialization=True)
        save_probes(pipeline, out / "logs" / f"{name}-{trainer.step_count:06d}.png")

    for index in batches(len(latents), settings.batch, images, preset.seed):
        x0 = latents[index].float().to(preset.device, memory_format=torch.channels_last)
        noise = torch.randn_like(x0)
        t = torch.randint(0, noise_schedule.config.num_train_timesteps, (len(x0),), device=preset.device)
        with torch.autocast(preset.device, torch.bfloat16, enabled=preset.device == "cuda"):
            context = text_encoder(captions.draw(index).to(preset.device)).last_hidden_state
            v = predict(noise_schedule.add_noise(x0, noise, t), t, context, return_dict=False)[0]
        trainer.step(F.mse_loss(v.float(), noise_schedule.get_velocity(x0, noise, t)))
        if trainer.step_count % max(1, steps // 6) == 0 and trainer.step_count < steps:
            with trainer.averaged():
                save()
    trainer.use_average()
    save()


def new_text_encoder(tokenizer: CLIPTokenizer, settings: TextToImagePreset) -> CLIPTextModel:
    return CLIPTextModel(
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
    """All captions of a table as token ids; `draw` picks one for each row, dense, short or none."""

    def __init__(self, table: Path, tokenizer: CLIPTokenizer, dense_share: float, empty_share: float, seed: int):
        columns = pyarrow.parquet.read_table(table, columns=["captions", "dense"]).to_pydict()
        self.short, self.dense = (self._ids(columns[name], tokenizer) for name in ("captions", "dense"))
        self.empty = torch.tensor(self._tokenize([""], tokenizer)[0])
        self.dense_share, self.empty_share = dense_share, empty_share
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, index: Tensor) -> Tensor:
        """[B] row numbers to [B, 77] token ids."""
        rows = []
        for row, chance in zip(index.tolist(), torch.rand(len(index), generator=self.generator).tolist(), strict=True):
            bank = self.dense if chance < self.dense_share else self.short
            choice = int(torch.randint(bank.shape[1], (1,), generator=self.generator))
            rows.append(self.empty if chance > 1 - self.empty_share else bank[row, choice])
        return torch.stack(rows).long()

    @classmethod
    def _ids(cls, rows: list[list[str]], tokenizer: CLIPTokenizer) -> Tensor:
        flat = cls._tokenize([caption for row in rows for caption in row], tokenizer)
        return torch.tensor(flat, dtype=torch.int16).view(len(rows), -1, POSITIONS)

    @staticmethod
    def _tokenize(captions: list[str], tokenizer: CLIPTokenizer) -> list[list[int]]:
        return tokenizer(captions, padding="max_length", truncation=True, max_length=POSITIONS).input_ids


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
