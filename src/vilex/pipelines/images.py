"""What makes a diffusers pipeline read images: before it runs, prompt and images become its prompt embeddings.

All else is the base pipeline's own: callbacks, `output_type`, schedulers, LoRAs, offloading.
"""

import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import RLock
from typing import Any

import torch

from vilex.encoder import load_encoder
from vilex.errors import InputError
from vilex.hub.folder import file_hash
from vilex.lexicon import ImageLike, VisualLexicon
from vilex.pictures.fit import Fit
from vilex.pipelines.embeds import prompt_arguments
from vilex.prompt import Prompt, parse
from vilex.requests import by_name, warn_of_unused
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
    _turn: AbstractContextManager[Any] = nullcontext()

    def load_vilex(self, encoder: str | Path) -> "ImagePrompts":
        """Load an encoder (folder or hub id) that was trained with this base model, in place of one before.

        Raises:
            InputError: there is none, or it belongs to a model of another width or with other text encoders.
        """
        loaded = load_encoder(encoder)
        parts = {name: self.components[name] for name in self.family.parts if self.components.get(name) is not None}
        _check_readers(parts, loaded.config.base_sha256)
        _check_precision(parts)
        words = {name: _Words(self, part) for name, part in parts.items() if name.startswith("tokenizer")}
        frozen = self.family({**parts, **words}, dict(self.scheduler.config), dict(self.config))
        self._turn = RLock() if isinstance(self._turn, nullcontext) else self._turn
        self.lexicon = VisualLexicon(loaded.to(frozen.device, frozen.dtype), frozen)
        return self

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        images: Mapping[str, ImageLike] | None = None,
        *args: Any,
        num_tokens: int | None = None,
        fit: Fit | None = None,
        text_free: bool = False,
        negative_prompt: str | Sequence[str] | None = None,
        clip_skip: int | None = None,
        **how: Any,
    ) -> Any:
        """Draw; prompts without images go to the base pipeline as they are.

        Threads take turns, once `load_vilex` was called: a scheduler holds the state of one drawing.

        Args:
            prompt: "a photo of <cat:16> (in the snow:1.3)", or several; without images and where stress is not read
                (before `load_vilex`, beside other text encoders than CLIP's) round brackets are words, as in the
                base pipeline. images: by name, see `VisualLexicon.generate`. A name in brackets that is a loaded
                textual inversion's, and no image's, is that.
            fit: how images that are not square are brought to the encoder, see `VisualLexicon.encode`.
            text_free: let `guidance_scale` weigh the words against the images alone (TFG).
            negative_prompt: what to steer away from, images included; one, or one for each prompt.
            clip_skip: how many of CLIP's last layers the prompt goes without.
            how: whatever the base pipeline takes.
        Raises:
            InputError: a prompt names images and `load_vilex` was not called; a name is both an image's and a textual
                inversion's; or see `VisualLexicon.prompt_embeds`.
        """
        with self._turn:
            images = by_name({} if images is None else images)
            asked, against = (self._parsed(one, images) for one in (prompt, negative_prompt))
            named = {name for one in (*asked, *against) for name in one.names}
            warn_of_unused(images, [*asked, *against])
            # diffusers' own clip_skip looks for CLIP where transformers 5 has it no more
            taken = list(inspect.signature(super().__call__).parameters)  # type: ignore[misc]
            beyond = clip_skip or (negative_prompt and "negative_prompt" not in taken)
            beyond = beyond or any(one.emphasis for one in (*asked, *against))
            if not named and not (beyond and hasattr(self, "lexicon")):
                given = {"clip_skip": clip_skip, "negative_prompt": negative_prompt}
                how |= {name: value for name, value in given.items() if value is not None}
                if taken[0] != "prompt":
                    return super().__call__(*args, prompt=prompt, **how)  # type: ignore[misc]
                return super().__call__(prompt, *args, **how)  # type: ignore[misc]
            if not hasattr(self, "lexicon"):
                raise InputError("the prompt names images; call load_vilex(ENCODER) first")
            if clip_skip and "clip_skip" not in taken:
                raise InputError(f"clip_skip: {self.family.pipelines[0]} has none")
            self.lexicon.encoder.to(self._execution_device)
            embeds = prompt_arguments(
                self.lexicon,
                asked,
                images,
                num_tokens=num_tokens,
                fit=fit,
                negative=against or "",
                text_free=text_free,
                clip_skip=clip_skip or 0,
            )
            return super().__call__(*args, **embeds, **how)  # type: ignore[misc]

    def _parsed(self, texts: str | Sequence[str] | None, images: Mapping[str, ImageLike]) -> list[Prompt]:
        """Prompts in which textual inversions are words, whatever brackets their names have."""
        added = {word for one in self._tokenizers for word in {*one.get_added_vocab()} - {*one.all_special_tokens}}
        inversions = {word for word in added if re.fullmatch("<[^<>]+>", word)}
        if taken := sorted(word for word in inversions if word[1:-1] in images):
            raise InputError(f"{taken[0]} is both an image and a textual inversion; give the image another name")
        stress = bool(images) or (hasattr(self, "lexicon") and self.family.reads_emphasis)
        several = [texts] if isinstance(texts, str) else texts or []
        return [parse(text, emphasis=stress, known=inversions) for text in several]

    @property
    def _tokenizers(self) -> list[Any]:
        names = [name for name in self.family.parts if name.startswith("tokenizer")]
        return [self.components[name] for name in names if self.components.get(name) is not None]


class _Words:
    """A pipeline's tokenizer, to which a textual inversion of several vectors is as many words."""

    def __init__(self, pipeline: Any, tokenizer: Any):
        self._pipeline, self._tokenizer = pipeline, tokenizer

    def __call__(self, text: str, **how: Any) -> Any:
        if hasattr(self._pipeline, "maybe_convert_prompt"):
            text = self._pipeline.maybe_convert_prompt(text, self._tokenizer)
        return self._tokenizer(text, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __len__(self) -> int:
        return len(self._tokenizer)


def _check_precision(parts: Mapping[str, Any]) -> None:
    """Raise InputError if the parts were loaded in several precisions: what one gives, another cannot read."""
    found = {name: part.dtype for name, part in parts.items() if isinstance(part, torch.nn.Module)}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{name} in {str(dtype).removeprefix('torch.')}" for name, dtype in found.items())
        raise InputError(f"the pipeline has {said}; load it with torch_dtype=torch.float32, or another for all")


def _check_readers(parts: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    """Raise InputError if a text encoder has other weights than in training; warn if that cannot be told."""
    for name, digest in expected.items():
        part, _, file = name.partition("/")
        if not part.startswith("text_encoder"):
            continue
        if part not in parts:
            raise InputError(f"the pipeline has no {part}, with which the encoder was trained; use the same base model")
        folder = Path(parts[part].name_or_path or part)
        path = next((one for one in (folder / file, folder / name) if one.is_file()), None)
        if path is None:
            unknown = f"{part}: not from a file {file}; cannot tell whether the encoder was trained with it"
            warnings.warn(unknown, stacklevel=3)
        elif file_hash(path) != digest:
            raise InputError(f"{path}: not the weights this encoder was trained with; use the same base model")
