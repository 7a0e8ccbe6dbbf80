"""VisualLexicon: images to words and back. The face of the library."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from PIL import Image
from torch import Tensor, nn

from vilex.checks import PICTURES, STEPS, instance, whole
from vilex.composition import set_budgets
from vilex.device import check_device
from vilex.drawing import Drawing
from vilex.encoder import ViLexEncoder, encoder_folder, load_encoder
from vilex.errors import InputError
from vilex.guidance import Guidance
from vilex.hub.folder import check_fingerprint, is_inside, resolve_base, weights_hash
from vilex.img2img import start_from
from vilex.pictures.fit import Fit, check_fit, much_cut, warn_of_cuts
from vilex.pictures.inputs import FORMS, PictureLike, each_picture, one_or_several, open_picture
from vilex.prompt import Prompt, parse
from vilex.requests import by_name, check_emphasis, drawn_size, prompts_of, seeds_of, warn_of_unused, weights_of
from vilex.sample import make_scheduler
from vilex.scheduler_options import Scheduler
from vilex.t2i import attach_adapter, load_t2i
from vilex.t2i.base import Condition
from vilex.t2i.emphasis import chunks_of
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.pipeline import Pipeline, as_pipeline
from vilex.tokens import given_tokens

ImageLike: TypeAlias = PictureLike | Tensor  # a picture, a file of tokens, or tokens [n, d]
TOGETHER = 16  # pictures drawn at once, if not said otherwise


class VisualLexicon:
    """An encoder and the frozen text-to-image model whose language it speaks.

    >>> lexicon = VisualLexicon.from_pretrained("nano")
    >>> tokens = lexicon.encode(["cat.png"])                            # [1, 75, d]
    >>> lexicon.generate("<cat:16> at night", {"cat": tokens[0]})       # a list of PIL images
    """

    def __init__(self, encoder: ViLexEncoder, t2i: DiffusersT2I):
        if encoder.config.width != t2i.width:
            raise InputError(
                f"the encoder's tokens have width {encoder.config.width}, the text encoder {t2i.width}; "
                f"use the base model it was trained with ({encoder.config.base_model})"
            )
        self.encoder, self.t2i = encoder.eval(), attach_adapter(encoder, t2i)
        self.encoder_sha256: str | None = None  # of its weight file, where it came from one
        self.base_sha256: dict[str, str] = {}  # of the frozen model's, as far as the encoder knows them

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "nano",
        t2i: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        offload: str | None = None,
        *,
        quantize: str | None = None,
        loras: Sequence[str | Path | tuple[str | Path, float]] = (),
        checkpoint: str | Path | None = None,
    ) -> "VisualLexicon":
        """Load an encoder and its base model.

        Args:
            name: an embedded model (`nano`), a folder, or a hub id.
            t2i: the frozen model's folder or hub id, if not where the encoder's config says.
            dtype: of the frozen model and the encoder.
            offload: for a frozen model larger than the device, what comes to it when it is called: a whole `model`
                at a time (text encoder, denoiser, auto-encoder), or `sequential`, layer by layer.
            quantize: how the frozen model's matrices are kept: `int8`, or `nf4`; see `vilex.t2i.quantization`.
            loras: LoRAs of the frozen model, files or (file, weight); see `vilex.t2i.lora`.
            checkpoint: the frozen model's weights in one file; see `vilex.t2i.single_file`.
        Raises:
            InputError: something is missing, damaged or does not fit; the line names it.
        """
        device = check_device(str(device), "device")
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise InputError(f"dtype: expected torch.float32, torch.bfloat16 or torch.float16, got {dtype!r}")
        folder = encoder_folder(name)
        encoder = load_encoder(folder)
        base = encoder.config.base_model if t2i is None else t2i
        if not isinstance(base, str | Path) or (t2i is None and not base):
            raise InputError(f"{folder}: config.json names no base_model; give the frozen model by t2i")
        place = folder / base if t2i is None and is_inside(folder, base) else base
        if checkpoint is None:
            place = resolve_base(place)
            base_sha256 = check_fingerprint(place, encoder.config.base_sha256)
        frozen = load_t2i(place, dtype, quantize, checkpoint, loras)
        if checkpoint is not None:
            base_sha256 = frozen.changed["checkpoint"]
            line = f"checkpoint {checkpoint}: whether the encoder was trained on these weights is not known"
            warnings.warn(line, stacklevel=2)
        lexicon = cls(encoder.to(device, dtype), frozen.offload(device, offload) if offload else frozen.to(device))
        lexicon.encoder_sha256, lexicon.base_sha256 = weights_hash(folder), base_sha256
        return lexicon

    def to(self, device: str | torch.device) -> "VisualLexicon":
        """Move encoder and frozen model.

        Raises:
            InputError: there is no such device, or the frozen model is offloaded.
        """
        target = check_device(str(device), "device")
        self.t2i.to(target)
        self.encoder.to(target)
        return self

    @property
    def num_tokens(self) -> int:
        """n, the longest code an image can have."""
        return self.encoder.config.num_tokens

    def facts(self) -> dict[str, Any]:
        """What this model is, as plain values."""
        config, t2i = self.encoder.config, self.t2i

        def millions(module: nn.Module) -> float:
            return round(sum(p.numel() for p in module.parameters()) / 1e6, 2)

        return {
            "tower": config.tower["model_type"],
            "tower_millions": millions(self.encoder.tower),
            "pooler_millions": millions(self.encoder.pooler),
            "blocks": config.blocks,
            "tokens": config.num_tokens,
            "width": config.width,
            "base": config.base_model,
            "base_millions": round(sum(millions(module) for module in t2i.modules), 2),
            "pixels": t2i.image_size,
            "prediction": t2i.prediction_type,
            "training": config.training,
        }

    @property
    def fit(self) -> Fit:
        """How pictures that are not square are brought to the encoder, if not said otherwise."""
        return cast(Fit, self.encoder.config.fit)

    def encode(
        self,
        images: PictureLike | Sequence[PictureLike],
        num_tokens: int | None = None,
        fit: Fit | None = None,
    ) -> Tensor:
        """Images to their first `num_tokens` tokens, [B, num_tokens, d]; all n by default.

        Args:
            images: one or several: paths, folders, patterns as `cats/*.png`, bytes, open files, PIL images, arrays; see
                `vilex.pictures.inputs`. They are read and encoded a few at a time.
            fit: how those that are not square are brought to the encoder: `crop`, `pad` or `squash`, see
                `vilex.pictures.fit`; the encoder's own way if None. One warning for a crop that cuts much away.
        Raises:
            InputError: there is none, one cannot be read, or an image has no such number of tokens.
        """
        count = self.num_tokens if num_tokens is None else whole(num_tokens, "num_tokens", 1, self.num_tokens)
        return self._encoded(each_picture(images), count, self.fit if fit is None else check_fit(fit))

    def tokens_of(self, images: Mapping[str, ImageLike], fit: Fit | None = None) -> dict[str, Tensor]:
        """Images by name to tokens [n, d], as `generate` takes both: encoded, read from a token file, or given.

        Args:
            fit: of those that are encoded, see `encode`.
        """
        named, fit = by_name(images), self.fit if fit is None else check_fit(fit)
        found: dict[str, Tensor] = {}
        for name, image in named.items():
            given = given_tokens(image, f"image '{name}'", self.t2i.width, self.encoder_sha256)
            if given and len(given) > 1:
                raise InputError(f"{image!s}: holds {len(given)} images; name one with {image!s}#{next(iter(given))}")
            if given:
                found[name] = next(iter(given.values()))
        names = [name for name in named if name not in found]
        if names:
            pictures = ((f"image '{name}'", named[name]) for name in names)
            found |= dict(zip(names, self._encoded(pictures, self.num_tokens, fit), strict=True))
        return {name: found[name] for name in named}

    def reconstruct(
        self,
        images: ImageLike | Sequence[ImageLike],
        num_tokens: int | None = None,
        num_images: int = 1,
        fit: Fit | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """Each image from its tokens alone, `num_images` times.

        Args:
            images: one or several, as in `encode`; tokens [n, d] or [B, n, d] of any length; files of tokens.
            num_tokens: how many of each; by default all that it has.
            fit: of those that are encoded, see `encode`.
            settings: as in `generate`.
        """
        if num_tokens is not None:
            num_tokens = whole(num_tokens, "num_tokens", 1, self.t2i.frame.room)
        tokens = self._each_tokens(images, fit)
        prompts = [f"<image{i}:{num_tokens or len(value)}>" for i, value in enumerate(tokens)]
        named = {f"image{i}": value for i, value in enumerate(tokens)}
        return self.generate(prompts, named, num_images=num_images, **settings)

    def generate(
        self,
        prompt: str | Prompt | Sequence[str | Prompt],
        images: Mapping[str, ImageLike] | None = None,
        *,
        num_tokens: int | None = None,
        fit: Fit | None = None,
        weights: Mapping[str, float] | None = None,
        negative: str = "",
        guidance: Guidance = Guidance(cfg=3.0),  # noqa: B008 (frozen)
        num_images: int = 1,
        seed: int | Sequence[int] = 0,
        steps: int = 20,
        scheduler: Scheduler = "dpm++",
        width: int | None = None,
        height: int | None = None,
        start: PictureLike | None = None,
        strength: float | None = None,
        mask: PictureLike | None = None,
        long_prompts: bool = False,
        batch_size: int = TOGETHER,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """Draw pictures of prompts that mix words and images.

        Args:
            prompt: "a photo of <cat:16> (in the snow:1.3)", or several; see `vilex.prompt.parse`.
            images: by name: a picture of any form that `encode` takes, a file of tokens, or tokens [n, d].
            num_tokens: budget of slots that name none; by default all that the words leave room for.
            fit: of images that are encoded, see `encode`.
            weights: per image; 1 is the image as it is, 0 gives the base model's picture for the words.
            negative: what to steer away from, images included; acts where `guidance.cfg` is not 1.
            num_images: pictures a prompt.
            seed: of a prompt's first picture, the next ones counting up; or one for each of the `num_images`; or
                one for each picture, prompt by prompt.
            steps: denoising steps. `scheduler`: a name of `vilex.sample.SCHEDULERS`, with options as in
                `dpm++:use_karras_sigmas=true`, or a diffusers scheduler made of the base model's configuration.
            width, height: of the pictures in pixels, brought to a multiple of what the base model takes with a
                warning; by default the base model's own.
            start, strength, mask: a picture to begin from instead of noise, how far to leave it behind, and where it is
                drawn anew; see `vilex.img2img.start_from`.
            long_prompts: read prompts of more positions than CLIP has in chunks of them; else words that are too many
                are cut, with a warning. See `vilex.t2i.emphasis`.
            batch_size: pictures drawn at once; it does not change them.
            on_step: called with (finished, all) denoising steps; what it raises ends the drawing.
        Returns:
            `num_images` pictures a prompt, prompt by prompt.
        Raises:
            InputError: a name without image, too many image tokens, an unknown scheduler, a number out of its range;
                or the frozen model gave no finite numbers.
        """
        steps, num_images = whole(steps, "steps", *STEPS), whole(num_images, "num_images", *PICTURES)
        batch_size = whole(batch_size, "batch_size", *PICTURES)
        if start is None and (mask is not None or strength is not None):
            raise InputError("strength and mask are of a picture to start from; give start")
        instance(guidance, Guidance, "guidance", "weights as of Guidance(cfg=3.0)")
        asked = prompts_of(prompt)
        seeds = seeds_of(seed, num_images, len(asked))
        make_scheduler(scheduler, self.t2i.scheduler_config)
        asked_size = width is not None or height is not None
        t2i = self.t2i.sized(*drawn_size(self.t2i, width, height)) if asked_size else self.t2i
        tokens = self.tokens_of({} if images is None else images, fit)
        *budgeted, against = (
            self._budgeted(one, tokens, num_tokens, long_prompts) for one in [*asked, parse(negative)]
        )
        shares = weights_of(weights, tokens, asked)
        warn_of_unused(tokens, [*budgeted, against])
        with self.t2i.turn:
            begin = None if start is None else start_from(t2i, start, steps, strength, mask)
        drawing = Drawing(t2i, tokens, shares, against, guidance, scheduler, steps, begin)
        asked_chunks = [chunks_of([one, against], t2i) if long_prompts else None for one in budgeted]
        prompts = [one for one in budgeted for _ in range(num_images)]
        chunks = [count for count in asked_chunks for _ in range(num_images)]
        return drawing.draw_all(prompts, chunks, seeds, batch_size, on_step)

    def prompt_embeds(
        self,
        prompt: str | Prompt | Sequence[str | Prompt],
        images: Mapping[str, ImageLike] | None = None,
        *,
        num_tokens: int | None = None,
        fit: Fit | None = None,
        negative: str | Prompt | Sequence[str | Prompt] = "",
        text_free: bool = False,
        clip_skip: int = 0,
        long_prompts: bool = False,
    ) -> dict[str, Tensor | list[Tensor]]:
        """Prompts as any diffusers pipeline of the same family takes them: `pipeline(**lexicon.prompt_embeds(...))`.

        Gradients flow to tokens that are given and require them.

        Args:
            prompt, images, num_tokens, fit, long_prompts: as in `generate`; a prompt may be parsed already.
            negative: what to steer away from, images of `images` included; one, or one for each prompt.
            text_free: steer away from the images alone instead, so that the pipeline's guidance is TFG.
            clip_skip: how many of CLIP's last layers the prompt (and the images alone) go without; what is steered away
                from goes through all, as in diffusers.
        Returns:
            `prompt_embeds`, `negative_prompt_embeds`, [B, L, d] each, or lists of B [L_i, d] where a family's prompts
            are not padded; where the family has them also `pooled_prompt_embeds` and
            `negative_pooled_prompt_embeds`, [B, p].
        Raises:
            InputError: as `generate`; or the encoder's tokens go past the text encoder.
        """
        given = self.conditions(
            prompt, images, num_tokens=num_tokens, fit=fit, negative=negative, text_free=text_free,
            clip_skip=clip_skip, long_prompts=long_prompts,
        )  # fmt: skip
        return embeds_of(*given)

    def conditions(
        self,
        prompt: str | Prompt | Sequence[str | Prompt],
        images: Mapping[str, ImageLike] | None = None,
        *,
        num_tokens: int | None = None,
        fit: Fit | None = None,
        negative: str | Prompt | Sequence[str | Prompt] = "",
        text_free: bool = False,
        clip_skip: int = 0,
        long_prompts: bool = False,
    ) -> tuple[Condition, Condition]:
        """What B prompts say and what is steered away from, as the denoiser reads them; see `prompt_embeds`."""
        if self.encoder.adapter is not None:
            raise InputError("prompt_embeds: ip-adapter tokens go past the text encoder; they are no prompt")
        tokens = self.tokens_of({} if images is None else images, fit)
        asked = [self._budgeted(one, tokens, num_tokens, long_prompts) for one in prompts_of(prompt)]
        against = [self._budgeted(one, tokens, num_tokens, long_prompts) for one in prompts_of(negative)]
        if len(against) not in (1, len(asked)):
            raise InputError(f"expected 1 negative prompt, or {len(asked)} for one a prompt, got {len(against)}")
        if text_free and any(one.parts for one in against):
            raise InputError(
                "text_free steers away from the images alone, not from words; leave out the negative prompt"
            )
        view = self.t2i.chunking(chunks_of([*asked, *against], self.t2i)) if long_prompts else self.t2i
        t2i = view.skipping(clip_skip) if clip_skip else view
        if text_free:
            other, against = t2i, [one.image_only() for one in asked]
        else:
            each = len(asked) // len(against)
            other, against = view, [replace(one, against=True) for one in against] * each
        with self.t2i.turn:
            return t2i.read(asked, [tokens] * len(asked)), other.read(against, [tokens] * len(against))

    def pipeline(self, kind: type[Pipeline], **more: Any) -> Pipeline:
        """The frozen model as one of diffusers' pipelines; see `vilex.t2i.pipeline.as_pipeline`."""
        return as_pipeline(self.t2i.components(), kind, more)

    @torch.no_grad()
    def _encoded(self, pictures: Iterable[tuple[str, ImageLike]], count: int, fit: Fit) -> Tensor:
        """The first `count` tokens [B, count, d] of pictures by what an error calls them, a few at a time."""
        given, encoded, cut, seen = iter(pictures), list[Tensor](), list[str](), 0
        while batch := [(name, self._open(picture, name)) for name, picture in islice(given, TOGETHER)]:
            cut += [name for name, picture in batch if much_cut(picture.size, fit)]
            seen += len(batch)
            encoded.append(self.encoder.encode([picture for _, picture in batch], count, fit))
        warn_of_cuts(cut, seen)
        return torch.cat(encoded)

    def _open(self, picture: ImageLike, name: str) -> Image.Image:
        if isinstance(picture, Tensor):
            raise InputError(f"{name}: expected {FORMS}, got a tensor; tokens are encoded already")
        return open_picture(picture, name, self.encoder.config.image_size)

    def _each_tokens(self, images: ImageLike | Sequence[ImageLike], fit: Fit | None) -> list[Tensor]:
        """Tokens [n, d] of each of one or several images, encoded or given."""
        if isinstance(images, Tensor):
            images = list(images) if images.ndim == 3 else [images]
        found: list[Tensor] = []
        for i, image in enumerate(one_or_several(images)):
            given = given_tokens(image, f"image {i}", self.t2i.width, self.encoder_sha256)
            found += list(self.encode(image, fit=fit)) if given is None else given.values()
        return found

    def _budgeted(
        self, prompt: Prompt, tokens: Mapping[str, Tensor], num_tokens: int | None, long_prompts: bool
    ) -> Prompt:
        check_emphasis(prompt, self.t2i.reads_emphasis, self.encoder.adapter is None)
        available = {name: len(value) for name, value in tokens.items()}
        if num_tokens is not None:
            num_tokens = whole(num_tokens, "num_tokens", 1, self.t2i.frame.room)
        return set_budgets(prompt, self.t2i.frame, available, num_tokens, long_prompts)


def embeds_of(asked: Condition, against: Condition) -> dict[str, Tensor | list[Tensor]]:
    """Conditions by the names that diffusers' pipelines have for them; see `VisualLexicon.prompt_embeds`."""
    found: dict[str, Tensor | list[Tensor]] = {}
    for side, condition in (("", asked), ("negative_", against)):
        found[f"{side}prompt_embeds"] = condition.unpadded()
        if condition.pooled is not None:
            found[f"{side}pooled_prompt_embeds"] = condition.pooled
    return found
