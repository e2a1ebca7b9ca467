"""Whatever the bytes of a file: an image of the size in its header, or an ``ImageError``."""

import io
import sys
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vireid_plugins.readers.image import ImageError, load_image, read_image, sample_values

try:
    import resource
except ImportError:  # Windows: memory is not measured
    resource = None

MOST_PIXELS = 4096
MEMORY = 700  # MiB that one test may add to the process
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
COLOR = Image.fromarray(PIXELS)
WIDE = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 30)
DEGREES = Image.fromarray(PIXELS[..., 0].astype(np.float32))
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F] = 6, "camera"


def written(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


VALID = [
    written(COLOR, "JPEG", exif=EXIF),
    written(COLOR, "JPEG", progressive=True),
    written(COLOR.convert("CMYK"), "JPEG"),
    written(COLOR, "MPO", save_all=True, append_images=[COLOR]),
    written(COLOR, "PNG", exif=EXIF),
    written(COLOR.convert("P"), "PNG", transparency=3),
    written(COLOR.convert("LA"), "PNG"),
    written(WIDE, "PNG"),
    written(COLOR.convert("1"), "BMP"),
    written(COLOR, "BMP"),
    written(COLOR, "TIFF"),
    written(COLOR, "TIFF", compression="tiff_lzw"),
    written(WIDE, "TIFF"),
    written(DEGREES, "TIFF"),
    written(COLOR, "WEBP"),
    written(COLOR, "WEBP", lossless=True),
    written(COLOR, "PPM"),
    written(COLOR.convert("1"), "PPM"),
    b"P3\n2 2\n255\n" + b"1 2 3 " * 4,
]
BYTES = st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255)
#: near the beginning, where a header is, or anywhere
PLACES = st.integers(0, 80) | st.integers(0, 2000)


def changed(content, kind, place, other, values):
    """Damage a file in one of the ways in which files are damaged."""
    place %= len(content) + 1
    if kind == "truncated":
        return content[:place]
    if kind == "flipped":
        return content[:place] + bytes(values) + content[place + len(values) :]
    if kind == "inserted":
        return content[:place] + bytes(values) + content[place:]
    if kind == "removed":
        return content[:place] + content[place + len(values) :]
    return other[: place % 64] + content[place % 64 :]  # the head of another file


WAYS = st.sampled_from(["truncated", "flipped", "inserted", "removed", "beheaded"])
DAMAGE = st.lists(
    st.tuples(WAYS, PLACES, st.sampled_from(VALID), st.lists(BYTES, min_size=1, max_size=8)),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("property") / "a.jpg"


@pytest.mark.parametrize("content", VALID, ids=range(len(VALID)))
def test_whole_files_are_read(path, content):
    path.write_bytes(content)
    size = read_image(str(path), (0, 255)).size
    assert size in ((9, 12), (12, 9), (2, 2))  # the second is turned by its EXIF data


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.sampled_from(VALID), damage=DAMAGE)
def test_damaged_files_are_images_or_image_errors(path, content, damage):
    for kind, place, other, values in damage:
        content = changed(content, kind, place, other, values)
    path.write_bytes(content)
    before = most_memory()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about what it left out
        for read in (read_image, load_image, lambda one, **_: sample_values(one, 64)):
            check(read, path)
    assert most_memory() - before < MEMORY


def most_memory():
    """Return the largest memory of this process so far, in MiB; 0 where it is not known."""
    if resource is None:
        return 0
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def check(read, path):
    options = {"max_pixels": MOST_PIXELS} if read is read_image else {}
    try:
        found = read(str(path), **options)
    except ImageError as error:
        assert str(path) in str(error) and len(str(error)) < 1000 and "\n" not in str(error)
        return
    if read is read_image:
        width, height = found.size
        assert found.mode == "RGB" and 0 < width * height <= MOST_PIXELS
        assert np.asarray(found).shape == (height, width, 3)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(content=st.binary(max_size=64))
def test_arbitrary_bytes_are_no_image(path, content):
    path.write_bytes(content)
    check(read_image, path)
