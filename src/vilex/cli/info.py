"""`vilex info`: what a model is."""

from typing import Annotated

import typer

from vilex.cli.options import Base, Json, load_lexicon, print_summary


def info(
    model: Annotated[str, typer.Argument(help="Embedded model (nano), folder, or hub id.")] = "nano",
    t2i: Base = None,
    as_json: Json = False,
) -> None:
    """What a model is: tower, pooler, base, sizes, training."""
    lexicon = load_lexicon(model, t2i, "cpu", as_json)
    version = getattr(lexicon.encoder.config, "version", None)
    facts = ({"version": version} if version else {}) | lexicon.facts()
    text = "\n".join(f"{key:>16}  {value}" for key, value in facts.items())
    print_summary({"model": model, **facts}, text, False, as_json)
