"""The encoder without Python: ONNX or torch.export, for serving. What goes in and out is checked to be equal."""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.extras import needs
from vilex.paths import write_text
from vilex.pictures.fit import PADDING

Format = Literal["onnx", "torch"]
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
FITTED = {"crop": {"crop": "middle square"}, "pad": {"pad": f"{PADDING}, to a square"}, "squash": {}}
TOLERANCE = 1e-4  # of tokens, whose spread is one word's: relative to their largest value


class Tokens(nn.Module):
    """Pixels [B, 3, S, S] to tokens [B, n, d], nothing else."""

    def __init__(self, encoder: ViLexEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values: Tensor) -> Tensor:
        """As the class says."""
        return self.encoder(pixel_values).tokens


def export_encoder(encoder: ViLexEncoder, out: Path, kind: Format) -> dict[str, Any]:
    """Write `out` (.onnx or .pt2) and beside it a .json that says how pictures become its input.

    Batches may be of any size. Half-precision encoders are written in float32. Files appear only when they are whole
    and checked.

    Returns:
        What the .json holds, and `difference`: the largest of any token value on a random batch, over the largest
        value.
    Raises:
        InputError: a package is missing, the exported encoder gives other tokens, or nothing can be written there.
    """
    encoder = encoder.cpu().float().eval()
    config = encoder.config
    pixels = torch.randn(2, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(0))
    about = {
        "input": {"pixel_values": ["batch", 3, config.image_size, config.image_size]},
        "output": {"tokens": ["batch", config.num_tokens, config.width]},
        "preprocessing": {
            "fit": config.fit, **FITTED[config.fit], "resize": "bicubic", "scale": "0..1",
            "mean": list(config.image_mean), "std": list(config.image_std),
        },
        "base_model": config.base_model,
        "base_sha256": config.base_sha256,
    }  # fmt: skip
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=out.parent) as aside:
            path = Path(aside) / out.name
            with torch.no_grad():
                expected = encoder(pixels).tokens
                found = (_onnx if kind == "onnx" else _torch)(Tokens(encoder).eval(), pixels, path)
            difference = ((found - expected).abs().max() / expected.abs().max()).item()
            if not difference <= TOLERANCE:
                raise InputError(f"{out}: gives other tokens than the encoder, by {difference:.2g} of their size")
            os.replace(path, out)
        write_text(out.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another file with -o") from None
    return {**about, "difference": difference}


def _torch(model: Tokens, pixels: Tensor, out: Path) -> Tensor:
    program = torch.export.export(model, (pixels,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.export.save(program, out)
    return torch.export.load(out).module()(pixels)


def _onnx(model: Tokens, pixels: Tensor, out: Path) -> Tensor:
    with needs("onnx"):
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    with _quietly():
        torch.onnx.export(
            model, (pixels,), str(out), input_names=["pixel_values"], output_names=["tokens"], dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), external_data=False, verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["tokens"], {"pixel_values": pixels.numpy()})[0])


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch says of packages that these models do not use, and of its own deprecations."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
