"""An image and its words as a row of ids, as big_vision lays them out:

    image vectors | [BOS] prefix | newline | suffix [EOS]

What stands before the suffix sees all of itself, the suffix all before it and nothing ahead (`mask_ar` 0 and 1); only
the suffix is learnt (`mask_loss`). The newline is tokenised by itself. Several questions of one image may be packed
behind its vectors: each then sees the image and itself, at the positions it would have alone, and the image sees no
question, which is a departure from PaliGemma.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vilex.errors import InputError

UNLABELLED = -100


@dataclass(frozen=True)
class LaidOut:
    """A batch of rows.

    Attributes:
        ids: [B, L]. image: [B, L], where image vectors go. there: [B, L], what is no padding.
        prefix: [B, L], what stands before the suffix, the image among it.
        labels: [B, L], ids of the suffix, -100 elsewhere.
        question: [B, L], of packed rows: 0 for the image, then 1, 2, ...; None where a row is one question.
        text: how many last columns hold every label and what predicts the first of them.
        images: pictures of each row. cut: suffixes that were too long for the text's length, and lost their end.
    """

    ids: Tensor
    image: Tensor
    there: Tensor
    prefix: Tensor
    labels: Tensor
    question: Tensor | None = None
    text: int = 0
    images: tuple[int, ...] = ()
    cut: int = 0

    def to(self, device: torch.device | str) -> "LaidOut":
        """The same on a device."""
        tables: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **tables)

    def attention(self) -> Tensor:
        """[B, 1, L, L], true where a place (row) sees another (column); what sees nothing sees itself."""
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        before = place[None, :] <= place[:, None]
        sees = self.there[:, None, :] & (self.prefix[:, None, :] | before)
        if self.question is not None:
            of, own = self.question[:, :, None], self.question[:, None, :]
            sees = sees & ((own == 0) | (own == of))
        return (sees | torch.eye(len(place), dtype=torch.bool, device=self.ids.device))[:, None]

    def positions(self) -> Tensor:
        """[B, L], from 0, padding not counted; each packed question goes on from the image's end."""
        counted = (self.there.cumsum(1) - 1).clamp(min=0)
        if self.question is None:
            return counted
        first = torch.zeros_like(counted)
        for number in range(1, int(self.question.max()) + 1):
            own = (self.question == number) & self.there
            start = torch.where(own, counted, counted.shape[1]).amin(1, keepdim=True)
            image = (self.image & self.there).sum(1, keepdim=True)
            first = torch.where(own, start - image, first)
        return counted - first


class Layout:
    """Texts to rows of ids, for one tokenizer.

    Args:
        tokenizer: of transformers. vectors: N, of an image. text_length: as big_vision's `text_len`: a prefix and a
            suffix may have one token more together, with [BOS], newline and [EOS]; the suffix is cut to that.
        image_id: what stands where image vectors go; a text may not hold it.
        apart: whether images see no question even where a row has a single one: for a model that was trained packed.
    Raises:
        InputError: the tokenizer has no end-of-text token.
    """

    def __init__(
        self, tokenizer: Any, vectors: int, text_length: int, image_id: int | None = None, apart: bool = False
    ):
        if tokenizer.eos_token_id is None:
            raise InputError("model.base: its tokenizer has no end-of-text token, which answers end with")
        self.tokenizer, self.vectors, self.text_length = tokenizer, vectors, text_length
        self.image_id, self.apart = image_id, apart
        self.pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def _ids(self, text: str, name: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        if self.image_id is not None and self.image_id in ids:
            raise InputError(f"{name}: holds the image's own token; take it out, images stand before the text anyway")
        return ids

    def prompt(self, prefix: str, name: str = "prefix") -> list[int]:
        """[BOS] prefix newline; tokenizers without [BOS] leave it out."""
        first = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        return [*first, *self._ids(prefix, name), *self._ids("\n", name)]

    def suffix(self, suffix: str, name: str = "suffix") -> list[int]:
        """suffix [EOS]."""
        return [*self._ids(suffix, name), self.tokenizer.eos_token_id]

    def training(
        self, prefixes: Sequence[str], suffixes: Sequence[str], images: Sequence[int], names: Sequence[str] = ()
    ) -> LaidOut:
        """Questions with their answers, padded on the right.

        Args:
            images: pictures of each. names: what an error calls each.
        Raises:
            InputError: a prefix leaves its suffix no room.
        """
        rows, cut = [], 0
        for i, (prefix, suffix) in enumerate(zip(prefixes, suffixes, strict=True)):
            name = names[i] if names else f"example {i}"
            question, answer, short = self._pair(prefix, suffix, name)
            cut += short
            rows.append(_Row.of(images[i] * self.vectors, [(question, answer)]))
        return self._lay(rows, images, cut=cut)

    def packed(
        self,
        questions: Sequence[Sequence[tuple[str, str]]],
        images: Sequence[int] = (),
        names: Sequence[Sequence[str]] = (),
    ) -> LaidOut:
        """All (prefix, suffix) of each row behind its vectors, padded on the right; see this file's head.

        Args:
            images: pictures of each row, one by default. names: what an error calls each question.
        Raises:
            InputError: a prefix leaves its suffix no room.
        """
        rows, cut, images = [], 0, images or [1] * len(questions)
        for i, pairs in enumerate(questions):
            texts = []
            for j, (prefix, suffix) in enumerate(pairs):
                question, answer, short = self._pair(prefix, suffix, names[i][j] if names else f"example {i}")
                texts.append((question, answer))
                cut += short
            rows.append(_Row.of(images[i] * self.vectors, texts))
        return self._lay(rows, images, packed=True, cut=cut)

    def questions(self, prefixes: Sequence[str], images: Sequence[int]) -> LaidOut:
        """Questions to be answered, padded on the left; none is cut."""
        rows = [_Row.of(n * self.vectors, [(self.prompt(one), [])]) for one, n in zip(prefixes, images, strict=True)]
        return self._lay(rows, images, left=True)

    def answer(self, ids: Sequence[int]) -> str:
        """The text of generated ids, up to [EOS]."""
        kept = list(ids)
        if self.tokenizer.eos_token_id in kept:
            kept = kept[: kept.index(self.tokenizer.eos_token_id)]
        kept = [i for i in kept if i not in (self.pad_id, self.tokenizer.bos_token_id, self.image_id)]
        return str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False)).strip()

    def _pair(self, prefix: str, suffix: str, name: str) -> tuple[list[int], list[int], bool]:
        question, answer = self.prompt(prefix, name), self.suffix(suffix, name)
        room = self.text_length + 1 - len(question)
        if room < 1:
            raise InputError(
                f"{name}: its prefix has {len(question)} tokens and leaves no room for a suffix; "
                f"raise data.text_length = {self.text_length}"
            )
        return question, answer[:room], len(answer) > room

    def _lay(
        self, rows: Sequence["_Row"], images: Sequence[int], left: bool = False, packed: bool = False, cut: int = 0
    ) -> LaidOut:
        length = max(len(row.ids) for row in rows)

        def table(values: list[list[int]], empty: int) -> Tensor:
            fill = [[empty] * (length - len(value)) for value in values]
            joined = [pad + own if left else own + pad for own, pad in zip(values, fill, strict=True)]
            return torch.tensor(joined, dtype=torch.long)

        hole = self.pad_id if self.image_id is None else self.image_id
        ids = table([[hole if i is None else i for i in row.ids] for row in rows], self.pad_id)
        return LaidOut(
            ids=ids,
            image=table([[int(i is None) for i in row.ids] for row in rows], 0).bool(),
            there=table([[1] * len(row.ids) for row in rows], 0).bool(),
            prefix=table([[int(one == UNLABELLED) for one in row.labels] for row in rows], 0).bool(),
            labels=table([row.labels for row in rows], UNLABELLED),
            question=table([row.question for row in rows], 0) if packed or self.apart else None,
            text=length + 1 - min(row.first_label for row in rows),
            images=tuple(images),
            cut=cut,
        )


@dataclass(frozen=True)
class _Row:
    ids: list[int | None]  # None where an image vector goes
    labels: list[int]
    question: list[int]

    @property
    def first_label(self) -> int:
        return next((i for i, one in enumerate(self.labels) if one != UNLABELLED), len(self.labels))

    @classmethod
    def of(cls, vectors: int, texts: Sequence[tuple[list[int], list[int]]]) -> "_Row":
        row = cls([None] * vectors, [UNLABELLED] * vectors, [0] * vectors)
        for number, (question, answer) in enumerate(texts, 1):
            row.ids.extend([*question, *answer])
            row.labels.extend([UNLABELLED] * len(question) + answer)
            row.question.extend([number] * (len(question) + len(answer)))
        return row
