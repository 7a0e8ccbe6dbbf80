"""Eyes with a text side: a CLIP or SigLIP whose vision tower is the one that is looked at.

A ViLex encoder keeps its tower alone. The text side, and the head that makes an embedding of patches, are those of the
model that its tower was tuned from, as rivals do it that tune CLIP's tower by a generator (DIVA, GenHancer, un2CLIP).
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vilex.encoder.eyes import Eyes
from vilex.encoder.towers import OPEN_CLIP_PREFIX
from vilex.errors import InputError
from vilex.eval.features import HubModel
from vilex.hub.folder import read_json, resolve
from vilex.hub.state_hash import state_hash
from vilex.understand.features import FeaturePart

TEMPLATES = ("a photo of a {}.",)
HEAD = "head."  # SigLIP's, which towers leave out


def has_text(name: str) -> bool:
    """Whether a model by its folder or hub id reads text, too."""
    if name.startswith(OPEN_CLIP_PREFIX):
        return False
    return "text_config" in read_json(resolve(name, weights=False) / "config.json")


class TextSide:
    """Pictures and texts in one space.

    Args:
        text: a CLIP or SigLIP, by its folder or hub id. eyes: whose tower looks; the model's own if it is None.
    Raises:
        InputError: it reads no text, or the tower is of another shape or another preparation of pictures.
    """

    parts: tuple[FeaturePart, ...]

    def __init__(self, text: str, eyes: Eyes | None = None, device: str | torch.device = "cpu"):
        if not has_text(text):
            raise InputError(f"{text}: reads no text; give a CLIP or SigLIP, the one that the tower was tuned from")
        self.reader = HubModel(text, device)
        if eyes is not None:
            _put_in(self.reader.network.vision_model, eyes, text)
            _check_normalisation(self.reader.processor, eyes, text)
        self.network: Any = self.reader.network
        self.parts = (FeaturePart("pooled", 1, self._width()),)

    def views(self, image: Image.Image) -> Tensor:
        """An RGB picture to pixels [3, S, S], as the model's own processor makes them."""
        return torch.as_tensor(self.reader.processor(images=[image], return_tensors="pt")["pixel_values"][0])

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Pixels [B, 3, S, S] to embeddings [B, 1, D] in a list."""
        found = self.network.get_image_features(pixel_values=pixels.to(self.network.device))
        return [getattr(found, "pooler_output", found)[:, None]]

    def texts(self, lines: Sequence[str]) -> Tensor:
        """Texts to unit vectors [N, D]."""
        return F.normalize(self.reader.read(list(lines)).float(), dim=1)

    def about(self) -> dict[str, Any]:
        """All that decides what pictures become."""
        state = {key: value for key, value in self.network.state_dict().items() if not key.startswith("text_model.")}
        shown = hashlib.sha256(self.reader.processor.to_json_string().encode()).hexdigest()
        return {"kind": "embedding", "weights_sha256": state_hash(state), "processor_sha256": shown}

    def _width(self) -> int:
        with torch.no_grad():
            return self(self.views(Image.new("RGB", (32, 32)))[None])[0].shape[2]


def class_vectors(side: TextSide, classes: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
    """A unit vector for each class, the mean over templates: [C, D]."""
    named = [name.replace("_", " ") for name in classes]
    several = [side.texts([template.replace("{}", name) for name in named]) for template in templates]
    return F.normalize(torch.stack(several).mean(0), dim=1)


def check_templates(templates: Sequence[str]) -> None:
    """Raise InputError for a template without a place for the class."""
    for template in templates:
        if "{}" not in template:
            raise InputError(f"--template {template!r}: expected {{}} where the class's name goes")


def by_text(pictures: Tensor, classes: Tensor) -> Tensor:
    """The class whose text is nearest by cosine: [N]; pictures: [N, D], classes: [C, D], of length one."""
    return (F.normalize(pictures.float(), dim=1) @ classes.T).argmax(1)


def _put_in(vision: Any, eyes: Eyes, text: str) -> None:
    """A tower's weights in place of a model's own."""
    own = vision.state_dict()
    state = {key.removeprefix("vision_model."): value for key, value in eyes.tower.state_dict().items()}
    plain = {key.removeprefix("vision_model."): key for key in own}
    for key, whole in plain.items():
        if not key.startswith(HEAD) and (key not in state or state[key].shape != own[whole].shape):
            here = list(state[key].shape) if key in state else "nothing"
            raise InputError(
                f"{eyes.name}: its tower does not fit into {text} ({key} is {list(own[whole].shape)} there, {here} "
                "here); give --text the model that the tower was tuned from"
            )
    if more := sorted(state.keys() - plain.keys()):
        raise InputError(f"{eyes.name}: its tower does not fit into {text}, which has no {more[0]}")
    vision.load_state_dict({plain[key]: value for key, value in state.items()}, strict=False)


def _check_normalisation(processor: Any, eyes: Eyes, text: str) -> None:
    for key, own in (("image_mean", eyes.preprocess.mean), ("image_std", eyes.preprocess.std)):
        there = list(getattr(processor, key))
        if not torch.allclose(torch.tensor(there), torch.tensor(own), atol=1e-3):
            raise InputError(
                f"{eyes.name}: sees pictures of {key} {list(own)}, {text} of {there}; give --text the model that its "
                "tower was tuned from"
            )
