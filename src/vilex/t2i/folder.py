"""What all families share: a diffusers pipeline folder, its parts loaded, frozen and looked after."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from pathlib import Path
from threading import RLock
from typing import Any, ClassVar

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from vilex.checks import whole
from vilex.errors import InputError
from vilex.extras import needs
from vilex.hub.folder import as_configured, check_safetensors, check_whole, read_json, refuse_kernels
from vilex.prompt import Frame, Prompt
from vilex.t2i.base import Condition
from vilex.t2i.offload import device_of, offload
from vilex.t2i.schedule import is_flow, set_steps, shift_level
from vilex.t2i.text import TextEncoder

SCHEDULER = "scheduler"
PIXELS_AT_ONCE = 2**21  # through an auto-encoder, whose activations are some gigabytes for a megapixel


class DiffusersT2I:
    """A family over a diffusers pipeline folder; `FrozenT2I` says what the attributes are.

    A family names its pipelines and parts, says how it reads and predicts (`read`, `predict`), and makes
    `encoders` of its text encoders.

    Attributes:
        pipelines: `_class_name`s of model_index.json that are this family's.
        parts: the classes each part may have, by its name in model_index.json; `None` in a part's classes lets
            it be left out.
        denoiser: the name of the part that predicts.
        even_sigmas: whether the pipeline's own Euler steps are evenly spread from 1 to 1 / steps before the shift.
        index: model_index.json. tokenizers: by their names in it.
    """

    pipelines: ClassVar[tuple[str, ...]]
    parts: ClassVar[dict[str, tuple[str | None, ...]]]
    denoiser: ClassVar[str] = "unet"
    even_sigmas: ClassVar[bool] = False
    encoders: list[TextEncoder]
    latent_shape: tuple[int, int, int]
    image_size: int
    text_encoder: Any
    text_encoder_2: Any
    text_encoder_3: Any
    unet: Any
    transformer: Any
    vae: Any

    def __init__(self, components: dict[str, Any], scheduler_config: dict[str, Any], index: dict[str, Any]):
        self.names = tuple(name for name, part in components.items() if isinstance(part, nn.Module))
        for name in self.names:
            setattr(self, name, components[name])
        self.scheduler_config, self.index = scheduler_config, index
        self.turn: AbstractContextManager[Any] = nullcontext()
        for module in self.modules:
            module.requires_grad_(False).eval()
        self.network.to(memory_format=torch.channels_last)  # convolutions are faster so, on CPUs and GPUs alike
        self.prediction_type = (
            "flow" if is_flow(scheduler_config) else scheduler_config.get("prediction_type", "epsilon")
        )
        self.tokenizers = {name: part for name, part in components.items() if name not in self.names}
        self.setup()

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        """The family's own; see `FrozenT2I`."""
        raise NotImplementedError

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The family's own; see `FrozenT2I`."""
        raise NotImplementedError

    def setup(self) -> None:
        """Make `encoders`, `latent_shape` and `image_size` of the parts and of `tokenizers`, by their names."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> "DiffusersT2I":
        """Load a local pipeline folder; safetensors only.

        Raises:
            InputError: the folder is another family's, or a file is missing or damaged (it is named).
        """
        folder = Path(folder)
        classes = cls.check(folder)
        for name in cls.weights(classes):
            check_safetensors(folder / name)
        scheduler_config = read_json(folder / SCHEDULER / "scheduler_config.json")
        with as_configured(folder):
            components = {name: _load(folder / name, kind, dtype) for name, kind in classes.items()}
            _check_words(folder, components)
            return cls(components, scheduler_config, read_json(folder / "model_index.json"))

    @classmethod
    def from_config(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> "DiffusersT2I":
        """The shape alone, without weights, on the meta device; no weight file need be there.

        Raises:
            InputError: the folder is another family's, or a configuration is missing or damaged.
        """
        folder = Path(folder)
        classes, scheduler_config = cls.check(folder), read_json(folder / SCHEDULER / "scheduler_config.json")
        with as_configured(folder):
            components = {name: _shape(folder / name, kind, dtype) for name, kind in classes.items()}
            return cls(components, scheduler_config, read_json(folder / "model_index.json"))

    @classmethod
    def check(cls, folder: Path) -> dict[str, type]:
        """Each part's class, unless a part is another family's or its configuration is not there.

        Raises:
            InputError: that is so.
        """
        index, found = read_json(folder / "model_index.json"), {}
        for name, classes in cls.parts.items():
            named = index.get(name)
            library, kind = named if isinstance(named, list) and len(named) == 2 else (None, None)
            if kind is None and None in classes:
                continue
            if kind is None:
                raise InputError(f"{folder}: no {cls.pipelines[0]}: model_index.json has no '{name}'")
            if kind not in classes:
                wanted = " or ".join(one for one in classes if one)
                raise InputError(f"{folder}: {name} {kind} is not supported; expected {wanted}")
            found[name] = getattr(transformers if library == "transformers" else diffusers, kind)
        for name in cls.weights(found):
            path = folder / name / "config.json"
            refuse_kernels(path, read_json(path))
        return found

    @staticmethod
    def weights(classes: dict[str, type]) -> list[str]:
        """The parts that have weights."""
        return [name for name, kind in classes.items() if issubclass(kind, nn.Module)]

    def skipping(self, clip_skip: int) -> "DiffusersT2I":
        """The same model, whose CLIP text encoders leave out their last layers; see `TextEncoder`.

        Raises:
            InputError: they have not so many layers.
        """
        depths = [one.model.config.num_hidden_layers for one in self.encoders if not one.native]
        if not depths:
            raise InputError(f"clip_skip: {self.pipelines[0]} has no CLIP text encoder")
        clip_skip = whole(clip_skip, "clip_skip", 0, min(depths) - 1)
        view = copy(self)
        view.encoders = [
            one if one.native else TextEncoder(one.model, one.frame, clip_skip=clip_skip) for one in self.encoders
        ]
        return view

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return tuple(getattr(self, name) for name in self.names)

    @property
    def network(self) -> Any:
        """The denoiser."""
        return getattr(self, self.denoiser)

    @property
    def sizes(self) -> dict[str, int]:
        """Parameters by what they are for."""
        kinds = {self.denoiser: "denoiser", "vae": "auto-encoder"}
        sizes: dict[str, int] = {}
        for name in self.names:
            kind = kinds.get(name, "text encoder")
            sizes[kind] = sizes.get(kind, 0) + sum(p.numel() for p in getattr(self, name).parameters())
        return sizes

    @property
    def frame(self) -> Frame:
        return self.encoders[0].frame

    @property
    def tokenizer(self) -> Any:
        return self.frame.tokenizer

    @property
    def lookups(self) -> tuple[Tensor, ...]:
        return tuple(encoder.lookup for encoder in self.encoders)

    @property
    def vocabulary(self) -> Tensor:
        """Every word as an image token would be it, [V, d]; rows are the tokenizers' ids.

        Raises:
            InputError: its text encoders have not the same words, so that no token is a word to all of them.
        """
        first, *others = (encoder.frame.tokenizer.get_vocab() for encoder in self.encoders)
        if any(words != first for words in others):
            raise InputError(f"{self.pipelines[0]}: its text encoders have different words; no token is one of them")
        return torch.cat(self.lookups, dim=1)

    @property
    def wordless_ids(self) -> list[int]:
        """Rows of the vocabulary that no text has: marks such as [BOS] and [EOS], and rows without a word."""
        rows = range(len(self.tokenizer), len(self.lookups[0]))
        return sorted({*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder, *rows})

    @property
    def width(self) -> int:
        return sum(encoder.width for encoder in self.encoders)

    @property
    def device(self) -> torch.device:
        return device_of(self.network)

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    def word(self, text: str) -> Tensor:
        """The first piece of a text as an image token would be it, [d]: its embedding in every text encoder.

        Raises:
            InputError: the text is empty.
        """
        ids = [encoder.frame.ids(text)[:1] for encoder in self.encoders]
        if not all(ids):
            raise InputError(f"expected a word, got {text!r}")
        return torch.cat([encoder.embed(torch.tensor(i))[0] for encoder, i in zip(self.encoders, ids, strict=True)])

    def components(self) -> dict[str, Any]:
        """Modules, tokenizers and scheduler by the names that diffusers' pipelines give them."""
        scheduler = getattr(diffusers, self.scheduler_config["_class_name"]).from_config(self.scheduler_config)
        modules = {name: getattr(self, name) for name in self.names}
        return {**modules, **self.tokenizers, SCHEDULER: scheduler}

    def to(self, device: str | torch.device) -> "DiffusersT2I":
        for module in self.modules:
            module.to(device)
        return self

    def offload(self, device: str | torch.device, way: str = "model") -> "DiffusersT2I":
        """Compute on `device`, wait in main memory; see `vilex.t2i.offload.offload`. Requests then take turns."""
        last = ("vae",) if "vae" in self.names else ()
        others = [name for name in self.names if name not in (self.denoiser, *last)]
        offload([getattr(self, name) for name in (*others, self.denoiser, *last)], device, way)
        self.turn = RLock()
        return self

    @property
    def image_positions(self) -> int:
        """Places of the denoiser's sequence that are of the picture, for shifts by resolution."""
        patch = getattr(self.network.config, "patch_size", 1)
        return (self.latent_shape[1] // patch) * (self.latent_shape[2] // patch)

    def prepare(self, scheduler: Any, steps: int) -> None:
        """Set a sampler's timesteps as the family's own pipeline does."""
        even = self.even_sigmas and type(scheduler).__name__.startswith("FlowMatchEuler")
        how = {"sigmas": np.linspace(1.0, 1 / steps, steps)} if even else {"num_inference_steps": steps}
        set_steps(scheduler, self.scheduler_config, self.image_positions, device=self.device, **how)

    def shifted(self, level: Tensor) -> Tensor:
        """A flow model's share of noise for a share of its levels, both [B] in 0..1."""
        return shift_level(level, self.scheduler_config, self.image_positions)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in -1..1 -> x0 [B, c, h, w]; some pictures at a time, see `PIXELS_AT_ONCE`."""
        encoded = [self.vae.encode(part) for part in pixels.to(self.vae.dtype).split(self._at_once)]
        tiny = isinstance(self.vae, AutoencoderTiny)
        x0 = torch.cat([part.latents if tiny else part.latent_dist.mode() for part in encoded])
        return (x0 - self._shift) * self.vae.config.scaling_factor

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B, c, h, w] -> pixels [B, 3, H, W], about -1..1; some pictures at a time, see `PIXELS_AT_ONCE`."""
        latents = (x0 / self.vae.config.scaling_factor + self._shift).to(self.vae.dtype)
        return torch.cat([self.vae.decode(part, return_dict=False)[0] for part in latents.split(self._at_once)])

    @property
    def _at_once(self) -> int:
        return max(1, PIXELS_AT_ONCE // self.image_size**2)

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0

    def set_latent_shape(self, channels: int, size: int) -> None:
        """Set `latent_shape` and `image_size` from the denoiser's channels and side."""
        self.latent_shape = (channels, size, size)
        self.image_size = size * 2 ** (len(self.vae.config.block_out_channels) - 1)


def _load(folder: Path, kind: Any, dtype: torch.dtype) -> Any:
    if not issubclass(kind, nn.Module):
        return _load_words(folder, kind)
    module, about = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, output_loading_info=True)
    check_whole(folder, module, about)
    return module


def _load_words(folder: Path, kind: Any) -> Any:
    """A tokenizer; without `tokenizer.json` one of T5's is converted, for which transformers has no good word."""
    if (folder / "spiece.model").is_file() and not (folder / "tokenizer.json").is_file():
        with needs("t5"):
            import google.protobuf  # noqa: F401
            import sentencepiece  # noqa: F401
    return kind.from_pretrained(folder)


def _check_words(folder: Path, components: Mapping[str, Any]) -> None:
    """Tokenizers load without their vocabulary's file too, and then know no words."""
    readers = {name: part for name, part in components.items() if name.startswith("text_encoder")}
    for name, reader in readers.items():
        own = name.replace("text_encoder", "tokenizer")
        known, words = len(components[own]), reader.get_input_embeddings().num_embeddings
        if known < words // 2:
            raise InputError(
                f"{folder / own}: knows {known} words of the text encoder's {words}; a file is missing, fetch it again"
            )


def _shape(folder: Path, kind: Any, dtype: torch.dtype) -> Any:
    if not issubclass(kind, nn.Module):
        return kind.from_pretrained(folder)
    with torch.device("meta"):
        if issubclass(kind, transformers.PreTrainedModel):
            module = kind(kind.config_class.from_pretrained(folder))
        else:
            module = kind.from_config(read_json(folder / "config.json"))
    return nn.Module.to(module, dtype)
