"""The methods: one file for each paper, and ``base.py``, from which all of them derive."""

from .base import DualStreamBaseline
from .caj import CAJ
from .cluster_contrast import ClusterContrast
from .cm_lsp_ge import CMLSPGE
from .cmtr import CMTR
from .crossvit_csa import CrossViTCSA
from .hicmd import HiCMD
from .maum import MAUM
from .mmt import MMT
from .mrda import MRDA
from .msclnet import MSCLNet
from .mutual_prediction import MutualPrediction
from .nformer import NFormer
from .pmt import PMT
from .rbnet import RBNet
from .spot import SPOT, LearnedStructure

__all__ = [
    "CAJ",
    "CMLSPGE",
    "CMTR",
    "MAUM",
    "MMT",
    "MRDA",
    "PMT",
    "SPOT",
    "ClusterContrast",
    "CrossViTCSA",
    "DualStreamBaseline",
    "HiCMD",
    "LearnedStructure",
    "MSCLNet",
    "MutualPrediction",
    "NFormer",
    "RBNet",
]
