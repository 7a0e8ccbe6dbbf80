"""`vilex info`: what a model is."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from vilex.cli.models import Models
from vilex.cli.options import Base, Json, print_summary


def info(
    model: Annotated[str, typer.Argument(help="Embedded model (nano), folder, or hub id.")] = "nano",
    t2i: Base = None,
    as_json: Json = False,
) -> None:
    """What a model is: tower, pooler, base, sizes, training."""
    lexicon = Models(model, t2i).load(quiet=as_json)
    version = getattr(lexicon.encoder.config, "version", None)
    facts = ({"version": version} if version else {}) | lexicon.facts()
    print_summary({"model": model, **facts}, "\n".join(_lines(facts)), False, as_json)


def _lines(facts: dict[str, Any], within: str = "") -> Iterator[str]:
    """A line a fact; what consists of several facts gives one for each, as `training.steps`."""
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            yield from _lines(value, f"{within}{key}.")
        else:
            yield f"{within + key:>24}  {'-' if value is None or value == {} else value}"
