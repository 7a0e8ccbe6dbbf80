import os
import subprocess
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from vilex.errors import InputError
from vilex.pictures.fit import square
from vilex.pictures.load import load_each, load_image, to_rgb


def save(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def red(mode="RGB", size=(8, 6)):
    return Image.new("RGB", size, (200, 20, 20)).convert(mode)


@pytest.mark.parametrize("content", [b"", b"hello, I am text", b"\x89PNG\r\n\x1a\n broken"])
def test_no_image_is_refused_by_name(tmp_path, content):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.png"):
        load_image(path)


def test_missing_and_folder_are_refused(tmp_path):
    for path, reason in (
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "a folder"),
        ("a" * 300, "cannot be read"),
    ):
        with pytest.raises(InputError, match=reason):
            load_image(path)


def test_truncated_jpeg_is_refused(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path = save(tmp_path, noise, "cut.jpg")
    path.write_bytes(path.read_bytes()[:1200])
    with pytest.raises(InputError, match=r"cut\.jpg: damaged"):
        load_image(path)


def test_one_pixel_is_refused(tmp_path):
    with pytest.raises(InputError, match="1x1 pixels is too small"):
        load_image(save(tmp_path, red(size=(1, 1)), "dot.png"))


@pytest.mark.parametrize("side", [9000, 16000])
def test_decompression_bomb_is_refused(tmp_path, side):
    with pytest.raises(InputError, match=r"bomb\.png.*pixels; resize"):
        load_image(save(tmp_path, Image.new("1", (side, side)), "bomb.png"))


def test_cmyk_becomes_rgb(tmp_path):
    image = load_image(save(tmp_path, red("CMYK"), "print.jpg", quality=95))
    assert image.mode == "RGB"
    assert np.allclose(np.asarray(image).mean((0, 1)), (200, 20, 20), atol=6)


def test_sixteen_bits_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    image = load_image(save(tmp_path, Image.fromarray(ramp), "deep.png"))
    assert np.abs(np.asarray(image)[..., 0].astype(int) - np.round(ramp / 257)).max() <= 1


def test_sixteen_bits_may_be_transparent(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    image = load_image(save(tmp_path, Image.fromarray(ramp), "clear.png", transparency=int(ramp[0, 0])))
    assert np.asarray(image)[0, :2, 0].tolist() == [255, 4]


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, (0, 255)), (0.5, 0.5, (128, 128)), (1, 1, (255, 255)), (-4, 900, (0, 255))]
)
def test_floats_of_0_to_1_mean_black_to_white_and_others_are_scaled_by_their_range(tmp_path, low, high, expected):
    values = np.linspace(low, high, 64, dtype=np.float32).reshape(8, 8)
    pixels = np.asarray(load_image(save(tmp_path, Image.fromarray(values), "float.tif")))
    assert (pixels.min(), pixels.max()) == expected


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused(tmp_path, broken):
    values = np.ones((8, 8), dtype=np.float32)
    values[2, 3] = broken
    with pytest.raises(InputError, match=r"float\.tif: 1 of 64 values are NaN or infinite"):
        load_image(save(tmp_path, Image.fromarray(values), "float.tif"))


def shifted_profile():
    """sRGB's profile with red and green exchanged: a space in which every picture looks wrong without it."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return content.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGB"), ("a.png", "RGBA"), ("a.jpg", "RGB"), ("a.tif", "RGB")])
def test_profiles_are_converted_to_srgb(tmp_path, name, mode):
    image = load_image(save(tmp_path, red(mode), name, icc_profile=shifted_profile()))
    assert np.allclose(np.asarray(image).mean((0, 1)), (20, 200, 20), atol=4)


def test_the_profile_of_another_space_is_left_out_and_a_damaged_one_named(tmp_path):
    grey = save(tmp_path, red("L"), "grey.png", icc_profile=shifted_profile())
    assert (
        np.ptp(np.asarray(load_image(grey)).astype(int).mean((0, 1))) < 3
    )  # equal inks of three are grey in any space
    ink = save(tmp_path, red("CMYK"), "ink.tif", icc_profile=shifted_profile())
    assert np.array_equal(np.asarray(load_image(ink)), np.asarray(red()))
    with pytest.raises(InputError, match=r"bad\.png: damaged image \(cannot open profile"):
        load_image(save(tmp_path, red(), "bad.png", icc_profile=b"no profile at all" * 20))


def test_lab_becomes_rgb():
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(red(), srgb, lab, outputMode="LAB")
    assert np.allclose(np.asarray(to_rgb(image)).mean((0, 1)), (200, 20, 20), atol=4)


def test_heic_is_read_by_the_extra_or_the_line_names_it(tmp_path, monkeypatch):
    pillow_heif.register_heif_opener()
    path = save(tmp_path, red(size=(64, 64)), "phone.heic", quality=90)
    assert np.allclose(np.asarray(load_image(path)).mean((0, 1)), (200, 20, 20), atol=6)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r'phone\.heic: a HEIC picture; .*pip install "vilex\[heic\]"'):
        load_image(path)


def test_palette_with_alpha_lies_on_white(tmp_path):
    rgba = Image.new("RGBA", (8, 8), (0, 0, 255, 255))
    rgba.paste((0, 0, 0, 0), (0, 0, 4, 8))
    path = save(tmp_path, rgba.quantize(8), "palette.png")
    assert Image.open(path).mode == "P"
    pixels = np.asarray(load_image(path))
    assert tuple(pixels[0, 0]) == (255, 255, 255) and tuple(pixels[0, 7]) == (0, 0, 255)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animation_gives_its_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path, frames[0], f"moving.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert tuple(np.asarray(load_image(path))[0, 0]) == (255, 0, 0)


def test_exif_rotation_is_applied(tmp_path):
    image = red(size=(8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    path = save(tmp_path, image, "phone.jpg", exif=exif)
    with Image.open(path) as opened:
        assert load_image(path).size == to_rgb(opened).size == (4, 8)


def test_names_that_are_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    red().save(path)
    assert load_image(path).size == (8, 6)
    path.write_bytes(b"no")
    with pytest.raises(InputError, match=r"caf\\udce9\.png: not a readable image") as refused:
        load_image(path)
    assert str(refused.value).encode("utf-8")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_read_smaller_looks_the_same(tmp_path, suffix):
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))
    path = save(tmp_path, coarse.resize((1111, 900), Image.Resampling.BICUBIC), f"photo.{suffix}", quality=95)
    small = load_image(path, side=64)
    assert min(small.size) == 192
    whole, reduced = (np.asarray(square(image, 64), dtype=float) for image in (load_image(path), small))
    assert np.abs(whole - reduced).mean() < 2  # a crop's edge falls on other parts of a pixel


@pytest.mark.parametrize(("suffix", "limit"), [("jpg", 80), ("png", 250)])
def test_a_list_of_photographs_takes_the_memory_of_small_ones(tmp_path, suffix, limit):
    """24 pictures of 24 megapixels, 72 MB each: a PNG must be decoded whole, but one at a time."""
    save(tmp_path, Image.new("RGB", (6000, 4000), "red"), f"photo.{suffix}")
    code = f"""
import resource
from vilex.pictures.load import load_each
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
pictures, refused = load_each(["photo.{suffix}"] * {24 if suffix == "jpg" else 4}, side=224)
assert not refused
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout) < limit


def test_good_ones_survive_bad_ones(tmp_path):
    good, bad = save(tmp_path, red(), "good.png"), tmp_path / "bad.png"
    bad.write_text("no")
    images, refused = load_each([bad, good])
    assert list(images) == [good] and len(refused) == 1 and "bad.png" in refused[0]


def test_square_crops_the_centre():
    wide = Image.new("RGB", (30, 10), "white")
    wide.paste("black", (10, 0, 20, 10))
    assert np.asarray(square(wide, 10)).max() == 0
