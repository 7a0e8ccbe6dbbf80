"""An encoder by name: embedded in the package, a folder, or a hub id."""

from pathlib import Path

import torch

from vilex.encoder.model import ViLexEncoder
from vilex.hub.folder import check_whole, read_encoder_config, resolve
from vilex.hub.loading import quiet_loading

EMBEDDED = {"nano": Path(__file__).parents[1] / "models" / "nano"}


def encoder_folder(name: str | Path) -> Path:
    """Where an encoder lies.

    Raises:
        InputError: nothing is there, or no encoder with weights that can be read.
    """
    folder = resolve(EMBEDDED.get(str(name), name))
    read_encoder_config(folder)
    return folder


def load_encoder(name: str | Path) -> ViLexEncoder:
    """An encoder in float32, ready to encode; the frozen model is not needed for that. Raises as `encoder_folder`."""
    folder = encoder_folder(name)
    how = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    with quiet_loading():
        encoder, about = ViLexEncoder.from_pretrained(folder, **how)
    check_whole(folder, encoder, about)
    return encoder.eval()
