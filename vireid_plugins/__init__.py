"""Visible-infrared person re-identification on FastReID.

Import this package before ``fastreid``. Importing it repairs the host (``compat.py``) and
registers datasets, backbones, heads, losses, protocols and meta-architectures; nothing else.
"""

from . import compat

compat.prepare()

from . import data, evaluation, modeling  # noqa: E402  registers everything
from .config import add_vireid_config  # noqa: E402
from .engine import FeatureExtractor, carry_config, convert  # noqa: E402
from .modality import Modality  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = [
    "FeatureExtractor",
    "Modality",
    "__version__",
    "add_vireid_config",
    "carry_config",
    "convert",
    "data",
    "evaluation",
    "modeling",
]
