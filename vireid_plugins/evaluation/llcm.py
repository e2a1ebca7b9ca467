"""The three ways in which the literature evaluates LLCM; their numbers cannot be compared.

``"paper"``
    As the paper says (Zhang and Wang, CVPR 2023): all images of one modality search a gallery of
    one image per identity and camera of the other.
``"released_code"``
    As ``test.py`` of github.com/ZYK100/LLCM does it since June 20, 2023. What it calls *IR to VIS*
    is the paper's protocol. For what it calls *VIS to IR*, the **drawn infrared images are the
    queries**, and **all visible images are the gallery**.
``"all_images"``
    As the code of IDKL (github.com/1KK077/IDKL) does it: all images of one modality search all of
    the other, and no pair is left out.

In all of them the CMC counts each identity once. docs/protocols.md says which paper prints which.
"""

from typing import Any, Iterator, List

from ..data.datasets.llcm import CAMERAS
from ..keys import Key, declare, one_of
from ..modality import Modality
from ..registry import PROTOCOL_REGISTRY
from .arguments import whole_number, word
from .galleries import folders_of, random_galleries, rows_of_modality
from .protocols import MOST_TRIALS, DirectedProtocol, Protocol, Trial

VARIANTS = ("paper", "released_code", "all_images")
_DRAWN = "random, 1 per id and camera"

declare(
    "TEST.PROTOCOL",
    Key("LLCM", "paper", one_of(*VARIANTS), "LLCM: whose protocol, see docs/protocols.md"),
)


@PROTOCOL_REGISTRY.register()
class LLCMProtocol(DirectedProtocol):
    """LLCM (Zhang and Wang, CVPR 2023), in one of three variants; see the module.

    Except in ``"all_images"``, a query is never compared with images of its identity from its own
    camera. Infrared camera 3 does not exist, by design of the dataset.

    Args:
        direction: ``"visible_to_infrared"`` or ``"infrared_to_visible"``, as the variant calls it.
        trials: number of draws; draw t has seed t. ``"all_images"`` draws nothing.
        variant: ``"paper"``, ``"released_code"`` or ``"all_images"``.

    Attributes:
        query_modality, gallery_modality: as the search is really done. For
            ``"visible_to_infrared"`` of ``"released_code"`` the queries are infrared.

    Raises:
        UserError: a word or a number is not among those above.
    """

    own_keys = ("LLCM",)
    cmc = "identity"

    def __init__(self, direction: str, trials: int = 10, variant: str = "paper") -> None:
        super().__init__(direction)
        self.variant = word(variant, "variant (TEST.PROTOCOL.LLCM)", VARIANTS)
        trials = whole_number(trials, "trials", 1, MOST_TRIALS)
        self.skip_same_camera = variant != "all_images"
        self.num_trials = trials if self.skip_same_camera else 1
        self.key = f"{direction}/{'single' if variant == 'paper' else variant}"
        self.draws_queries = variant == "released_code" and direction == "visible_to_infrared"
        if self.draws_queries:
            self.query_modality, self.gallery_modality = Modality.INFRARED, Modality.VISIBLE
        self.gallery_rule = self._rule_in_words()

    def _rule_in_words(self) -> str:
        if self.variant == "all_images":
            return "all images"
        if self.draws_queries:
            return f"all visible images, queries infrared: {_DRAWN} (released code)"
        return _DRAWN + (" (released code)" if self.variant == "released_code" else "")

    @classmethod
    def from_config(cls, cfg: Any, **decided: Any) -> List[Protocol]:
        keys = cfg.TEST.PROTOCOL
        return [cls(direction, keys.TRIALS, keys.LLCM, **decided) for direction in keys.DIRECTIONS]

    @classmethod
    def for_check(cls, cfg: Any, dataset: Any, **decided: Any) -> List[Protocol]:
        keys = cfg.TEST.PROTOCOL
        return [
            cls(direction, keys.TRIALS, variant, **decided)
            for variant in VARIANTS
            for direction in keys.DIRECTIONS
        ]

    def trials(self, dataset: Any) -> Iterator[Trial]:
        name = type(self).__name__
        if self.variant == "all_images":
            yield from super().trials(dataset)
            return
        drawn, whole = self.gallery_modality, self.query_modality
        if self.draws_queries:
            drawn, whole = whole, drawn
        every = rows_of_modality(dataset, whole, name)
        folders = folders_of(dataset, drawn, CAMERAS, name)
        for rows in random_galleries(folders, 1, self.num_trials):
            yield Trial(rows, every) if self.draws_queries else Trial(every, rows)
