"""`vilex generate` and `vilex reconstruct`: pictures out, with their settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilex.cli.options import (
    Base,
    Cfg,
    Device,
    Dtype,
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
    Steps,
    Upscale,
    check_counts,
    load_lexicon,
    models_of,
    parse_number,
    parse_numbers,
    parse_pairs,
    print_summary,
    progress_bar,
    refuse,
)
from vilex.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from vilex.upscale import Upscaler

TOKENS = ".safetensors"
LARGEST_SHOWN = 512  # pixels a side of a source in a grid


def generate(
    prompt: Annotated[str, typer.Argument(help='Words and images: "a photo of <cat:16> in the snow".')],
    image: Annotated[list[str] | None, typer.Option(help="NAME=FILE: an image, or tokens.safetensors[#name].")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="NAME=W: 0 leaves the image out, 1 is all of it.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, max=75, help="Tokens of images without a <name:budget>.")] = None,
    cfg: Cfg = 3.0,
    tfg: Annotated[
        float | None,
        typer.Option(min=-1000, max=1000, help="Text-free guidance weight: words against the image alone."),
    ] = None,
    interval: Annotated[tuple[float, float], typer.Option(help="Share of the sampling in which guidance acts.")] = (
        0.0,
        1.0,
    ),
    negative: Annotated[str, typer.Option(help="Words to steer away from.")] = "",
    num_images: NumImages = 1,
    steps: Steps = 20,
    scheduler: SchedulerName = "dpm++",
    seed: Seed = 0,
    start: Annotated[Path | None, typer.Option(help="Picture to begin from instead of noise.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="How far to leave --start, over 0 to 1; 0.8, with --mask 1 by default.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Where --start is drawn anew (white) or stays (black).")] = None,
    size: Scale = 1,
    upscale: Upscale = None,
    out: Folder = Path("out"),
    overwrite: Overwrite = False,
    model: Model = "nano",
    t2i: Base = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw a prompt that mixes words and images."""
    from vilex.cli.manifest import Output, check_folder, hashes_of
    from vilex.cli.reconstruction import draw_in_batches
    from vilex.guidance import Guidance

    check_folder(out)
    sources = parse_pairs(image, "--image")
    files = {name: _split_source(value)[0] for name, value in sources.items()}
    named = {name: _image_source(value) for name, value in sources.items()}
    weights = {name: parse_number(value, "--weight") for name, value in parse_pairs(weight, "--weight").items()}
    guidance = Guidance(cfg, tfg, interval)
    lexicon = load_lexicon(model, t2i, device, quiet or as_json, dtype, offload)
    settings = {
        **models_of(lexicon, model, t2i, device, dtype, offload), "prompt": prompt,
        "images": sources, "image_sha256": hashes_of(files), "weights": weights,
        "tokens": tokens, "cfg": cfg, "tfg": tfg, "interval": list(interval), "negative": negative, "steps": steps,
        "scheduler": scheduler, "seed": seed, "start": start and str(start), "strength": strength,
        "mask": mask and str(mask), "start_sha256": hashes_of({"start": start, "mask": mask}), "size": size,
        "upscale": upscale,
    }  # fmt: skip
    upscaler = _upscaler(upscale, device, dtype)
    names = [f"{i:03d}.png" for i in range(num_images)]
    with (
        Output(out, "generate", settings, names, overwrite) as output,
        progress_bar("drawing", quiet or as_json) as on_step,
    ):
        for first, pictures in draw_in_batches(
            lexicon, prompt, named, num_images, seed, on_step, num_tokens=tokens, weights=weights, negative=negative,
            guidance=guidance, steps=steps, scheduler=scheduler, start=start, strength=strength, mask=mask,
        ):  # fmt: skip
            if upscaler:
                pictures = upscaler(pictures, [prompt] * len(pictures), seed + first)
            for i, picture in enumerate(pictures, first):
                output.picture(names[i], picture, size, seed=seed + i)
    print_summary(output.manifest(), f"{num_images} picture(s) -> {out}", quiet, as_json)


def reconstruct(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    tokens: Annotated[str, typer.Option(help="Token counts, comma-separated.")] = "1,4,16,75",
    cfg: Cfg = 3.0,
    num_images: NumImages = 4,
    steps: Steps = 20,
    scheduler: SchedulerName = "dpm++",
    seed: Seed = 0,
    size: Scale = 1,
    upscale: Upscale = None,
    out: Folder = Path("out"),
    overwrite: Overwrite = False,
    model: Model = "nano",
    t2i: Base = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Re-create images from their tokens alone, with a grid for each."""
    from vilex.cli.manifest import Output, check_folder, hashes_of, unique_names
    from vilex.cli.reconstruction import reconstruct_at, reconstruction_grid
    from vilex.guidance import Guidance
    from vilex.pictures.load import load_each, square

    check_folder(out)
    counts = parse_numbers(tokens, "--tokens")
    good, bad = load_each(images, LARGEST_SHOWN)
    if not good:
        refuse(bad)
    lexicon = load_lexicon(model, t2i, device, quiet or as_json, dtype, offload)
    check_counts(counts, lexicon.num_tokens)
    settings = {
        **models_of(lexicon, model, t2i, device, dtype, offload), "cfg": cfg, "steps": steps, "scheduler": scheduler,
        "seed": seed, "size": size, "upscale": upscale,
    }  # fmt: skip
    upscaler = _upscaler(upscale, device, dtype)
    names = unique_names(list(good))
    parts = [*(f"{count:02d}-{k}" for count in counts for k in range(num_images)), "grid"]
    expected = [f"{name}-{part}.png" for name in names for part in parts]
    with Output(out, "reconstruct", settings, expected, overwrite, bad) as output:
        for name, (path, image) in zip(names, good.items(), strict=True):
            with progress_bar(path.name, quiet or as_json) as on_step:
                drawn = reconstruct_at(
                    lexicon, image, counts, num_images, guidance=Guidance(cfg), seed=seed, steps=steps,
                    scheduler=scheduler, on_step=on_step,
                )  # fmt: skip
            if upscaler:
                drawn = {count: upscaler(pictures, [""] * len(pictures), seed) for count, pictures in drawn.items()}
            origin: dict[str, Any] = {"source": str(path), "source_sha256": hashes_of({"": path}).get("")}
            for count, pictures in drawn.items():
                for k, picture in enumerate(pictures):
                    output.picture(f"{name}-{count:02d}-{k}.png", picture, size, **origin, tokens=count, seed=seed + k)
            shown = reconstruction_grid(square(image, drawn[counts[0]][0].width), drawn)
            output.picture(f"{name}-grid.png", shown, **origin, tokens=counts)
    print_summary(output.manifest(), f"{len(good)} image(s) at {tokens} tokens -> {out}", quiet, as_json)
    refuse(bad)


def _upscaler(name: str | None, device: str, dtype: str) -> "Upscaler | None":
    """The model that `--upscale` names, loaded before anything is drawn."""
    if name is None:
        return None
    import torch

    from vilex.upscale import Upscaler

    return Upscaler(name, device, getattr(torch, dtype))


def _split_source(value: str) -> tuple[Path, str]:
    """FILE, or TOKENS.safetensors#name."""
    head, named, name = value.partition(f"{TOKENS}#")
    return (Path(f"{head}{TOKENS}"), name) if named else (Path(value), "")


def _image_source(value: str) -> "Path | Tensor":
    """An image path, or tokens [n, d] out of a token file."""
    path, name = _split_source(value)
    if path.suffix != TOKENS:
        return path
    from vilex.tokens import load_tokens

    tokens = load_tokens(path).tokens
    if not name and len(tokens) > 1:
        raise InputError(f"{path}: holds {len(tokens)} images; name one with {path}#{next(iter(tokens))}")
    if name and name not in tokens:
        raise InputError(f"{path}: holds no image '{name}', only {', '.join(tokens)}")
    return tokens[name or next(iter(tokens))]
