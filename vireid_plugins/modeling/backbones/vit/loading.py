"""Fill a vision transformer in two streams from the file of an ordinary one.

The names in a file may be those of timm, of FastReID's ViT (which are the same), of DINO and of
what is trained with it for re-identification (TransReID-SSL: timm's names again, below
``teacher``), of PASS, whose class token has its position apart, and of checkpoints of this package.
"""

import logging
import re
from typing import Any, Dict, Iterable, Mapping, Tuple

import torch
from torch import Tensor

from ....errors import CheckpointError
from ..pretrained import TRANSFORMER, LoadReport, fill
from .positions import infer_grid, resize_positions
from .sequence import PREFIX

logger = logging.getLogger(__name__)

#: what programs put before the names of a network that is part of a larger model
_PREFIXES = ("module.", "backbone.", "base.", "base_encoder.", "encoder.", "visual.trunk.")
#: names in a checkpoint of this package of what an ordinary network does not have
_SEPARATE = ("visible", "infrared", "modality_embedding")
#: names of tensors in DeiT III and in DINOv2, and timm's
_RENAMED = (
    (r"^(blocks\.\d+\.)gamma_(\d)$", r"\1ls\2.gamma"),
    (r"^register_tokens$", "reg_token"),
    (r"^(blocks\.\d+\.mlp\.)w12\.", r"\1fc1."),
    (r"^(blocks\.\d+\.mlp\.)w3\.", r"\1fc2."),
)
#: names that follow a vision transformer: classifiers, and layers of its pretraining
_OUTSIDE = re.compile(
    r"(head|head_dist|fc|fc_norm|pre_logits|mask_token|bottleneck|classifier|attn_pool)(\.|$)"
)


def load_vit(backbone: Any, state: Mapping[str, Tensor], source: str) -> LoadReport:
    """Fill ``backbone``, a ``DualStreamViT``; see its ``load_ordinary``.

    Raises:
        CheckpointError: the file belongs to another network.
    """
    plain = without_prefix(state)
    own = ordinary_names(plain)
    plain = {own.get(name, name): tensor for name, tensor in plain.items()}
    tensors = _with_positions(backbone, plain, source, published=not own)
    _check_kind(backbone, tensors, source)
    _check_depth(backbone, tensors, source)
    _check_stem(tensors, source)
    _check_streams(backbone, tensors, source)
    places = {name: _places(backbone, name) for name in tensors}
    outside = [name for name in tensors if _OUTSIDE.match(name)]
    report = fill(backbone, places, tensors, source, outside, TRANSFORMER)
    if "sequence.pos_embed" in report.missing:
        logger.warning("%s has no position embeddings that fit: they start at random.", source)
    return report


def without_prefix(state: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Return the tensors by the network's own names."""
    tensors = dict(state)
    for prefix in _PREFIXES:
        inside = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
        if any(name.startswith("blocks.") for name in tensors):
            break
        tensors = inside or tensors
    return tensors


def _with_positions(
    backbone: Any, state: Mapping[str, Tensor], source: str, published: bool
) -> Dict[str, Tensor]:
    """Return the tensors with positions for the tokens and the grid of ``backbone``.

    Args:
        published: whether the file is none of this package, so that its images were squares.
    """
    pooled_first = "norm.weight" not in state  # its last norm follows an average of the patches
    tensors = {_own_name(name, pooled_first): tensor for name, tensor in state.items()}
    weight = tensors.get("patch_embed.proj.weight")
    own = backbone.patch_size
    if weight is not None and weight.dim() == 2 and weight.shape[1] == 3 * own[0] * own[1]:
        tensors["patch_embed.proj.weight"] = weight.reshape(len(weight), 3, *own)  # older files
    positions, sequence = tensors.get("pos_embed"), backbone.sequence
    if positions is None or sequence.pos_embed is None:
        return tensors
    if positions.dim() == 2:
        positions = positions.unsqueeze(0)
    if positions.dim() != 3 or positions.shape[2] != backbone.feat_dim:
        return tensors  # of another width, which is reported
    sizes = _placed(tensors, positions.shape[1], sequence, published)
    placed = sum(sizes.values())
    grid = infer_grid(positions.shape[1] - placed, sequence.grid, published)
    if grid != sequence.grid:
        logger.info(
            "Position embeddings of %s: resized from %d x %d to %d x %d patches (bicubic).",
            *(source, *grid, *sequence.grid),
        )
    resized = resize_positions(positions, grid, sequence.grid, placed)
    tensors["pos_embed"] = resized[:, placed:]
    prefix = dict(zip(sizes, resized[:, :placed].split(list(sizes.values()), 1))) if sizes else {}
    if "cls_pos" in tensors:
        prefix["cls_token"] = tensors["cls_pos"].reshape(1, 1, -1)
    if sequence.places_prefix:
        tensors["pos_embed"] = _with_prefix(tensors["pos_embed"], prefix, sequence)
    else:  # nothing will be added to a token: it becomes the sum
        tensors.update({name: tensors[name] + one for name, one in prefix.items()})
    return tensors


def _own_name(name: str, pooled_first: bool) -> str:
    """Return timm's name of a tensor that DeiT III or DINOv2 names otherwise."""
    if pooled_first and name.startswith("fc_norm."):
        return name[len("fc_") :]
    for other, timms in _RENAMED:
        name = re.sub(other, timms, name)
    return name


def _placed(
    tensors: Mapping[str, Tensor], count: int, sequence: Any, published: bool
) -> Dict[str, int]:
    """Return which tokens before the patches have positions in a file, and how many each.

    All of them have, or none, or the class token alone (DINOv2's registers have none).

    Args:
        tensors: those of the file, by timm's names.
        count: number of positions in the file.
        sequence: that of the network.
        published: whether the number of patches is likely to be a square.
    """
    held = {name: tensors[name] for name in PREFIX if name in tensors}
    sizes = {name: token.shape[1] if token.dim() == 3 else 1 for name, token in held.items()}
    if "cls_pos" in tensors:
        return {}
    own = {name: getattr(sequence, name).shape[1] for name in sequence.names}
    likely = [sizes, {}] if sequence.places_prefix else [{}, sizes]
    if sizes == own and (count == sequence.pos_embed.shape[1] or not published):
        return likely[0]
    if "cls_token" in sizes:
        likely.append({"cls_token": sizes["cls_token"]})
    squares = [one for one in likely if _is_square(count - sum(one.values()))]
    return squares[0] if squares else likely[0]


def _is_square(count: int) -> bool:
    return count > 0 and round(count**0.5) ** 2 == count


def _with_prefix(patches: Tensor, prefix: Mapping[str, Tensor], sequence: Any) -> Tensor:
    """Return positions (1, P + N, D): those of patches (1, N, D) behind those of a file's tokens.

    Those of tokens that the network does not have are left out; where the file has none, they are
    0, which is what its network added.
    """
    own = []
    for name in sequence.names:
        wanted = getattr(sequence, name).shape[1]
        known = prefix.get(name, patches[:, :0])[:, :wanted]
        own += [known, patches.new_zeros(1, wanted - known.shape[1], patches.shape[2])]
    return torch.cat([*own, patches], dim=1)


def _check_kind(backbone: Any, tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise ``CheckpointError`` if a file holds a CrossViT, or a transformer of another width."""
    if any(re.match(r"blocks\.\d+\.fusion\.", name) for name in tensors):
        raise CheckpointError(
            f"{source} holds a CrossViT, and this backbone is a vision transformer of one branch. "
            "Set MODEL.BACKBONE.NAME build_crossvit_backbone, or use another file."
        )
    norm = tensors.get("blocks.0.norm1.weight")
    if norm is not None and len(norm) != backbone.feat_dim:
        raise CheckpointError(
            f"{source} holds a transformer of {len(norm)} channels, and this backbone has "
            f"{backbone.feat_dim}. {TRANSFORMER.fitting}"
        )


def _check_depth(backbone: Any, tensors: Mapping[str, Tensor], source: str) -> None:
    numbers = [int(n.split(".")[1]) for n in tensors if re.match(r"blocks\.\d+\.", n)]
    found, own = max(numbers, default=-1) + 1, len(backbone.stages) - 1
    if found and found != own:
        raise CheckpointError(
            f"{source} holds a transformer of {found} blocks, and this backbone has {own}. "
            f"MODEL.BACKBONE.TIMM_OPTIONS \"['depth={found}']\" makes one of {found}. "
            f"{TRANSFORMER.fitting}"
        )


def _check_stem(tensors: Mapping[str, Tensor], source: str) -> None:
    if any(name.startswith("patch_embed.conv.") for name in tensors):
        raise CheckpointError(
            f"{source} holds a transformer whose patches are embedded by several convolutions with "
            "instance and batch norm (the ICS stem of TransReID-SSL), and timm's have one "
            "convolution. Use a file without that stem."
        )


def _check_streams(backbone: Any, tensors: Mapping[str, Tensor], source: str) -> None:
    apart = [name for name in tensors if name.startswith(("visible.", "infrared."))]
    wrong = [name for name in apart if name.split(".")[1] not in backbone.unshared]
    if wrong:
        raise CheckpointError(
            f"{source} holds a transformer in which each modality has its own {wrong[0]}, and here "
            "both share it. Set MODEL.BACKBONE.UNSHARED_STAGES as in its training, or start from "
            "one that was trained with UNSHARED_STAGES 0."
        )


def _places(backbone: Any, name: str) -> Tuple[str, ...]:
    """Return the names in ``backbone`` of a tensor of the ordinary network."""
    first, _, rest = name.partition(".")
    if first in _SEPARATE:
        return (name,)
    if first == "blocks":
        number, _, rest = rest.partition(".")
        stage, rest = f"block{int(number) + 1}", f"block.{rest}"
    elif first == "norm":
        stage, rest = backbone.stages[-1], name
    elif first == "patch_embed":
        stage = backbone.stages[0]
    else:
        return (f"sequence.{name}",)
    return tuple(f"{stream}.{stage}.{rest}" for stream in backbone.streams_of(stage))


def ordinary_names(names: Iterable[str]) -> Dict[str, str]:
    """Return the names in timm of tensors of a ``DualStreamViT``, of those that both streams share.

    Args:
        names: names of tensors, such as ``shared.block1.block.attn.qkv.weight``.
    """
    found = {}
    for name in names:
        place = re.fullmatch(r"shared\.block(\d+)\.block\.(.+)", name)
        if place:
            found[name] = f"blocks.{int(place[1]) - 1}.{place[2]}"
        for begin, own in (
            (r"shared\.embedding\.", "patch_embed."),
            (r"shared\.block\d+\.norm\.", "norm."),
            (r"sequence\.", ""),
        ):
            if re.match(begin, name):
                found[name] = re.sub(f"^{begin}", own, name)
    return found
