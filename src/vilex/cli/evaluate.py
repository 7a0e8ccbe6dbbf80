"""`vilex eval ...`: the protocols, one command each."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vilex.cli.eyesight import eyes
from vilex.cli.manifest import check_file, check_folder
from vilex.cli.models import Checkpoint, Lora, Models, Quantize
from vilex.cli.options import (
    Base,
    Cfg,
    Device,
    Dtype,
    FitName,
    Json,
    Model,
    Offload,
    Quiet,
    SchedulerName,
    Steps,
    parse_counts,
    parse_fit,
    parse_number,
    parse_numbers,
    print_summary,
    progress_bar,
    refuse,
)
from vilex.errors import InputError, said_as
from vilex.extras import needs

app = typer.Typer(no_args_is_help=True, help="Measure, with pictures and tables.")
app.command()(eyes)

Data = Annotated[str, typer.Argument(help="Pictures: folder, tables, tar shards or hf:NAME.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for pictures and results.")]
Images = Annotated[int | None, typer.Option(min=1, help="Only the first so many; all by default.")]


@app.command()
def reconstruction(
    data: Data,
    out: Out = Path("reconstruction"),
    tokens: Annotated[str, typer.Option(help="Token counts, comma-separated.")] = "1,4,16,75",
    captions: Annotated[int, typer.Option(min=0, help="Captions of each picture to draw from as well.")] = 1,
    images: Images = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the noise, comma-separated.")] = "0",
    features: Annotated[str, typer.Option(help="lite0, inception, or hub ids; comma-separated.")] = "lite0",
    measures: Annotated[
        str, typer.Option(help="distance, rank, error, psnr, ssim, lpips, fid, kid, is; comma-separated.")
    ] = "distance,rank,error,psnr,ssim,kid",
    reference: Annotated[Path | None, typer.Option(help="Statistics for fid, by `vilex eval reference`.")] = None,
    cfg: Cfg = 3.0,
    steps: Steps = 20,
    scheduler: SchedulerName = "dpm++",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures drawn at once.")] = 16,
    fit: FitName = None,
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
    """Pictures to tokens and back: how close do 1, 4, 16, 75 tokens come, and how close a caption?"""
    way = parse_fit(fit)
    with needs("eval"):
        from vilex.data.config import SourceConfig
        from vilex.eval.reconstruction import evaluate_reconstruction
        from vilex.eval.rows import Reconstruction
        from vilex.eval.tables import to_markdown

    check_folder(out)
    models = Models(model, t2i, device, dtype, offload, quantize, lora, checkpoint)
    lexicon = models.load(quiet or as_json)
    counts = parse_counts(tokens, lexicon.num_tokens)
    titles = ("caption",) if captions == 1 else tuple(f"caption {i + 1}" for i in range(captions))
    settings = Reconstruction(
        SourceConfig(path=data, allow_pipe=True), out, images, counts, titles, tuple(parse_numbers(seeds, "--seeds")),
        tuple(features.split(",")), tuple(measures.split(",")), reference, cfg, steps, scheduler, batch_size, way,
    )  # fmt: skip
    with said_as("data.path: ", ""), progress_bar("drawing", quiet or as_json) as on_picture:
        results, refused = evaluate_reconstruction(lexicon, settings, on_picture=on_picture)
    text = f"{to_markdown(results['rows'])}\n{results['images']} picture(s) -> {out}"
    print_summary({"folder": str(out), "refused_files": refused, **results}, text, quiet, as_json)
    refuse(refused)


@app.command()
def subject(
    photos: Annotated[Path, typer.Argument(help="A folder with a folder for each subject, or a Parquet table.")],
    prompts: Annotated[Path, typer.Option(help="The benchmark's prompts_and_classes.txt.")],
    out: Out = Path("subject"),
    subjects: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    captions: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts of each.")] = None,
    tokens: Annotated[str, typer.Option(help="Token counts, comma-separated.")] = "16",
    tfg: Annotated[str, typer.Option(help="Weights of text-free guidance, comma-separated.")] = "3,5,7.5",
    num_images: Annotated[int, typer.Option(min=1, help="Pictures a prompt.")] = 4,
    features: Annotated[
        str, typer.Option(help="Of subject fidelity: lite0, inception, or hub ids; comma-separated.")
    ] = "facebook/dino-vits16,openai/clip-vit-base-patch32",
    text: Annotated[
        str, typer.Option(help="CLIP model of prompt fidelity; empty for none.")
    ] = "openai/clip-vit-base-patch32",
    baselines: Annotated[str, typer.Option(help="textual-inversion, dreambooth; tuned on all photographs.")] = "",
    inversion_steps: Annotated[int, typer.Option(min=1, help="Steps of textual inversion.")] = 3000,
    dreambooth_steps: Annotated[int, typer.Option(min=1, help="Steps of DreamBooth.")] = 400,
    cfg: Cfg = 3.0,
    steps: Steps = 20,
    scheduler: SchedulerName = "dpm++",
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
    """The subject of one photograph in new prompts (DreamBooth): is it still the subject, is it what was asked?"""
    from vilex.baselines import dreambooth, inversion

    with needs("eval"):
        from vilex.eval.dreambooth_data import read_prompts, read_subjects
        from vilex.eval.subject import SubjectSettings, evaluate_subjects
        from vilex.eval.tables import to_markdown

    if baselines and (offload or quantize or dtype != "float32"):
        raise InputError("--baselines: they train in float32 on the device; leave --dtype, --offload, --quantize out")
    check_folder(out)
    read_subjects(photos, read_prompts(prompts).classes)  # what is wrong with them is said before models load
    models = Models(model, t2i, device, dtype, offload, quantize, lora, checkpoint)
    lexicon = models.load(quiet or as_json)
    counts = parse_counts(tokens, lexicon.num_tokens)
    settings = SubjectSettings(
        photos, prompts, out, subjects, captions, counts,
        tuple(parse_number(weight, "--tfg ") for weight in tfg.split(",")), num_images,
        tuple(features.split(",")), text, cfg, steps, scheduler,
        baselines=tuple(name for name in baselines.split(",") if name),
        inversion=replace(inversion.DEFAULTS, steps=inversion_steps),
        dreambooth=replace(dreambooth.DEFAULTS, steps=dreambooth_steps),
    )  # fmt: skip
    with progress_bar("drawing", quiet or as_json) as on_row:
        results = evaluate_subjects(lexicon, settings, on_row)
    text_summary = f"{to_markdown(results['rows'])}\n{len(results['subjects'])} subject(s) -> {out}"
    print_summary({"folder": str(out), **results}, text_summary, quiet, as_json)


@app.command()
def ablate(
    grid: Annotated[Path, typer.Argument(help="TOML file: one run, its variants, and what to measure.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for runs, pictures and results.")] = Path("ablation"),
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train variants of one run, evaluate each, and print one table. What is finished is not done again."""
    with needs("eval,train"):
        from vilex.eval.ablate import load_grid, run_ablation
        from vilex.eval.tables import to_markdown

    check_folder(out)
    _check_device(device)
    results = run_ablation(load_grid(grid), out, device, quiet or as_json)
    print_summary({"folder": str(out), **results}, to_markdown(results["rows"]), quiet, as_json)


@app.command()
def reference(
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")] = Path("reference.safetensors"),
    images: Images = None,
    size: Annotated[int, typer.Option(min=8, help="Pixels a side: the model's whose pictures are compared.")] = 64,
    fit: FitName = None,
    features: Annotated[str, typer.Option(help="lite0, inception, or a hub id.")] = "lite0",
    device: Device = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the statistics of a set of pictures that `fid` compares with, say all of COCO's validation set."""
    way = parse_fit(fit) or "crop"
    with needs("eval"):
        from vilex.data.config import SourceConfig
        from vilex.eval.reference import write_reference

    if out.suffix != ".safetensors":
        raise InputError(f"-o {out}: expected a name that ends in .safetensors")
    check_file(out, overwrite)
    _check_device(device)
    with said_as("data.path: ", ""), progress_bar("looking", quiet or as_json) as on_picture:
        about, refused = write_reference(
            SourceConfig(path=data, allow_pipe=True), out, features, size, images, device, way, on_picture
        )
    summary: dict[str, Any] = {"file": str(out), **about, "refused": refused}
    print_summary(summary, f"{about['count']} picture(s) -> {out}", quiet, as_json)
    refuse(refused)


def _check_device(name: str) -> None:
    from vilex.device import check_device

    check_device(name, "--device")
