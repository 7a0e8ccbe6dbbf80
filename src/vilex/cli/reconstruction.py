"""A picture, what its tokens give back at several counts, and both side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from vilex.cli.manifest import Output, hashes_of
from vilex.errors import InputError
from vilex.lexicon import ImageLike, VisualLexicon
from vilex.paths import file_name, unique_names
from vilex.pictures.fit import Fit, fitted, much_cut, warn_of_cuts
from vilex.pictures.grid import grid
from vilex.tokens import counted, given_tokens, split_token_source

AT_ONCE = 16  # pictures of a batch; it does not change them


def draw_in_batches(
    lexicon: VisualLexicon,
    prompt: str,
    images: Mapping[str, ImageLike],
    num_images: int,
    seed: int,
    on_step: Callable[[int, int], None],
    fit: Fit | None = None,
    **settings: Any,
) -> Iterator[tuple[int, list[Image.Image]]]:
    """`num_images` pictures of a prompt as they are finished: (number of the first, pictures) of each batch.

    Args:
        images, fit, settings: as of `VisualLexicon.generate`; pictures are read once.
        seed: of the first picture, the next ones counting up.
        on_step: called with (finished, all) denoising steps.
    """
    tokens = lexicon.tokens_of(images, fit)
    batches = -(-num_images // AT_ONCE)

    def counted_from(number: int) -> Callable[[int, int], None]:
        return lambda done, total: on_step(number * total + done, batches * total)

    for number in range(batches):
        first = number * AT_ONCE
        count = min(AT_ONCE, num_images - first)
        yield (
            first,
            lexicon.generate(
                prompt, tokens, num_images=count, seed=seed + first, on_step=counted_from(number), **settings
            ),
        )


@dataclass(frozen=True)
class Original:
    """What is re-created.

    Attributes:
        path: an image file, or a file of tokens.
        stem: of the names of its pictures' files.
        image: None where there are tokens alone.
        tokens: [n, d].
    """

    path: Path
    stem: str
    image: Image.Image | None
    tokens: Tensor


def read_originals(
    lexicon: VisualLexicon, sources: Sequence[Path], images: Mapping[Path, Image.Image], fit: Fit | None = None
) -> tuple[list[Original], list[str]]:
    """Images that are read already and files of tokens, in the order of `sources`, and a line for each bad file.

    Args:
        fit: how images are encoded, see `VisualLexicon.encode`.
    """
    found: list[Original] = []
    bad: list[str] = []
    fit = fit or lexicon.fit
    warn_of_cuts([str(path) for path, image in images.items() if much_cut(image.size, fit)], len(images))
    for path in sources:
        if path in images:
            tokens = lexicon.encoder.encode([images[path]], fit=fit)[0]
            found.append(Original(path, path.stem, images[path], tokens))
        elif source := split_token_source(path):
            try:
                given = given_tokens(path, path.stem, lexicon.t2i.width, lexicon.encoder_sha256) or {}
            except InputError as error:
                bad.append(str(error))
                continue
            found += [Original(source[0], file_name(name), None, tokens) for name, tokens in given.items()]
    stems = unique_names([one.stem for one in found])
    return [replace(one, stem=stem) for one, stem in zip(found, stems, strict=True)], bad


def reconstruct_at(
    lexicon: VisualLexicon, image: ImageLike, counts: Sequence[int], num_images: int, **settings: Any
) -> dict[int, list[Image.Image]]:
    """`num_images` pictures from each number of leading tokens; `settings` as in `VisualLexicon.generate`."""
    prompts = [f"<image:{count}>" for count in counts]
    pictures = lexicon.generate(prompts, {"image": image}, num_images=num_images, **settings)
    return {count: pictures[i * num_images : (i + 1) * num_images] for i, count in enumerate(counts)}


def write_reconstruction(
    output: Output,
    original: Original,
    drawn: Mapping[int, Sequence[Image.Image]],
    scale: int,
    seed: int,
    fit: Fit = "crop",
) -> None:
    """Each picture by number of tokens and sample, `scale` times larger, and the grid of them all.

    Args:
        fit: how the source was encoded, and is shown.
    """
    origin: dict[str, Any] = {
        "source": str(original.path),
        "source_sha256": hashes_of({"": original.path}).get(""),
    }
    for count, pictures in drawn.items():
        for k, picture in enumerate(pictures):
            output.picture(
                f"{original.stem}-{count:02d}-{k}.png", picture, scale, **origin, tokens=count, seed=seed + k
            )
    source = None if original.image is None else fitted(original.image, *next(iter(drawn.values()))[0].size, fit)
    output.picture(f"{original.stem}-grid.png", reconstruction_grid(source, drawn), **origin, tokens=list(drawn))


def reconstruction_grid(source: Image.Image | None, drawn: Mapping[int, Sequence[Image.Image]]) -> Image.Image:
    """Source, if there is one | token counts; a row for each sample, as wide as the pictures within 96 to 512."""
    samples = max(len(pictures) for pictures in drawn.values())
    rows: list[list[Image.Image | None]] = [[pictures[row] for pictures in drawn.values()] for row in range(samples)]
    titles = [counted(count) for count in drawn]
    if source is not None:
        rows = [[source if i == 0 else None, *row] for i, row in enumerate(rows)]
        titles = ["source", *titles]
    own = next(iter(drawn.values()))[0]
    shown = min(max(96, own.width), 512)
    return grid(rows, titles, size=shown, height=round(shown * own.height / own.width))


def words_row(source: Image.Image, changed: Mapping[str, Image.Image]) -> Image.Image:
    """Source | one picture for each phrase that was put around the image's tokens."""
    return grid([[source, *changed.values()]], ["source", *changed], size=160)
