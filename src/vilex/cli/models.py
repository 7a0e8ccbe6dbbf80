"""The models that a command draws with, as its options name them."""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilex.cli.options import DTYPES, errors
from vilex.errors import InputError

if TYPE_CHECKING:
    from vilex.lexicon import VisualLexicon

Quantize = Annotated[
    str | None, typer.Option(help="Keep the frozen model's matrices in 8 bits, int8, or in 4 on CUDA cards, nf4.")
]
Lora = Annotated[
    list[str] | None, typer.Option(metavar="FILE[:WEIGHT]", help="A LoRA of the frozen model, .safetensors; several.")
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="The frozen model's weights in one file, .safetensors or .gguf; configurations are --t2i's."),
]


@dataclass(frozen=True)
class Models:
    """What `--model`, `--t2i` and the options beside them say."""

    model: str
    t2i: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    offload: str | None = None
    quantize: str | None = None
    lora: Iterable[str] | None = None
    checkpoint: Path | None = None

    @property
    def loras(self) -> list[tuple[str, float]]:
        """Files and weights of `--lora`."""
        from vilex.t2i.lora import split_lora

        return [split_lora(given) for given in self.lora or ()]

    def load(self, quiet: bool) -> "VisualLexicon":
        """The models, on the device.

        Raises:
            InputError: a value is none that is known, or a model cannot be loaded.
        """
        import torch

        from vilex.device import check_device
        from vilex.lexicon import VisualLexicon

        if self.dtype not in DTYPES:
            raise InputError(f"--dtype {self.dtype}: expected {', '.join(DTYPES)}")
        check_device(self.device, "--device")
        loras = self.loras  # said before anything is loaded
        with nullcontext() if quiet or not errors.is_terminal else errors.status(f"loading {self.model}"):
            return VisualLexicon.from_pretrained(
                self.model, self.t2i, self.device, getattr(torch, self.dtype), self.offload,
                quantize=self.quantize, loras=loras, checkpoint=self.checkpoint,
            )  # fmt: skip

    def about(self, lexicon: "VisualLexicon") -> dict[str, Any]:
        """What is drawn with, as manifests and pictures say it; of options that are not used, nothing."""
        hashed = lexicon.t2i.changed.get("loras", [])
        loras = [{"file": file, **own} for (file, _), own in zip(self.loras, hashed, strict=True)]
        chosen = {
            "quantize": self.quantize, "loras": loras, "checkpoint": self.checkpoint and str(self.checkpoint),
        }  # fmt: skip
        return {
            "model": self.model,
            "encoder_sha256": lexicon.encoder_sha256,
            "base": self.t2i or lexicon.encoder.config.base_model,
            "base_sha256": lexicon.base_sha256,
            "device": self.device,
            "dtype": self.dtype,
            "offload": self.offload,
            **{name: value for name, value in chosen.items() if value},
        }
