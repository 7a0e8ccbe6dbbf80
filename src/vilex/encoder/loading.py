"""An encoder by name: embedded in the package, a folder, or a hub id."""

from pathlib import Path

import torch

from vilex.encoder.model import ViLexEncoder
from vilex.errors import InputError
from vilex.hub.folder import EMBEDDED, as_configured, check_whole, read_encoder_config, resolve
from vilex.hub.loading import quiet_loading

__all__ = ["EMBEDDED", "encoder_folder", "load_encoder"]


def encoder_folder(name: str | Path) -> Path:
    """Where an encoder lies.

    Raises:
        InputError: nothing is there, or no encoder with weights that can be read.
    """
    folder = resolve(name)
    read_encoder_config(folder)
    return folder


def load_encoder(name: str | Path) -> ViLexEncoder:
    """An encoder in float32, ready to encode; the frozen model is not needed for that.

    Raises:
        InputError: as `encoder_folder`; or config.json describes no encoder, or another one than the weights are of.
    """
    folder = encoder_folder(name)
    how = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    try:
        with quiet_loading(), as_configured(folder):
            encoder, about = ViLexEncoder.from_pretrained(folder, ignore_mismatched_sizes=True, **how)
    except InputError as error:
        raise InputError(f"{folder}: {error}".replace(f"{folder}: {folder}:", f"{folder}:")) from None
    check_whole(folder, encoder, about, exact=True)
    return encoder.eval()
