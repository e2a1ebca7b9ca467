"""Oracle: pixels known by construction for each kind of file."""

import importlib.util
import os
import warnings

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from vireid_plugins.readers import image as reader
from vireid_plugins.readers.image import (
    ImageError,
    check_file,
    is_image_name,
    read_image,
    read_picture,
)

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


def test_a_thermal_range_makes_black_and_white_of_its_ends(tmp_path):
    # by hand: 7000 is 0, 7400 a fifth of the way, 9000 is 255; what lies outside is cut
    Image.fromarray(np.array([[6000, 7000], [7400, 9000], [9500, 8000]], np.uint16)).save(
        tmp_path / "a.png"
    )
    found = np.asarray(read_image(str(tmp_path / "a.png"), (7000, 9000)))
    assert found[:, :, 0].tolist() == [[0, 0], [51, 255], [255, 128]]


def test_numbers_of_one_file_without_a_range(tmp_path):
    path = str(tmp_path / "a.tiff")
    counts = np.array([[7000, 7400], [9000, 8000]])
    Image.fromarray(counts.astype(np.uint16)).save(path)
    assert np.asarray(read_image(path))[:, :, 0].tolist() == [[0, 51], [255, 128]]
    Image.fromarray(counts.astype(np.int32) - 8000).save(path)
    with pytest.raises(ImageError, match="Gray values -1000..1000.*INPUT.INFRARED_RANGE LOW..HIGH"):
        read_image(path)
    assert np.asarray(read_image(path, (-1000, 1000)))[:, :, 0].tolist() == [[0, 51], [255, 128]]
    assert np.asarray(read_picture(path))[:, :, 0].tolist() == [[0, 51], [255, 128]]


@pytest.mark.parametrize(
    "values, expected",
    [
        ([30_000, 30_000], [117, 117]),  # no contrast to stretch: 30,000 / 257
        ([100, 32_868], [0, 128]),  # half of 16 bits
        ([100, 32_867], [0, 255]),  # a little less
    ],
)
def test_a_file_that_uses_half_of_16_bits_or_one_value_is_divided_by_65535(
    tmp_path, values, expected
):
    Image.fromarray(np.array([values], np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(read_image(str(tmp_path / "a.png")))[0, :, 0].tolist() == expected


def test_degrees_with_a_range_and_dead_pixels(tmp_path):
    path = str(tmp_path / "a.tiff")
    degrees = np.array([[10.0, 14.0], [30.0, np.inf]], np.float32)
    Image.fromarray(degrees).save(path)
    assert np.asarray(read_image(path, (10, 30)))[:, :, 0].tolist() == [[0, 51], [255, 255]]
    degrees[0, 0] = np.nan
    Image.fromarray(degrees).save(path)
    with pytest.raises(ImageError, match="1 of its gray values are NaN"):
        read_image(path, (10, 30))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_an_uncompressed_tiff(tmp_path, kind, orientation):
    # Pillow 13 maps such a file into memory, and mixes up its rows when it turns the image.
    pixels = np.arange(24).reshape(4, 6).astype(kind) * (10 if kind == np.uint8 else 2600)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.tiff", exif=exif)
    turned = [pixels, pixels[:, ::-1], pixels[::-1, ::-1], pixels[::-1], pixels.T]
    turned += [pixels.T[:, ::-1], pixels.T[::-1, ::-1], pixels.T[::-1]]
    limits = (0, 255 if kind == np.uint8 else 255 * 260)
    found = np.asarray(read_image(str(tmp_path / "a.tiff"), limits))
    expected = turned[orientation - 1] // (1 if kind == np.uint8 else 260)
    assert found[:, :, 0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12", b"Exif\0\0II*\0" * 3]
)
def test_broken_exif_data_do_not_cost_the_image(tmp_path, exif):
    Image.new("RGB", (4, 2), (9, 9, 9)).save(tmp_path / "a.jpg", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's
        assert pixels(tmp_path / "a.jpg").shape == (2, 4, 3)


def test_an_orientation_that_does_not_exist_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 99
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert pixels(tmp_path / "a.jpg").shape == (2, 4, 3)


@pytest.mark.parametrize("mode", ["LA", "P", "1", "CMYK", "L"])
def test_modes_become_rgb_without_a_warning(tmp_path, mode):
    suffix, options = ("jpg", {}) if mode == "CMYK" else ("png", {})
    if mode == "P":
        options = {"transparency": bytes(range(256))}
    Image.new(mode, (3, 2)).save(tmp_path / f"a.{suffix}", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(tmp_path / f"a.{suffix}").shape == (2, 3, 3)


def test_a_broken_color_profile_does_not_matter(tmp_path):
    for suffix in ("jpg", "png"):
        Image.new("RGB", (3, 2)).save(tmp_path / f"a.{suffix}", icc_profile=b"broken" * 30)
        assert pixels(tmp_path / f"a.{suffix}").shape == (2, 3, 3)


def test_comments_that_are_larger_than_pillow_reads(tmp_path):
    comments = PngImagePlugin.PngInfo()
    comments.add_text("Comment", "x" * 3_000_000, zip=True)
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png", pnginfo=comments)
    with pytest.raises(ImageError, match="text chunks.*Save the image without them"):
        read_image(str(tmp_path / "a.png"))


def test_folders_pipes_and_loops_of_links_are_no_images(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for name, reason in (("folder", "a folder"), ("pipe", "a pipe"), ("loop", "symbolic links")):
        for read in (check_file, read_image):
            with pytest.raises(ImageError, match=f"{name}.jpg: cannot be opened .*{reason}"):
                read(str(tmp_path / f"{name}.jpg"))
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image("a\0b.jpg")


def test_a_name_that_is_not_utf8_is_shown_with_escapes(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")
    with pytest.raises(ImageError, match=r"\\xff.jpg: cannot be opened") as error:
        read_image(path)
    str(error.value).encode()


def test_without_permission_the_message_says_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 2)).save(path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(reader, "open", refuse, raising=False)  # root may read everything
    monkeypatch.setattr(os, "access", lambda *_: False)
    for read in (check_file, read_image):
        with pytest.raises(ImageError, match="Permission denied.*Let your user read"):
            read(str(path))


def test_a_pillow_that_is_too_old_is_named(monkeypatch):
    again = importlib.util.spec_from_file_location("vireid_plugins.readers.again", reader.__file__)
    monkeypatch.delattr(Image, "Transpose")
    with pytest.raises(ImportError, match="is too old.*pip install --upgrade pillow"):
        again.loader.exec_module(importlib.util.module_from_spec(again))
