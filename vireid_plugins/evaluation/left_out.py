"""Say what an evaluation does with a model and what single images cannot show."""

from typing import Any


def left_out(model: Any) -> str:
    """Return what the evaluation does beyond features of single images and their cosine.

    Args:
        model: may have a ``relation`` (``relation.py``) or a ``rescorer``
            (``ranking/rescoring.py``).

    Returns:
        A sentence for each, for whatever leaves them out; empty: the evaluation does no more.
    """
    parts = (getattr(model, name, None) for name in ("relation", "rescorer"))
    return " ".join(part.left_out for part in parts if part is not None)
