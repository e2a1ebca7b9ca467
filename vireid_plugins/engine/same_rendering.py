"""Compare how the training images were rendered when a run began with how they are rendered now.

The fingerprint of the training images names files and identities. SynthVI gives a folder that is
rendered again, with other dyes or another seed, the same names; its marker file tells them apart.
"""

import json
import logging
from typing import Any, Dict, Iterable, List, Mapping

from ..errors import CheckpointError, FileContentError
from ..readers.json_file import parse_json
from ..readers.rendering import MARKER, complete, rendering, setting_words

logger = logging.getLogger(__name__)

RENDERED = "rendered"  # the entry among the facts of a checkpoint
# Settings that decide which images there are, and no pixel of one: the fingerprint decides.
_COUNTS = ("absence", "images_per_camera", "test", "train")


def rendered_facts(datasets: Iterable[Any]) -> Dict[str, List[str]]:
    """Return the settings of each dataset's renderer, as JSON; empty text for photographs."""
    found = [rendering(getattr(dataset, "dataset_dir", "")) for dataset in datasets]
    return {RENDERED: [json.dumps(one) if one else "" for one in found]}


def check_same_rendering(held: Mapping[str, Any], own: Mapping[str, Any], path: str) -> None:
    """Raise ``CheckpointError`` if the training images were rendered anew with other settings.

    Where the files cannot tell, a warning says so: the checkpoint is of an earlier version, or the
    marker of the folder is gone.

    Args:
        held: the facts in the checkpoint.
        own: the facts that a checkpoint of this run would have.
        path: path of the checkpoint, for messages.
    """
    names, present = own["train_datasets"], own[RENDERED]
    if RENDERED not in held:
        for name in (name for name, now in zip(names, present) if now):
            logger.warning(
                "%s was written by an earlier version and does not say how the images of %s were "
                "rendered: make sure that they are still those that the run began with.",
                *(path, name),
            )
        return
    for name, before, now in zip(names, held[RENDERED], present):
        if before and not now:
            logger.warning(
                "The training images of %s were rendered when the run of %s began. Their folder "
                "has no readable %s any more: make sure that they are still the same.",
                *(name, path, MARKER),
            )
        elif before != now:
            _compare(name, _settings(before, path), _settings(now, path), path)


def _compare(name: str, before: Dict[str, Any], now: Dict[str, Any], path: str) -> None:
    keys = sorted({*before, *now}.difference(_COUNTS))
    differing = [key for key in keys if before.get(key) != now.get(key)]
    if not differing:
        return
    first, second = (_words(settings, differing) for settings in (before, now))
    raise CheckpointError(
        f"{path} cannot be resumed: the training images of {name} were {first} when the run began, "
        f"and are {second} now ({MARKER} in their folder). Render the first ones again into "
        "another folder, and set FASTREID_DATASETS to it; or train on these in another OUTPUT_DIR."
    )


def _words(settings: Dict[str, Any], keys: List[str]) -> str:
    if not settings:
        return "not rendered"
    told = (f"{key} {setting_words(settings[key])}" for key in keys if key in settings)
    return f"rendered with {', '.join(told) or 'fewer settings'}"


def _settings(text: str, path: str) -> Dict[str, Any]:
    """Return settings as today's renderer would write them."""
    if not text:
        return {}
    try:
        found = parse_json(text, RENDERED)
    except FileContentError as error:
        raise CheckpointError(
            f"{path} cannot be resumed: its entry {RENDERED!r} is damaged. Write the name of an "
            "earlier checkpoint into last_checkpoint."
        ) from error
    return complete(found)
