"""Take config and weights of a trained model that another one is built upon (NFormer's encoder).

The checkpoint of the encoder decides how images become features: its network, head, input and the
split that it was trained on. These keys are taken from it, whatever a config file says; a KEY VALUE
pair that says otherwise is refused. The finished checkpoint holds the encoder's weights, and its
config the encoder's keys, so that it needs the encoder's file no more.
"""

import logging
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ..data.datasets.build import restore_splits, split_facts
from ..data.reading import RANGE_KEYS, restore_ranges
from ..errors import CheckpointError, UserError
from ..keys import check_ranges, value_of
from ..merge import flat_keys, flat_values
from ..readers.yaml_file import parse_yaml
from ..registry import registered_names
from ..runs.last import last_checkpoint
from .checkpoint import AtomicCheckpointer, read_facts
from .start_paths import start_path

logger = logging.getLogger(__name__)

ENCODER = "MODEL.NFORMER.ENCODER"
_ARCHITECTURE, _LOSSES = f"{ENCODER}_ARCHITECTURE", f"{ENCODER}_LOSSES"
_TRAINED_ON = f"{ENCODER}_TRAINED_ON"
# Keys that the encoder decides; a name that ends in a dot stands for a group.
_DECIDED = (
    *("MODEL.", "INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST", "INPUT.INTERPOLATION"),
    *(*RANGE_KEYS.values(), "TEST.FEATURE"),
)
# ... but for these.
_OWN = (
    *("MODEL.META_ARCHITECTURE", "MODEL.NFORMER.", "MODEL.LOSSES.", "MODEL.WEIGHTS"),
    *("MODEL.DEVICE", "MODEL.FREEZE_LAYERS", "MODEL.HEADS.NUM_CLASSES"),
    *("MODEL.BACKBONE.PRETRAIN", "MODEL.BACKBONE.PRETRAIN_PATH"),
    *("MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS", "MODEL.QUEUE_SIZE"),
)
_CHOICES = ("TEST.FEATURE",)  # a pair may choose otherwise


def encoder_path(cfg: CfgNode) -> str:
    """Return the path of the encoder's checkpoint; empty: none is named."""
    return start_path(cfg, ENCODER)


def trained_on(cfg: CfgNode) -> List[str]:
    """Return the names of the datasets that a model is trained on: its own, then its encoder's."""
    return list(dict.fromkeys([*cfg.DATASETS.NAMES, *value_of(cfg, _TRAINED_ON, ())]))


def has_encoder(cfg: CfgNode) -> bool:
    """Return whether the method of a config is built upon a trained model."""
    method = META_ARCH_REGISTRY._obj_map.get(cfg.MODEL.META_ARCHITECTURE)
    return bool(getattr(method, "trains_on_features", False))


def take_encoder(
    cfg: CfgNode, open_config: Callable[[Dict[str, Any], str], CfgNode], given: Sequence[str] = ()
) -> None:
    """Set the keys that the encoder's checkpoint decides, in place.

    A config that has them already, from a run's ``config.yaml``, needs the file no more. Without
    the file they are taken from ``MODEL.WEIGHTS``, or from a run in ``OUTPUT_DIR``. Whether the
    file exists is checked when a training begins, by :func:`check_encoder`, and when its weights
    are loaded.

    Args:
        cfg: not frozen.
        open_config: returns the config that a checkpoint carries, from its facts and its path.
        given: the keys of KEY VALUE pairs.

    Raises:
        CheckpointError: it is no checkpoint of this package.
        UserError: the method has no encoder, or a pair contradicts the checkpoint.
    """
    path = encoder_path(cfg)
    if not has_encoder(cfg):
        if path:
            raise UserError(
                f"{ENCODER} is {path!r}, and MODEL.META_ARCHITECTURE "
                f"{cfg.MODEL.META_ARCHITECTURE} has no encoder. Set MODEL.META_ARCHITECTURE "
                f"NFormer, or leave {ENCODER} out."
            )
        return
    if not os.path.isfile(path):
        _take_from_own(cfg, open_config, given)
        return
    facts = _facts_of(path)
    held = open_config(facts, path)
    if has_encoder(held):
        raise UserError(
            f"{ENCODER} names {path}, which has an encoder itself. Name the checkpoint of that"
            f"{_named(held)}."
        )
    _check_pairs(cfg, held, given, path)
    _take_keys(cfg, held, given)
    facts = {"train_datasets": list(held.DATASETS.NAMES), **split_facts(held), **facts}
    cfg.merge_from_list([_ARCHITECTURE, held.MODEL.META_ARCHITECTURE])
    cfg.merge_from_list([_LOSSES, tuple(held.MODEL.LOSSES.NAME)])
    cfg.merge_from_list([_TRAINED_ON, tuple(facts["train_datasets"])])
    _take_data(cfg, facts, path, given)
    check_ranges(cfg, [_ARCHITECTURE, _LOSSES, _TRAINED_ON])


def _take_data(cfg: CfgNode, facts: Mapping[str, Any], path: str, given: Sequence[str]) -> None:
    """Set the splits of all datasets that a checkpoint was trained on, and its gray ranges.

    The second stage may train or test on any of them, now or after it is finished.
    """
    known = registered_names(DATASET_REGISTRY)
    names = [name for name in facts.get("train_datasets", ()) if name in known]
    restore_splits(cfg, facts, path, given, datasets=names)
    restore_ranges(cfg, facts, path, given)


def _take_keys(cfg: CfgNode, held: CfgNode, given: Sequence[str] = ()) -> None:
    for key in _decided(flat_keys(held)):
        if value_of(cfg, key) is not None and not (key in _CHOICES and key in given):
            cfg.merge_from_list([key, value_of(held, key)])
    cfg.MODEL.BACKBONE.PRETRAIN = False


def _take_from_own(
    cfg: CfgNode, open_config: Callable[[Dict[str, Any], str], CfgNode], given: Sequence[str]
) -> None:
    """Take the encoder's keys from a checkpoint of the method itself, if the config has none.

    It is ``MODEL.WEIGHTS``, or that of the run in ``OUTPUT_DIR`` if an encoder is named.
    """
    if value_of(cfg, _ARCHITECTURE):
        return
    weights = os.path.expanduser(cfg.MODEL.WEIGHTS)
    if os.path.isfile(weights):
        own = weights
    else:
        own = str((encoder_path(cfg) and last_checkpoint(_folder(cfg))) or "")
    facts = read_facts(own) if own else None
    if facts is None:
        return
    held = open_config(facts, own)
    if has_encoder(held):
        _take_keys(cfg, held, given)
        for key in (_ARCHITECTURE, _LOSSES, _TRAINED_ON):
            cfg.merge_from_list([key, value_of(held, key)])
        _take_data(cfg, facts, own, given)
    elif own == weights:
        raise UserError(
            f"MODEL.WEIGHTS names {own}, a checkpoint of {held.MODEL.META_ARCHITECTURE} and not of "
            f"{cfg.MODEL.META_ARCHITECTURE}. To take it as the encoder, write {ENCODER} {own}"
        )


def _folder(cfg: CfgNode) -> Path:
    return Path(os.path.expanduser(cfg.OUTPUT_DIR))


def _facts_of(path: str) -> Dict[str, Any]:
    if not os.path.isfile(path):
        # The message about a missing file would name MODEL.WEIGHTS.
        raise CheckpointError(
            f"{ENCODER} names {path!r}, which does not exist or is not a file. Train the encoder "
            "first, with any config of this package; its checkpoint is OUTPUT_DIR/model_final.pth."
        )
    facts = read_facts(path)
    if facts is None:
        raise CheckpointError(
            f"{ENCODER} names {path}, which carries no config: another program wrote it. Write a "
            f"file that carries one: vireid convert {path} --out new.pth (for weights of FastReID, "
            "with --config-file CONFIG_FILE)."
        )
    return facts


def _named(held: CfgNode) -> str:
    path = encoder_path(held)
    return f", {path}" if path else ""


def _decided(keys: Iterable[str]) -> List[str]:
    return [key for key in keys if _is_in(key, _DECIDED) and not _is_in(key, _OWN)]


def _is_in(key: str, names: Sequence[str]) -> bool:
    return any(key == one or (one[-1] == "." and key.startswith(one)) for one in names)


def _check_pairs(cfg: CfgNode, held: CfgNode, given: Sequence[str], path: str) -> None:
    """Raise ``UserError`` if a KEY VALUE pair contradicts the encoder."""
    for key in _decided(given):
        own, theirs = value_of(cfg, key), value_of(held, key)
        if key not in _CHOICES and theirs is not None and _plain(own) != _plain(theirs):
            raise UserError(
                f"{key} is {own!r}, but the encoder, {path}, was trained with {theirs!r}, and its "
                f"features depend on it. Leave {key} out."
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def check_encoder(cfg: CfgNode, resume: bool = False) -> None:
    """Raise ``UserError`` if a training of NFormer has no encoder, or if its file is absent.

    A run that is resumed needs none, and neither does one that starts from ``MODEL.WEIGHTS``.
    """
    if not has_encoder(cfg) or cfg.MODEL.WEIGHTS or (resume and last_checkpoint(_folder(cfg))):
        return
    if encoder_path(cfg):
        _facts_of(encoder_path(cfg))
        return
    raise UserError(
        f"{cfg.MODEL.META_ARCHITECTURE} trains on the features of a trained model, and {ENCODER} "
        f"names none. Train one with any config of this package, and add {ENCODER} PATH, such as "
        f"{ENCODER} logs/sysu/agw/model_final.pth"
    )


def check_feature(cfg: CfgNode, facts: Mapping[str, Any], path: str) -> None:
    """Raise ``UserError`` if ``TEST.FEATURE`` is not the feature that a trained NFormer takes.

    Args:
        cfg: the config that features are computed by.
        facts: what NFormer's checkpoint says about itself.
        path: of that checkpoint.
    """
    text = facts.get("config")
    if not has_encoder(cfg) or not isinstance(text, str):
        return
    held = flat_values(parse_yaml(text, f"the config in {path}")).get("TEST.FEATURE", "bn")
    if cfg.TEST.FEATURE != held:
        raise UserError(
            f"TEST.FEATURE is {cfg.TEST.FEATURE!r}, and {path} was trained on the feature {held!r} "
            f"of its encoder; it can relate no other. Leave TEST.FEATURE out, or set it to {held}. "
            f"For another feature, train again with TEST.FEATURE {cfg.TEST.FEATURE}."
        )


def load_encoder(cfg: CfgNode, model: Any) -> None:
    """Load the encoder's weights into ``model.encoder``, if the config names its checkpoint.

    Raises:
        MissingFileError, CheckpointError: the file is absent, or belongs to another model.
    """
    path = encoder_path(cfg)
    if path and has_encoder(cfg):
        _facts_of(path)
        AtomicCheckpointer(model.encoder).load(path, checkpointables=[], need="features")
        logger.info("The encoder is %s; what comes behind it begins with random weights.", path)
