"""Rank trials exactly: from scores (``scores.py``) through ``trials.py`` to CMC, mAP and mINP.

``metrics.py`` holds the public functions; ``ranker.py`` ranks a gallery, by counting
(``counting.py``) instead of sorting; ``rescoring.py`` re-orders the nearest images by a model's
local features.
"""
