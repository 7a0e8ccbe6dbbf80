"""`vilex generate` and `vilex reconstruct`: pictures out, with their settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vilex.checks import WEIGHTS
from vilex.cli.models import Checkpoint, Lora, Models, Quantize
from vilex.cli.options import (
    Base,
    Cfg,
    Device,
    Dtype,
    FitName,
    Folder,
    Json,
    Model,
    NumImages,
    Offload,
    Overwrite,
    Quiet,
    Scale,
    SchedulerName,
    Seed,
    Size,
    Steps,
    Upscale,
    check_counts,
    parse_fit,
    parse_numbers,
    parse_pairs,
    parse_size,
    parse_weights,
    print_summary,
    progress_bar,
    refuse,
)
from vilex.errors import InputError

if TYPE_CHECKING:
    from vilex.upscale import Upscaler

COUNTS = "1,4,16,75"
LARGEST_SHOWN = 512  # pixels a side of a source in a grid


def generate(
    prompt: Annotated[str, typer.Argument(help='Words and images: "a photo of <cat:16> in the snow".')],
    image: Annotated[list[str] | None, typer.Option(help="NAME=FILE: an image, or tokens.safetensors#IMAGE.")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="NAME=W: 0 leaves the image out, 1 is all of it.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, max=75, help="Tokens of images without a <name:budget>.")] = None,
    cfg: Cfg = 3.0,
    tfg: Annotated[
        float | None,
        typer.Option(min=WEIGHTS[0], max=WEIGHTS[1], help="Text-free guidance weight: words against the image alone."),
    ] = None,
    interval: Annotated[tuple[float, float], typer.Option(help="Share of the sampling in which guidance acts.")] = (
        0.0,
        1.0,
    ),
    negative: Annotated[str, typer.Option(help="Words to steer away from.")] = "",
    long_prompts: Annotated[
        bool,
        typer.Option(
            "--long-prompts", help="Read prompts that are too long for CLIP in chunks instead of cutting them."
        ),
    ] = False,
    num_images: NumImages = 1,
    steps: Steps = 20,
    scheduler: SchedulerName = "dpm++",
    seed: Seed = 0,
    start: Annotated[Path | None, typer.Option(help="Picture to begin from instead of noise.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="How far to leave --start, over 0 to 1; 0.8, with --mask 1 by default.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Where --start is drawn anew (white) or stays (black).")] = None,
    fit: FitName = None,
    size: Size = None,
    scale: Scale = 1,
    upscale: Upscale = None,
    out: Folder = Path("out"),
    overwrite: Overwrite = False,
    model: Model = "nano",
    t2i: Base = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = None,
    quantize: Quantize = None,
    lora: Lora = None,
    checkpoint: Checkpoint = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw a prompt that mixes words and images."""
    from vilex.cli.manifest import Output, check_folder, hashes_of
    from vilex.cli.reconstruction import draw_in_batches
    from vilex.guidance import Guidance
    from vilex.requests import drawn_size
    from vilex.tokens import split_token_source

    check_folder(out)
    models = Models(model, t2i, device, dtype, offload, quantize, lora, checkpoint)
    if start is None and (mask or strength is not None):
        raise InputError(f"{'--mask' if mask else '--strength'}: of a picture to begin from; name it with --start")
    sources = parse_pairs(image, "--image")
    files = {name: (split_token_source(value) or [Path(value)])[0] for name, value in sources.items()}
    weights, way, asked_size = parse_weights(weight), parse_fit(fit), parse_size(size)
    guidance = Guidance(cfg, tfg, interval)
    lexicon = models.load(quiet or as_json)
    width, height = drawn_size(lexicon.t2i, *asked_size)
    settings = {
        **models.about(lexicon), "prompt": prompt,
        "images": sources, "image_sha256": hashes_of(files), "weights": weights,
        "fit": way or lexicon.fit, "tokens": tokens, "cfg": cfg, "tfg": tfg, "interval": list(interval),
        "negative": negative, "long_prompts": long_prompts, "steps": steps, "scheduler": scheduler, "seed": seed,
        "start": start and str(start), "strength": strength,
        "mask": mask and str(mask), "start_sha256": hashes_of({"start": start, "mask": mask}), "size": [width, height],
        "scale": scale, "upscale": upscale,
    }  # fmt: skip
    upscaler = _upscaler(upscale, device, dtype)
    names = [f"{i:03d}.png" for i in range(num_images)]
    with (
        Output(out, "generate", settings, names, overwrite) as output,
        progress_bar("drawing", quiet or as_json) as on_step,
    ):
        for first, pictures in draw_in_batches(
            lexicon, prompt, sources, num_images, seed, on_step, way, num_tokens=tokens, weights=weights,
            negative=negative, guidance=guidance, steps=steps, scheduler=scheduler, start=start, strength=strength,
            mask=mask, long_prompts=long_prompts, width=width, height=height,
        ):  # fmt: skip
            if upscaler:
                pictures = upscaler(pictures, [prompt] * len(pictures), seed + first)
            for i, picture in enumerate(pictures, first):
                output.picture(names[i], picture, scale, seed=seed + i)
    print_summary(output.manifest(), f"{num_images} picture(s) -> {out}", quiet, as_json)


def reconstruct(
    images: Annotated[list[Path], typer.Argument(help="Image files, or files of tokens (tokens.safetensors#IMAGE).")],
    tokens: Annotated[
        str | None, typer.Option(help=f"Token counts, comma-separated; of {COUNTS} by default, as many as there are.")
    ] = None,
    cfg: Cfg = 3.0,
    num_images: NumImages = 4,
    steps: Steps = 20,
    scheduler: SchedulerName = "dpm++",
    seed: Seed = 0,
    fit: FitName = None,
    size: Size = None,
    scale: Scale = 1,
    upscale: Upscale = None,
    out: Folder = Path("out"),
    overwrite: Overwrite = False,
    model: Model = "nano",
    t2i: Base = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = None,
    quantize: Quantize = None,
    lora: Lora = None,
    checkpoint: Checkpoint = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Re-create images from their tokens alone, with a grid for each."""
    from vilex.cli.manifest import Output, check_folder
    from vilex.cli.reconstruction import read_originals, reconstruct_at, write_reconstruction
    from vilex.guidance import Guidance
    from vilex.pictures.load import load_each
    from vilex.requests import drawn_size
    from vilex.tokens import split_token_source

    check_folder(out)
    models = Models(model, t2i, device, dtype, offload, quantize, lora, checkpoint)
    way, asked_size = parse_fit(fit), parse_size(size)
    asked = parse_numbers(tokens, "--tokens") if tokens is not None else None
    pictures, bad = load_each([path for path in images if not split_token_source(path)], LARGEST_SHOWN)
    if not pictures and len(bad) == len(images):
        refuse(bad)
    lexicon = models.load(quiet or as_json)
    width, height = drawn_size(lexicon.t2i, *asked_size)
    originals, unread = read_originals(lexicon, images, pictures, way)
    bad += unread
    counts = [_counts(asked, len(original.tokens)) for original in originals]
    settings = {
        **models.about(lexicon), "fit": way or lexicon.fit, "cfg": cfg, "steps": steps, "scheduler": scheduler,
        "seed": seed, "size": [width, height], "scale": scale, "upscale": upscale,
    }  # fmt: skip
    upscaler = _upscaler(upscale, device, dtype)
    parts = [[*(f"{count:02d}-{k}" for count in of for k in range(num_images)), "grid"] for of in counts]
    expected = [f"{one.stem}-{part}.png" for one, of in zip(originals, parts, strict=True) for part in of]
    with Output(out, "reconstruct", settings, expected, overwrite, bad) as output:
        for original, own in zip(originals, counts, strict=True):
            with progress_bar(original.stem, quiet or as_json) as on_step:
                drawn = reconstruct_at(
                    lexicon, original.tokens, own, num_images, guidance=Guidance(cfg), seed=seed, steps=steps,
                    scheduler=scheduler, on_step=on_step, width=width, height=height,
                )  # fmt: skip
            if upscaler:
                drawn = {count: upscaler(pictures, [""] * len(pictures), seed) for count, pictures in drawn.items()}
            write_reconstruction(output, original, drawn, scale, seed, way or lexicon.fit)
    print_summary(output.manifest(), f"{len(originals)} image(s) -> {out}", quiet, as_json)
    refuse(bad)


def _counts(asked: list[int] | None, there: int) -> list[int]:
    """The numbers of tokens to draw an image at, of `there` tokens that it has."""
    if asked is None:
        return [count for count in map(int, COUNTS.split(",")) if count <= there]
    check_counts(asked, there)
    return asked


def _upscaler(name: str | None, device: str, dtype: str) -> "Upscaler | None":
    """The model that `--upscale` names, loaded before anything is drawn."""
    if name is None:
        return None
    import torch

    from vilex.upscale import Upscaler

    return Upscaler(name, device, getattr(torch, dtype))
