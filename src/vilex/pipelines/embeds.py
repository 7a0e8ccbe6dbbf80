"""A lexicon's prompts as arguments of its family's diffusers pipeline, masks among them."""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, cast

from torch import Tensor

from vilex.lexicon import VisualLexicon
from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.folder import DiffusersT2I


class _Listening:
    """A frozen model that keeps what it read."""

    def __init__(self, t2i: DiffusersT2I):
        self.t2i, self.read_so_far = t2i, list[Condition]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["t2i"], name)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        self.read_so_far.append(self.t2i.read(prompts, tokens))
        return self.read_so_far[-1]


def prompt_arguments(lexicon: VisualLexicon, *args: Any, **how: Any) -> dict[str, Any]:
    """What `VisualLexicon.prompt_embeds` gives and, where a family's pipeline asks for them, the masks beside it.

    `pipeline(**prompt_arguments(lexicon, "<cat> in snow", {"cat": "cat.png"}))`, with masks [B, L] of the prompts and
    of what is steered away from.

    Raises:
        InputError: as `VisualLexicon.prompt_embeds`.
    """
    listening = _Listening(lexicon.t2i)
    view = copy(lexicon)
    view.t2i = cast(DiffusersT2I, listening)
    found: dict[str, Any] = view.prompt_embeds(*args, **how)
    name = lexicon.t2i.mask_argument
    for side, condition in zip(("", "negative_"), listening.read_so_far, strict=False):
        if name and condition.mask is not None:
            found[f"{side}{name}"] = condition.mask.to(condition.sequence.dtype)  # Chroma's tells numbers from marks
    if name == "prompt_attention_mask":
        found["negative_prompt"] = None  # some of these pipelines have words by default, which they then refuse
    return found
