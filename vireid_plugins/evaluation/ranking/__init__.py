"""Exact ranks of trials: from scores (``scores.py``) by one way (``trials.py``) to CMC, mAP, mINP.

``metrics.py`` holds the public functions; ``ranker.py`` ranks a gallery, by counting
(``counting.py``) instead of sorting; ``rescoring.py`` re-orders the nearest images by a model's
local features.
"""
