"""The published programs whose checkpoints can be converted, by the words of ``--from``."""

from typing import Any, Dict, NamedTuple, Tuple

from .file_names import FileName
from .networks import HCT, TWO_STREAM, Network, Shapes

_MANG_YE = "mangye16/Cross-Modal-Re-ID-baseline"


class Source(NamedTuple):
    """A published program.

    Attributes:
        title: what messages call it.
        repository: its public code on GitHub.
        networks: the networks that it trains.
        config: the config of this package that repeats its recipe.
        opts: KEY VALUE pairs in which its recipe differs from that config.
    """

    title: str
    repository: str
    networks: Tuple[Network, ...]
    config: str
    opts: Tuple[Any, ...] = ()


SOURCES: Dict[str, Source] = {
    "agw": Source("AGW (TPAMI 2021)", _MANG_YE, (TWO_STREAM,), "agw/reference.yml"),
    "caj": Source("CAJ (ICCV 2021)", _MANG_YE, (TWO_STREAM,), "caj/reference.yml"),
    "caj+": Source("CAJ+ (TPAMI 2023)", _MANG_YE, (TWO_STREAM,), "caj/reference.yml"),
    "llcm-agw": Source(
        "LLCM's AGW (CVPR 2023)", "ZYK100/LLCM", (TWO_STREAM,), "agw/reference_llcm.yml"
    ),
    "hct": Source(
        "HCT (TMM 2021)",
        HCT.source,
        (HCT, TWO_STREAM),
        "agw/reference.yml",
        (
            "MODEL.LOSSES.NAME",
            ("LabelSmoothingCrossEntropyLoss", "HeteroCenterTripletLoss"),
        ),
    ),
}


def usual_source(network: Network, shapes: Shapes, said: FileName) -> str:
    """Return the word of ``--from`` for a file, as far as its tensors and its name tell.

    AGW, CAJ and LLCM's AGW train one network, so that only the name of a file can tell them apart.
    """
    if network is HCT or "base_resnet.base.conv1.weight" not in shapes:
        return "hct"
    if said.method:
        return "llcm-agw" if (said.method, said.dataset) == ("agw", "LLCM") else said.method
    return "llcm-agw" if said.dataset == "LLCM" else "agw"
