"""A picture, what its tokens give back at several counts, and both side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from vilex.lexicon import ImageLike, VisualLexicon
from vilex.pictures.grid import grid
from vilex.tokens import counted

AT_ONCE = 16  # pictures of a batch; it does not change them


def draw_in_batches(
    lexicon: VisualLexicon,
    prompt: str,
    images: Mapping[str, ImageLike],
    num_images: int,
    seed: int,
    on_step: Callable[[int, int], None],
    **settings: Any,
) -> Iterator[tuple[int, list[Image.Image]]]:
    """`num_images` pictures of a prompt as they are finished: (number of the first, pictures) of each batch.

    Args:
        images, settings: as of `VisualLexicon.generate`; pictures are read once.
        seed: of the first picture, the next ones counting up.
        on_step: called with (finished, all) denoising steps.
    """
    tokens = {
        name: image if isinstance(image, Tensor) else lexicon.encode([image])[0] for name, image in images.items()
    }
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


def reconstruct_at(
    lexicon: VisualLexicon, image: ImageLike, counts: Sequence[int], num_images: int, **settings: Any
) -> dict[int, list[Image.Image]]:
    """`num_images` pictures from each number of leading tokens; `settings` as in `VisualLexicon.generate`."""
    prompts = [f"<image:{count}>" for count in counts]
    pictures = lexicon.generate(prompts, {"image": image}, num_images=num_images, **settings)
    return {count: pictures[i * num_images : (i + 1) * num_images] for i, count in enumerate(counts)}


def reconstruction_grid(source: Image.Image, drawn: Mapping[int, Sequence[Image.Image]]) -> Image.Image:
    """Source | token counts; a row for each sample, at the drawn pictures' own size within 96 to 512 pixels."""
    samples = max(len(pictures) for pictures in drawn.values())
    rows = [[source if row == 0 else None, *(pictures[row] for pictures in drawn.values())] for row in range(samples)]
    own = next(iter(drawn.values()))[0].width
    return grid(rows, ["source", *(counted(count) for count in drawn)], size=min(max(96, own), 512))


def words_row(source: Image.Image, changed: Mapping[str, Image.Image]) -> Image.Image:
    """Source | one picture for each phrase that was put around the image's tokens."""
    return grid([[source, *changed.values()]], ["source", *changed], size=160)
