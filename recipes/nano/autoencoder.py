"""Stage 2, the auto-encoder: 64 x 64 pixels to 8 x 8 x 16 latents and back, a diffusers AutoencoderKL.

Joint training from nothing spends most of its time finding a code at all. Here the code is given
first: principal components of 8 x 8 patches, in closed form. The decoder learns to paint from them
while the encoder learns to compute them; then both train end to end and leave the linear code behind.

Last, every channel is brought to mean zero and variance one and the decoder gets used to it. Diffusion
adds the same noise to all channels: one a third as strong as the others has its say only in the last
tenth of the noise levels. Fine channels carry the outlines, so left faint they leave objects as blobs.

Codes are shaken before they are decoded: a picture should survive the small errors of a sampler.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.nano.data import evenly_spaced, read_pixels
from recipes.nano.loop import Trainer
from recipes.nano.precision import autocast, normalise_in_float32
from recipes.nano.presets import AutoencoderPreset, Preset
from recipes.nano.scenes import SIZE
from vilex.paths import replacing_folder
from vilex.pictures.grid import grid
from vilex.pictures.pixels import to_images

PATCH = 8
BATCH = 32  # pictures encoded at once: 460 a second on two cores (930 in bfloat16), where 256 are out of the caches
NO_SPREAD = -30.0  # logarithm of a variance; AutoencoderKL clamps there


class PatchComponents(nn.Module):
    """Principal components of patches as a strided convolution: [B, 3, H, W] to [B, n, H/8, W/8].

    Each component has mean zero and variance one.
    """

    def __init__(self, pixels: np.ndarray, components: int):
        super().__init__()
        count, size, _, _ = pixels.shape
        cells = size // PATCH
        x = pixels.reshape(count, cells, PATCH, cells, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
        x = torch.from_numpy(x.reshape(-1, PATCH * PATCH * 3)).float() / 127.5 - 1
        mean = x.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(x.T))
        values, vectors = values.flip(0)[:components], vectors.flip(1)[:, :components]
        weight = (vectors * values.clamp_min(1e-6) ** -0.5).T
        self.register_buffer("weight", weight.reshape(components, PATCH, PATCH, 3).permute(0, 3, 1, 2).contiguous())
        self.register_buffer("bias", -weight @ mean)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, stride=PATCH)


def train_autoencoder(preset: Preset, out: Path) -> None:
    """Train on the scenes and save to `out`/vae."""
    settings = preset.autoencoder
    pixels = read_pixels(out / "scenes.parquet")
    some = pixels[evenly_spaced(len(pixels))]
    torch.manual_seed(preset.seed)
    vae = new_autoencoder(settings).to(preset.device, memory_format=torch.channels_last)
    normalise_in_float32(vae)
    components = PatchComponents(some, settings.latent_channels).to(preset.device)
    trainer = Trainer("autoencoder", vae, settings, preset, out, seed=preset.seed)
    linear = int(settings.linear_share * trainer.steps)
    for step in trainer:
        x = to_model(pixels[step.rows(len(pixels)).numpy()], preset.device)
        generator = step.generator
        with trainer.autocast():
            z = code_of(vae, x).float()
            target = components(x)
            if step.number < linear:
                y = vae.decode(target).sample.float()
                code = F.mse_loss(z, target)
            else:
                seen, shown = moved(z, x, settings, generator)
                y, x = vae.decode(shaken(seen, settings.shake, generator)).sample.float(), shown
                code = 1e-3 * (z.square().mean() - 1).square()  # near the scale that `whiten` makes exact
        mse = F.mse_loss(y, x)
        trainer.update(mse + 0.1 * F.l1_loss(y, x) + code, mse=mse, code=code)
    trainer.use_average()
    whiten(vae, some, preset.device)
    vae.encoder.requires_grad_(False)
    settings = replace(settings, images=settings.whitened_images, lr=settings.lr / 2)
    trainer = Trainer("whitened", vae, settings, preset, out, seed=preset.seed + 1)
    for step in trainer:
        x = to_model(pixels[step.rows(len(pixels)).numpy()], preset.device)
        generator = step.generator
        with trainer.autocast():
            with torch.no_grad():
                z = code_of(vae, x).float()
            seen, shown = moved(z, x, settings, generator)
            y = vae.decode(shaken(seen, settings.shake, generator)).sample.float()
        mse = F.mse_loss(y, shown)
        trainer.update(mse + 0.1 * F.l1_loss(y, shown), mse=mse)
    trainer.use_average()
    with replacing_folder(out / "vae") as folder:
        vae.eval().save_pretrained(folder, safe_serialization=True)
    report(vae, read_pixels(out / "held-out.parquet"), preset.device, out)


def code_of(vae: AutoencoderKL, x: Tensor) -> Tensor:
    """[B, 3, H, W] to the code [B, c, H/8, W/8]: the mean of AutoencoderKL's distribution, which has no spread here."""
    return vae.encoder(x).chunk(2, dim=1)[0]


def shaken(z: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Codes plus noise, of each picture its own strength from 0 to `most`.

    The encoder learns to say in many channels what matters in the picture, the decoder to paint clean
    outlines from codes that are not quite right.
    """
    deviation = most * torch.rand(len(z), 1, 1, 1, generator=generator)
    return z + (deviation * torch.randn(z.shape, generator=generator)).to(z.device)


def moved(z: Tensor, x: Tensor, settings: AutoencoderPreset, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For a share of the batches, codes and pictures mirrored and made smaller alike (EQ-VAE, arXiv 2502.09509).

    A small code that means the small picture has less to it that a denoiser must learn. Scenes stand upright, so
    nothing is turned.

    Returns:
        z: [B, c, h, w], x: [B, 3, H, W]; smaller where scaled.
    """
    if torch.rand((), generator=generator) >= settings.equivariance_share:
        return z, x
    if torch.rand((), generator=generator) < 0.5:
        z, x = z.flip(3), x.flip(3)
    side = int(torch.randint(z.shape[-1] // 2, z.shape[-1] + 1, (), generator=generator))
    if side < z.shape[-1]:
        z = F.interpolate(z, (side, side), mode="bilinear", antialias=True)
        x = F.interpolate(x, (side * PATCH, side * PATCH), mode="bilinear", antialias=True)
    return z, x


@torch.no_grad()
def whiten(vae: AutoencoderKL, pixels: np.ndarray, device: str) -> None:
    """Fold each latent channel's mean and deviation over `pixels` into the layers on both sides of the code.

    The encoder's codes then have mean zero and variance one, exactly. The decoder undoes it but for its
    zero padding, which a little training mends. The spread of AutoencoderKL's distribution is made none.
    """
    z = encode_all(vae, pixels, device).float()
    mean, deviation = z.mean((0, 2, 3)).to(device), z.std((0, 2, 3)).to(device)
    last, first, channels = vae.encoder.conv_out, vae.decoder.conv_in, len(mean)
    last.bias[:channels].sub_(mean).div_(deviation)
    last.weight[:channels].div_(deviation[:, None, None, None])
    last.weight[channels:].zero_()
    last.bias[channels:].fill_(NO_SPREAD)
    first.bias.add_((first.weight * mean[None, :, None, None]).sum((1, 2, 3)))
    first.weight.mul_(deviation[None, :, None, None])


@torch.no_grad()
def encode_all(vae: AutoencoderKL, pixels: np.ndarray, device: str, precision: str = "fp32") -> Tensor:
    """[N, c, 8, 8] in half precision: latents cost far more to make than to keep."""
    parts = (pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH))
    with autocast(device, precision):
        codes = [code_of(vae, to_model(part, device)).half().cpu() for part in parts]
    return torch.cat(codes)


def new_autoencoder(settings: AutoencoderPreset) -> AutoencoderKL:
    """Stable Diffusion's class of auto-encoder, without its attention and without its quantisation layers."""
    levels = len(settings.channels)
    if levels != 1 + int(np.log2(PATCH)):
        raise ValueError(f"autoencoder.channels: expected 4 levels, 64 pixels down to 8, got {levels}")
    return AutoencoderKL(
        block_out_channels=settings.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=settings.layers,
        latent_channels=settings.latent_channels,
        norm_num_groups=8,
        sample_size=SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def to_model(pixels: np.ndarray, device: str) -> Tensor:
    """[B, 64, 64, 3] uint8 to [B, 3, 64, 64] in -1..1, channels last."""
    x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def report(vae: AutoencoderKL, pixels: np.ndarray, device: str, out: Path) -> None:
    """Print the peak signal-to-noise ratio on held-out scenes; save some of them above their copies."""
    x = to_model(pixels, device)
    z = torch.cat([code_of(vae, part) for part in x.split(64)])
    y = torch.cat([vae.decode(part).sample for part in z.split(64)]).clamp(-1, 1)
    psnr = -10 * torch.log10(((x - y) / 2).square().mean((1, 2, 3))).mean()
    print(f"auto-encoder: {psnr:.2f} dB on {len(pixels)} held-out scenes, latent std {z.std():.2f}")
    grid([to_images(part[:16]) for part in (x, y)], size=64).save(out / "logs" / "autoencoder.png")
