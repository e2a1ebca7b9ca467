"""The fingerprint of a model: equal for two models whose features can be compared."""

import hashlib
from typing import Any, Dict, Tuple

from torch import nn

from fastreid.config import CfgNode

from ..data.reading import ImageReader
from ..data.transforms.chains import build_transforms
from ..keys import HOST_DEFAULT, declared_keys, value_of
from ..merge import flat_values
from ..readers.checksum import tensor_bytes
from ..removed_keys import REMOVED
from .unread import unread_keys

# The keys of this package that ``MODEL`` had when the first indexes were made. A fingerprint names
# them, and FastReID's, with any value, and every other key only if it has not its default: so an
# index outlives keys that come later. This list never changes.
_FIRST = {
    "BACKBONE": "CHECKPOINT_ACTIVATIONS FROZEN_STAGES NL_BLOCKS NL_LEGACY_WIDTH UNSHARED_STAGES",
    "CAJ": "KL_SCALE REFINE_SCALE TEMPERATURE",
    "CM_LSP_GE": "CBAM ENHANCEMENT LOCAL RESCORE_TOP RESCORE_WEIGHT SHARED_EMBEDDING",
    "HEADS.ATTENTION": "COMBINE KEPT NAME SCALED STRIPES",
    "HEADS": "NUM_STRIPES STRIPE_DIM",
    "LOSSES.BATCH_HARD": "MARGIN SCALE",
    "LOSSES.CASCADED_AGGREGATION": (
        "DISPERSION INTER_SCALE INTRA_SCALE MARGIN NORMALISE SCALE SUB_SCALE"
    ),
    "LOSSES.CENTER": "LR SCALE",
    "LOSSES.CORRELATION": "LEVEL NORM REDUCTION SCALE",
    "LOSSES.DIVERSITY": "CLAMP OF SCALE START_EPOCH",
    "LOSSES": "GATHER_FEATURES",
    "LOSSES.GLOBAL_COMPLEMENT": "NORMALISE SCALE",
    "LOSSES.HETERO_CENTER": "MARGIN REDUCTION SCALE",
    "LOSSES.LABEL_SMOOTHING": "PER_MODALITY SCALE SMOOTHING",
    "LOSSES.LOCAL_COMPLEMENT": "LITERAL SCALE",
    "LOSSES.PATH_TRIPLET": "DISTANCE MARGIN MINING REDUCTION SCALE",
    "LOSSES.REGIONAL_CENTER": "BACKGROUND_MARGIN BACKGROUND_SCALE CROSS_TERM PER_ELEMENT SCALE",
    "LOSSES.WEIGHTED_TRIPLET": "ALPHA GAMMA LEGACY_WEIGHTS MARGIN REDUCTION SCALE",
    "MAUM": (
        "ALPHA DELTA INFRARED_SIZE MODALITY_ID_SCALE PUSH_DELAY PUSH_INTERVAL REDUCTION "
        "START_EPOCH UNIDIRECTIONAL_SCALE VISIBLE_SIZE"
    ),
    "MRDA": "CONSTRAINT_STAGE LOSS_VIEWS MASK TEST_VIEW",
    "MSCLNET": "HIDDEN JOINT PAIRS PARTITION PARTS RANK ROUNDS",
    "MUTUAL_PREDICTION": "ALPHA BETA PERIOD START_EPOCH",
}
_ALWAYS_NAMED = {
    f"MODEL.{group}.{name}" for group, names in _FIRST.items() for name in names.split()
}
# Defaults that these keys had earlier, the first one first: a fingerprint names that in the place
# of any of them, and of the present one.
_EARLIER_DEFAULTS = {
    "MODEL.MAUM.ALPHA": (64.0,),
    "MODEL.MAUM.PUSH_INTERVAL": (1,),
    "MODEL.MAUM.UNIDIRECTIONAL_SCALE": (1.0, 0.05),
}


def fingerprint(cfg: CfgNode, model: nn.Module) -> str:
    """Return 16 hexadecimal digits of all that decides a feature: weights, model and input.

    The name of the checkpoint and the device do not count.

    Args:
        cfg: the config by which the model was built.
        model: the model with its weights.
    """
    transforms = build_transforms(cfg, is_train=False)
    limits = ImageReader.from_config(cfg).fingerprint
    words = f"{model_words(cfg)}{list(cfg.INPUT.SIZE_TEST)}{transforms.describe()}{limits}"
    if cfg.TEST.FEATURE != "bn":  # there was no choice when the first indexes were made
        words += cfg.TEST.FEATURE
    digest = hashlib.sha256(words.encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(tensor_bytes(value))
    return digest.hexdigest()[:16]


def model_words(cfg: CfgNode) -> str:
    """Return ``MODEL`` as text, without paths, the device, and later keys at their defaults.

    Later keys of methods and losses that the config does not choose are left out, too.
    """
    node = cfg.MODEL.clone()
    node.defrost()
    node.DEVICE = node.WEIGHTS = node.BACKBONE.PRETRAIN_PATH = node.NFORMER.ENCODER = ""
    node.NFORMER.ENCODER_TRAINED_ON = ()
    later = {
        name: key.default
        for name, key in declared_keys().items()
        if key.default is not HOST_DEFAULT and name not in _ALWAYS_NAMED
    }
    unread = unread_keys(flat_values(cfg)) & later.keys()
    later.update({key: value_of(cfg, key) for key in unread})
    _leave_out(node, "MODEL", later)
    for key in _ALWAYS_NAMED.intersection(REMOVED):
        group, name = _place(node, key)
        group[name] = REMOVED[key].value
    for key, earlier in _EARLIER_DEFAULTS.items():
        group, name = _place(node, key)
        if group[name] in (*earlier, declared_keys()[key].default):
            group[name] = earlier[0]
    return node.dump()


def _place(node: CfgNode, key: str) -> Tuple[CfgNode, str]:
    """Return the group below ``MODEL`` that holds ``key``, and the last word of the key."""
    *groups, name = key.split(".")[1:]
    for group in groups:
        node = node[group]
    return node, name


def _leave_out(node: CfgNode, group: str, defaults: Dict[str, Any]) -> None:
    """Delete the keys of a node that have the given defaults, and the groups without a key left."""
    for name in list(node):
        full = f"{group}.{name}"
        if isinstance(node[name], CfgNode):
            _leave_out(node[name], full, defaults)
            if not node[name]:
                del node[name]
        elif full in defaults and node[name] == defaults[full]:
            del node[name]
