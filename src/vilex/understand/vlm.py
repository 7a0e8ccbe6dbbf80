"""A language model that sees: PaliGemma, or a decoder-only one, of transformers, over frozen image features.

Nothing is subclassed. PaliGemma is handed its image vectors as `mm_encoder_outputs`, which takes any number of them;
another language model gets them among its input embeddings, and a mask in which what stands before the suffix sees all
of itself, as PaliGemma's does. Vectors come through PaliGemma's own projector where they are patches of a tower like
its own, else through one linear map a part.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig, PaliGemmaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vilex.errors import InputError
from vilex.hub.plain_tower import UNSHAPED
from vilex.understand.features import ImageFeatures
from vilex.understand.layout import LaidOut, Layout
from vilex.understand.suffix_loss import example_losses, token_losses

TOGETHER = 16  # questions answered at once


class VisualLanguageModel(nn.Module):
    """A language model, its projectors and, frozen beside them, what it sees with.

    Args:
        lm: `PaliGemmaForConditionalGeneration`, or a causal language model of transformers.
        tokenizer: its own. features: what it sees. text_length, apart: see `Layout`.

    Attributes:
        projectors: a linear map for each part of the features that PaliGemma's own is not for.
        layout: texts to ids. features: not among the weights; it never trains.
        notes: a line on what is unusual. files: small files of a published PaliGemma that are saved with it.
    """

    def __init__(self, lm: Any, tokenizer: Any, features: ImageFeatures, text_length: int = 32, apart: bool = False):
        super().__init__()
        self.lm, self.tokenizer, self.features = lm, tokenizer, features
        self.is_paligemma = isinstance(lm, PaliGemmaForConditionalGeneration)
        self.own_patches, self.notes, self.files = False, list[str](), dict[str, bytes]()
        if self.is_paligemma:
            self._take_tower()
        self.projectors = nn.ModuleDict()
        for part in features.parts:
            if part.name != "patches" or not self.own_patches:
                self.projectors[part.name] = self._projector(part.width)
        image_id = lm.config.image_token_id if self.is_paligemma else None
        self.layout = Layout(tokenizer, features.count, text_length, image_id, apart)

    def _take_tower(self) -> None:
        """The eyes' tower is PaliGemma's from here on, if it could be: saved, it is a plain PaliGemma."""
        own, eyes = self.lm.model.vision_tower, self.features.eyes
        if is_like(own, eyes.tower):
            self.own_patches = True
            self.lm.model.vision_tower = eyes.tower
        else:
            self.notes.append(f"{eyes.name}: another tower than PaliGemma's; its patches have a new projector")
        self.lm.model.vision_tower.requires_grad_(False)

    def _projector(self, width: int) -> nn.Linear:
        """Beside PaliGemma's own patches, zero: the first step is the model as it was, but for empty places.

        By itself, of such a spread that features of spread 1 come out as words are.
        """
        words = self.lm.get_input_embeddings()
        made = nn.Linear(width, words.weight.shape[1])
        nn.init.zeros_(made.bias)
        if self.own_patches:
            nn.init.zeros_(made.weight)
        elif not words.weight.is_meta:  # of which a plan has the shape alone
            with torch.no_grad():
                some = torch.arange(min(1000, len(words.weight)), device=words.weight.device)
                nn.init.normal_(made.weight, std=words(some).float().std().item() * width**-0.5)
        return made.to(words.weight.device, words.weight.dtype)

    @property
    def projector_parameters(self) -> list[nn.Parameter]:
        """Of every projector that is used."""
        own = list(self.lm.model.multi_modal_projector.parameters()) if self.own_patches else []
        used = any(part.name == "patches" for part in self.features.parts)
        return [*(own if used else []), *self.projectors.parameters()]

    @property
    def device(self) -> torch.device:
        """Where the words are."""
        return self.lm.get_input_embeddings().weight.device

    def project(self, parts: Sequence[Tensor]) -> Tensor:
        """Features of I images, [I, N_i, w_i] for each part, to image vectors, [I, N, H]."""
        vectors = []
        for part, value in zip(self.features.parts, parts, strict=True):
            own = part.name == "patches" and self.own_patches
            projector = self.lm.model.multi_modal_projector if own else self.projectors[part.name]
            weight = next(projector.parameters())
            vectors.append(projector(value.to(weight.device, weight.dtype)))
        return torch.cat(vectors, dim=1)

    def forward(self, parts: Sequence[Tensor], laid: LaidOut, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """Losses of each example's suffix, as `example_losses` gives them.

        Args:
            parts: [I, N_i, w_i], of the images of all rows, in their order. laid: the rows. smoothing: of labels.
        """
        columns = laid.text
        logits = self.logits(parts, laid, columns)
        labels = laid.labels[:, -columns:]
        question = None if laid.question is None else laid.question[:, -columns:]
        return example_losses(token_losses(logits, labels, smoothing), labels, question)

    def logits(self, parts: Sequence[Tensor], laid: LaidOut, columns: int = 0) -> Tensor:
        """Logits [B, K, V] of the last K `columns`; of all if 0."""
        how: dict[str, Any] = {"use_cache": False, "logits_to_keep": columns}
        return self.lm(**self._given(self.project(parts), laid), **how).logits

    def _given(self, vectors: Tensor, laid: LaidOut) -> dict[str, Any]:
        """What the language model is called with, for rows and the vectors of their images."""
        if not self.is_paligemma:
            words = self._embed(vectors, laid)
            return {"inputs_embeds": words, "attention_mask": laid.attention(), "position_ids": laid.positions()}
        seen = {"image": BaseModelOutputWithPooling(pooler_output=vectors)}
        if laid.question is not None:
            rows = {"attention_mask": laid.attention(), "position_ids": laid.positions() + 1}  # PaliGemma counts from 1
        else:
            rows = {"attention_mask": laid.there.long(), "token_type_ids": (~laid.prefix & laid.there).long()}
        return {"input_ids": laid.ids, "mm_encoder_outputs": seen, **rows}

    def _embed(self, vectors: Tensor, laid: LaidOut) -> Tensor:
        words = self.lm.get_input_embeddings()(laid.ids)
        return words.masked_scatter(laid.image[..., None], vectors.to(words.dtype))

    @torch.no_grad()
    def generate(
        self,
        parts: Sequence[Tensor],
        prefixes: Sequence[str],
        images: int = 1,
        max_new_tokens: int = 32,
        beams: int = 1,
    ) -> list[str]:
        """Answers, greedily or by beam search (transformers' own, its length penalty 1).

        Args:
            parts: [B images, N_i, w_i], each question's images after another. images: of each question.
        """
        laid = self.layout.questions(prefixes, [images] * len(prefixes)).to(self.device)
        vectors = self.project(parts)
        settings = GenerationConfig(
            max_new_tokens=max_new_tokens, num_beams=beams, do_sample=False, pad_token_id=self.layout.pad_id,
            eos_token_id=self.tokenizer.eos_token_id, bos_token_id=self.tokenizer.bos_token_id,
        )  # fmt: skip
        how: dict[str, Any] = {
            "input_ids": laid.ids, "attention_mask": laid.there.long(), "generation_config": settings
        }  # fmt: skip
        was = self.lm.training
        self.lm.eval()
        try:
            if self.is_paligemma and laid.question is None:
                shaped = vectors.reshape(len(prefixes), -1, vectors.shape[-1])  # beams are made of rows
                seen = {"image": BaseModelOutputWithPooling(pooler_output=shaped)}
                made = self.lm.generate(mm_encoder_outputs=seen, token_type_ids=torch.zeros_like(laid.ids), **how)
            else:
                made = self.lm.generate(past_key_values=self._read(vectors, laid, beams), **how)
        finally:
            self.lm.train(was)
        return [self.layout.answer(ids) for ids in made[:, laid.ids.shape[1] :].tolist()]

    def _read(self, vectors: Tensor, laid: LaidOut, beams: int) -> Any:
        """What a language model holds of a prompt that it would itself read with another mask.

        One that was trained causally sees all of it here, and an image none of its question where they are apart.

        The last place is left out: `generate` computes it again, where it sees the same.
        """
        cache = DynamicCache(config=self.lm.config)
        self.lm(**self._given(vectors, laid), past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.crop(-1)
        if beams > 1:
            cache.batch_repeat_interleave(beams)
        return cache

    def answer(
        self, images: Sequence[Image.Image], prefixes: Sequence[str], max_new_tokens: int = 32, beams: int = 1
    ) -> list[str]:
        """One answer a picture and prefix, as `caption en` or `answer en what is this?`.

        Raises:
            InputError: there are not as many of both.
        """
        if len(images) != len(prefixes):
            raise InputError(
                f"expected a prefix for each picture, got {len(images)} pictures, {len(prefixes)} prefixes"
            )
        answers: list[str] = []
        for i in range(0, len(images), TOGETHER):
            parts = self.features.of_images(images[i : i + TOGETHER])
            answers += self.generate(parts, prefixes[i : i + TOGETHER], 1, max_new_tokens, beams)
        return answers


def is_like(tower: Any, other: Any) -> bool:
    """Whether one vision model's weights are the other's, shape by shape, and mean the same there."""
    if type(tower) is not type(other):
        return False
    shapes, others = ({key: value.shape for key, value in one.state_dict().items()} for one in (tower, other))
    return shapes == others and all(getattr(tower.config, key) == getattr(other.config, key) for key in UNSHAPED)
