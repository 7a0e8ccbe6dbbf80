"""Stage 2, the auto-encoder: 64 x 64 pixels to 8 x 8 x 16 latents and back, a diffusers AutoencoderTiny.

Joint training from nothing spends most of its time finding a code at all. Here the code is given
first: principal components of 8 x 8 patches, in closed form. The decoder learns to paint from them
while the encoder learns to compute them; then both train end to end and leave the linear code behind.

Last, every channel is brought to mean zero and variance one and the decoder gets used to it. Diffusion
adds the same noise to all channels: one a third as strong as the others has its say only in the last
tenth of the noise levels. Fine channels carry the outlines, so left faint they leave objects as blobs.

Codes are shaken before they are decoded: a picture should survive the small errors of a sampler.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.nano.data import read_pixels
from recipes.nano.loop import Trainer, batches
from recipes.nano.presets import AutoencoderPreset, Preset
from vilex.pictures.grid import grid
from vilex.pictures.pixels import to_images

PATCH = 8
SHAKE = 0.25


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
    torch.manual_seed(preset.seed)
    vae = new_autoencoder(settings).to(preset.device, memory_format=torch.channels_last)
    components = PatchComponents(pixels[:: max(1, len(pixels) // 4096)], settings.latent_channels).to(preset.device)
    steps = settings.images // settings.batch
    trainer = Trainer(vae, settings.lr, steps, out / "logs" / "autoencoder.jsonl")
    for step, index in enumerate(batches(len(pixels), settings.batch, settings.images, preset.seed)):
        x = to_model(pixels[index.numpy()], preset.device)
        z = vae.encoder(x)
        if step < settings.linear_share * steps:
            target = components(x)
            y = vae.decoder(target)
            code = F.mse_loss(z, target)
        else:
            y = vae.decoder(shaken(z))
            code = 1e-3 * (z.square().mean() - 1).square()  # near the scale that `whiten` makes exact
        mse = F.mse_loss(y, x)
        trainer.step(mse + 0.1 * F.l1_loss(y, x) + code, mse=mse.detach(), code=code.detach())
    trainer.use_average()
    whiten(vae, pixels[:: max(1, len(pixels) // 4096)], preset.device)
    steps = settings.whitened_images // settings.batch
    trainer = Trainer(vae.decoder, settings.lr / 4, steps, out / "logs" / "whitened.jsonl")
    for index in batches(len(pixels), settings.batch, settings.whitened_images, preset.seed + 1):
        x = to_model(pixels[index.numpy()], preset.device)
        with torch.no_grad():
            z = vae.encoder(x)
        y = vae.decoder(shaken(z))
        mse = F.mse_loss(y, x)
        trainer.step(mse + 0.1 * F.l1_loss(y, x), mse=mse.detach())
    trainer.use_average()
    vae.save_pretrained(out / "vae", safe_serialization=True)
    report(vae, read_pixels(out / "held-out.parquet"), preset.device, out)


def shaken(z: Tensor) -> Tensor:
    """Codes as a sampler leaves them, a little off: noise of 0 to `SHAKE` deviations, drawn for each picture.

    The encoder learns to say in many channels what matters in the picture, the decoder to paint clean
    outlines from codes that are not quite right.
    """
    deviation = SHAKE * torch.rand(len(z), 1, 1, 1, device=z.device)
    return z + deviation * torch.randn_like(z)


@torch.no_grad()
def whiten(vae: AutoencoderTiny, pixels: np.ndarray, device: str) -> None:
    """Fold each latent channel's mean and deviation over `pixels` into the layers on both sides of the code.

    The encoder's codes then have mean zero and variance one, exactly. The decoder undoes it but for its
    soft clamp (tanh) and its zero padding, which a little training mends.
    """
    z = encode_all(vae, pixels, device).float()
    mean, deviation = z.mean((0, 2, 3)).to(device), z.std((0, 2, 3)).to(device)
    last, first = vae.encoder.layers[-1], vae.decoder.layers[0]
    last.bias.sub_(mean).div_(deviation)
    last.weight.div_(deviation[:, None, None, None])
    first.bias.add_((first.weight * mean[None, :, None, None]).sum((1, 2, 3)))
    first.weight.mul_(deviation[None, :, None, None])


@torch.no_grad()
def encode_all(vae: AutoencoderTiny, pixels: np.ndarray, device: str) -> Tensor:
    """[N, c, 8, 8] in half precision: latents cost far more to make than to keep."""
    parts = (pixels[i : i + 256] for i in range(0, len(pixels), 256))
    return torch.cat([vae.encode(to_model(part, device)).latents.half().cpu() for part in parts])


def new_autoencoder(settings: AutoencoderPreset) -> AutoencoderTiny:
    channels = (settings.channels,) * 4
    return AutoencoderTiny(
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        num_encoder_blocks=settings.encoder_blocks,
        num_decoder_blocks=settings.decoder_blocks,
        latent_channels=settings.latent_channels,
        scaling_factor=1.0,
    )


def to_model(pixels: np.ndarray, device: str) -> Tensor:
    """[B, 64, 64, 3] uint8 to [B, 3, 64, 64] in -1..1, channels last."""
    x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def report(vae: AutoencoderTiny, pixels: np.ndarray, device: str, out: Path) -> None:
    """Print the peak signal-to-noise ratio on held-out scenes; save some of them above their copies."""
    x = to_model(pixels, device)
    z = torch.cat([vae.encode(part).latents for part in x.split(64)])
    y = torch.cat([vae.decode(part).sample for part in z.split(64)]).clamp(-1, 1)
    psnr = -10 * torch.log10(((x - y) / 2).square().mean((1, 2, 3))).mean()
    print(f"auto-encoder: {psnr:.2f} dB on {len(pixels)} held-out scenes, latent std {z.std():.2f}")
    grid([to_images(part[:16]) for part in (x, y)], size=64).save(out / "logs" / "autoencoder.png")
