"""Find the library timm, the network that a config names, and build it.

A config names it by ``MODEL.BACKBONE.TIMM_NAME``, or by ``MODEL.BACKBONE.NETWORK: timm/NAME``.
"""

import ast
import difflib
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from ....errors import MissingLibraryError, UnknownNameError, UserError
from ....keys import Key, declare, each, text
from .cutting import first_sentence

PREFIX = "timm/"

declare(
    "MODEL.BACKBONE",
    Key(
        "TIMM_NAME",
        "",
        text("a name"),
        "network of build_dual_stream_timm_backbone and build_crossvit_backbone, as timm names it",
    ),
    Key(
        "TIMM_OPTIONS",
        [],
        each(text("NAME=VALUE")),
        "other sizes of a network of timm, such as 'depth=6': arguments of timm.create_model",
    ),
)
#: what timm raises if a network has no such option, or cannot be built with it
_REFUSALS = (TypeError, AssertionError, NotImplementedError, RuntimeError, ValueError, KeyError)


#: arguments of ``timm.create_model`` that are no sizes, and what decides them here
_DECIDED = {
    "pretrained": "MODEL.BACKBONE.PRETRAIN says whether weights are loaded",
    "checkpoint_path": "MODEL.BACKBONE.PRETRAIN_PATH names a file of weights",
    "num_classes": "the classifier belongs to the head",
    "in_chans": "images have three channels",
    "features_only": "the network is cut into stages here",
}

#: what messages name as supported by build_dual_stream_timm_backbone
SUPPORTED = (
    "networks of timm's class VisionTransformer (ViT, DeiT, CLIP, SigLIP, DINO, DINOv2, MAE), such "
    "as vit_small_patch16_224, and networks that are a sequence of stages (ConvNeXt, ResNet, "
    "EfficientNet, MobileNet, RegNet, Swin), such as convnext_tiny"
)


_CROSSVIT = "A CrossViT needs MODEL.BACKBONE.NAME build_crossvit_backbone."


class RefusedError(UserError):
    """A network that timm cannot build with the options of the config."""


def asked_for(cfg: Any) -> str:
    """Return the key and the value that name the network, with a space between them."""
    return " ".join(_asked(cfg))


def remedy(cfg: Any) -> str:
    """Return sentences that say which networks of timm can take the place of one that cannot."""
    if _asked(cfg)[0].endswith("TIMM_NAME"):
        return f"Supported are {SUPPORTED}. {_CROSSVIT}"
    return (
        "Use one that is a sequence of stages, such as a ConvNeXt, EfficientNet, MobileNet, "
        "RegNet, ResNet or Swin. A ViT or DeiT needs MODEL.BACKBONE.NAME "
        "build_dual_stream_timm_backbone, and its name in MODEL.BACKBONE.TIMM_NAME. "
        f"{_CROSSVIT}"
    )


def import_timm(cfg: Any) -> Any:
    """Return the library.

    Raises:
        MissingLibraryError: it, or a library that it imports, is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingLibraryError(
            f"{asked_for(cfg)} needs timm, which cannot be imported ({error}). "
            f"{_how_to_install(cfg, error)}"
        ) from error
    return timm


def _how_to_install(cfg: Any, error: ImportError) -> str:
    """Return what the user can do where timm, or a library that it imports, is not installed."""
    absent = (error.name or "timm").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and absent != "timm":
        return f"timm is installed, and {absent}, which it imports, is not: pip install {absent}."
    extra = "vit" if cfg.MODEL.BACKBONE.TIMM_NAME else "timm"
    return (
        f"Install it: pip install 'vireid_plugins[{extra}]', or in a checkout pip install -e "
        f"'.[{extra}]'."
    )


def network_name(cfg: Any) -> str:
    """Return timm's name of the network, with the tag of its weights if the user gave one.

    Raises:
        UnknownNameError: timm has no network, or no weights, of that name.
    """
    timm, (key, asked) = import_timm(cfg), _asked(cfg)
    prefix = PREFIX if key.endswith("NETWORK") else ""
    name = asked[len(PREFIX) :] if asked.startswith(PREFIX) or prefix else asked
    network, dot, _ = name.partition(".")
    if not timm.is_model(network):
        near = _similar(network, timm.list_models())
        hint = (
            f"Did you mean {_or(prefix + one for one in near)}?"
            if near
            else f"Expected {prefix}NAME, such as {prefix}convnext_tiny; timm.list_models() has "
            "all names."
        )
        raise UnknownNameError(
            f"{key} is {asked!r}; timm {timm.__version__} has no network {network!r}. {hint}"
        )
    known = timm.list_models(f"{network}.*", pretrained=True) if dot else []
    if dot and name not in known:
        raise UnknownNameError(
            f"{key} is {asked!r}; timm {timm.__version__} has no weights of that "
            f"name. Known: {_or(prefix + one for one in [network, *known])}."
        )
    return name


def build_network(cfg: Any, **options: Any) -> Any:
    """Return timm's network without its classifier.

    Raises:
        UserError: the network does not exist, or cannot be built with the keys of ``cfg``.
    """
    timm, name, node = import_timm(cfg), network_name(cfg), cfg.MODEL.BACKBONE
    size = list(cfg.INPUT.SIZE_TEST)
    if node.NORM not in ("BN", "syncBN"):
        raise UserError(
            f"MODEL.BACKBONE.NORM is {node.NORM!r}, and a network of timm has its own "
            "normalization. Set it to 'BN' (as it is) or 'syncBN' (its batch norm over all "
            "processes)."
        )
    about = timm.models.get_pretrained_cfg(name)
    if about is not None and getattr(about, "fixed_input_size", False):
        if size != list(cfg.INPUT.SIZE_TRAIN):
            raise UserError(
                f"{asked_for(cfg)} is built for one size of images, and "
                f"INPUT.SIZE_TRAIN is {list(cfg.INPUT.SIZE_TRAIN)}, INPUT.SIZE_TEST {size}. Set "
                "both to the same."
            )
        options["img_size"] = tuple(size)
    return create(cfg, **options)


def create(cfg: Any, **options: Any) -> Any:
    """Return timm's network without its classifier, built with options of ``timm.create_model``.

    Raises:
        RefusedError: timm cannot build it with them.
        UserError: timm is missing, or has no such network.
    """
    timm, name = import_timm(cfg), network_name(cfg)
    options.update(own_options(cfg))
    try:
        return timm.create_model(name, num_classes=0, **options)
    except _REFUSALS as error:
        raise RefusedError(
            f"timm cannot build {name} with {_settings(options)}: {first_sentence(error)}. Set "
            "another INPUT.SIZE_TRAIN and INPUT.SIZE_TEST (some networks take only square images) "
            "or MODEL.BACKBONE.TIMM_OPTIONS, or use another network."
        ) from error


def own_options(cfg: Any) -> Dict[str, Any]:
    """Return ``MODEL.BACKBONE.TIMM_OPTIONS`` as arguments of ``timm.create_model``.

    Raises:
        UserError: an entry is no ``NAME=VALUE``, or is decided elsewhere; or a name comes twice.
    """
    options: Dict[str, Any] = {}
    for entry in cfg.MODEL.BACKBONE.TIMM_OPTIONS:
        name, sign, value = entry.partition("=")
        if not (sign and name.strip().isidentifier()):
            raise UserError(
                f"MODEL.BACKBONE.TIMM_OPTIONS has the entry {entry!r}; expected NAME=VALUE, such "
                "as 'depth=6'."
            )
        name = name.strip()
        if name in _DECIDED or name in options:
            why = _DECIDED.get(name, f"{name} is there twice")
            raise UserError(
                f"MODEL.BACKBONE.TIMM_OPTIONS has the entry {entry!r}; {why}. Leave it out."
            )
        options[name] = _value(value.strip())
    return options


def _value(text: str) -> Any:
    """Return what a text says in Python, such as 6 or (1, 2); a word stays a word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _settings(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "its usual options"


def _similar(name: str, known: Sequence[str]) -> List[str]:
    """Return up to three known names like this one: first those that only say more."""
    word = name.strip().lower().replace("-", "_")
    usual = f"{word}_patch16_224"  # of a transformer, which has a dozen names
    longer = [one for one in known if one.startswith(f"{word}_") and one != usual]
    found = [usual] if usual in known else []
    found += difflib.get_close_matches(word, longer, 3, 0.0)
    return found[:3] or difflib.get_close_matches(word, known, 3, 0.6)


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)


def _asked(cfg: Any) -> Tuple[str, str]:
    node = cfg.MODEL.BACKBONE
    other = node.NETWORK.startswith(PREFIX) and node.NETWORK != PREFIX + node.TIMM_NAME
    if node.TIMM_NAME and not other:
        return "MODEL.BACKBONE.TIMM_NAME", node.TIMM_NAME
    return "MODEL.BACKBONE.NETWORK", node.NETWORK
