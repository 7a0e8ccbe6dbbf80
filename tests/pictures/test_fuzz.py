"""Whatever the bytes, a picture comes of them or an `InputError`: 10,000 damaged files of all formats."""

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from vilex.errors import InputError
from vilex.pictures.load import FORMATS, decode

MUTATIONS = 750


def encoded(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def samples():
    """A file of each kind, as small as it can be and still have the parts that break."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    rgba = Image.fromarray(rng.integers(0, 256, (6, 7, 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (6, 7), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a cat"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pillow_heif.register_heif_opener()
    return {
        "png": encoded(rgb, "PNG", exif=exif, icc_profile=profile),
        "png-alpha": encoded(rgba.quantize(16), "PNG"),
        "png-16": encoded(deep, "PNG"),
        "jpeg": encoded(rgb, "JPEG", exif=exif),
        "jpeg-cmyk": encoded(rgb.convert("CMYK"), "JPEG", progressive=True),
        "mpo": encoded(rgb, "MPO", save_all=True, append_images=[rgb.rotate(90)]),
        "webp": encoded(rgba, "WEBP", lossless=True, exif=exif),
        "gif": encoded(rgb, "GIF", save_all=True, append_images=[rgb.rotate(180)]),
        "bmp": encoded(rgb, "BMP"),
        "tiff": encoded(rgba, "TIFF", compression="tiff_lzw", exif=exif),
        "tiff-float": encoded(Image.fromarray(rng.random((6, 7), dtype=np.float32)), "TIFF"),
        "avif": encoded(rgb, "AVIF", speed=10, exif=exif),
        "jpeg2000": encoded(rgb, "JPEG2000"),
        "ppm": encoded(rgb, "PPM"),
        "heic": encoded(rgb.resize((16, 16)), "HEIF", quality=10),
    }


def mutated(content, rng):
    """A few bytes changed, a piece cut out or doubled, or the end cut off."""
    changed = bytearray(content)
    how = rng.integers(4)
    if how < 2:
        for _ in range(rng.integers(1, 8)):
            changed[rng.integers(len(changed))] = rng.integers(256)
    start, length = int(rng.integers(len(changed))), int(rng.integers(1, 16))
    if how == 2:
        changed[start : start + length] = changed[start : start + length] * int(rng.integers(0, 3))
    if how == 3:
        del changed[start:]
    return bytes(changed)


def test_all_formats_are_tried():
    assert {*map(str.lower, FORMATS), "mpo", "heic"} == {name.partition("-")[0] for name in samples()}
    for name, content in samples().items():
        assert decode(io.BytesIO(content), name).mode == "RGB"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", samples())
def test_damaged_files_are_read_or_named(kind):
    content, outcomes = samples()[kind], {"read": 0, "named": 0}
    for i in range(MUTATIONS):
        try:
            assert decode(io.BytesIO(mutated(content, np.random.default_rng((1, i)))), "it.file").mode == "RGB"
            outcomes["read"] += 1
        except InputError as error:
            assert str(error).startswith("it.file: ") and "\n" not in str(error)
            outcomes["named"] += 1
    assert outcomes["read"] and outcomes["named"] > MUTATIONS / 10
