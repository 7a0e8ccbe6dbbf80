"""VisualLexicon: images to words and back. The face of the library."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from vilex.encoder import ViLexEncoder, encoder_folder, load_encoder
from vilex.errors import InputError
from vilex.guidance import PLAIN, Branch, Guidance, Mixture
from vilex.hub.folder import check_fingerprint, is_inside, resolve_base, weights_hash
from vilex.img2img import start_from
from vilex.pictures.load import load_image
from vilex.pictures.pixels import to_images
from vilex.prompt import Prompt, PromptWarning, image_name, parse, set_budgets
from vilex.sample import make_scheduler, sample
from vilex.t2i import attach_adapter, load_t2i
from vilex.t2i.folder import DiffusersT2I

Pipeline = TypeVar("Pipeline")
PictureLike = str | Path | Image.Image
ImageLike = PictureLike | Tensor  # tokens [n, d]
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
    ) -> "VisualLexicon":
        """Load an encoder and its base model.

        Args:
            name: an embedded model (`nano`), a folder, or a hub id.
            t2i: the frozen model's folder or hub id, if not where the encoder's config says.
            dtype: of the frozen model and the encoder.
            offload: for a frozen model larger than the device, what comes to it when it is called: a whole `model`
                at a time (text encoder, denoiser, auto-encoder), or `sequential`, layer by layer.
        Raises:
            InputError: something is missing, damaged or does not fit; the line names it.
        """
        folder = encoder_folder(name)
        encoder = load_encoder(folder)
        base = encoder.config.base_model if t2i is None else t2i
        if not isinstance(base, str | Path) or (t2i is None and not base):
            raise InputError(f"{folder}: config.json names no base_model; give the frozen model by t2i")
        base_folder = folder / base if t2i is None and is_inside(folder, base) else resolve_base(base)
        base_sha256 = check_fingerprint(base_folder, encoder.config.base_sha256)
        frozen = load_t2i(base_folder, dtype)
        lexicon = cls(encoder.to(device, dtype), frozen.offload(device, offload) if offload else frozen.to(device))
        lexicon.encoder_sha256, lexicon.base_sha256 = weights_hash(folder), base_sha256
        return lexicon

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

    def encode(self, images: Sequence[PictureLike], num_tokens: int | None = None) -> Tensor:
        """Images (paths or PIL) to their first `num_tokens` tokens, [B, num_tokens, d]; all n by default."""
        size = self.encoder.config.image_size
        opened = [image if isinstance(image, Image.Image) else load_image(image, size) for image in images]
        return self.encoder.encode(opened, num_tokens)

    def reconstruct(
        self, images: Sequence[ImageLike], num_tokens: int | None = None, num_images: int = 1, **settings: Any
    ) -> list[Image.Image]:
        """Each image from its tokens alone, `num_images` times; `settings` as in `generate`."""
        prompts = [f"<image{i}>" for i in range(len(images))]
        named = {f"image{i}": image for i, image in enumerate(images)}
        return self.generate(
            prompts, named, num_tokens=num_tokens or self.num_tokens, num_images=num_images, **settings
        )

    def generate(
        self,
        prompt: str | Sequence[str],
        images: Mapping[str, ImageLike] | None = None,
        *,
        num_tokens: int | None = None,
        weights: Mapping[str, float] | None = None,
        negative: str = "",
        guidance: Guidance = Guidance(cfg=3.0),  # noqa: B008 (frozen)
        num_images: int = 1,
        seed: int | Sequence[int] = 0,
        steps: int = 20,
        scheduler: str = "dpm++",
        start: str | Path | Image.Image | None = None,
        strength: float | None = None,
        mask: str | Path | Image.Image | None = None,
        batch_size: int = TOGETHER,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """Draw pictures of prompts that mix words and images.

        Args:
            prompt: "a photo of <cat:16> in the snow", or several of them.
            images: by name: a path, a PIL image, or tokens [n, d].
            num_tokens: budget of slots that name none; by default all that the words leave room for.
            weights: per image; 1 is the image as it is, 0 gives the base model's picture for the words.
            negative: what to steer away from; acts where `guidance.cfg` is not 1.
            num_images: pictures a prompt.
            seed: of a prompt's first picture, the next ones counting up; or one for each of the `num_images`; or
                one for each picture, prompt by prompt.
            steps: denoising steps. `scheduler`: see `vilex.sample.SCHEDULERS`.
            start, strength, mask: a picture to begin from instead of noise, how far to leave it behind, and where it is
                drawn anew; see `vilex.img2img.start_from`.
            batch_size: pictures drawn at once; it does not change them.
            on_step: called with (finished, all) denoising steps.
        Returns:
            `num_images` pictures a prompt, prompt by prompt.
        Raises:
            InputError: a name without image, too many image tokens, an unknown scheduler, ...
        """
        if steps < 1 or num_images < 1:
            raise InputError(f"expected at least 1 step and 1 image, got {steps} and {num_images}")
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        seeds = [seed + i for i in range(num_images)] if isinstance(seed, int) else list(seed)
        if len(seeds) == num_images:
            seeds *= len(texts)
        if len(seeds) != num_images * len(texts):
            raise InputError(
                f"expected {num_images} seeds, or {num_images * len(texts)} for one a picture, got {len(seeds)}"
            )
        if start is None and (mask is not None or strength is not None):
            raise InputError("strength and mask are of a picture to start from; give start")
        begin = None if start is None else start_from(self.t2i, start, steps, strength, mask)
        tokens = self._named_tokens(images or {})
        parsed = [self._budgeted(parse(text), tokens, num_tokens) for text in texts]
        _warn_of_unused(tokens, [*parsed, parse(negative)])
        for name in weights or {}:
            if name not in tokens:
                raise InputError(f"weights: there is no image named '{name}'; leave it out, or give its image")
        jobs = list(zip([one for one in parsed for _ in range(num_images)], seeds, strict=True))
        drawn: list[Image.Image] = []
        total = steps * -(-len(jobs) // batch_size)
        for first in range(0, len(jobs), batch_size):
            prompts, batch_seeds = zip(*jobs[first : first + batch_size], strict=True)
            guided = self.mixture([guidance.branches(one, weights) for one in prompts], prompts, tokens, negative)
            plain = guided
            if guidance.interval != (0.0, 1.0):
                plain = self.mixture([PLAIN.branches(one, weights) for one in prompts], prompts, tokens, negative)
            done = steps * (first // batch_size)
            x0 = sample(
                self.t2i,
                make_scheduler(scheduler, self.t2i.scheduler_config),
                guided,
                plain,
                guidance.acts,
                list(batch_seeds),
                steps,
                begin,
                on_step and (lambda step, done=done: on_step(done + min(step, steps), total)),
            )
            drawn += to_images(self._decode(x0))
        return drawn

    @torch.inference_mode()
    def prompt_embeds(
        self,
        prompt: str | Prompt | Sequence[str | Prompt],
        images: Mapping[str, ImageLike] | None = None,
        *,
        num_tokens: int | None = None,
        negative: str | Prompt | Sequence[str | Prompt] = "",
        text_free: bool = False,
        clip_skip: int = 0,
    ) -> dict[str, Tensor | list[Tensor]]:
        """Prompts as any diffusers pipeline of the same family takes them: `pipeline(**lexicon.prompt_embeds(...))`.

        Args:
            prompt, images, num_tokens: as in `generate`; a prompt may be parsed already.
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
        if self.encoder.adapter is not None:
            raise InputError("prompt_embeds: ip-adapter tokens go past the text encoder; they are no prompt")
        tokens = self._named_tokens(images or {})
        asked = [self._budgeted(one, tokens, num_tokens) for one in _parsed(prompt)]
        against = [self._budgeted(one, tokens, num_tokens) for one in _parsed(negative)]
        if len(against) not in (1, len(asked)):
            raise InputError(f"expected 1 negative prompt, or {len(asked)} for one a prompt, got {len(against)}")
        if text_free and any(one.parts for one in against):
            raise InputError(
                "text_free steers away from the images alone, not from words; leave out the negative prompt"
            )
        t2i = self.t2i.skipping(clip_skip) if clip_skip else self.t2i
        if text_free:
            other, against = t2i, [one.image_only() for one in asked]
        else:
            other, against = self.t2i, against * (len(asked) // len(against))
        found: dict[str, Tensor | list[Tensor]] = {}
        for side, reader, prompts in (("", t2i, asked), ("negative_", other, against)):
            condition = reader.read(prompts, [tokens] * len(prompts))
            found[f"{side}prompt_embeds"] = condition.unpadded()
            if condition.pooled is not None:
                found[f"{side}pooled_prompt_embeds"] = condition.pooled
        return found

    def pipeline(self, kind: type[Pipeline], **more: Any) -> Pipeline:
        """The frozen model as one of diffusers' pipelines of its family, sharing its weights: img2img, ControlNet, ...

        `lexicon.pipeline(StableDiffusionImg2ImgPipeline)(image=photo, **lexicon.prompt_embeds(...))`.

        Args:
            kind: the pipeline's class. more: parts of it that the frozen model has not (a ControlNet).
        Raises:
            InputError: it needs a part that is not there.
        """
        wanted = inspect.signature(kind.__init__).parameters
        parts = {**self.t2i.components(), **more}
        optional = dict.fromkeys(name for name in getattr(kind, "_optional_components", ()) if name in wanted)
        given = {**optional, **{name: part for name, part in parts.items() if name in wanted}}
        if "requires_safety_checker" in wanted:
            given["requires_safety_checker"] = False
        missing = [name for name, one in wanted.items() if one.default is one.empty and name not in ("self", *given)]
        if missing:
            raise InputError(f"{kind.__name__}: the frozen model has no {' and no '.join(missing)}; give {missing[0]}=")
        return kind(**given)

    @torch.inference_mode()
    def mixture(
        self,
        branches: Sequence[Mapping[Branch, float]],
        prompts: Sequence[Prompt],
        tokens: Mapping[str, Tensor],
        negative: str = "",
    ) -> Mixture:
        """Every condition of every picture as one batch: first conditions first, then the others."""
        ordered = [list(one.items()) for one in branches]
        rows = [(i, *one[0]) for i, one in enumerate(ordered)]
        rows += [(i, *item) for i, one in enumerate(ordered) for item in one[1:]]
        layouts: dict[tuple[Prompt, Branch], int] = {}
        for i, branch, _ in rows:
            layouts.setdefault((prompts[i], branch), len(layouts))
        against = self._budgeted(parse(negative), tokens, None)
        texts = [against if branch.negative else branch.prompt(prompt) for prompt, branch in layouts]
        condition, device = self.t2i.read(texts, [tokens] * len(texts)), self.t2i.device
        place = torch.tensor([layouts[prompts[i], branch] for i, branch, _ in rows], device=device)
        return Mixture(
            condition.select(place),
            torch.tensor([i for i, _, _ in rows], device=device),
            torch.tensor([weight for _, _, weight in rows], device=device),
            pictures=len(branches),
        )

    def _named_tokens(self, images: Mapping[str, ImageLike]) -> dict[str, Tensor]:
        images = _by_name(images)
        named = {name: image for name, image in images.items() if isinstance(image, Tensor)}
        for name, value in named.items():
            if value.ndim != 2 or value.shape[1] != self.t2i.width:
                raise InputError(f"image '{name}': expected tokens [n, {self.t2i.width}], got {list(value.shape)}")
        others = {name: image for name, image in images.items() if not isinstance(image, Tensor)}
        if others:
            named |= dict(zip(others, self.encode(list(others.values())), strict=True))
        return named

    def _budgeted(self, prompt: Prompt, tokens: Mapping[str, Tensor], num_tokens: int | None) -> Prompt:
        available = {name: len(value) for name, value in tokens.items()}
        return set_budgets(prompt, self.t2i.frame, available, num_tokens)

    @torch.inference_mode()
    def _decode(self, x0: Tensor) -> Tensor:
        return self.t2i.decode(x0)


def _by_name(images: Mapping[str, ImageLike]) -> dict[str, ImageLike]:
    """Images by the names that prompts know them by."""
    named: dict[str, ImageLike] = {}
    for name, image in images.items():
        own = image_name(name)
        if own is None:
            raise InputError(f"image '{name}': is no image's name; use letters, digits, _ and -, a letter first")
        if own in named:
            raise InputError(f"image '{name}': is given twice; give each image a name of its own")
        named[own] = image
    return named


def _warn_of_unused(tokens: Mapping[str, Tensor], prompts: Sequence[Prompt]) -> None:
    used = {name for prompt in prompts for name in prompt.names}
    for name in tokens:
        if name not in used:
            warnings.warn(f"image '{name}': no prompt has a slot <{name}>, it is not drawn", PromptWarning, 3)


def _parsed(prompt: str | Prompt | Sequence[str | Prompt]) -> list[Prompt]:
    """One prompt or several, parsed where they are not."""
    several = [prompt] if isinstance(prompt, str | Prompt) else prompt
    return [one if isinstance(one, Prompt) else parse(one) for one in several]
