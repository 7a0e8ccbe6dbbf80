"""Pictures side by side: rows of images under column titles."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont


def grid(
    rows: Sequence[Sequence[Image.Image | None]],
    titles: list[str] | None = None,
    labels: list[str] | None = None,
    size: int = 96,
    height: int | None = None,
) -> Image.Image:
    """Lay images out in rows, each resized to `size` pixels a side, with titles above and labels to the left.

    Titles wider than a column are broken at spaces; None leaves its place white.

    Args:
        height: where images are not square; `size` is then their width.
    """
    height = height or size
    font = ImageFont.load_default(size=13)
    headings = ["\n".join(_wrapped(title, font, size)) for title in titles or []]
    gap, top = 4, 4 + 18 * max((heading.count("\n") + 1 for heading in headings), default=0)
    left = 8 + int(max((font.getlength(label) for label in labels), default=0)) if labels else gap
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (left + columns * (size + gap), top + len(rows) * (height + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, heading in enumerate(headings):
        draw.multiline_text((left + column * (size + gap) + 2, 3), heading, fill="black", font=font, spacing=2)
    for line, row in enumerate(rows):
        y = top + line * (height + gap)
        if labels:
            draw.text((4, y + height // 2 - 8), labels[line], fill="black", font=font)
        for column, image in enumerate(row):
            if image is not None:
                shown = image.resize((size, height), Image.Resampling.LANCZOS)
                canvas.paste(shown, (left + column * (size + gap), y))
    return canvas


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """A text's lines, each at most `width` pixels wide unless a single word is wider."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
