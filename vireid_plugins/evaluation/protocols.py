"""Evaluation protocols: which images are queries or gallery, and which pairs are never compared.

A protocol turns a dataset into trials, row numbers in the one list ``dataset.query +
dataset.gallery``, whose features are extracted once. How a gallery is drawn stands in
``galleries.py``, what the rules mean in ``rules.py``. Shapes: Q query rows, G gallery rows of one
trial.
"""

import os
from dataclasses import dataclass
from typing import Any, ClassVar, Iterator, List, Tuple

import numpy as np

from ..data.datasets.sysu_mm01 import VISIBLE_CAMERAS
from ..errors import UserError
from ..keys import Key, between, declare, each, exactly, one_of, text
from ..modality import Modality
from ..registry import PROTOCOL_REGISTRY
from .arguments import shown, whole_number, word
from .directions import DIRECTION, DIRECTIONS, check_direction
from .galleries import folders_of, official_galleries, random_galleries, rows_of_modality
from .permutation import permutation_path
from .rehearsal import Rehearsal, rehearse
from .rules import CMC_COUNTS, CMC_RULES, SYSU_SKIPPED_PAIRS, RankRules

GALLERY_RULES = ("random", "official")
SYSU_CAMERAS = {"all": VISIBLE_CAMERAS, "indoor": (1, 2)}
SHOTS = (1, 10)
OFFICIAL_TRIALS = 10  # as many as rand_perm_cam.mat has
MOST_TRIALS = 1000

declare(
    "TEST.PROTOCOL",
    Key(
        "MODES",
        ("all", "indoor"),
        each(one_of(*SYSU_CAMERAS), distinct=True),
        "gallery cameras of SYSU-MM01",
    ),
    Key(
        "SHOTS",
        (1,),
        each(exactly(1) | exactly(10), distinct=True),
        "SYSU-MM01: images per identity and camera",
    ),
    Key("TRIALS", 10, between(1, MOST_TRIALS), "galleries drawn for one model (SYSU-MM01, LLCM)"),
    Key("GALLERY", "random", one_of(*GALLERY_RULES), "SYSU-MM01: as AGW, or rand_perm_cam.mat"),
    Key("PERMUTATION_FILE", "", text("a path"), "path of rand_perm_cam.mat; empty: in exp/"),
    Key(
        "DIRECTIONS",
        DIRECTIONS,
        each(DIRECTION, distinct=True),
        "searches to evaluate, except on SYSU-MM01",
    ),
    Key("REGDB_CMC", "image", one_of(*CMC_RULES), "RegDB: what a rank of the CMC counts"),
)


@dataclass(frozen=True)
class Trial:
    """One ranking problem: row numbers in ``dataset.query + dataset.gallery``."""

    query: np.ndarray  # (Q,) int64
    gallery: np.ndarray  # (G,) int64; equal scores are ordered by place in this list


def _checked_shots(shots: Any) -> int:
    number = whole_number(shots, "shots")
    if number not in SHOTS:
        raise UserError(f"shots must be one of {SHOTS}; got {number}.")
    return number


class Protocol:
    """Base of all protocols, which make the trials of a dataset and say how they are ranked."""

    skip_camera_pairs: ClassVar[Tuple[Tuple[int, int], ...]] = ()  # see RankRules
    skip_same_camera: bool = False
    cmc: str = "image"
    direction: str = ""  # for the table, such as "visible_to_infrared"
    key: str = ""  # <mode or direction>/<single|multi|variant>: the middle of a metric's name
    gallery_rule: str = "all images"  # for the table
    num_trials: int = 1
    own_keys: ClassVar[Tuple[str, ...]] = ()  # keys of TEST.PROTOCOL that only this protocol reads

    @classmethod
    def from_config(cls, cfg: Any, **decided: Any) -> List["Protocol"]:
        """Return the protocol lines that ``cfg.TEST.PROTOCOL`` asks for, in order.

        Args:
            decided: arguments of the constructor that the dataset sets.
        """
        raise NotImplementedError

    def trials(self, dataset: Any) -> Iterator[Trial]:
        """Yield the trials of ``dataset``; trial 0 comes first."""
        raise NotImplementedError

    @classmethod
    def for_check(cls, cfg: Any, dataset: Any, **decided: Any) -> List["Protocol"]:
        """Return the protocol lines that a check of ``dataset`` rehearses.

        Args:
            dataset: the dataset that is checked.
            decided: arguments of the constructor that the dataset sets.
        """
        return cls.from_config(cfg, **decided)

    def rehearse(self, dataset: Any, name: str) -> Rehearsal:
        """Draw all trials and apply the rules about cameras, see :func:`.rehearsal.rehearse`.

        Raises:
            UserError: the galleries cannot be drawn, or no query has a valid match.
        """
        return rehearse(self, dataset, name)

    def rules(self, max_rank: int = 20) -> RankRules:
        """Return who is compared with whom and how hits are counted, for ``rank_trials``."""
        return RankRules(self.skip_camera_pairs, self.skip_same_camera, self.cmc, max_rank)

    @property
    def conditions(self) -> str:
        """Return in words what two results must have in common to be compared."""
        rules = self.rules()
        words = f"gallery {self.gallery_rule}; CMC counts {CMC_COUNTS[rules.cmc]}"
        hidden = rules.words()
        trials = f"; {self.num_trials} trials" if self.num_trials > 1 else ""
        return words + (f"; never compared: {hidden}" if hidden else "") + trials


class DirectedProtocol(Protocol):
    """A protocol that searches from one modality in the other."""

    def __init__(self, direction: str) -> None:
        self.direction = check_direction(direction)
        query, gallery = self.direction.split("_to_")
        self.query_modality = Modality.parse(query)
        self.gallery_modality = Modality.parse(gallery)
        self.key = f"{self.direction}/multi"

    @classmethod
    def from_config(cls, cfg: Any, **decided: Any) -> List[Protocol]:
        return [cls(direction, **decided) for direction in cfg.TEST.PROTOCOL.DIRECTIONS]

    def trials(self, dataset: Any) -> Iterator[Trial]:
        name = type(self).__name__
        yield Trial(
            rows_of_modality(dataset, self.query_modality, name),
            rows_of_modality(dataset, self.gallery_modality, name),
        )


@PROTOCOL_REGISTRY.register()
class SYSUMM01Protocol(Protocol):
    """SYSU-MM01: infrared cameras 3 and 6 search the visible ones (Wu et al., ICCV 2017).

    Camera 3 is never compared with camera 2, which sees the same place; the CMC counts each
    identity once.

    Args:
        mode: ``"all"``: gallery of cameras 1, 2, 4, 5; ``"indoor"``: 1, 2.
        shots: gallery images per identity and camera, 1 or 10.
        trials: number of galleries; trial t is drawn with seed t.
        gallery: ``"random"``, or ``"official"``: the first ``shots`` of the permutations in
            ``exp/rand_perm_cam.mat`` (ten of them).
        permutation_file: the path of that file if it lies elsewhere.

    Raises:
        UserError: a word or a number is not among those above.
    """

    skip_camera_pairs = SYSU_SKIPPED_PAIRS
    own_keys = ("GALLERY", "PERMUTATION_FILE")
    cmc = "identity"
    direction = DIRECTIONS[1]

    def __init__(
        self,
        mode: str = "all",
        shots: int = 1,
        trials: int = 10,
        gallery: str = "random",
        permutation_file: str = "",
    ) -> None:
        self.mode = word(mode, "mode", tuple(SYSU_CAMERAS))
        self.shots = _checked_shots(shots)
        self.gallery = word(gallery, "gallery", GALLERY_RULES)
        self.num_trials = whole_number(trials, "trials", 1, MOST_TRIALS)
        if gallery == "official" and self.num_trials > OFFICIAL_TRIALS:
            raise UserError(
                f"trials (TEST.PROTOCOL.TRIALS) must be at most {OFFICIAL_TRIALS} for official "
                f"galleries, because rand_perm_cam.mat has no more; got {trials}."
            )
        if not isinstance(permutation_file, (str, os.PathLike)):
            raise UserError(f"permutation_file must be a path; got {shown(permutation_file)}.")
        self.permutation_file = os.fspath(permutation_file)
        if self.permutation_file and gallery != "official":
            raise UserError(
                f"TEST.PROTOCOL.PERMUTATION_FILE is {self.permutation_file}, but "
                f"TEST.PROTOCOL.GALLERY is {gallery!r}, which reads no file. Set GALLERY official "
                "for the galleries of that file, or PERMUTATION_FILE '' for random ones."
            )
        self.key = f"{mode}/{'single' if shots == 1 else 'multi'}"
        self.gallery_rule = f"{gallery}, {shots} per id and camera"

    @classmethod
    def from_config(cls, cfg: Any, **decided: Any) -> List[Protocol]:
        keys = cfg.TEST.PROTOCOL
        return [
            cls(mode, shots, keys.TRIALS, keys.GALLERY, keys.PERMUTATION_FILE, **decided)
            for mode in keys.MODES
            for shots in keys.SHOTS
        ]

    @classmethod
    def for_check(cls, cfg: Any, dataset: Any, **decided: Any) -> List[Protocol]:
        rules = list(GALLERY_RULES) if os.path.isfile(permutation_path(dataset)) else ["random"]
        return [
            cls(mode, shots, gallery=rule)
            for rule in rules
            for mode in SYSU_CAMERAS
            for shots in SHOTS
            # the official file is read whole by the first of them
            if rule == "random" or (mode == "all" and shots == 1)
        ]

    def trials(self, dataset: Any) -> Iterator[Trial]:
        query = rows_of_modality(dataset, Modality.INFRARED, "SYSUMM01Protocol")
        cameras = SYSU_CAMERAS[self.mode]
        folders = folders_of(dataset, Modality.VISIBLE, cameras, "SYSUMM01Protocol")
        if self.gallery == "official":
            path = self.permutation_file
            galleries = official_galleries(dataset, folders, self.shots, self.num_trials, path)
        else:
            galleries = random_galleries(folders, self.shots, self.num_trials)
        for gallery in galleries:
            yield Trial(query, gallery)


@PROTOCOL_REGISTRY.register()
class RegDBProtocol(DirectedProtocol):
    """RegDB: all images of one modality search all of the other (Nguyen et al., 2017).

    It has one trial, the split that the dataset was made with. In the CMC, AGW's code and most
    others count images; MPANet, SAAI and IDKL count each identity once.

    Args:
        direction: ``"visible_to_infrared"`` or ``"infrared_to_visible"``.
        cmc: ``"image"`` or ``"identity"``.
    """

    own_keys = ("REGDB_CMC",)

    def __init__(self, direction: str, cmc: str = "image") -> None:
        super().__init__(direction)
        self.cmc = word(cmc, "cmc (TEST.PROTOCOL.REGDB_CMC)", CMC_RULES)

    @classmethod
    def from_config(cls, cfg: Any, **decided: Any) -> List[Protocol]:
        keys = cfg.TEST.PROTOCOL
        return [cls(direction, keys.REGDB_CMC, **decided) for direction in keys.DIRECTIONS]


@PROTOCOL_REGISTRY.register()
class CrossModalityProtocol(DirectedProtocol):
    """All images of one modality search all of the other: for a dataset of the user's own.

    Args:
        direction: ``"visible_to_infrared"`` or ``"infrared_to_visible"``.
        skip_same_camera: never compare images of one identity from one camera number; for
            cameras that film in both modalities.
        cmc: ``"image"`` or ``"identity"``.
    """

    def __init__(self, direction: str, skip_same_camera: bool = False, cmc: str = "image") -> None:
        super().__init__(direction)
        self.skip_same_camera, self.cmc = skip_same_camera, cmc
        rules = self.rules()  # a wrong argument raises now, not after feature extraction
        self.skip_same_camera = rules.skip_same_camera


@PROTOCOL_REGISTRY.register()
class SingleModalityProtocol(Protocol):
    """``dataset.query`` searches ``dataset.gallery``, as FastReID's own evaluator does it.

    Market-1501's rule: a query is never compared with images of its identity from its own
    camera; the CMC counts images.
    """

    skip_same_camera = True
    direction = "query_to_gallery"
    key = "all/multi"

    @classmethod
    def from_config(cls, cfg: Any, **decided: Any) -> List[Protocol]:
        return [cls(**decided)]

    def trials(self, dataset: Any) -> Iterator[Trial]:
        num_query, num_gallery = len(dataset.query), len(dataset.gallery)
        yield Trial(np.arange(num_query), num_query + np.arange(num_gallery))
