"""`vilex understand masks`: a codec of masks, for models that answer with `<seg>` words."""

from pathlib import Path
from typing import Annotated

import typer

from vilex.cli.options import Device, Json, Overwrite, Quiet, print_summary, progress_bar, refuse


def masks(
    source: Annotated[
        Path, typer.Argument(help="Folder of mask pictures, JSON lines with 'mask', or COCO's instances.json.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the codec.")] = Path("masks"),
    steps: Annotated[int, typer.Option(min=1, max=10**7, help="Of training.")] = 2500,
    width: Annotated[
        int, typer.Option(min=8, max=1024, help="Channels of the widest layers; PaliGemma's has 128.")
    ] = 48,
    code: Annotated[int, typer.Option(min=1, max=1024, help="Numbers of a code; PaliGemma's has 512.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Masks a step.")] = 64,
    lr: Annotated[float, typer.Option(min=1e-7, max=1, help="Learning rate.")] = 2e-3,
    held_out: Annotated[float, typer.Option(min=0.001, max=0.5, help="Share of masks that measure it.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, max=2**53, help="Of weights, order and what is held out.")] = 0,
    save_every: Annotated[int, typer.Option(min=1, max=10**7, help="Steps between two checkpoints.")] = 500,
    overwrite: Overwrite = False,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a codec of masks, 16 words each; the same command goes on after a stop."""
    from vilex.cli.manifest import check_folder, check_free
    from vilex.device import check_device
    from vilex.understand.mask_codec import CONFIG, WEIGHTS
    from vilex.understand.mask_run import train_into
    from vilex.understand.mask_sources import read_outlines
    from vilex.understand.mask_training import CodecConfig

    where = check_device(device, "--device")
    check_folder(out)
    check_free(out, (CONFIG, WEIGHTS), overwrite)
    outlines = read_outlines(source)
    learnt, tested = outlines.split(held_out, seed)
    config = CodecConfig(width=width, code=code, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    with progress_bar("masks", quiet) as move:
        about = train_into(out, learnt, tested, config, where, save_every, move)
    summary = {"codec": str(out), "masks": outlines.seen, **about, "refused": list(outlines.bad)}
    text = (
        f"{outlines.seen} masks, {len(outlines.masks)} different ones\n"
        f"overlap on {len(tested)} held-out outlines: {about['held_out_overlap']:.3f}\nmask codec -> {out}"
    )
    print_summary(summary, text, quiet, as_json)
    refuse(list(outlines.bad))
