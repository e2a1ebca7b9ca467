"""Datasets small enough to render in a second, and what their lists say."""

SMALL = {"ids": (2, 2), "images_per_camera": 2, "size": (48, 32), "progress": False}
ALL_LAYOUTS = ("sysu", "regdb", "llcm", "market", "duke")


def numbers_in(path):
    """Return the numbers of a comma-separated list."""
    return [int(n) for n in path.read_text().strip().split(",")]
