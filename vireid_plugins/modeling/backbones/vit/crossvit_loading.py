"""Fill a CrossViT in two streams from the file of an ordinary one: timm's, IBM's, or trained here.

IBM's files have ``pos_embed.0`` where timm's have ``pos_embed_0``, and ``cls_token.0`` likewise.
Checkpoints of this package have the names of ``DualStreamCrossViT``; one fits if both modalities
share all of it.
"""

import logging
import re
from typing import Any, Dict, Mapping, Tuple

from torch import Tensor

from ....errors import CheckpointError
from ..pretrained import TRANSFORMER, LoadReport, fill
from .loading import without_prefix
from .positions import infer_grid, resize_positions

logger = logging.getLogger(__name__)

_CLASSIFIER = re.compile(r"head(_drop)?\.")
_TOKEN = re.compile(r"(pos_embed|cls_token)[._](\d+)$")
#: names here, and those of timm
_OWN = (
    (r"shared\.embedding\.projections\.(\d+)\.", r"patch_embed.\1.proj."),
    (r"shared\.block\d+\.norms\.", "norm."),
    (r"sequences\.(\d+)\.(pos_embed|cls_token)$", r"\2_\1"),
)


def load_crossvit(backbone: Any, state: Mapping[str, Tensor], source: str) -> LoadReport:
    """Fill ``backbone``, a ``DualStreamCrossViT``; see its ``load_ordinary``.

    Raises:
        CheckpointError: the file belongs to another network.
    """
    tensors = {ordinary_name(name): tensor for name, tensor in without_prefix(state).items()}
    _check_depth(backbone, tensors, source)
    _resize(backbone, tensors, source)
    places = {name: places_of(backbone, name) for name in tensors}
    outside = [name for name in tensors if _CLASSIFIER.match(name)]
    return fill(backbone, places, tensors, source, outside, TRANSFORMER)


def ordinary_name(name: str) -> str:
    """Return timm's name of a tensor of a CrossViT of IBM, or of one that both streams share."""
    block = re.match(r"shared\.block(\d+)\.block\.", name)
    if block:
        return f"blocks.{int(block[1]) - 1}.{name[block.end() :]}"
    for own, timms in _OWN:
        name = re.sub(f"^{own}", timms, name)
    return re.sub(f"^{_TOKEN.pattern}", r"\1_\2", name)


def _resize(backbone: Any, tensors: Dict[str, Tensor], source: str) -> None:
    """Resize the positions in ``tensors`` to the grids of ``backbone``."""
    for branch, sequence in enumerate(backbone.sequences):
        name = f"pos_embed_{branch}"
        positions = tensors.get(name)
        if positions is None or positions.dim() != 3 or positions.shape[1] < 2:
            continue
        grid = infer_grid(positions.shape[1] - 1, sequence.grid)
        if grid != sequence.grid:
            logger.info(
                "Position embeddings of %s, branch %d: resized from %d x %d to %d x %d patches "
                "(bicubic).",
                *(source, branch, *grid, *sequence.grid),
            )
        tensors[name] = resize_positions(positions, grid, sequence.grid)


def _check_depth(backbone: Any, tensors: Mapping[str, Tensor], source: str) -> None:
    matches = [re.match(r"blocks\.(\d+)\.blocks\.", name) for name in tensors]
    numbers = [int(found[1]) for found in matches if found]
    found, own = max(numbers, default=-1) + 1, len(backbone.stages) - 1
    if not found:
        raise CheckpointError(
            f"{source} holds no CrossViT: no tensor is named blocks.0.blocks.*. "
            f"{TRANSFORMER.fitting}"
        )
    if found != own:
        raise CheckpointError(
            f"{source} holds a CrossViT of {found} blocks, and this backbone has {own}. "
            f"{TRANSFORMER.fitting}"
        )


def places_of(backbone: Any, name: str) -> Tuple[str, ...]:
    """Return the names in ``backbone`` of a tensor of the ordinary network, timm's or IBM's."""
    token = _TOKEN.match(name)
    if token:
        return (f"sequences.{token[2]}.{token[1]}",)
    first, _, rest = name.partition(".")
    number, _, inner = rest.partition(".")
    if first == "patch_embed" and inner.startswith("proj."):
        stage, rest = backbone.stages[0], f"projections.{number}.{inner[len('proj.') :]}"
    elif first == "blocks":
        stage, rest = f"block{int(number) + 1}", f"block.{inner}"
    elif first == "norm":
        stage, rest = backbone.stages[-1], f"norms.{rest}"
    else:
        return ()
    return tuple(f"{stream}.{stage}.{rest}" for stream in backbone.streams_of(stage))
