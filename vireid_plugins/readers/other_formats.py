"""Name the format of a file that has the name of an image but cannot be read as one."""

_READ = 64  # bytes
# The first bytes of files that are mistaken for images.
_MAGIC = {
    b"GIF8": "GIF",
    b"%!PS": "EPS or PostScript",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"SIMPLE": "FITS",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"<svg": "SVG",
    b"<?xml": "XML, perhaps SVG",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself (git lfs pull)",
    b"<!DOCTYPE": "a web page, perhaps of a failed download",
    b"<html": "a web page, perhaps of a failed download",
}


def kind_of(path: str) -> str:
    """Return in words what a file is, by its first bytes, such as ``"GIF"``."""
    with open(path, "rb") as file:
        begin = file.read(_READ)
    if begin[4:8] == b"ftyp":
        return "HEIC or AVIF" if begin[8:11] in (b"hei", b"avi", b"mif") else "a video"
    kinds = (kind for magic, kind in _MAGIC.items() if begin.startswith(magic))
    return next(kinds, "none of them, or its beginning is damaged")
