"""Decide whether a checkpoint belongs to the run that would continue from it.

A checkpoint carries the config that it was trained with. On resume, that config is compared with
the present one: the keys in ``_FREE`` may differ, and any other difference makes it another run. A
difference in a key of a new method is refused until somebody adds the key to ``_FREE``.
"""

import logging
from typing import Any, List, Mapping, NamedTuple

from fastreid.config import CfgNode, get_cfg

from ..config import add_vireid_config
from ..data.reading import is_open_range
from ..errors import CheckpointError
from ..keys import SWITCH, Key, declare, value_of
from ..merge import flat_values
from ..readers.yaml_file import parse_yaml
from ..removed_keys import REMOVED
from .unread import unread_keys

logger = logging.getLogger(__name__)

ALLOW = "SOLVER.RESUME_OTHER_CONFIG"

declare(
    "SOLVER",
    Key(
        "RESUME_OTHER_CONFIG",
        False,
        SWITCH,
        "resume although keys differ that make it another run; run.json lists them",
    ),
)

# Keys that may differ between two sessions of one run; a name that ends in a dot stands for a
# group. They do not change the training, or only low-order bits of it.
_FREE = (
    "CUDNN_BENCHMARK",
    "DATALOADER.CACHE.",
    "DATALOADER.NUM_WORKERS",
    "DATASETS.ALLOW_OVERLAP",
    "DATASETS.CSV_FILE",  # the fingerprint of the training images decides
    "DATASETS.CSV_SKIP_SAME_CAMERA",
    "DATASETS.TESTS",
    "DATASETS.VERIFY_IMAGES",
    "INPUT.MAX_PIXELS",
    "INPUT.SIZE_TEST",
    "MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS",
    "MODEL.BACKBONE.PRETRAIN",  # where the weights come from does not matter any more
    "MODEL.BACKBONE.PRETRAIN_PATH",
    "MODEL.DEVICE",
    "MODEL.MMT.START_1",  # the checkpoint holds what became of their weights
    "MODEL.MMT.START_2",
    "MODEL.NFORMER.ENCODER",  # the checkpoint holds its weights, and the config its keys
    "MODEL.NFORMER.ENCODER_TRAINED_ON",
    "MODEL.HEADS.NUM_CLASSES",  # they are compared as a fact of the checkpoint
    "MODEL.WEIGHTS",
    "OUTPUT_DIR",
    "RUNTIME.",
    "SEED",  # the checkpoint's is kept
    "SOLVER.AMP.",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.LOG_PERIOD",
    "SOLVER.PICTURE_PERIOD",
    ALLOW,
    "TEST.",
)
_CLASSES = "MODEL.HEADS.NUM_CLASSES"
_RAISED = "SOLVER.MAX_EPOCH"  # may be raised: the run goes on
_OPTIMIZER = "SOLVER.OPT"  # can never differ: each kind of optimizer has a state of its own


class Difference(NamedTuple):
    """A key whose value differs from that of the checkpoint."""

    key: str
    held: Any  # in the checkpoint
    own: Any  # in the present config

    @property
    def words(self) -> str:
        """Return ``SOLVER.BASE_LR 0.1 -> 0.2``."""
        return f"{self.key} {_short(self.held)} -> {_short(self.own)}"

    @property
    def free(self) -> bool:
        """Return whether the run stays the same run."""
        if self.key == _RAISED:
            return isinstance(self.held, int) and self.own >= self.held
        return any(
            self.key == one or (one[-1] == "." and self.key.startswith(one)) for one in _FREE
        )


def differences_to(held: str, cfg: CfgNode, source: str) -> List[Difference]:
    """Return the keys whose values differ between a checkpoint's config and the present one.

    A key that only one of them has counts as having its default in the other. Keys of methods and
    losses that neither config chooses do not count.

    Args:
        held: the config in the checkpoint, as YAML.
        cfg: the present config.
        source: path of the checkpoint, for messages.

    Raises:
        FileContentError: ``held`` is not a config.
    """
    defaults = get_cfg()
    add_vireid_config(defaults)
    plain = flat_values(parse_yaml(defaults.dump(), "the defaults"))
    plain.update({key: gone.value for key, gone in REMOVED.items()})
    theirs = flat_values(parse_yaml(held, f"the config in {source}"))
    ours = flat_values(parse_yaml(cfg.dump(), "the config"))
    found = []
    for key in sorted({*theirs, *ours} - unread_keys(theirs, ours)):
        own = ours.get(key, plain.get(key))
        before = theirs.get(key, plain.get(key))
        if is_open_range(key, own):  # the trainer finds it in the same images as before
            continue
        if before == own or (key not in ours and key not in REMOVED):  # nobody reads it
            continue
        if key != _CLASSES or own != 0:  # 0: they are taken from the data
            found.append(Difference(key, before, own))
    return found


def check_same_config(facts: Mapping[str, Any], cfg: CfgNode, path: str) -> List[Difference]:
    """Compare the config that a checkpoint carries with the present one.

    Args:
        facts: what the checkpoint says about itself.
        cfg: the present config.
        path: path of the checkpoint, for messages.

    Returns:
        All keys whose values differ and may differ.

    Raises:
        CheckpointError: a key differs that makes it another run.
    """
    if not isinstance(facts.get("config"), str):
        logger.warning(
            "%s holds no config of its training; the run continues with the present config.",
            path,
        )
        return []
    differences = differences_to(facts["config"], cfg, path)
    refused = [one for one in differences if not one.free]
    if any(one.key == _OPTIMIZER for one in refused) or (refused and not value_of(cfg, ALLOW)):
        raise CheckpointError(_refusal(refused, path))
    return differences


def log_differences(differences: List[Difference]) -> None:
    """Log the keys that differ: those that may differ, and those that the user allowed."""
    free = [one.words for one in differences if one.free]
    others = [one.words for one in differences if not one.free]
    if free:
        logger.info("The run continues with other values of: %s.", ", ".join(free))
    if others:
        logger.warning(
            "%s is True: from here on, the run continues as another run, with: %s.",
            ALLOW,
            ", ".join(others),
        )


def check_same_data(held: Mapping[str, Any], own: Mapping[str, Any], path: str) -> None:
    """Raise ``CheckpointError`` unless a checkpoint was trained on the same images and batches.

    Args:
        held: the facts in the checkpoint.
        own: the facts that a checkpoint of this run would have.
        path: path of the checkpoint, for the message.
    """
    for key in ("fingerprint", "num_classes", "iters_per_epoch"):
        if key in held and held[key] != own[key]:
            raise CheckpointError(
                f"{path} cannot be resumed: its {key} is {held[key]}, and that of this run is "
                f"{own[key]}. The data, the batch, SOLVER.ACCUMULATION or CLUSTERS changed; "
                "use another OUTPUT_DIR."
            )


def _refusal(refused: List[Difference], path: str) -> str:
    names = [one.key for one in refused]
    of_model = [name for name in names if name.startswith("MODEL.")]
    kind = "model" if any(not name.startswith("MODEL.LOSSES.") for name in of_model) else "training"
    if _OPTIMIZER in names:
        last = (
            f"The state of one optimizer cannot be used by another, so {_OPTIMIZER} cannot change."
        )
    else:
        last = (
            f"To continue anyway, add {ALLOW} True; it works if the weights fit the model and "
            "an epoch has as many iterations as before."
        )
    return (
        f"{path} belongs to another {kind} than this config describes: "
        f"{', '.join(one.words for one in refused)}. To continue that run, use its own config, the "
        f"config.yaml beside it. To begin a new run with its weights, leave --resume out, add "
        f"MODEL.WEIGHTS {path} and choose another OUTPUT_DIR. {last}"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]} ... {text[-15:]}"
