"""Which files are opened as images. Oracle: a program that leaves a file when it is started."""

import ast
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from vireid_plugins.readers import image as reader
from vireid_plugins.readers.image import ImageError, load_image, read_image

PACKAGE = Path(reader.__file__).parent.parent
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 32\n%%EndComments\nshowpage\n%%EOF\n"
# a WMF with its header, as Pillow's plugin accepts it
WMF = struct.pack("<IHhhhhHIH", 0x9AC6CDD7, 0, 0, 0, 160, 320, 1440, 0, 0) + b"\x01\x00\t\x00" * 9
FITS = b"SIMPLE  =                    T" + b" " * 50
XBM = b"#define im_width 16\n#define im_height 16\nstatic char im_bits[] = {\n0x00,0x00};\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Put programs that Pillow could start first on the path; return the file that they write."""
    programs, witness = tmp_path / "bin", tmp_path / "witness"
    programs.mkdir()
    for name in ("gs", "gswin32c", "djpeg", "xv", "convert", "magick"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {witness}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None, raising=False)  # since Pillow 10
    return witness


def as_file(tmp_path, kind):
    """Return the bytes of an image in a format that Pillow writes."""
    path = tmp_path / "other"
    Image.fromarray(PIXELS).save(path, format=kind)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_an_eps_file_under_another_name_starts_nothing(tmp_path, started, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(EPS)
    with pytest.raises(ImageError, match="EPS or PostScript"):
        read_image(str(path))
    with pytest.raises(ImageError, match="EPS or PostScript"):
        load_image(str(path))
    assert not started.exists()
    with pytest.raises(Exception, match="."):  # the oracle works: Pillow itself starts it
        Image.open(path).load()
    assert started.exists()


@pytest.mark.parametrize(
    "kind, word",
    [("GIF", "GIF"), ("ICO", "ICO"), ("PDF", "PDF"), ("TGA", ""), ("PCX", ""), ("JPEG2000", "")],
)
def test_formats_that_pillow_writes_and_we_do_not_read(tmp_path, kind, word):
    path = tmp_path / "a.png"
    try:
        path.write_bytes(as_file(tmp_path, kind))
    except (OSError, KeyError):
        pytest.skip(f"this Pillow does not write {kind}")
    with pytest.raises(ImageError, match=f"only JPEG, PNG.*{word}"):
        read_image(str(path))


@pytest.mark.parametrize(
    "content", [WMF, FITS, XBM, SVG, b"8BPS\0\1" + bytes(40), b"\x00\x00\x00\x20ftypheic" * 4]
)
def test_other_files_under_the_name_of_a_photograph(tmp_path, started, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match="only JPEG, PNG, BMP, TIFF, WEBP, PPM, PGM and PBM"):
        read_image(str(tmp_path / "a.jpg"))
    assert not started.exists()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_the_formats_are_read_whatever_the_suffix(tmp_path, kind):
    (tmp_path / "a.dat.jpg").write_bytes(as_file(tmp_path, kind))
    found = np.asarray(read_image(str(tmp_path / "a.dat.jpg")))
    expected = np.asarray(Image.open(tmp_path / "other").convert("RGB"))
    assert np.array_equal(found, expected)


def test_a_telephones_jpeg_with_several_pictures_is_its_photograph(tmp_path):
    path = tmp_path / "a.jpg"
    small = Image.new("RGB", (8, 8))
    Image.fromarray(PIXELS).save(path, format="MPO", save_all=True, append_images=[small])
    with Image.open(path) as image:
        assert image.format == "MPO" and image.n_frames == 2
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_image(str(path))), expected)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_several_images_in_a_file_are_refused_and_the_remedy_works(tmp_path, monkeypatch, kind):
    path = tmp_path / "a.tif"
    first = Image.fromarray(PIXELS)
    first.save(path, kind, save_all=True, append_images=[Image.new("RGB", (16, 32))], lossless=True)
    with pytest.raises(ImageError, match="several images") as error:
        read_image(str(path))
    command = str(error.value).partition('python -c "')[2].partition('"')[0]
    monkeypatch.chdir(tmp_path)
    code = command.replace("IN", "a.tif").replace("OUT", "out")
    subprocess.run([sys.executable, "-c", code], check=True)
    assert np.array_equal(np.asarray(read_image("out.png")), PIXELS)


def test_a_small_file_of_many_pixels_costs_no_memory(tmp_path):
    path = tmp_path / "a.png"
    Image.new("1", (13_000, 13_000)).save(path)
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, from 89 million pixels on
        with pytest.raises(ImageError, match="169,000,000 pixels, above INPUT.MAX_PIXELS 50,000,0"):
            read_image(str(path))
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_the_limit_of_pixels_holds_for_the_tiles_of_a_tiff(tmp_path):
    """A decoder makes room for whole tiles, however small the image is."""
    path, tags = tmp_path / "a.tiff", TiffImagePlugin.ImageFileDirectory_v2()
    for number in (65_000, 65_001):  # Pillow writes no tiles, so the tags get their numbers later
        tags[number], tags.tagtype[number] = 50_000, 4
    Image.fromarray(PIXELS).save(path, tiffinfo=tags)
    content = path.read_bytes()
    for number, tile in ((65_000, 322), (65_001, 323)):
        entry = struct.pack("<HHI", number, 4, 1)
        assert content.count(entry) == 1
        content = content.replace(entry, struct.pack("<HHI", tile, 4, 1))
    path.write_bytes(content)
    with pytest.raises(ImageError, match="tiles are 50,000 x 50,000 pixels"):
        read_image(str(path))


def test_the_limit_of_pixels_is_height_times_width(tmp_path):
    path = str(tmp_path / "a.png")
    Image.fromarray(PIXELS).save(path)  # 32 x 16
    assert read_image(path, max_pixels=512).size == (16, 32)
    with pytest.raises(ImageError, match="16 x 32 = 512 pixels, above INPUT.MAX_PIXELS 511"):
        read_image(path, max_pixels=511)


def test_a_decompression_bomb_is_a_sentence(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    content = path.read_bytes()
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(content[:16] + header + crc + content[33:])
    with pytest.raises(ImageError, match="larger than Pillow opens.*INPUT.MAX_PIXELS"):
        read_image(str(path))


# Outside the reader -> why that is not a file of a user.
OPENS = {"vireid_plugins/benchmarks/rates.py": "times Pillow alone, with bytes that it has encoded"}


def test_images_are_opened_in_the_reader_alone():
    found = set()
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "vireid").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            last = getattr(node, "attr", "") if isinstance(node, ast.Attribute) else ""
            last = node.name if isinstance(node, ast.alias) else last
            opens = last in ("imread", "imageio", "imdecode", "decode_image")
            opens |= last == "open" and ast.unparse(node).endswith("Image.open")
            opens |= isinstance(node, ast.ImportFrom) and node.module == "PIL.Image"
            if opens:
                found.add(path.relative_to(PACKAGE.parent).as_posix())
    assert found == {"vireid_plugins/readers/image.py", *OPENS}
