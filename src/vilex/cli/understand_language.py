"""`vilex understand language`: a small language model of a file's own words, to be trained from scratch."""

from pathlib import Path
from typing import Annotated

import typer

from vilex.cli.options import Json, Overwrite, Quiet, print_summary


def language(
    files: Annotated[list[Path], typer.Argument(help="JSON lines of examples, whose words it is to know.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for configuration and tokenizer.")],
    width: Annotated[int, typer.Option(min=8, max=16384, help="Of a token.")] = 192,
    layers: Annotated[int, typer.Option(min=1, max=256, help="Of the decoder.")] = 4,
    heads: Annotated[int, typer.Option(min=1, max=256, help="Of attention; twice as many divide the width.")] = 4,
    hidden: Annotated[int, typer.Option(min=8, max=65536, help="Width inside an MLP.")] = 512,
    least: Annotated[int, typer.Option(min=1, max=10**6, help="Times that a word must occur to be one.")] = 2,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a small PaliGemma without weights, for `model.base` with `model.scratch = true`."""
    from vilex.cli.manifest import check_folder, check_free
    from vilex.understand.examples import read_examples, texts_of
    from vilex.understand.language import CONFIG, LanguageConfig, make_language, measure_texts, refuse_weights

    config = LanguageConfig(width, layers, heads, hidden, least)
    check_folder(out)
    refuse_weights(out)
    check_free(out, (CONFIG,), overwrite)
    texts = [text for path in files for text in texts_of(read_examples(path))]
    words = make_language(texts, out, config)
    summary = {"folder": str(out), "words": len(words), "texts": len(texts), **measure_texts(words, texts)}
    print_summary(
        summary,
        f"{summary['words']} words of {summary['texts']} texts, {summary['unknown']} of which hold an unknown one\n"
        f"the longest text has {summary['longest']} words: data.text_length must hold a question and its answer\n"
        f"language model without weights -> {out}",
        quiet,
        as_json,
    )
