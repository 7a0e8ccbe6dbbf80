"""A picture drawn into another: inside a mask, and over all of it at several strengths.

python examples/start.py [-o FILE]
"""

import argparse
from pathlib import Path

from PIL import Image

from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.pictures.grid import grid
from vilex.pictures.load import load_image

IMAGES = Path(__file__).parent / "images"
PAIRS = (("butterfly", "dog"), ("dog", "snowman"), ("snowman", "butterfly"))  # where to begin, what to draw
STRENGTHS = (0.4, 0.6, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/start.png"))
    out = parser.parse_args().out
    lexicon, rows = VisualLexicon.from_pretrained("nano"), []
    for start, drawn in PAIRS:
        start, image = (load_image(IMAGES / f"{name}.png") for name in (start, drawn))
        how = {"images": {"b": image}, "start": start, "guidance": Guidance(3.0)}
        changed = [lexicon.generate("<b>", mask=middle(start.size), **how)[0]]
        changed += [lexicon.generate("<b>", strength=strength, **how)[0] for strength in STRENGTHS]
        rows.append([start, image, *changed])
    out.parent.mkdir(parents=True, exist_ok=True)
    grid(rows, ["start", "image", "masked", *(f"strength {strength}" for strength in STRENGTHS)]).save(out)
    print(out)


def middle(size: tuple[int, int]) -> Image.Image:
    """A mask that leaves a frame of an eighth as it is."""
    mask, (width, height) = Image.new("L", size), size
    mask.paste(255, (width // 8, height // 8, width - width // 8, height - height // 8))
    return mask


if __name__ == "__main__":
    main()
