"""A frozen model's parts as one of diffusers' pipelines of its family, sharing its weights."""

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from vilex.errors import InputError

Pipeline = TypeVar("Pipeline")


def as_pipeline(components: Mapping[str, Any], kind: type[Pipeline], more: Mapping[str, Any]) -> Pipeline:
    """A diffusers pipeline over parts that are loaded already: img2img, ControlNet, ...

    `lexicon.pipeline(StableDiffusionImg2ImgPipeline)(image=photo, **lexicon.prompt_embeds(...))`.

    Args:
        components: the frozen model's, by the names that pipelines give them.
        kind: the pipeline's class. more: parts of it that the frozen model has not (a ControlNet).
    Raises:
        InputError: it needs a part that is not there.
    """
    wanted = inspect.signature(kind.__init__).parameters
    parts = {**components, **more}
    optional = dict.fromkeys(name for name in getattr(kind, "_optional_components", ()) if name in wanted)
    given = {**optional, **{name: part for name, part in parts.items() if name in wanted}}
    if "requires_safety_checker" in wanted:
        given["requires_safety_checker"] = False
    missing = [name for name, one in wanted.items() if one.default is one.empty and name not in ("self", *given)]
    if missing:
        raise InputError(f"{kind.__name__}: the frozen model has no {' and no '.join(missing)}; give {missing[0]}=")
    return kind(**given)
