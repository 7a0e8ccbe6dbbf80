"""What all families share: a diffusers pipeline folder, its parts loaded, frozen and looked after."""

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from pathlib import Path
from threading import RLock
from typing import Any, ClassVar, Self

import diffusers
import numpy as np
import torch
from torch import Tensor, nn

from vilex.checks import whole
from vilex.composition import Frame
from vilex.errors import InputError
from vilex.hub.folder import as_configured, read_json
from vilex.t2i.base import FrozenT2I
from vilex.t2i.codec import LatentCodec, ScaledLatents
from vilex.t2i.offload import device_of, offload
from vilex.t2i.parts import SCHEDULER, Kinds, check_parts, load_parts, shape_parts
from vilex.t2i.quantization import check_quantization, numbers_in
from vilex.t2i.schedule import is_flow, set_steps, shift_level
from vilex.t2i.single_file import load_single_file
from vilex.t2i.text import TextEncoder


class DiffusersT2I(FrozenT2I):
    """A family over a diffusers pipeline folder; `FrozenT2I` says what it can.

    A family names its pipelines and parts, makes `encoders` of its text encoders (`setup`), and says how it reads and
    predicts (`read`, `predict`).

    Attributes:
        pipelines: `_class_name`s of model_index.json that are this family's.
        parts: the classes each part may have, by its name in model_index.json; `None` in a part's classes lets
            it be left out.
        denoiser: the name of the part that predicts. codec_kind: what its auto-encoder's latents are.
        even_sigmas: whether the pipeline's own Euler steps are evenly spread from 1 to 1 / steps before the shift.
        mask_argument: what the pipeline calls the mask beside `prompt_embeds`, where it has one.
        steered: whether the pipeline takes what is steered away from.
        mask_dtype: as which numbers it takes that; None: as those of the embeddings.
        resizable: whether it draws pictures of other sizes than its own.
        square: latents a side of one of the denoiser's places, where its configuration has no `patch_size` that says.
        reads_emphasis: whether its text encoders are CLIP's alone, which read stressed words and long prompts; see
            `vilex.t2i.emphasis`. chunks: how many each prompt is read in.
        index: model_index.json. tokenizers: by their names in it.
        changed: what of it is not as its folder has it, as plain values; see `vilex.t2i.load_t2i`.
    """

    pipelines: ClassVar[tuple[str, ...]]
    parts: ClassVar[Kinds]
    denoiser: ClassVar[str] = "unet"
    codec_kind: ClassVar[type[LatentCodec]] = ScaledLatents
    even_sigmas: ClassVar[bool] = False
    mask_argument: ClassVar[str | None] = None
    steered: ClassVar[bool] = True
    mask_dtype: ClassVar[torch.dtype | None] = torch.long
    resizable: ClassVar[bool] = True
    square: ClassVar[int | None] = None
    reads_emphasis: ClassVar[bool] = False
    chunks: int | None = None
    codec: LatentCodec
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
        self.offloaded, self.changed = False, dict[str, Any]()
        for module in self.modules:
            module.requires_grad_(False).eval()
        self.network.to(memory_format=torch.channels_last)  # convolutions are faster so, on CPUs and GPUs alike
        self.prediction_type = (
            "flow" if is_flow(scheduler_config) else scheduler_config.get("prediction_type", "epsilon")
        )
        self.tokenizers = {name: part for name, part in components.items() if name not in self.names}
        if "vae" in self.names:
            self.codec = self.codec_kind(self.vae)
        self.setup()

    @abstractmethod
    def setup(self) -> None:
        """Make `encoders`, `latent_shape` and `image_size` of the parts and of `tokenizers`, by their names."""

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        dtype: torch.dtype = torch.float32,
        quantize: str | None = None,
        checkpoint: Path | None = None,
    ) -> Self:
        """Load a local pipeline folder; safetensors only.

        Args:
            quantize: how matrices are kept, if not in `dtype`; see `vilex.t2i.quantization`.
            checkpoint: weights in one file, in place of those of the folder; see `vilex.t2i.single_file`.
        Raises:
            InputError: the folder is another family's, or a file is missing or damaged (it is named).
        """
        check_quantization(quantize)
        folder = Path(folder)
        classes, scheduler_config = cls.check(folder), read_json(folder / SCHEDULER / "scheduler_config.json")
        index = read_json(folder / "model_index.json")
        if checkpoint:
            kind = str(index.get("_class_name"))
            parts = load_single_file(folder, classes, kind, cls.denoiser, checkpoint, dtype, quantize)
        else:
            parts = load_parts(folder, classes, dtype, quantize)
        with as_configured(folder):
            return cls(parts, scheduler_config, index)

    @classmethod
    def from_config(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> Self:
        """The shape alone, without weights, on the meta device; no weight file need be there.

        Raises:
            InputError: the folder is another family's, or a configuration is missing or damaged.
        """
        folder = Path(folder)
        classes, scheduler_config = cls.check(folder), read_json(folder / SCHEDULER / "scheduler_config.json")
        parts, index = shape_parts(folder, classes, dtype), read_json(folder / "model_index.json")
        with as_configured(folder):
            return cls(parts, scheduler_config, index)

    @classmethod
    def check(cls, folder: Path) -> dict[str, type]:
        """Each part's class; see `vilex.t2i.parts.check_parts`."""
        return check_parts(folder, cls.parts, cls.pipelines[0])

    def skipping(self, clip_skip: int) -> Self:
        depths = [one.model.config.num_hidden_layers for one in self.encoders if not one.native]
        if not depths:
            raise InputError(f"clip_skip: {self.pipelines[0]} has no CLIP text encoder")
        clip_skip = whole(clip_skip, "clip_skip", 0, min(depths) - 1)
        view = copy(self)
        view.encoders = [
            one if one.native else TextEncoder(one.model, one.frame, clip_skip=clip_skip) for one in self.encoders
        ]
        return view

    def chunking(self, chunks: int) -> Self:
        if not self.reads_emphasis:
            raise InputError(f"long prompts: {self.pipelines[0]} reads none in chunks; it is for CLIP alone")
        view = copy(self)
        view.chunks = chunks
        return view

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return tuple(getattr(self, name) for name in self.names)

    @property
    def network(self) -> Any:
        return getattr(self, self.denoiser)

    @property
    def sizes(self) -> dict[str, int]:
        kinds = {self.denoiser: "denoiser", "vae": "auto-encoder"}
        sizes: dict[str, int] = {}
        for name in self.names:
            kind = kinds.get(name, "text encoder")
            sizes[kind] = sizes.get(kind, 0) + sum(map(numbers_in, getattr(self, name).parameters()))
        return sizes

    @property
    def frame(self) -> Frame:
        return self.encoders[0].frame

    @property
    def tokenizer(self) -> Any:
        """Of the first text encoder."""
        return self.frame.tokenizer

    @property
    def lookups(self) -> tuple[Tensor, ...]:
        return tuple(encoder.lookup for encoder in self.encoders)

    @property
    def vocabulary(self) -> Tensor:
        first, *others = (encoder.frame.tokenizer.get_vocab() for encoder in self.encoders)
        if any(words != first for words in others):
            raise InputError(f"{self.pipelines[0]}: its text encoders have different words; no token is one of them")
        return torch.cat(self.lookups, dim=1)

    @property
    def wordless_ids(self) -> list[int]:
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
        ids = [encoder.frame.ids(text)[:1] for encoder in self.encoders]
        if not all(ids):
            raise InputError(f"expected a word, got {text!r}")
        return torch.cat([encoder.embed(torch.tensor(i))[0] for encoder, i in zip(self.encoders, ids, strict=True)])

    def components(self) -> dict[str, Any]:
        scheduler = getattr(diffusers, self.scheduler_config["_class_name"]).from_config(self.scheduler_config)
        modules = {name: getattr(self, name) for name in self.names}
        return {**modules, **self.tokenizers, SCHEDULER: scheduler}

    def to(self, device: str | torch.device) -> Self:
        if self.offloaded:
            raise InputError(f"device {device}: the frozen model is offloaded; load it again for another device")
        for module in self.modules:
            module.to(device)
        return self

    def offload(self, device: str | torch.device, way: str = "model") -> Self:
        if way == "sequential" and any(getattr(module, "is_quantized", False) for module in self.modules):
            raise InputError("offload 'sequential': quantised layers cannot wait one by one; use model")
        last = ("vae",) if "vae" in self.names else ()
        others = [name for name in self.names if name not in (self.denoiser, *last)]
        offload([getattr(self, name) for name in (*others, self.denoiser, *last)], device, way)
        self.turn, self.offloaded = RLock(), True
        return self

    @property
    def image_positions(self) -> int:
        """Places of the denoiser's sequence that are of the picture, for shifts by resolution."""
        return (self.latent_shape[1] // self.patch) * (self.latent_shape[2] // self.patch)

    @property
    def patch(self) -> int:
        """Latents a side of one of the denoiser's places."""
        return self.square or int(getattr(self.network.config, "patch_size", 1))

    @property
    def compression(self) -> int:
        """Pixels a side of a latent."""
        return self.codec.compression

    @property
    def picture_size(self) -> tuple[int, int]:
        return self.latent_shape[2] * self.compression, self.latent_shape[1] * self.compression

    @property
    def size_step(self) -> int:
        return self.compression * self.patch

    @property
    def most_places(self) -> int | None:
        """The denoiser's places a side at most; None where only memory bounds them."""
        return None

    def sized(self, width: int, height: int) -> Self:
        check_size(self, width, height)
        view = copy(self)
        view.latent_shape = (self.latent_shape[0], height // self.compression, width // self.compression)
        return view

    def prepare(self, scheduler: Any, steps: int) -> None:
        even = self.even_sigmas and type(scheduler).__name__.startswith("FlowMatchEuler")
        how = {"sigmas": np.linspace(1.0, 1 / steps, steps)} if even else {"num_inference_steps": steps}
        set_steps(scheduler, self.scheduler_config, self.image_positions, device=self.device, **how)

    def shifted(self, level: Tensor) -> Tensor:
        return shift_level(level, self.scheduler_config, self.image_positions)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.codec.encode(pixels)

    def decode(self, x0: Tensor) -> Tensor:
        return self.codec.decode(x0)

    def set_latent_shape(self, channels: int, size: int) -> None:
        """Set `latent_shape` and `image_size` from x0's channels and side."""
        self.latent_shape = (channels, size, size)
        self.image_size = size * self.codec.compression


def check_size(t2i: DiffusersT2I, width: int, height: int) -> None:
    """Raise InputError if a frozen model draws no pictures of a size; see `FrozenT2I.sized`."""
    own, step, most = t2i.image_size, t2i.size_step, t2i.most_places
    if not t2i.resizable and (width, height) != (own, own):
        raise InputError(f"size {width}x{height}: {t2i.pipelines[0]} draws {own}x{own} alone; leave the size out")
    if width < step or height < step or width % step or height % step:
        raise InputError(f"size {width}x{height}: {t2i.pipelines[0]} draws multiples of {step} pixels")
    if most and max(width, height) > most * step:
        raise InputError(f"size {width}x{height}: {t2i.pipelines[0]} draws at most {most * step} pixels a side")
