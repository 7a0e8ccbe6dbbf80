"""What a call asks to be drawn, read and checked before anything is computed."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from vilex.checks import SIDES, WEIGHTS, instance, number, one_or_more, seed, whole
from vilex.errors import InputError
from vilex.prompt import Prompt, PromptWarning, Slot, image_name, parse
from vilex.t2i.base import FrozenT2I

Image = TypeVar("Image")


def prompts_of(given: str | Prompt | Sequence[str | Prompt]) -> list[Prompt]:
    """One prompt or several, parsed where they are not.

    Raises:
        InputError: there is none; or see `vilex.prompt.parse`.
    """
    several = [given] if isinstance(given, str | Prompt) or not isinstance(given, Iterable) else list(given)
    if not several:
        raise InputError("prompt: expected at least one, got none")
    return [one if isinstance(one, Prompt) else parse(one) for one in several]


def seeds_of(given: Any, num_images: int, num_prompts: int) -> list[int]:
    """A seed for each picture, prompt by prompt.

    Args:
        given: of a prompt's first picture, the next ones counting up; or one for each of its `num_images`; or one for
            each picture.
    Raises:
        InputError: they are no whole numbers that a generator takes, or not so many.
    """
    seeds = one_or_more(given, "seed", seed)
    if len(seeds) == 1 and not hasattr(given, "__len__"):
        seeds = [seed(seeds[0] + i) for i in range(num_images)]
    if len(seeds) == num_images:
        seeds *= num_prompts
    if len(seeds) != num_images * num_prompts:
        raise InputError(
            f"expected {num_images} seeds, or {num_images * num_prompts} for one a picture, got {len(seeds)}"
        )
    return seeds


class SizeWarning(UserWarning):
    """Pictures are drawn at another size than was asked for."""


def drawn_size(t2i: FrozenT2I, width: int | None, height: int | None) -> tuple[int, int]:
    """The size (width, height) that is drawn: the nearest to what is asked that a frozen model takes.

    Where that is another, a warning says so.

    Args:
        width, height: in pixels; the model's own where None.
    Raises:
        InputError: they are no whole numbers from 8 to 8192.
    """
    given, step = (("width", width, t2i.picture_size[0]), ("height", height, t2i.picture_size[1])), t2i.size_step
    asked = [own if value is None else whole(value, name, *SIDES) for name, value, own in given]
    drawn = [max(1, (side + step // 2) // step) * step for side in asked]
    if drawn != asked:
        line = f"size {asked[0]}x{asked[1]}: drawn as {drawn[0]}x{drawn[1]}, in multiples of {step} pixels"
        warnings.warn(line, SizeWarning, 3)
    return drawn[0], drawn[1]


def by_name(images: Mapping[str, Image], what: str = "images") -> dict[str, Image]:
    """Images by the names that prompts know them by; or `what` else is given by those names.

    Raises:
        InputError: a name is none, or two are the same.
    """
    named: dict[str, Image] = {}
    for name, image in instance(images, Mapping, what, 'something for each name, as {"cat": ...}').items():
        own = image_name(name) if isinstance(name, str) else None
        if own is None:
            raise InputError(f"image '{name}': is no image's name; use letters, digits, _ and -, a letter first")
        if own in named:
            raise InputError(f"image '{name}': is given twice; give each image a name of its own")
        named[own] = image
    return named


def weights_of(given: Mapping[str, float] | None, images: Iterable[str], prompts: Sequence[Prompt]) -> dict[str, float]:
    """The weights of images by name.

    Raises:
        InputError: one is no number from -1000 to 1000, or of an image that is not there or that no prompt draws.
    """
    weights_given = by_name({} if given is None else given, "weights")
    there, drawn = set(images), {name for prompt in prompts for name in prompt.names}
    weights = {name: number(weight, f"weights: {name}", *WEIGHTS) for name, weight in weights_given.items()}
    for name in weights:
        if name not in there:
            raise InputError(f"weights: there is no image named '{name}'; leave it out, or give its image")
        if name not in drawn:
            raise InputError(f"weights: no prompt has a slot <{name}>; leave it out, or write <{name}> into the prompt")
    return weights


def check_emphasis(prompt: Prompt, read: bool, images_read: bool) -> None:
    """Raise InputError for a prompt that is stressed where nothing reads it.

    Args:
        read: whether the frozen model's text encoders read stressed words. images_read: whether images go through them.
    """
    stressed = [part for part, stress in prompt.stressed if stress != 1]
    if stressed and not read:
        what = stressed[0][:40] if isinstance(stressed[0], str) else f"<{stressed[0].name}>"
        raise InputError(
            f"prompt: '({what}:...)': this base model's text encoders are not CLIP's alone and read no stress; leave "
            "it out, or write brackets that are words \\( and \\)"
        )
    if not images_read and any(isinstance(part, Slot) for part in stressed):
        raise InputError("prompt: ip-adapter's tokens go past the text encoder and are not stressed; give them weights")


def warn_of_unused(images: Iterable[str], prompts: Sequence[Prompt]) -> None:
    """Say which images no prompt, negative ones included, has a slot for."""
    used = {name for prompt in prompts for name in prompt.names}
    for name in images:
        if name not in used:
            warnings.warn(f"image '{name}': no prompt has a slot <{name}>, it is not drawn", PromptWarning, 3)
