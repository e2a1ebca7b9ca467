"""Find keys whose values differ from those that a checkpoint was trained with.

An evaluation, an index or an export with another mean pixel or another backbone computes other
features, and nothing fails. Some of these keys are changed on purpose (``INPUT.SIZE_TEST``), so a
difference gives a warning and is no error. ``Key.features`` says whether a key changes features.
"""

import math
from typing import Any, List, Mapping, Optional, Sequence

from fastreid.config import CfgNode

from ..data.reading import READER_KEYS
from ..errors import FileContentError, UserError
from ..host_model_keys import times_255
from ..keys import declared_keys, is_number
from ..merge import flat_values
from ..readers.yaml_file import parse_yaml
from ..removed_keys import REMOVED
from .same_run import Difference, differences_to

_LOSSES = "MODEL.LOSSES."  # losses are computed in training alone
_GROUPS = ("MODEL.", "INPUT.")


def check_pixel_scale(cfg: CfgNode, facts: Optional[Mapping[str, Any]] = None) -> None:
    """Raise ``UserError`` if ``MODEL.PIXEL_MEAN`` is that of pixels from 0 to 1.

    Pixels are 0 to 255 here. The mean that a checkpoint was trained with is accepted.

    Args:
        cfg: the config.
        facts: what a checkpoint says about itself; None: nothing.
    """
    mean = list(cfg.MODEL.PIXEL_MEAN)
    if not 0 < max(mean) <= 1:
        return
    held = (facts or {}).get("config")
    carried = flat_values(parse_yaml(held, "the config")) if isinstance(held, str) else {}
    if not _same(carried.get("MODEL.PIXEL_MEAN"), mean):
        raise UserError(
            f"MODEL.PIXEL_MEAN is {mean}, the mean of pixels from 0 to 1. Pixels are 0 to 255 "
            f"here: write {times_255(mean)}."
        )


def may_differ(config_file: str, opts: Sequence[Any]) -> bool:
    """Return whether a file or a pair can set a key of the model or of the input."""
    return bool(config_file) or any(str(key).startswith(_GROUPS) for key in opts[0::2])


def other_values(
    cfg: CfgNode, facts: Optional[Mapping[str, Any]], weights: str, given: Sequence[str] = ()
) -> List[str]:
    """Return sentences about keys that differ from the config of a checkpoint's training.

    Args:
        cfg: the config by which features are computed.
        facts: what the checkpoint says about itself; None: nothing.
        weights: path of the checkpoint, for the sentences.
        given: keys that the user set by KEY VALUE pairs.

    Returns:
        At most two sentences: one on keys that change the features, one on keys that were given
        and are read only in training.
    """
    held = (facts or {}).get("config")
    if not isinstance(held, str):
        return []
    try:
        differences = differences_to(held, cfg, weights)
    except FileContentError:  # a config file was named in its place
        return []
    found = [one for one in differences if not _same(one.held, one.own)]
    changed = [one for one in found if _changes_features(one.key)]
    unused = [one for one in found if one.key in given and _is_unused(one.key)]
    return [*_told_changes(changed, weights, given), *_told_unused(unused)]


def _told_changes(changed: Sequence[Difference], weights: str, given: Sequence[str]) -> List[str]:
    if not changed:
        return []
    instead = (
        "Leave the keys out"
        if all(one.key in given for one in changed)
        else "Leave --config-file out, or give the keys"
    )
    return [
        f"{weights} was trained with other values (trained -> now): "
        f"{', '.join(one.words for one in changed)}. Features are computed with the present ones. "
        f"{instead} to use those of the training."
    ]


def _told_unused(unused: Sequence[Difference]) -> List[str]:
    if not unused:
        return []
    names = ", ".join(one.key for one in unused)
    return [f"{names}: read only in training; the features of a trained model do not change."]


def _same(held: Any, own: Any) -> bool:
    """Return whether two values are equal, apart from the last digits of numbers."""
    if isinstance(held, (list, tuple)) and isinstance(own, (list, tuple)):
        return len(held) == len(own) and all(map(_same, held, own))
    if is_number(held) and is_number(own):
        return math.isclose(held, own, rel_tol=1e-9)
    return held == own


def _changes_features(name: str) -> bool:
    """Return whether a key is declared to change the features of a trained model."""
    if not name.startswith(_GROUPS) or name.startswith(_LOSSES) or name in READER_KEYS:
        return False
    if name in REMOVED:
        return False
    key = declared_keys().get(name)
    return key is None or key.features


def _is_unused(name: str) -> bool:
    is_of_input = name.startswith("INPUT.") and name not in READER_KEYS
    return is_of_input and not _changes_features(name)
