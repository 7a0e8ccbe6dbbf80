"""Masks as 16 words of 128: the VQ-VAE of PaliGemma's `<seg>` tokens (Ning et al. 2023, arXiv 2301.02229).

    mask [64, 64] -> encoder -> 4 x 4 vectors -> nearest of 128 -> 16 numbers -> decoder -> [64, 64], above 0 inside

Parameters carry big_vision's names, so that its `vae-oid.npz` loads as it is, and a codec trained here has that form.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vilex.errors import InputError
from vilex.hub.state_hash import state_hash
from vilex.paths import replacing, write_text
from vilex.settings import build

SIDE, TOKENS, CODES = 64, 16, 128
WEIGHTS, CONFIG = "model.safetensors", "config.json"
SHIPPED = Path(__file__).parents[1] / "models" / "masks"  # trained on the outlines of emoji; recipes/nano/understanding


@dataclass(frozen=True)
class CodecShape:
    """Channels: of the encoder's four layers, of a code, and of the decoder's first layer."""

    encoder: tuple[int, ...]
    code: int
    decoder: int


class Codebook(nn.Module):
    """The 128 vectors, under the name they are published by."""

    def __init__(self, width: int):
        super().__init__()
        self._embedding = nn.Parameter(torch.randn(CODES, width) / width**0.5)

    @property
    def vectors(self) -> Tensor:
        """[128, width]."""
        return self._embedding

    def nearest(self, vectors: Tensor) -> Tensor:
        """[..., width] -> [...], the number of the nearest code."""
        return torch.cdist(vectors.flatten(0, -2), self._embedding).argmin(1).view(vectors.shape[:-1])


class MaskBlock(nn.Module):
    """Two 3 x 3 convolutions and one 1 x 1 beside a straight way."""

    def __init__(self, width: int):
        super().__init__()
        layers = [nn.Conv2d(width, width, size, padding=size // 2) for size in (3, 3, 1)]
        self.net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] -> the same shape."""
        return x + self.net(x)


class MaskCodec(nn.Module):
    """Masks to 16 numbers below 128 and back."""

    def __init__(self, shape: CodecShape):
        super().__init__()
        self.shape = shape
        widths = (1, *shape.encoder)
        down = [nn.Conv2d(widths[i], widths[i + 1], 4, stride=2, padding=1) for i in range(4)]
        last, first = shape.encoder[-1], shape.decoder
        widths = (first, *(first // 2**i for i in range(4)))
        up = [nn.ConvTranspose2d(widths[i], widths[i + 1], 4, stride=2, padding=1) for i in range(4)]
        self.encoder = nn.Sequential(
            *_with_relu(down), MaskBlock(last), MaskBlock(last), nn.Conv2d(last, shape.code, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(shape.code, first, 1), nn.ReLU(), MaskBlock(first), MaskBlock(first), *_with_relu(up),
            nn.Conv2d(widths[-1], 1, 1),
        )  # fmt: skip
        self._vq_vae = Codebook(shape.code)

    @property
    def codes(self) -> Codebook:
        """The codebook."""
        return self._vq_vae

    def vectors(self, masks: Tensor) -> Tensor:
        """[B, 64, 64] of 0 to 1 -> [B, 16, code], before they become numbers."""
        return self.encoder(2 * masks[:, None] - 1).flatten(2).transpose(1, 2)

    def encode(self, masks: Tensor) -> Tensor:
        """[B, 64, 64] of 0 to 1 -> [B, 16] of 0 to 127."""
        return self.codes.nearest(self.vectors(masks))

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """[B, 16, code] -> [B, 64, 64], about -1 outside and 1 inside."""
        return self.decoder(vectors.transpose(1, 2).unflatten(2, (4, 4)))[:, 0]

    def decode(self, numbers: Tensor) -> Tensor:
        """[B, 16] of 0 to 127 -> [B, 64, 64], about -1 outside and 1 inside."""
        return self.decode_vectors(F.embedding(numbers, self.codes.vectors))

    def digest(self) -> str:
        """What its words are recognised by: the start of its weights' SHA-256, in half precision as it is kept."""
        return state_hash({key: value.half() for key, value in self.state_dict().items()})[:16]

    def save(self, folder: Path, **about: Any) -> None:
        """Write config.json and the weights in half precision; `about` is kept beside the shape."""
        write_text(folder / CONFIG, json.dumps({"shape": asdict(self.shape), **about}, indent=2) + "\n")
        with replacing(folder / WEIGHTS) as aside:
            save_file({key: value.half().contiguous() for key, value in self.state_dict().items()}, aside)


def load_codec(path: str | Path = "") -> MaskCodec:
    """A codec in float32, ready to use: big_vision's `vae-oid.npz`, a folder, or `shipped` (or nothing) for vilex's.

    Raises:
        InputError: it cannot be read, or its weights have other names or shapes.
    """
    path = SHIPPED if str(path) in ("", "shipped") else Path(path)
    state = _read_npz(path) if path.suffix == ".npz" else _read_folder(path)
    shape = _shape_of(state, path)
    codec = MaskCodec(shape)
    wanted = codec.state_dict()
    for key in sorted(wanted.keys() | state.keys()):
        if key not in state or key not in wanted:
            raise InputError(f"{path}: {'no' if key in wanted else 'unknown'} weight '{key}'; give a mask codec")
        if state[key].shape != wanted[key].shape:
            found, right = list(state[key].shape), list(wanted[key].shape)
            raise InputError(f"{path}: '{key}' is {found}, expected {right}; give a mask codec")
        if not state[key].isfinite().all():
            raise InputError(f"{path}: '{key}' holds values that are no finite numbers; fetch the file again")
    codec.load_state_dict(state)
    return codec.eval()


def _read_npz(path: Path) -> dict[str, Tensor]:
    """big_vision's file; what is pickled in it is refused. Running averages of the codes' training are left out."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        state = {key: torch.from_numpy(array).float() for key, array in arrays.items()}
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give big_vision's vae-oid.npz") from None
    return {key: value for key, value in state.items() if not key.startswith("_vq_vae._ema")}


def _read_folder(path: Path) -> dict[str, Tensor]:
    try:
        build(CodecShape, json.loads((path / CONFIG).read_text(encoding="utf-8"))["shape"], str(path / CONFIG))
        return {key: value.float() for key, value in load_file(path / WEIGHTS).items()}
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: cannot be read ({error}); give a codec's folder, or big_vision's vae-oid.npz"
        ) from None


def _shape_of(state: dict[str, Tensor], path: Path) -> CodecShape:
    try:
        encoder = tuple(state[f"encoder.{2 * i}.weight"].shape[0] for i in range(4))
        return CodecShape(encoder, state["_vq_vae._embedding"].shape[1], state["decoder.0.weight"].shape[0])
    except (KeyError, IndexError) as error:
        raise InputError(f"{path}: no weight {error}; give a mask codec") from None


def _with_relu(layers: list[Any]) -> list[nn.Module]:
    return [one for layer in layers for one in (layer, nn.ReLU())]
