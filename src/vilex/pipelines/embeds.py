"""A lexicon's prompts as arguments of its family's diffusers pipeline, masks among them."""

from typing import Any

from vilex.errors import InputError
from vilex.lexicon import VisualLexicon, embeds_of


def prompt_arguments(lexicon: VisualLexicon, *args: Any, **how: Any) -> dict[str, Any]:
    """What `VisualLexicon.prompt_embeds` gives and, where a family's pipeline asks for them, the masks beside it.

    `pipeline(**prompt_arguments(lexicon, "<cat> in snow", {"cat": "cat.png"}))`, with masks [B, L] of the prompts and
    of what is steered away from.

    Raises:
        InputError: as `VisualLexicon.prompt_embeds`; something is steered away from, and the pipeline cannot.
    """
    steered = lexicon.t2i.steered
    if not steered and (how.get("negative") or how.get("text_free")):
        raise InputError(
            f"{lexicon.t2i.pipelines[0]} steers away from nothing; leave out the negative prompt and text_free, or "
            "draw with a VisualLexicon"
        )
    given = lexicon.conditions(*args, **how)
    found: dict[str, Any] = embeds_of(*given)
    name, dtype = lexicon.t2i.mask_argument, lexicon.t2i.mask_dtype
    for side, condition in zip(("", "negative_"), given, strict=True):
        if name and condition.mask is not None:
            found[f"{side}{name}"] = condition.mask.to(dtype or condition.sequence.dtype)
    if not steered:
        return {key: value for key, value in found.items() if not key.startswith("negative_")}
    if name == "prompt_attention_mask":
        found["negative_prompt"] = None  # some of these pipelines have words by default, which they then refuse
    return found
