"""FastReID's RegNet X and Y (Radosavovic et al., CVPR 2020), with the names of pycls."""

from pathlib import Path
from typing import Any, Mapping

from torch import Tensor

from fastreid.modeling.backbones.regnet import regnet

from ..pretrained import fetch_pretrained
from .base import STAGES, Stages, layers, register_network

_SIZES = {
    **{size: f"{size}MF" for size in ("200", "400", "800")},
    **{f"{size}00": f"{size[:-1]}.{size[-1]}GF" for size in ("16", "32", "40", "64")},
}
#: what the files change; kept here because FastReID's builder changes it for all that follows
_DEFAULTS = regnet.regnet_cfg.REGNET.clone()


@register_network("regnet")
class RegNet(Stages):
    """A RegNet; ``DEPTH`` is its size, in millions of multiplications, and its family: 400y."""

    depths = tuple(size + family for size in _SIZES for family in "xy")
    options = ("NORM", "LAST_STRIDE")

    def __init__(self, network: Any) -> None:
        paths = {STAGES[0]: ("stem",), **layers(network, "s1", "s2", "s3", "s4")}
        super().__init__(network, paths, regnet.ResBottleneckBlock)

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        node = cfg.MODEL.BACKBONE
        # FastReID's builder looks for this file below the working directory, and what it sets
        # stays set: an X after a Y would have the squeeze-and-excitation of Y.
        folder = Path(regnet.__file__).parent / f"regnet{node.DEPTH[-1]}"
        settings = regnet.regnet_cfg
        kept = settings.clone()
        try:
            settings.REGNET.update(_DEFAULTS)
            settings.merge_from_file(str(folder / f"{_published_name(node.DEPTH)}.yaml"))
            return cls(regnet.RegNet(node.LAST_STRIDE, node.NORM))
        finally:
            settings.update(kept)

    @classmethod
    def fetch(cls, cfg: Any) -> Mapping[str, Tensor]:
        depth = cfg.MODEL.BACKBONE.DEPTH
        if _published_name(depth) not in regnet.model_urls.get(depth, ""):
            return super().fetch(cfg)  # FastReID's address of 800x is that of another size
        return fetch_pretrained(depth, regnet.model_urls)


def _published_name(depth: str) -> str:
    return f"RegNet{depth[-1].upper()}-{_SIZES[depth[:-1]]}_dds_8gpu"
