"""Open a checkpoint: build its config and its model. Every command opens checkpoints here."""

import logging
import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, Optional, Sequence

from torch import nn

from fastreid.config import CfgNode

from ..data.datasets.build import restore_splits
from ..data.reading import restore_ranges
from ..errors import CheckpointError, UserError
from ..published import describe, recognize
from ..readers.checkpoint import read_checkpoint
from ..readers.weights import WRAPPERS, shapes_of, tensors_in
from ..runs.names import FACTS
from .checkpoint import AtomicCheckpointer, read_facts
from .encoder import check_feature
from .fingerprint import fingerprint
from .model import build_model
from .other_values import check_pixel_scale, may_differ, other_values
from .setup import build_carried_config, build_config

logger = logging.getLogger(__name__)

WEIGHTS = "MODEL.WEIGHTS"

Facts = Dict[str, Any]
_CLASSES = "MODEL.HEADS.NUM_CLASSES"


@dataclass(frozen=True, eq=False)
class OpenedCheckpoint:
    """A checkpoint, with the config that its model is built by.

    Attributes:
        path: path of the file.
        facts: what the checkpoint says about itself; None if another program wrote it.
        cfg: the config, frozen.
        config_file: the file that the config was made from; empty: it is the checkpoint's own.
        opts: the KEY VALUE pairs that override it.
    """

    path: str
    facts: Optional[Facts]
    cfg: CfgNode
    config_file: str = ""
    opts: Sequence[Any] = ()

    @cached_property
    def model(self) -> nn.Module:
        """Return the model with its weights, in evaluation mode, on ``MODEL.DEVICE``.

        It is built at the first use. Then a warning names the keys whose values differ from those
        of the training and change the features.

        Raises:
            UserError: ``MODEL.*`` names something unknown.
            CheckpointError: the weights belong to another model.
        """
        if may_differ(self.config_file, self.opts):
            for sentence in other_values(self.cfg, self.facts, self.path, self.opts[0::2]):
                logger.warning("%s", sentence)
        model = build_model(self.cfg)
        AtomicCheckpointer(model).load(self.path, checkpointables=[], need="features")
        return model.eval()

    @cached_property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of all that decides a feature: weights, model and input.

        Features of two models can be compared if these are equal. The name of the file and the
        device do not count.
        """
        return fingerprint(self.cfg, self.model)


def open_checkpoint(
    weights: str, config_file: str = "", opts: Sequence[Any] = (), *, or_defaults: bool = False
) -> OpenedCheckpoint:
    """Open a checkpoint to compute features with it.

    Args:
        weights: path of the file.
        config_file: the config of its model; empty: the config that the checkpoint carries.
        opts: KEY VALUE pairs that override the config.
        or_defaults: whether a checkpoint that carries no config is opened without ``config_file``
            too, by FastReID's defaults and ``opts``.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is not a complete checkpoint, or it carries no config and
            ``config_file`` is empty.
        UserError: the config is wrong, or the model has seen the identities it would be tested on.
    """
    facts = read_facts(weights)
    cfg = configure(weights, facts, config_file, opts, or_defaults=or_defaults)
    return OpenedCheckpoint(weights, facts, cfg, config_file, tuple(opts))


def configure(
    weights: str,
    facts: Optional[Facts],
    config_file: str = "",
    opts: Sequence[Any] = (),
    *,
    or_defaults: bool = False,
) -> CfgNode:
    """Return the config, frozen, by which the model of a checkpoint is built and tested.

    Args:
        weights: path of the checkpoint.
        facts: what the checkpoint says about itself, see ``read_facts``.
        config_file: as for ``open_checkpoint``.
        opts: as for ``open_checkpoint``.
        or_defaults: as for ``open_checkpoint``.

    Raises:
        CheckpointError, UserError: for the same reasons as ``open_checkpoint``.
    """
    if facts is None and not config_file:
        check_not_foreign(weights)
    if config_file or (facts is None and or_defaults):
        cfg = build_config(config_file, opts)
    elif facts is not None:
        cfg = build_carried_config(facts, opts, f"the config in {weights}")
    else:
        raise CheckpointError(_no_config(weights))
    check_pixel_scale(cfg, facts)
    if facts is not None:
        _check_classes(cfg, facts, weights, config_file, given=opts[0::2])
        cfg.MODEL.HEADS.NUM_CLASSES = facts["num_classes"]
        restore_splits(cfg, facts, weights, given=opts[0::2])
        restore_ranges(cfg, facts, weights, given=opts[0::2])
        check_feature(cfg, facts, weights)
    cfg.MODEL.WEIGHTS = weights
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.freeze()
    return cfg


def _check_classes(
    cfg: CfgNode, facts: Facts, weights: str, config_file: str, given: Sequence[Any]
) -> None:
    """Check the number of identities that a config asks for; the checkpoint decides it.

    Raises:
        UserError: a KEY VALUE pair gives another number; that of a config file is only named in a
            warning.
    """
    wanted, held = cfg.MODEL.HEADS.NUM_CLASSES, facts["num_classes"]
    if wanted in (0, held):
        return
    trained = f"{weights} was trained on {held} identities"
    if _CLASSES in given:
        raise UserError(
            f"{_CLASSES} is {wanted}, but {trained}. Features do not depend on this number: leave "
            "it out."
        )
    if config_file:
        logger.warning("%s %s of %s is not read: %s.", _CLASSES, wanted, config_file, trained)


def check_not_foreign(weights: str, *, only_convertible: bool = False) -> None:
    """Raise ``CheckpointError`` if a file holds no weights, or a network of another program.

    Args:
        weights: path of a checkpoint without facts.
        only_convertible: accept networks that cannot be converted, because some of their tensors
            may fit.
    """
    tensors = tensors_in(read_checkpoint(weights, entries=[]))
    if not tensors:
        raise CheckpointError(
            f"{weights} holds no weights: it has no tensors at its top or under one of "
            f"{', '.join(WRAPPERS)}. Use another checkpoint."
        )
    network = recognize(shapes_of(tensors))
    if network is None or (only_convertible and not network.is_converted):
        return
    if not network.is_host:
        raise CheckpointError(
            f"{weights} carries no config of this package. {describe(network, weights)}"
        )


def _no_config(weights: str) -> str:
    """Return the message about a checkpoint that carries no config."""
    return (
        f"{weights} says nothing about its model and carries no config ({FACTS!r} is absent): "
        "another program wrote it. Where the command has --config-file, name the config that it "
        "was trained with. For other commands, write a file that carries the config: vireid "
        f"convert {shlex.quote(weights)} --config-file CONFIG_FILE --out new.pth, or in Python "
        "vireid_plugins.carry_config(WEIGHTS, CONFIG_FILE, 'new.pth')."
    )


def named_weights(config_file: str, opts: Sequence[Any]) -> str:
    """Return the path that ``MODEL.WEIGHTS`` names, in ``opts`` or else in ``config_file``.

    Raises:
        UserError: neither names weights, or the config is wrong.
    """
    named = dict(zip(opts[0::2], opts[1::2])).get(WEIGHTS, "")
    weights = named or (build_config(config_file, opts).MODEL.WEIGHTS if config_file else "")
    if not weights:
        raise UserError(
            f"No weights are named. Add {WEIGHTS} PATH, the path of a checkpoint, such as "
            f"{WEIGHTS} logs/sysu/agw/model_final.pth"
        )
    return weights
