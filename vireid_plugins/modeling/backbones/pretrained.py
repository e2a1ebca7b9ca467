"""Pretrained weights of ordinary networks, from a file or downloaded if the user asks for it."""

import logging
import os
from typing import (
    Callable,
    Collection,
    Dict,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)

import torch.distributed as dist
from torch import Tensor, nn

from fastreid.utils import comm

from ...errors import CheckpointError, MissingFileError, UserError
from ...pretrained import CATALOG, PREFIX, fetch, fetch_url, is_listed_name
from ...published import describe, recognize
from ...readers.checkpoint import read_checkpoint
from ...readers.safetensors_file import is_safetensors, read_safetensors
from ...readers.weights import WRAPPERS, check_kinds, check_weights, shapes_of, tensors_in

logger = logging.getLogger(__name__)
_T = TypeVar("_T")


def read_weights(path: str) -> Dict[str, Tensor]:
    """Read the tensors of an ordinary checkpoint, under the network's own names.

    It may be a bare state dict (torchvision), FastReID's ``{"model": ...}`` with names that
    start with ``backbone.``, other wrappers named ``state_dict``, and ``module.`` of DDP; or a
    file of safetensors.

    Args:
        path: of the file, or a name of the catalog such as ``weights:mobilenetv2``.

    Raises:
        MissingFileError: no such file.
        CheckpointError: the file is not a checkpoint of tensors, is damaged, or cannot be fetched.
    """
    if is_listed_name(path):
        return _tensors_in(str(fetched_once(lambda: fetch(path))))
    check_exists(path)
    return _tensors_in(path)


def check_exists(path: str) -> None:
    """Raise ``MissingFileError`` if a value of ``PRETRAIN_PATH`` is the path of a missing file."""
    if not is_listed_name(path) and not os.path.isfile(path):
        named = next((one.name for one in CATALOG if one.name == path.strip().lower()), "")
        hint = f" Did you mean {PREFIX}{named}?" if named else ""
        raise MissingFileError(
            f"MODEL.BACKBONE.PRETRAIN_PATH names {path!r}, which does not exist or is not a file."
            f"{hint}"
        )


def _tensors_in(path: str) -> Dict[str, Tensor]:
    state = read_safetensors(path) if is_safetensors(path) else read_checkpoint(path)
    tensors = tensors_in(state)
    if not tensors:
        raise CheckpointError(
            f"{path} holds no tensors, neither at its top nor under one of {', '.join(WRAPPERS)}. "
            "Expected the weights of an ordinary network: torch.save(network.state_dict(), PATH)."
        )
    tensors = check_weights(tensors, path)
    found = recognize(shapes_of(tensors))
    if found is not None and found.is_converted:
        raise CheckpointError(
            f"{path} cannot be the start of a backbone. {describe(found, path)}, and name the new "
            "file as MODEL.WEIGHTS."
        )
    for prefix in ("module.", "backbone."):
        inside = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        tensors = inside or tensors
    return tensors


def fetch_pretrained(key: str, urls: Mapping[str, str]) -> Dict[str, Tensor]:
    """Load ImageNet weights by FastReID's name for them, from the cache or the network.

    The name of such a file holds the beginning of its SHA-256, which is checked.

    Raises:
        CheckpointError: the download failed, or the file is not the one that its name promises;
            the message names the file and the key to set.
    """
    if key not in urls:
        raise CheckpointError(
            f"No pretrained weights are published for {key!r} (only for {', '.join(urls)}). Set "
            "MODEL.BACKBONE.PRETRAIN False, or MODEL.BACKBONE.PRETRAIN_PATH to a file of yours."
        )
    return _tensors_in(str(fetched_once(lambda: fetch_url(urls[key]))))


def fetched_once(fetched: Callable[[], _T]) -> _T:
    """Call ``fetched`` in one process on each machine first; return its result in every process.

    Raises:
        UserError: it failed in one of them; all processes raise, so that none waits for another.
    """
    problem: Optional[UserError] = None
    result: Optional[_T] = None
    if comm.get_local_rank() == 0:
        try:
            result = fetched()
        except UserError as error:
            problem = error
    problems = [problem] * comm.get_world_size()
    if len(problems) > 1:
        dist.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            raise CheckpointError(
                f"{found} To train from random weights set MODEL.BACKBONE.PRETRAIN False; to use a "
                "file of yours, set MODEL.BACKBONE.PRETRAIN_PATH to it."
            ) from found
    return fetched() if result is None else result


class LoadReport(NamedTuple):
    """Which tensors of a checkpoint were loaded, by the names of the network and of the file."""

    loaded: Tuple[str, ...]
    missing: Tuple[str, ...]  # in the network, not in the file
    unexpected: Tuple[str, ...]  # in the file, without a place or of another shape


class Layers(NamedTuple):
    """The layers of a kind of network, as a file of weights is compared with it."""

    words: str  # what they are called
    dimensions: Tuple[int, ...]  # of their weights
    fitting: str  # a sentence on the keys of the config that must fit the file


_WHOLE = "The weights of a whole model belong in MODEL.WEIGHTS."
CONVOLUTIONS = Layers(
    "convolutions",
    (4,),
    f"Do MODEL.BACKBONE.NETWORK and MODEL.BACKBONE.DEPTH fit the file? {_WHOLE}",
)
CONVOLUTIONS_OF_TIMM = CONVOLUTIONS._replace(
    fitting=f"Does the network in MODEL.BACKBONE.TIMM_NAME, or NETWORK, fit the file? {_WHOLE}"
)
TRANSFORMER = Layers(
    "linear maps and convolutions",
    (2, 4),
    f"Does MODEL.BACKBONE.TIMM_NAME fit the file? {_WHOLE}",
)


def fill(
    network: nn.Module,
    places: Mapping[str, Tuple[str, ...]],
    state: Mapping[str, Tensor],
    source: str = "the checkpoint",
    outside: Collection[str] = (),
    layers: Layers = CONVOLUTIONS,
) -> LoadReport:
    """Copy tensors into ``network``; one tensor of the file may fill several places.

    Args:
        places: for each name in the file, the names in the network.
        state: for each name in the file, the tensor.
        source: what messages call the file.
        outside: names in the file of tensors that nobody expects to have a place, such as those of
            a classifier's own layers; they are no reason for a warning.
        layers: which tensors are the weights of layers: each that is left over or missing is a
            reason for a warning.

    Raises:
        CheckpointError: less than half of the network fits or a tenth of its layers has
            another shape, so the file belongs to another; or one tensor holds numbers of another
            kind.
    """
    own = network.state_dict()
    loaded, unexpected = [], []
    for name, tensor in state.items():
        fits = [p for p in places.get(name, ()) if p in own and own[p].shape == tensor.shape]
        if fits:
            check_kinds({name: own[fits[0]]}, {name: tensor}, source)
            loaded += fits
            own.update({place: tensor for place in fits})
        else:
            unexpected.append(name)
    done = set(loaded)
    new = getattr(network, "new_parameters", ())
    expected = [n for n in own if not n.endswith("num_batches_tracked") and n not in new]
    report = LoadReport(
        tuple(loaded), tuple(name for name in expected if name not in done), tuple(unexpected)
    )
    _check_fit(report, len(expected), state, source, layers)
    _check_shapes(own, places, state, source, layers)
    network.load_state_dict(own)
    sizes = layers.dimensions
    left = [n for n in unexpected if state[n].dim() in sizes and n not in outside]
    left += [n for n in report.missing if own[n].dim() in sizes and ".non_local." not in n]
    _log(report, left, layers)
    return report


def _check_fit(
    report: LoadReport, expected: int, state: Mapping[str, Tensor], source: str, layers: Layers
) -> None:
    """Raise ``CheckpointError`` if a file belongs to another network than one of ``expected``."""
    if not any(name.endswith("weight") for name in report.loaded):
        found = recognize(shapes_of(state))
        what = "" if found is None else f"It is a checkpoint of {found.title}. "
        raise CheckpointError(
            f"None of the {len(state)} tensors of {source} fits this backbone (the first: "
            f"{', '.join(list(state)[:3]) or 'none'}). {what}{layers.fitting}"
        )
    if len(report.missing) > expected / 2:
        raise CheckpointError(
            f"{source} lacks {len(report.missing)} of the {expected} tensors of this backbone, or "
            f"has them in another shape (the first: {', '.join(report.missing[:3])}). "
            f"{layers.fitting}"
        )


def _check_shapes(
    own: Mapping[str, Tensor],
    places: Mapping[str, Tuple[str, ...]],
    state: Mapping[str, Tensor],
    source: str,
    layers: Layers,
) -> None:
    """Raise ``CheckpointError`` if a tenth of the layers has another shape in the file.

    A ResNet-50 has all batch norms of a ResNet-18, and half of its convolutions. One or two, such
    as a first layer of other input channels, are left to the warning.
    """
    known = {name for name, tensor in own.items() if tensor.dim() in layers.dimensions}
    others = [
        place
        for name, tensor in state.items()
        for place in places.get(name, ())
        if place in known and own[place].shape != tensor.shape
    ]
    if len(others) > max(2, len(known) / 10):
        raise CheckpointError(
            f"{source} holds the weights of another network: {len(others)} {layers.words} of "
            f"this backbone have another shape in the file (the first: {others[0]}). "
            f"{layers.fitting}"
        )


def _log(report: LoadReport, left: Sequence[str], layers: Layers) -> None:
    """Log what was loaded; ``left`` are the layers that are not expected to be left over."""
    logger.log(
        logging.WARNING if left else logging.INFO,
        "Pretrained weights: %d tensors loaded, %d missing%s, %d unexpected%s.%s",
        len(report.loaded),
        len(report.missing),
        _first(report.missing),
        len(report.unexpected),
        _first(report.unexpected),
        f" {layers.words.capitalize()} are among them, such as {left[0]}. {layers.fitting}"
        if left
        else "",
    )


def _first(names: Tuple[str, ...]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
