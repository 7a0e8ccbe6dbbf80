"""The command line: parses, calls the library, prints."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from vilex.cli_eval import app as eval_app
from vilex.cli_publish import export, push
from vilex.console import (
    Base,
    Cfg,
    Device,
    Dtype,
    Folder,
    Json,
    Model,
    NumImages,
    Offload,
    Quiet,
    Scale,
    SchedulerName,
    Seed,
    Steps,
    Upscale,
    check_counts,
    errors,
    load_lexicon,
    parse_number,
    parse_numbers,
    parse_pairs,
    print_summary,
    progress_bar,
    refuse,
)
from vilex.errors import InputError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Images as words.")
app.add_typer(eval_app, name="eval")
app.command()(export)
app.command()(push)
ENCODE_BATCH = 32


@app.command()
def encode(
    images: Annotated[list[Path] | None, typer.Argument(help="Image files.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder, tables, tar shards or hf:NAME, instead of files.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Token file to write; a folder of token shards with --data.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens an image; all by default.")] = None,
    model: Model = "nano",
    device: Device = "cpu",
    processes: Annotated[
        int | None, typer.Option(min=1, help="With --data: processes; by default 1, or one a GPU; on Ray one a device.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="With --data: a Ray cluster; auto, ray://HOST:PORT, or local to start one.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn images into tokens, kept as safetensors with their provenance."""
    from vilex.encoder import encoder_folder, load_encoder
    from vilex.files import weights_hash
    from vilex.images import file_hash, load_each
    from vilex.tokens import save_tokens

    if bool(images) == bool(data):
        raise InputError("encode: expected image files, or --data with a folder, tables or shards")
    if data:
        _encode_collection(data, out or Path("tokens"), tokens, model, _runner(device, processes, ray), quiet, as_json)
        return
    out = out or Path("tokens.safetensors")
    found = [path for path in images if path.is_file()]
    folder = encoder_folder(model) if found else None
    encoder = load_encoder(folder).to(device) if found else None
    tokens_by_path, refused = {}, []
    with progress_bar("encoding", quiet or as_json) as on_step:
        for start in range(0, len(images), ENCODE_BATCH):
            good, bad = load_each(images[start : start + ENCODE_BATCH])
            refused += bad
            if good:
                tokens_by_path |= dict(zip(good, encoder.encode(list(good.values()), tokens), strict=True))
            on_step(min(start + ENCODE_BATCH, len(images)), len(images))
    if tokens_by_path:
        names = dict(zip(_unique_names(list(tokens_by_path)), tokens_by_path, strict=True))
        origin = {"model": model, "encoder_sha256": weights_hash(folder)}
        provenance = {name: {**origin, "file": path.name, "sha256": file_hash(path)} for name, path in names.items()}
        _make_parent(out)
        save_tokens(out, {name: tokens_by_path[path] for name, path in names.items()}, provenance)
        shape = list(next(iter(tokens_by_path.values())).shape)
        summary = {"file": str(out), "tokens": shape, "images": provenance, "refused": refused}
        print_summary(summary, f"{len(names)} image(s) x {shape[0]} tokens -> {out}", quiet, as_json)
    refuse(refused)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help='Words and images: "a photo of <cat:16> in the snow".')],
    image: Annotated[list[str] | None, typer.Option(help="NAME=FILE: an image, or tokens.safetensors[#name].")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="NAME=W: 0 leaves the image out, 1 is all of it.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of images without a <name:budget>.")] = None,
    cfg: Cfg = 3.0,
    tfg: Annotated[float | None, typer.Option(help="Text-free guidance weight: words against the image alone.")] = None,
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
    model: Model = "nano",
    t2i: Base = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw a prompt that mixes words and images."""
    from vilex.guidance import Guidance
    from vilex.output import Output

    named = {name: _image_source(value) for name, value in parse_pairs(image, "--image").items()}
    weights = {name: parse_number(value, "--weight") for name, value in parse_pairs(weight, "--weight").items()}
    guidance = Guidance(cfg, tfg, interval)
    lexicon = load_lexicon(model, t2i, device, quiet or as_json, dtype, offload)
    settings = {
        "model": model, "encoder_sha256": lexicon.encoder_sha256, "prompt": prompt,
        "images": parse_pairs(image, "--image"), "weights": weights, "tokens": tokens, "cfg": cfg, "tfg": tfg,
        "interval": list(interval), "negative": negative, "steps": steps, "scheduler": scheduler, "seed": seed,
        "start": start and str(start), "strength": strength, "mask": mask and str(mask),
        "size": size, "upscale": upscale, "dtype": dtype,
    }  # fmt: skip
    upscaler = _upscaler(upscale, device, dtype)
    output = Output(out, "generate", settings)
    with progress_bar("drawing", quiet or as_json) as on_step:
        pictures = lexicon.generate(
            prompt, named, num_tokens=tokens, weights=weights, negative=negative, guidance=guidance,
            num_images=num_images, seed=seed, steps=steps, scheduler=scheduler, start=start, strength=strength,
            mask=mask, on_step=on_step,
        )  # fmt: skip
    if upscaler:
        pictures = upscaler(pictures, [prompt] * len(pictures), seed)
    for i, picture in enumerate(pictures):
        output.picture(f"{i:03d}.png", picture, size, seed=seed + i)
    print_summary(output.manifest(), f"{len(pictures)} picture(s) -> {out}", quiet, as_json)


@app.command()
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
    model: Model = "nano",
    t2i: Base = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Re-create images from their tokens alone, with a grid for each."""
    from vilex.guidance import Guidance
    from vilex.images import load_each, square
    from vilex.output import Output
    from vilex.reconstruction import reconstruct_at, reconstruction_grid

    counts = parse_numbers(tokens, "--tokens")
    good, bad = load_each(images)
    if not good:
        refuse(bad)
    lexicon = load_lexicon(model, t2i, device, quiet or as_json, dtype, offload)
    check_counts(counts, lexicon.num_tokens)
    settings = {
        "model": model, "encoder_sha256": lexicon.encoder_sha256, "cfg": cfg, "steps": steps, "scheduler": scheduler,
        "seed": seed, "size": size, "upscale": upscale, "dtype": dtype,
    }  # fmt: skip
    upscaler = _upscaler(upscale, device, dtype)
    output = Output(out, "reconstruct", settings)
    for name, (path, image) in zip(_unique_names(list(good)), good.items(), strict=True):
        with progress_bar(path.name, quiet or as_json) as on_step:
            drawn = reconstruct_at(
                lexicon, image, counts, num_images, guidance=Guidance(cfg), seed=seed, steps=steps,
                scheduler=scheduler, on_step=on_step,
            )  # fmt: skip
        if upscaler:
            drawn = {count: upscaler(pictures, [""] * len(pictures), seed) for count, pictures in drawn.items()}
        for count, pictures in drawn.items():
            for k, picture in enumerate(pictures):
                output.picture(
                    f"{name}-{count:02d}-{k}.png", picture, size, source=str(path), tokens=count, seed=seed + k
                )
        shown = reconstruction_grid(square(image, drawn[counts[0]][0].width), drawn)
        output.picture(f"{name}-grid.png", shown, source=str(path), tokens=counts)
    print_summary(output.manifest(bad), f"{len(good)} image(s) at {tokens} tokens -> {out}", quiet, as_json)
    refuse(bad)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what the run will take, and stop.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Of the plan: devices that share each step.")] = 1,
    measure: Annotated[int, typer.Option(min=0, help="Of the plan: steps to time here, on random weights.")] = 2,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train an encoder on a frozen text-to-image model, or go on training."""
    from vilex.train.config import TrainConfig
    from vilex.train.toml import load_toml

    settings = load_toml(TrainConfig, config, overrides or [])
    settings.check()
    if plan:
        _plan(settings, processes, measure, quiet, as_json)
        return
    from vilex.train.loop import train as run

    folder = run(settings, quiet)
    if not quiet:
        print(f"trained encoder -> {folder}")


@app.command()
def info(
    model: Annotated[str, typer.Argument(help="Embedded model (nano), folder, or hub id.")] = "nano",
    t2i: Base = None,
    as_json: Json = False,
) -> None:
    """What a model is: tower, pooler, base, sizes, training."""
    lexicon = load_lexicon(model, t2i, "cpu", as_json)
    facts = lexicon.facts()
    text = "\n".join(f"{key:>16}  {value}" for key, value in facts.items())
    print_summary({"model": model, **facts}, text, False, as_json)


def _encode_collection(
    data: str, out: Path, tokens: int | None, model: str, runner: Any, quiet: bool, as_json: bool
) -> None:
    from vilex.bulk import Job, encode_collection
    from vilex.train.config import SourceConfig

    with progress_bar("encoding", quiet or as_json) as on_shard:
        count, refused = encode_collection(Job(SourceConfig(path=data), out, model, tokens), runner, on_shard)
    summary = {"folder": str(out), "model": model, "images": count, "refused": refused}
    print_summary(summary, f"{count} image(s) -> {out}", quiet, as_json)
    refuse(refused)


def _runner(device: str, processes: int | None, ray: str | None) -> Any:
    """Who encodes a collection: a Ray cluster, every local GPU, or processes that share the CPU."""
    import torch

    from vilex.bulk import on_devices
    from vilex.cluster import on_ray

    if ray:
        return on_ray(ray, processes, gpu=device.startswith("cuda"))
    if device != "cuda":
        return on_devices([device] * (processes or 1))
    return on_devices([f"cuda:{i}" for i in range(processes or torch.cuda.device_count())] or ["cuda"])


def _plan(settings: Any, processes: int, measure: int, quiet: bool, as_json: bool) -> None:
    from dataclasses import asdict

    import torch

    from vilex.train.plan import describe, make_plan

    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = automatic if settings.run.device == "auto" else settings.run.device
    made = make_plan(settings, processes, measure, device)
    text = "\n".join(f"{title:>10}  {line}" for title, line in describe(made).items())
    print_summary({**asdict(made), "peak": made.peak}, text, quiet, as_json)


def main() -> None:
    """Entry point: a user's error is one line and exit status 2."""
    warnings.showwarning = lambda message, *_: errors.print(f"warning: {message}", markup=False)
    try:
        app()
    except InputError as error:
        errors.print(f"error: {error}", markup=False)
        sys.exit(2)


def _upscaler(name: str | None, device: str, dtype: str):
    """The model that `--upscale` names, loaded before anything is drawn."""
    if name is None:
        return None
    import torch

    from vilex.upscale import Upscaler

    return Upscaler(name, device, getattr(torch, dtype))


def _image_source(value: str):
    """An image path, or tokens [n, d] out of a token file."""
    path, _, name = value.partition("#")
    if not path.endswith(".safetensors"):
        return Path(value)
    from vilex.tokens import load_tokens

    tokens = load_tokens(path).tokens
    if not name and len(tokens) > 1:
        raise InputError(f"{path}: holds {len(tokens)} images; name one with {path}#{next(iter(tokens))}")
    if name and name not in tokens:
        raise InputError(f"{path}: holds no image '{name}', only {', '.join(tokens)}")
    return tokens[name or next(iter(tokens))]


def _unique_names(paths: list[Path]) -> list[str]:
    names: list[str] = []
    for path in paths:
        taken = sum(name == path.stem or name.startswith(f"{path.stem}~") for name in names)
        names.append(f"{path.stem}~{taken + 1}" if taken else path.stem)
    return names


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another file with -o") from None
