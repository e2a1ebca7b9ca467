"""What a conversion says about the checkpoint that it made."""

from typing import Any, Dict, NamedTuple, Optional

from torch import Tensor

from fastreid.config import CfgNode

from ..keys import value_of
from ..published import Network


class Converted(NamedTuple):
    """What was written, and what was found out about it.

    Attributes:
        out: the new file.
        source: the word of ``--from``.
        title: the published program.
        dataset: the dataset that the model was trained on.
        trial: the split of it; None: it has only one.
        num_classes: identities that it was trained on.
        config: the config that was taken, a file below ``configs/``.
        used: tensors of the file that were taken over.
        dropped: tensors of the file that the public network does not use.
        assumed: what the file does not say and the code's defaults decide, in words.
        results: what the file says of its own test, in words; empty: nothing.
    """

    out: str
    source: str
    title: str
    dataset: str
    trial: Optional[int]
    num_classes: int
    config: str
    used: int
    dropped: int
    assumed: str
    results: str


def assumed_words(cfg: CfgNode, network: Network) -> str:
    """Return in words what decides features and is not in the file, with the keys to change it."""
    height, width = cfg.INPUT.SIZE_TEST
    words = [f"images of {height} x {width} (INPUT.SIZE_TEST)"]
    form, key = network.unsaid
    words.append(f"{form.format(value_of(cfg, key))} ({key})")
    if cfg.TEST.FLIP.ENABLED:
        words.append("the mean of an image and its mirror image (TEST.FLIP.ENABLED)")
    return ", ".join(words)


def result_words(content: Dict[str, Any]) -> str:
    """Return in words what a file says of the test that its training has made."""
    cmc, words = content.get("cmc"), []
    if isinstance(content.get("epoch"), int):
        words.append(f"epoch {content['epoch']}")
    if isinstance(cmc, Tensor) and cmc.ndim == 1 and len(cmc):
        words.append(f"rank-1 {100 * float(cmc[0]):.2f}")
    for name in ("mAP", "mINP"):
        if isinstance(content.get(name), float):
            words.append(f"{name} {100 * content[name]:.2f}")
    return ", ".join(words)
