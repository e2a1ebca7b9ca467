"""Distances and features that depend on more than one pair of images.

``jaccard.py`` computes Jaccard distances between k-reciprocal encodings, ``rerank.py`` the
re-rankings and the query expansion, ``scorer.py`` the scores of a trial from them.
"""
