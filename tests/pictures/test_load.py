import numpy as np
import pytest
from PIL import Image

from vilex.errors import InputError
from vilex.pictures.load import load_each, load_image, square


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
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match="no such file"):
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
    assert load_image(save(tmp_path, image, "phone.jpg", exif=exif)).size == (4, 8)


def test_good_ones_survive_bad_ones(tmp_path):
    good, bad = save(tmp_path, red(), "good.png"), tmp_path / "bad.png"
    bad.write_text("no")
    images, refused = load_each([bad, good])
    assert list(images) == [good] and len(refused) == 1 and "bad.png" in refused[0]


def test_square_crops_the_centre():
    wide = Image.new("RGB", (30, 10), "white")
    wide.paste("black", (10, 0, 20, 10))
    assert np.asarray(square(wide, 10)).max() == 0
