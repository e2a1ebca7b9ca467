"""Oracle: pixels known by construction for each kind of file."""

import numpy as np
import pytest
from PIL import Image

from vireid_plugins.readers.image import ImageError, is_image_name, read_image

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)  # every gray value once


def pixels(path):
    image = read_image(str(path))
    assert image.mode == "RGB"
    return np.asarray(image)


def test_gray_gets_three_equal_channels(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), np.dstack([RAMP] * 3))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_gray_is_scaled_and_not_clipped(tmp_path, suffix):
    wide = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(wide).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(pixels(tmp_path / f"a.{suffix}"), np.dstack([RAMP] * 3))


def test_16_bit_gray_between_the_levels_is_rounded(tmp_path):
    # by hand, in units of 257 = 65535 / 255: 0.498, 0.502, 3.89, 252.9
    Image.fromarray(np.array([[128, 129], [1000, 65000]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[:, :, 0].tolist() == [[0, 1], [4, 253]]


def test_palette_becomes_its_colors(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_rgba_drops_transparency(tmp_path):
    Image.new("RGBA", (1, 1), (10, 20, 30, 128)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[10, 20, 30]]]


def test_black_and_white_image(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0, :, 0].tolist() == [255, 0]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tiff")  # no cyan: red
    assert pixels(tmp_path / "a.tiff")[0, 0].tolist() == [255, 0, 0]


def test_exif_rotation_is_carried_out(tmp_path):
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), (255, 255, 255))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees: the top left corner goes right
    image.save(tmp_path / "a.png", exif=exif)
    turned = pixels(tmp_path / "a.png")
    assert turned.shape == (4, 2, 3)
    assert turned[0, 1].tolist() == [255, 255, 255] and turned.sum() == 3 * 255


def test_odd_names_are_read(tmp_path):
    path = tmp_path / "фото 1 (копия).JPG"
    Image.new("RGB", (3, 5), (9, 9, 9)).save(path, format="JPEG")
    assert pixels(path).shape == (5, 3, 3)


@pytest.mark.parametrize(
    "content, expected",
    [(b"", "empty"), (b"not an image", "not a readable image"), (None, "cannot be opened")],
)
def test_unusable_file_is_named_with_the_remedy(tmp_path, content, expected):
    path = tmp_path / "0007.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=expected) as error:
        read_image(str(path))
    assert str(path) in str(error.value) and "original archive" in str(error.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_truncated_file_is_named(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=f"a.{suffix}"):
        read_image(str(path))


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ImageError, match="8 or 16 bits"):
        read_image(str(tmp_path / "a.tiff"))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("0001.jpg", True),
        ("0001.JPG", True),
        ("a b.Jpeg", True),
        ("x.bmp", True),
        ("Thumbs.db", False),
        (".DS_Store", False),
        ("._0001.jpg", False),
        ("readme.txt", False),
        ("jpg", False),
    ],
)
def test_is_image_name(name, expected):
    assert is_image_name(name) is expected
