"""CAJ and CAJ+, ``configs/caj/reference.yml`` and ``reference_plus.yml``.

CAJ+'s batches have an image that is drawn twice, on which its co-refinement depends.
"""

from ..two_stream import TwoStream
from .agw import BASELINE

TERMS = {"loss_id": ("criterion_id", 1), "loss_weighted_triplet": ("criterion_tri", 1)}

CASES = [
    TwoStream(
        "caj",
        config="caj/reference",
        script="ICCV21_CAJ/train_ext.py",
        words=("--method", "adp", "--square", "1"),
        terms=TERMS,
        **BASELINE,
    ),
    TwoStream(
        "caj_plus",
        config="caj/reference_plus",
        script="PAMI23_Supervised/train_ext.py",
        words=("--method", "adp", "--square", "1", "--kl", "1"),
        terms={**TERMS, "loss_refine": ("loss_ws", 1)},
        twice=True,
        **BASELINE,
    ),
]
