"""The kinds ``masks`` and ``stripes``: what a method computes inside, drawn on the images.

They draw any method whose taps (``modeling/maps.py``) have these names: ``mask``, the part of an
image that is the person; ``kept_stripes``, ``stripe_scores`` and ``attention``, a choice among
horizontal stripes and the attention after it. MRDA has all four. B images, R stripes, k kept ones.
"""

from typing import Any, Dict, Iterator, List, Sequence

import numpy as np
import torch
from tqdm import tqdm

from ..drawing.photos import Photo, batches
from ..drawing.sheet import IMAGE_BOX, SMALL, Box, Page, Panel, PanelGroup, draw_sheet, load_picture
from ..drawing.style import COLORS, GRAY, write_figure, write_numbers
from ..errors import PlotError
from ..evaluation import evaluation_mode
from ..modeling.layers.stripes import stripe_heights
from ..modeling.maps import map_names, recorded_maps
from .chosen import PhotoOptions, batch_of_subject, chosen_photos
from .kinds import Drawn, Kind, register_kind
from .overlay import COLOR_MAP, overlay
from .subject import Subject

MASK, SCORES, KEPT, ATTENTION = "mask", "stripe_scores", "kept_stripes", "attention"
_IMAGE = ("image", "modality", "identity", "camera")
MASK_HEADER = (*_IMAGE, "mean", "row", "column", "value")
STRIPE_HEADER = ("model", *_IMAGE, "stripe", "score", "place", "attention")
_BATCH = 64
_DIMMED = 0.35  # brightness of a stripe that was not chosen


@register_kind("masks", help="the person and the background, as a method's mask separates them")
class Masks(Kind):
    """The image, its mask, the person and the background, as the network gets them."""

    Options = PhotoOptions
    most_subjects = 1

    def draw(self, subjects: Sequence[Subject], options: PhotoOptions, folder: str) -> Drawn:
        """Draw four panels for each photograph."""
        subject = subjects[0]
        check_maps(subject, (MASK,))
        photos, why = chosen_photos(subject, options)
        maps = maps_of(subject, photos, (MASK,))
        masks = maps[MASK].reshape(len(photos), *maps[MASK].shape[-2:])
        sheet = draw_sheet(
            [_mask_group(*each) for each in zip(photos, masks, maps["images"])],
            ("image", "mask", "person", "background"),
            title=f"Masks of {subject.label}",
            note=f"{why} Person: mask × image; background: (1 − mask) × image; "
            f"{masks.shape[1]} × {masks.shape[2]} pixels, as the network gets them.",
            bar=("gray", ("mask 0", "1")),
        )
        paths = write_figure(sheet.page.figure, folder, "masks")
        numbers = write_numbers(folder, "masks", MASK_HEADER, _mask_numbers(photos, masks))
        return Drawn([*paths, numbers], [why])


@register_kind("stripes", help="the horizontal stripes that a method chooses, and its attention")
class Stripes(Kind):
    """The chosen stripes, highlighted and numbered, the scores of all, and the attention."""

    Options = PhotoOptions

    def draw(self, subjects: Sequence[Subject], options: PhotoOptions, folder: str) -> Drawn:
        """Draw a photograph and two panels for each model."""
        names = (KEPT, SCORES, ATTENTION)
        for subject in subjects:
            check_maps(subject, names)
        photos, why = chosen_photos(subjects[0], options)
        results = [maps_of(subject, photos, names) for subject in subjects]
        headings = ["image"]
        for subject in subjects:
            prefix = f"{subject.label}: " if len(subjects) > 1 else ""
            headings += [f"{prefix}stripes", f"{prefix}attention"]
        sheet = draw_sheet(
            [_stripe_group(photo, place, results) for place, photo in enumerate(photos)],
            headings,
            title=f"Stripes chosen by {' and '.join(subject.label for subject in subjects)}",
            note=_stripe_note(results, why),
            bar=(COLOR_MAP, ("attention 0", "the image's largest")),
        )
        for group in range(len(photos)):
            for number, maps in enumerate(results):
                box = sheet.boxes[group, 1 + 2 * number]
                _mark_stripes(sheet.page, box, maps[KEPT][group], _edges(maps, box))
        paths = write_figure(sheet.page.figure, folder, "stripes")
        labels = [subject.label for subject in subjects]
        numbers = _stripe_numbers(labels, photos, results)
        return Drawn([*paths, write_numbers(folder, "stripes", STRIPE_HEADER, numbers)], [why])


def check_maps(subject: Subject, names: Sequence[str]) -> None:
    """Raise ``PlotError`` unless the model shows maps of all ``names``."""
    known = map_names(subject.model)
    missing = [name for name in names if name not in known]
    if missing:
        raise PlotError(
            f"{subject.label} ({type(subject.model).__name__}) does not show {', '.join(missing)}; "
            f"it shows {', '.join(known) or 'nothing'}. Draw a model that marks such a map by a "
            "Tap, as MRDA does."
        )


def maps_of(
    subject: Subject, photos: Sequence[Photo], names: Sequence[str]
) -> Dict[str, np.ndarray]:
    """Return the named maps of all photographs, B rows each, and ``images`` (B, H, W, 3).

    Images are uint8, in the size that the model gets.

    Raises:
        PlotError: the model does not compute one of them at test.
    """
    parts: Dict[str, List[torch.Tensor]] = {name: [] for name in ("images", *names)}
    blocks = batches(photos, _BATCH)
    for _, block in tqdm(blocks, desc=f"maps of {subject.label}", disable=not subject.progress):
        batch = batch_of_subject(subject, block)
        with evaluation_mode(subject.model), torch.no_grad():
            with recorded_maps(subject.model, names) as maps:
                subject.model(batch)
        absent = [name for name in names if name not in maps]
        if absent:
            raise PlotError(f"{subject.label} does not compute {', '.join(absent)} at test.")
        for name in names:
            parts[name].append(maps[name].cpu())
        parts["images"].append(batch["images"].round().to(torch.uint8).permute(0, 2, 3, 1))
    return {name: torch.cat(values).numpy() for name, values in parts.items()}


def _mask_group(photo: Photo, mask: np.ndarray, image: np.ndarray) -> PanelGroup:
    """Return the four panels of an image from its mask (h, w) and pixels (H, W, 3)."""
    size = load_picture(photo.path, IMAGE_BOX)[1]
    grown = _grown(mask, image.shape[:2])[..., None]
    gray = np.repeat(grown * 255, 3, axis=2)
    panels = [image, gray, grown * image, (1 - grown) * image]
    return PanelGroup(
        [Panel(np.rint(pixels).astype(np.uint8), size) for pixels in panels],
        f"{photo.caption}, mean of the mask {mask.mean():.2f}".replace("\n", ", "),
    )


def _grown(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return ``values`` (h, w) resized to ``size`` (H, W)."""
    if values.shape == tuple(size):
        return values
    tensor = torch.from_numpy(values)[None, None]
    grown = torch.nn.functional.interpolate(
        tensor, size=tuple(size), mode="bilinear", align_corners=False
    )
    return grown[0, 0].numpy()


def _mask_numbers(photos: Sequence[Photo], masks: np.ndarray) -> Iterator[Sequence[Any]]:
    for photo, mask in zip(photos, masks):
        head = (photo.path, photo.modality_label, photo.target, photo.camid, f"{mask.mean():.6g}")
        for (row, column), value in np.ndenumerate(mask):
            yield (*head, row, column, f"{value:.4g}")


def _stripe_group(photo: Photo, place: int, results: Sequence[Dict[str, np.ndarray]]) -> PanelGroup:
    pixels, size = load_picture(photo.path, IMAGE_BOX)
    panels = [Panel(pixels, size)]
    for maps in results:
        attention = maps[ATTENTION][place]
        lit = np.full(len(pixels), _DIMMED, dtype=np.float32)
        for top, bottom in _rows(maps, maps[KEPT][place], len(pixels)):
            lit[top:bottom] = 1.0
        heat = attention / max(float(attention.max()), np.finfo(np.float32).tiny)
        panels.append(Panel((pixels * lit[:, None, None]).astype(np.uint8), size))
        panels.append(Panel(overlay(pixels, heat.astype(np.float32)), size))
    return PanelGroup(panels, photo.caption.replace("\n", ", "))


def _starts(maps: Dict[str, np.ndarray]) -> np.ndarray:
    """Return where the R stripes begin and the last ends, in parts of the height, (R + 1,)."""
    height, number = maps[ATTENTION].shape[1], maps[SCORES].shape[1]
    return np.cumsum([0, *stripe_heights(height, number)]) / height


def _rows(maps: Dict[str, np.ndarray], stripes: Sequence[int], height: int) -> List[Any]:
    """Return the first row of pixels of each stripe and the row after its last."""
    edges = np.rint(_starts(maps) * height).astype(int)
    return [(edges[stripe], edges[stripe + 1]) for stripe in stripes]


def _edges(maps: Dict[str, np.ndarray], box: Box) -> np.ndarray:
    """Return the edges of the stripes on the page, in inches from the top, (R + 1,)."""
    return box.top + _starts(maps) * box.height


def _mark_stripes(page: Page, box: Box, kept: Sequence[int], edges: np.ndarray) -> None:
    """Draw lines between all stripes, and numbered frames around the chosen ones."""
    for edge in edges[1:-1]:
        page.axes.plot([box.left, box.left + box.width], [edge, edge], color="white", lw=0.5)
    for place, stripe in enumerate(kept, start=1):
        top, bottom = edges[stripe], edges[stripe + 1]
        page.frame(Box(box.left, top, box.width, bottom - top), COLORS[1], width=1.5)
        letters = min(SMALL + 1, 0.6 * 72 * (bottom - top))  # points; small in a low stripe
        page.text(
            box.left + 0.04,
            (top + bottom) / 2,
            str(place),
            letters,
            va="center",
            color="white",
            weight="bold",
            bbox={"fc": GRAY, "ec": "none", "pad": 1.0},
        )


def _stripe_note(results: Sequence[Dict[str, np.ndarray]], why: str) -> str:
    counts = ", ".join(f"{m[KEPT].shape[1]} of {m[SCORES].shape[1]}" for m in results)
    return (
        f"{why} Chosen: {counts} stripes, highlighted, framed and numbered from the one that all "
        "stripes attend to most. Attention: the mean over the chosen stripes, in parts of its own "
        "largest value."
    )


def _stripe_numbers(
    labels: Sequence[str], photos: Sequence[Photo], results: Sequence[Dict[str, np.ndarray]]
) -> Iterator[Sequence[Any]]:
    """Yield a line for each stripe; ``place`` is 0 for one that was not chosen."""
    for label, maps in zip(labels, results):
        number, height = maps[SCORES].shape[1], maps[ATTENTION].shape[1]
        begins = np.cumsum([0, *stripe_heights(height, number)[:-1]])
        shares = np.add.reduceat(maps[ATTENTION].sum(axis=2), begins, axis=1)
        for row, photo in enumerate(photos):
            head = (label, photo.path, photo.modality_label, photo.target, photo.camid)
            places = {int(stripe): p for p, stripe in enumerate(maps[KEPT][row], start=1)}
            for stripe in range(number):
                values = (f"{maps[SCORES][row, stripe]:.6g}", places.get(stripe, 0))
                yield (*head, stripe, *values, f"{shares[row, stripe]:.6g}")
