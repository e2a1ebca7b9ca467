"""Nearest neighbors: of queries among stored items (``search.py``), of all items (``lists.py``).

Everything else reaches faiss through ``faiss_index.py``.
"""
