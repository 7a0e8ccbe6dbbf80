"""Pictures side by side: rows of images under column titles."""

from PIL import Image, ImageDraw, ImageFont


def grid(
    rows: list[list[Image.Image]], titles: list[str] | None = None, labels: list[str] | None = None, size: int = 96
) -> Image.Image:
    """Lay images out in rows, each resized to `size` pixels, with titles above and labels to the left."""
    gap, top = 4, 22 if titles else 4
    font = ImageFont.load_default(size=13)
    left = 8 + int(max((font.getlength(label) for label in labels), default=0)) if labels else gap
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (left + columns * (size + gap), top + len(rows) * (size + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles or []):
        draw.text((left + column * (size + gap) + 2, 3), title, fill="black", font=font)
    for line, row in enumerate(rows):
        y = top + line * (size + gap)
        if labels:
            draw.text((4, y + size // 2 - 8), labels[line], fill="black", font=font)
        for column, image in enumerate(row):
            if image is not None:
                shown = image.resize((size, size), Image.Resampling.LANCZOS)
                canvas.paste(shown, (left + column * (size + gap), y))
    return canvas
