"""Find nearest neighbors: of queries (``search.py``), or of every stored item (``lists.py``).

faiss is used only through ``faiss_index.py``.
"""
