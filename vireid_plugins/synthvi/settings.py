"""The settings that the content of a synthetic dataset depends on, and presets of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Dict, Optional, Sequence, Tuple

from ..errors import UserError
from .person.dyes import LINKED, DyeShares, InfraredChoice, dye_shares

RENDERER_VERSION = 3  # increase it when the same settings give other images

LAYOUT_FOLDERS = {
    "sysu": "SYSU-MM01",
    "regdb": "RegDB",
    "llcm": "LLCM",
    "market": "Market-1501-v15.09.15",
    "duke": "DukeMTMC-reID",
}


@dataclass(frozen=True)
class Preset:
    """Settings with a name.

    ``train`` and ``test`` are numbers of identities, ``size`` is (height, width) in pixels, and
    ``absence`` is the share, 0-1, of the cameras that an identity does not pass.
    """

    train: int
    test: int
    size: Tuple[int, int]
    images_per_camera: int
    absence: float


PRESETS: Dict[str, Preset] = {
    "tiny": Preset(train=16, test=8, size=(96, 48), images_per_camera=4, absence=0.0),
    "small": Preset(train=96, test=48, size=(96, 48), images_per_camera=6, absence=0.1),
    "medium": Preset(train=160, test=160, size=(96, 48), images_per_camera=6, absence=0.1),
    "sysu": Preset(train=395, test=96, size=(288, 144), images_per_camera=20, absence=0.2),
}
REGDB_IMAGES = 10  # images of an identity in each modality, whatever the preset
SINGLE_MODALITY = ("market", "duke")
MOST_IDENTITIES = {"market": 1380, "duke": 9000}  # names hold four digits, FastReID takes <= 1501


@dataclass(frozen=True)
class Settings:
    """Everything that the content of a dataset depends on: the fields of `Preset`, and others."""

    layout: str
    train: int
    test: int
    size: Tuple[int, int]
    images_per_camera: int
    absence: float
    seed: int
    difficulty: float
    infrared: DyeShares = LINKED
    version: int = RENDERER_VERSION

    def as_json(self) -> Dict[str, object]:
        """Return the settings in the form that the marker file holds."""
        values = asdict(self)
        values["size"] = list(self.size)
        return values


def make_settings(
    layout: str,
    preset: str = "small",
    seed: int = 0,
    *,
    ids: Optional[Sequence[int]] = None,
    images_per_camera: Optional[int] = None,
    size: Optional[Tuple[int, int]] = None,
    difficulty: float = 1.0,
    infrared: InfraredChoice = LINKED,
) -> Settings:
    """Return the settings of a preset; given arguments replace its values.

    Args:
        layout: 'sysu', 'regdb', 'llcm', 'market' or 'duke'.
        preset: 'tiny', 'small', 'medium' or 'sysu'.
        seed: whole number >= 0.
        ids: numbers of training and test identities.
        images_per_camera: images of an identity in each camera.
        size: (height, width) in pixels.
        difficulty: 0 = tidy, 1 = as designed, up to 3.
        infrared: how near infrared is linked to the visible colors: a name of
            `person.dyes.NAMED_SHARES`, or the shares of dense, clear and free dyes.

    Raises:
        UserError: an argument is unknown or out of range.
    """
    if layout not in LAYOUT_FOLDERS:
        raise UserError(f"layout must be one of {', '.join(LAYOUT_FOLDERS)}; got {layout!r}")
    if preset not in PRESETS:
        raise UserError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}")
    base = PRESETS[preset]
    if ids is not None and len(ids) != 2:
        raise UserError(f"ids must be two numbers, training and test identities; got {ids!r}")
    train, test = ids if ids is not None else (base.train, base.test)
    images = base.images_per_camera if images_per_camera is None else images_per_camera
    if layout == "regdb" and images_per_camera is None:
        images = REGDB_IMAGES
    settings = Settings(
        layout=layout,
        train=int(train),
        test=int(test),
        size=(int((size or base.size)[0]), int((size or base.size)[1])),
        images_per_camera=int(images),
        absence=base.absence,
        seed=int(seed),
        difficulty=float(difficulty),
        infrared=dye_shares(infrared),
    )
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    least = 2 if settings.layout in SINGLE_MODALITY else 1
    most = MOST_IDENTITIES.get(settings.layout, 9000)
    total = settings.train + settings.test
    problems = {
        f"ids must be at least 1+1 and at most {most} together; "
        f"got {settings.train}+{settings.test}": min(settings.train, settings.test) < 1
        or total > most,
        f"images_per_camera must be {least}-999 for layout {settings.layout!r}; "
        f"got {settings.images_per_camera}": not least <= settings.images_per_camera <= 999,
        f"size must be height x width, each 32-1024 pixels; got {settings.size}": not all(
            32 <= side <= 1024 for side in settings.size
        ),
        f"seed must be >= 0; got {settings.seed}": settings.seed < 0,
        f"difficulty must lie in 0-3; got {settings.difficulty}": not 0 <= settings.difficulty <= 3,
        "layout 'regdb' trains on half of the identities, so their number must be even; "
        f"got {settings.train}+{settings.test} = {total}": settings.layout == "regdb"
        and total % 2 == 1,
    }
    for message, wrong in problems.items():
        if wrong:
            raise UserError(message)
