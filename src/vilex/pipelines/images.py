"""What makes a diffusers pipeline read images: before it runs, prompt and images become its prompt embeddings.

All else is the base pipeline's own: callbacks, `output_type`, schedulers, LoRAs, offloading.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vilex.encoder import load_encoder
from vilex.errors import InputError
from vilex.lexicon import ImageLike, VisualLexicon
from vilex.prompt import parse
from vilex.t2i.folder import DiffusersT2I


class ImagePrompts:
    """Mixed into a pipeline class, before it.

    Attributes:
        family: the frozen model's.
    """

    family: type[DiffusersT2I]
    components: dict[str, Any]
    scheduler: Any
    config: Any
    _execution_device: torch.device

    def load_vilex(self, encoder: str | Path) -> "ImagePrompts":
        """Load an encoder (folder or hub id) that was trained with this base model.

        Raises:
            InputError: there is none, or it belongs to a model of another width.
        """
        loaded = load_encoder(encoder)
        parts = {name: self.components[name] for name in self.family.parts if self.components.get(name) is not None}
        frozen = self.family(parts, dict(self.scheduler.config), dict(self.config))
        self.lexicon = VisualLexicon(loaded.to(frozen.device, frozen.dtype), frozen)
        return self

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        images: Mapping[str, ImageLike] | None = None,
        *args: Any,
        num_tokens: int | None = None,
        text_free: bool = False,
        negative_prompt: str | None = None,
        **how: Any,
    ) -> Any:
        """Draw; a prompt without images goes to the base pipeline as it is.

        Args:
            prompt: "a photo of <cat:16> in the snow". images: by name, see `VisualLexicon.generate`.
            text_free: let `guidance_scale` weigh the words against the images alone (TFG).
            how: whatever the base pipeline takes.
        Raises:
            InputError: a prompt names images and `load_vilex` was not called.
        """
        texts = [prompt] if isinstance(prompt, str) else list(prompt or [])
        if not any(parse(text).names for text in texts):
            return super().__call__(prompt, *args, negative_prompt=negative_prompt, **how)  # type: ignore[misc]
        if not hasattr(self, "lexicon"):
            raise InputError("the prompt names images; call load_vilex(ENCODER) first")
        self.lexicon.encoder.to(self._execution_device)
        embeds = self.lexicon.prompt_embeds(
            texts, images, num_tokens=num_tokens, negative=negative_prompt or "", text_free=text_free
        )
        return super().__call__(*args, **embeds, **how)  # type: ignore[misc]
