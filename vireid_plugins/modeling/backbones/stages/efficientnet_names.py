"""The names of EfficientNet-PyTorch (Melas-Kyriazi), under which EfficientNets are published.

Its networks are timm's ``tf_efficientnet_*`` under other names: ``_blocks.5._bn0.bias`` is
``blocks.2.1.bn1.bias``. The blocks are numbered through, and a block's norms by their place.
"""

import re
from typing import Dict, Iterable, List, Tuple

_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_SQUEEZE,
}
_PLAIN = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
    **_SQUEEZE,
}


def own_names(names: Iterable[str], modules: Iterable[str]) -> Dict[str, str]:
    """Return timm's name of each tensor; a name that is not EfficientNet-PyTorch's stays.

    Args:
        names: the names in the file.
        modules: timm's names of modules of the network, among them ``blocks.<stage>.<number>``.
    """
    names = list(names)
    blocks = _blocks(modules)
    expanding = {name.split(".")[1] for name in names if "._expand_conv." in name}
    return {name: _own_name(name, blocks, expanding) for name in names}


def _blocks(modules: Iterable[str]) -> List[Tuple[int, int]]:
    """Return the stage and the number of each block, in the order in which they run."""
    found = [re.fullmatch(r"blocks\.(\d+)\.(\d+)", name) for name in modules]
    return sorted((int(match[1]), int(match[2])) for match in found if match)


def _own_name(name: str, blocks: List[Tuple[int, int]], expanding: Iterable[str]) -> str:
    first, _, rest = name.partition(".")
    if first != "_blocks":
        return f"{_OUTSIDE.get(first, first)}.{rest}" if rest else name
    number, _, rest = rest.partition(".")
    layer, _, rest = rest.partition(".")
    inside = _EXPANDING if number in expanding else _PLAIN
    if not number.isdecimal() or int(number) >= len(blocks) or layer not in inside:
        return name
    stage, place = blocks[int(number)]
    return f"blocks.{stage}.{place}.{inside[layer]}.{rest}"
