"""Pictures in: any file a user has to a plain RGB image, or one clear line that says why not."""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from vilex.errors import InputError
from vilex.extras import MissingPackage, needs

MAX_PIXELS = 64 * 1024 * 1024
MIN_SIDE = 2
MARGIN = 3  # a picture is reduced to no less than so many times the side that is asked for
EXTENSIONS = frozenset(
    {
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".webp",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".avif",
        ".jp2",
        ".j2k",
        ".jpf",
        ".jpx",
        ".pbm",
        ".pgm",
        ".pnm",
        ".ppm",
        ".heic",
        ".heif",
    }
)
UNREAD = {  # pictures too, but of kinds that are not read
    ".arw", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".hdr", ".ico", ".jxl", ".nef", ".orf", ".psd", ".raf", ".raw",
    ".rw2", ".svg", ".tga",
}  # fmt: skip
# Pillow's other decoders start programs (EPS), or take almost any bytes for a picture (TGA).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx mif1 msf1".split())

# What Pillow has to say of odd metadata and of sizes up to its own limit names no file; ours is lower and does.
warnings.filterwarnings("ignore", module=r"PIL\.")


def load_image(path: str | Path, side: int | None = None) -> Image.Image:
    """Read a picture file as RGB; see `to_rgb` for what that means.

    Args:
        side: what the picture will be brought to. A larger one is read smaller, if no smaller than three times that:
            JPEGs by their decoder, all others right after it, so that a list of photographs takes little memory.
    Raises:
        InputError: the file is missing, empty, truncated, damaged, no image, too small or too large.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: a folder; give the path of an image")
        if not path.is_file():
            raise InputError(f"{path}: no such file; give the path of an image")
        with path.open("rb") as file:
            return decode(file, str(path), side)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give the path of an image") from None


def decode(file: IO[bytes], name: str, side: int | None = None) -> Image.Image:
    """The bytes of a picture file as RGB, see `load_image`; `name` stands in the error."""
    with _damage_named(name), _opened(file, name) as image:
        _check_size(image, name)
        if side:
            image.draft(None, (MARGIN * side, MARGIN * side))
        return _converted(image, name, side)


def to_rgb(image: Image.Image, name: str = "image", side: int | None = None) -> Image.Image:
    """An opened picture as RGB: its first frame, upright by EXIF, in sRGB by its ICC profile, transparency on white.

    16-bit greys are scaled to 8 bits; 32-bit and floating-point ones too, by the range of their values unless that
    is 0 to 1. A profile of another colour space than the pixels' describes nothing and is left out.

    Args:
        name: stands in the error. side: as in `load_image`.
    Raises:
        InputError: it cannot be decoded, holds values that are no finite numbers, a side is under 2 pixels, or the
            whole over `MAX_PIXELS`.
    """
    with _damage_named(name):
        _check_size(image, name)
        return _converted(image, name, side)


def load_each(paths: Iterable[str | Path], side: int | None = None) -> tuple[dict[Path, Image.Image], list[str]]:
    """Read a list of pictures; the good ones by path, and a line for each bad one. `side`: as in `load_image`."""
    good, bad = {}, []
    for path in paths:
        try:
            good[Path(path)] = load_image(path, side)
        except InputError as error:
            bad.append(str(error))
    return good, bad


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Whatever a decoder raises of damaged bytes is a damaged image: their kinds of exceptions are without number."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{name}: not a readable image; convert it to PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise InputError(f"{name}: over {MAX_PIXELS} pixels; resize it first") from None
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].split(" <_io.")[0]
        raise InputError(f"{name}: damaged image ({reason or type(error).__name__}); save it again") from None


def _opened(file: IO[bytes], name: str) -> Image.Image:
    """An image that is not decoded yet; HEIC by the extra `heic`."""
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        header = file.read(12)
        if not header:
            raise InputError(f"{name}: the file is empty; give an image") from None
        if header[4:8] != b"ftyp" or header[8:] not in HEIF_BRANDS:
            raise
    try:
        with needs("heic"):
            import pillow_heif
    except MissingPackage as error:
        raise InputError(f"{name}: a HEIC picture; {error}, or convert it to JPEG") from None
    pillow_heif.register_heif_opener()
    file.seek(0)
    return Image.open(file, formats=["HEIF"])


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name}: {width}x{height} pixels is too small; give at least {MIN_SIDE}x{MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise InputError(f"{name}: {width}x{height} is over {MAX_PIXELS} pixels; resize it first")


def _converted(image: Image.Image, name: str, side: int | None) -> Image.Image:
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_eight_bits(image, name)
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "L", "CMYK", "LAB"):  # what profiles speak of
        image = image.convert("RGB")
    if side and (scale := MARGIN * side / min(image.size)) < 1:
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC, reducing_gap=MARGIN
        )
    image = _to_srgb(image, profile)
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image


def _to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """RGB, or RGBA if the image is, whose numbers mean what sRGB's do."""
    target = "RGBA" if image.mode == "RGBA" else "RGB"
    if image.mode == "LAB":
        profile, space = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB"
    elif icc:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
    else:
        return image.convert(target)
    if space == "RGB" and image.mode == "L":
        image = image.convert(target)
    if image.mode != {"RGB": target, "GRAY": "L"}.get(space, space):
        return image.convert(target)
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=target)
    assert converted is not None  # it is only where the change is made in place
    return converted


def _to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Greys of more bits as L, or as LA if one of their values stands for transparency."""
    values = np.asarray(image, dtype=np.float32)
    broken = np.count_nonzero(~np.isfinite(values))
    if broken:
        raise InputError(f"{name}: {broken} of {values.size} values are NaN or infinite; write finite ones")
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= -0.1 and high <= 1.1:
        low, high = 0.0, 1.0
    elif image.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    elif low == high:
        low, high = 0.0, 255.0
    scaled = ((values - low) / (high - low) * 255).clip(0, 255).round().astype(np.uint8)
    grey = Image.fromarray(scaled)
    if isinstance(clear := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    grey.info["icc_profile"] = image.info.get("icc_profile")
    return grey
