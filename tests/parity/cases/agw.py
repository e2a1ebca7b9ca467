"""AGW, ``configs/agw/reference.yml``."""

from ..two_stream import TwoStream

BASELINE = {
    "repository": "mangye16/Cross-Modal-Re-ID-baseline",
    "commit": "e817a2672c1e14e8802617acb980a79520ef9545",
}

CASES = [
    TwoStream(
        "agw",
        config="agw/reference",
        script="train.py",
        words=("--method", "agw"),
        terms={"loss_id": ("criterion_id", 1), "loss_weighted_triplet": ("criterion_tri", 1)},
        **BASELINE,
    )
]
