"""Build the optimizer by FastReID's rules for each parameter and this package's own keys."""

import inspect
import logging
import re
from typing import AbstractSet, Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set

import torch
from torch import nn

from fastreid.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping

from ..errors import UserError
from ..keys import Key, between, check_values, declare, each, one_of, text
from ..registry import suggest
from .amp import amp_name, is_scaled
from .several import build_several, never_zero

logger = logging.getLogger(__name__)


# need a closure, sparse gradients, or parameters of two axes only
_UNSUITABLE = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}

# the arguments of PyTorch's optimizers that each RUNTIME.OPTIMIZER_STEP stands for
STEPS: Dict[str, Dict[str, bool]] = {
    "default": {},
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}

declare(
    "RUNTIME",
    Key("OPTIMIZER_STEP", "default", one_of(*STEPS), "how the optimizer updates parameters"),
)
declare(
    "SOLVER",
    Key(
        "BACKBONE_LR_FACTOR", 1.0, between(0, 1000), "factor on BASE_LR for the backbone (AGW: 0.1)"
    ),
    Key(
        "HEADS_LR_LAYERS",
        (),
        each(text("a pattern")),
        "patterns of parameters of the backbone that learn at the rate of the head",
    ),
)


def build_optimizer(cfg: Any, model: nn.Module) -> Any:
    """Return the optimizer of a model, or the several of a model that has ``optimizer_parts``.

    Raises:
        UserError: see :func:`build_one` and ``several.build_several``.
    """
    if getattr(model, "optimizer_parts", ()):
        return build_several(cfg, model, build_one)
    return build_one(cfg, model)


def build_one(
    cfg: Any,
    model: nn.Module,
    own: Optional[AbstractSet[int]] = None,
    options: Optional[Mapping[str, Any]] = None,
) -> torch.optim.Optimizer:
    """Return an optimizer of the model's parameters, grouped by learning rate and weight decay.

    Weight decay follows FastReID's rules. The rate of ``model.backbone`` is multiplied by
    ``BACKBONE_LR_FACTOR``, that of everything else by ``HEADS_LR_FACTOR``: the head, what a method
    adds to it, such as classifiers of each modality, the ``new_parameters`` of a backbone, and what
    ``HEADS_LR_LAYERS`` names. (FastReID's factor stops at ``model.heads``.) A module with
    ``param_group_overrides``, such as the center loss, sets the values of its own parameters.
    Gradients are always set to None, because with a gradient of zero a frozen parameter would still
    move by momentum and weight decay.

    Args:
        own: ids of the parameters that it is of; None: all that train.
        options: further arguments of the optimizer's class.

    Raises:
        UserError: ``SOLVER.OPT`` is not an optimizer of PyTorch, or it does not have the step
            that ``RUNTIME.OPTIMIZER_STEP`` names.
    """
    name, options = cfg.SOLVER.OPT, {**optimizer_options(cfg), **(options or {})}
    optimizer_class = maybe_add_gradient_clipping(cfg, getattr(torch.optim, name))
    try:
        optimizer = optimizer_class(parameter_groups(cfg, model, own), **options)
    except RuntimeError as error:
        if not options.get("fused"):
            raise
        raise UserError(
            f"RUNTIME.OPTIMIZER_STEP is 'fused', which {name} of PyTorch {torch.__version__} does "
            f"not have on this device ({error}). Use 'default'."
        ) from error
    return never_zero(optimizer)


def optimizer_options(cfg: Any) -> Dict[str, Any]:
    """Return the arguments, besides the parameters, of the optimizer ``SOLVER.OPT``.

    Raises:
        UserError: it is not an optimizer of PyTorch, or it cannot work as ``SOLVER`` and
            ``RUNTIME.OPTIMIZER_STEP`` say.
    """
    solver = cfg.SOLVER
    optimizers = {
        key
        for key, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    } - _UNSUITABLE
    if solver.OPT not in optimizers:
        raise UserError(
            f"SOLVER.OPT is {solver.OPT!r}, which is not an optimizer of PyTorch "
            f"{torch.__version__} for networks with convolutions. {suggest(solver.OPT, optimizers)}"
        )
    if solver.BACKBONE_LR_FACTOR == solver.HEADS_LR_FACTOR == 0:
        raise UserError(
            "SOLVER.BACKBONE_LR_FACTOR and SOLVER.HEADS_LR_FACTOR are both 0: nothing would train."
        )
    options: Dict[str, Any] = {}
    if solver.OPT == "SGD":
        options = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
        if solver.NESTEROV and not solver.MOMENTUM:
            raise UserError(
                "SOLVER.NESTEROV is True and SOLVER.MOMENTUM is 0; set one of them otherwise."
            )
    return {**options, **step_options(cfg, getattr(torch.optim, solver.OPT))}


def step_options(cfg: Any, optimizer_class: type) -> Dict[str, bool]:
    """Return the arguments of the optimizer that ``RUNTIME.OPTIMIZER_STEP`` stands for.

    Raises:
        UserError: the word is unknown; or the optimizer of the installed PyTorch does not have
            this step; or it is "fused" while gradients are clipped in float16, where they would be
            clipped before they are unscaled.
    """
    word = cfg.RUNTIME.OPTIMIZER_STEP
    check_values("RUNTIME", OPTIMIZER_STEP=word)
    strange = set(STEPS[word]) - set(inspect.signature(optimizer_class).parameters)
    if strange:
        raise UserError(
            f"RUNTIME.OPTIMIZER_STEP is {word!r}, which {optimizer_class.__name__} of PyTorch "
            f"{torch.__version__} does not know. Use 'default'."
        )
    clipped = cfg.SOLVER.CLIP_GRADIENTS.ENABLED
    if word == "fused" and clipped and is_scaled(amp_name(cfg)):
        raise UserError(
            "RUNTIME.OPTIMIZER_STEP 'fused' and SOLVER.CLIP_GRADIENTS do not go together in "
            "float16: gradients would be clipped before they are unscaled. Use 'foreach', or "
            "SOLVER.AMP.DTYPE bfloat16."
        )
    return STEPS[word]


def parameter_groups(
    cfg: Any, model: nn.Module, own: Optional[AbstractSet[int]] = None
) -> List[Dict[str, Any]]:
    """Return the trainable parameters in few groups, in an order that depends on names only.

    Args:
        own: ids of the parameters to return; None: all.
    """
    solver = cfg.SOLVER
    single = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    overrides = _overrides_by_parameter(model)
    new = {f"backbone.{n}" for n in getattr(getattr(model, "backbone", None), "new_parameters", ())}
    new |= _matching(names.values(), solver.HEADS_LR_LAYERS)
    backbones = tuple(f"{part}." for part in getattr(model, "backbones", ("backbone",)))
    groups: Dict[Any, Dict[str, Any]] = {}
    for group in single:
        del group["freeze_status"]  # the trainer freezes, in a way that survives a resume
        (parameter,) = group.pop("params")
        if own is not None and id(parameter) not in own:
            continue
        name = names[id(parameter)]
        is_backbone = name.startswith(backbones) and name not in new
        group["lr"] *= solver.BACKBONE_LR_FACTOR if is_backbone else solver.HEADS_LR_FACTOR
        group.update(overrides.get(id(parameter), {}))
        key = tuple(sorted(group.items()))
        groups.setdefault(key, {**group, "params": []})["params"].append(parameter)
    return list(groups.values())


def _matching(names: Iterable[str], patterns: Sequence[str]) -> Set[str]:
    """Return the names that begin with one of ``SOLVER.HEADS_LR_LAYERS``.

    Raises:
        UserError: one of them is no pattern, or no name begins with it.
    """
    key, found = "SOLVER.HEADS_LR_LAYERS", set()
    for pattern in patterns:
        try:
            own = {name for name in names if re.match(pattern, name)}
        except re.error as error:
            raise UserError(
                f"{key} names {pattern!r}, which is not a pattern: {error}. Write the beginning "
                "of a parameter's name, such as 'backbone.sequence'."
            ) from error
        if not own:
            raise UserError(
                f"{key} names {pattern!r}, which no parameter begins with; the first one is "
                f"{next(iter(names), None)!r}. Set {key} [] for this network."
            )
        found |= own
    return found


def _overrides_by_parameter(model: nn.Module) -> Dict[int, Dict[str, Any]]:
    found: Dict[int, Dict[str, Any]] = {}
    for module in model.modules():
        overrides: Any = getattr(module, "param_group_overrides", None)
        if overrides is not None:
            found.update({id(one): overrides for one in module.parameters(recurse=False)})
    return found
