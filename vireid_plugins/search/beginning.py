"""Begin an index of a folder of images, or see that it may be continued."""

import os
from itertools import islice
from pathlib import Path
from typing import List

from ..data.item import Item
from ..data.range_survey import check_ranges_suit
from ..engine.feature_extractor import FeatureExtractor
from ..errors import UserError
from ..evaluation.neighbors.faiss_index import FLAT
from ..modality import Modality
from .broken_list import BROKEN
from .catalog import CATALOG, Catalog
from .folder import scan_images
from .index import SearchIndex

_LOOKED_AT = 128  # images whose gray values are looked at


def create_catalog(
    out: Path,
    extractor: FeatureExtractor,
    images: Path,
    modality: Modality,
    weights: str,
    kind: str,
) -> None:
    """Create the catalog of a new index."""
    Catalog.create(
        out,
        {
            "fingerprint": extractor.fingerprint,
            "weights": absolute(weights),
            "modality": modality.label,
            "dimensions": extractor.feature_size,
            "images": str(images),
            "kind": kind or FLAT,
            "complete": False,
            "ranges": extractor.reader.known_ranges(),
        },
    )


def absolute(path: str) -> str:
    """Return an absolute path; empty, if none is given."""
    return os.path.abspath(path) if path else ""


def make_index_folder(out: Path) -> None:
    """Make the folder of an index.

    Raises:
        UserError: it holds other things.
    """
    ours = {".lock", f".{BROKEN}.partial", str(Path(CATALOG).with_suffix(".partial"))}
    if out.exists() and not (out / CATALOG).is_file():
        if not out.is_dir():
            raise UserError(f"--out {out} is a file; expected a folder for the index.")
        others = [path.name for path in islice(out.iterdir(), 10) if path.name not in ours]
        if others:
            raise UserError(
                f"--out {out} holds other things ({', '.join(sorted(others)[:3])}) and no index; "
                "give a new or empty folder."
            )
    out.mkdir(parents=True, exist_ok=True)


def require_images(images: Path, out: Path) -> None:
    """Raise ``UserError`` for a folder without images, before its index is begun."""
    problems: List[str] = []
    found = scan_images(images, lambda name, reason, _: problems.append(reason), skip=out)
    if next(iter(found), None) is None:
        hint = f" {len(problems)} could not be read: {problems[0]}." if problems else ""
        raise UserError(
            f"--images {images} holds no image, nor do the folders below it (.jpg, .png, .bmp, "
            f".tif, .webp, ...).{hint}"
        )


def look_at_gray_values(
    extractor: FeatureExtractor, images: Path, modality: Modality, out: Path
) -> None:
    """Log the range of some of the images if they have more than 8 bits."""
    found = scan_images(images, lambda *_: None, skip=out)
    names = [os.fsdecode(one.name) for one in islice(found, _LOOKED_AT)]
    items = [Item(str(images / name), None, None, modality) for name in names]
    check_ranges_suit(extractor.reader, items, f"--images {images}")


def check_same_index(
    index: SearchIndex, extractor: FeatureExtractor, images: Path, modality: Modality, weights: str
) -> None:
    """Raise ``UserError`` if an index belongs to another model, modality or folder."""
    index.check_model(extractor.fingerprint, weights or "the extractor")
    if index.modality != modality:
        raise UserError(
            f"{index.folder} is an index of {index.facts['modality']} images; --modality is "
            f"{modality.label}. Make another index for these."
        )
    if index.images != images and index.images.exists():
        raise UserError(
            f"{index.folder} is an index of the images in {index.images}; --images is {images}. "
            "Make another index for these, or give a folder that holds both."
        )
