"""Re-ranking with queries alone as neighbors.

Oracles: a plain loop, and what ``re_ranking`` of ``utils/rerank.py`` of
github.com/DoubtedSteam/MPANet (commit f57fd5c; IDKL has the same function) returned for these
features, with ``eval_type=True`` as for SYSU-MM01, and float64 in place of its float16.
"""

from itertools import islice

import numpy as np
import pytest
from evaluation_oracles import llcm_feature, llcm_images

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import Reranking, k_reciprocal_rerank

RECORDED = {  # [0, 0], [3, 7], [59, 24], the sum of all, and the sum with all items as neighbors
    (20, 6): (0.5869772755, 0.6149339847, 0.6988900245, 974.5694124205, 1167.3216312548),
    (5, 2): (0.8317530579, 0.8129879505, 0.9078457878, 1280.4609427200, 1319.3014526132),
    (7, 1): (0.8317530579, 0.8129879505, 0.9078457878, 1335.0524146955, 1322.3861390937),
}


@pytest.fixture(scope="module")
def sides():
    """60 infrared queries, 25 visible gallery images."""
    return [
        np.stack([llcm_feature(item) for item in islice(llcm_images(modality), number)])
        for modality, number in ((1, 60), (0, 25))
    ]


def loop(query, gallery, k1, k2, lambda_value, definition):
    """Each item's list holds queries, nearest first; a query is in its own list, at the front."""
    items, num = np.concatenate([query, gallery]), len(query)
    raw = ((items[:, None] - items[None]) ** 2).sum(2)
    scaled = raw / raw.max(1, keepdims=True)
    distances = scaled if definition == "original" else raw
    order = [sorted(range(num), key=lambda j: (j != i, raw[i, j], j)) for i in range(len(items))]
    length = k1 + 1 if definition == "original" else k1

    def reciprocal(i, k):
        kept = min(k + 1, length)
        return {j for j in order[i][:kept] if i in order[j][:kept]}

    encodings = np.zeros((len(items), len(items)))
    for i in range(num):  # a gallery item is in nobody's list: its set is empty
        members = reciprocal(i, k1)
        joining = [reciprocal(j, int(np.around(k1 / 2))) for j in members]
        members = members.union(*[s for s in joining if len(s & members) > 2 / 3 * len(s)])
        for j in members:
            encodings[i, j] = np.exp(-distances[i, j])
        encodings[i] /= encodings[i].sum()
    if k2 > 1:
        encodings = np.stack([encodings[own[:k2]].mean(0) for own in order])
    shared = np.minimum(encodings[:num, None], encodings[None, num:]).sum(2)
    return (1 - lambda_value) * (1 - shared / (2 - shared)) + lambda_value * scaled[:num, num:]


@pytest.mark.parametrize("k1,k2", RECORDED)
def test_distances_are_those_of_the_public_code(sides, k1, k2):
    found = k_reciprocal_rerank(*sides, k1, k2, neighbors="queries")
    every = k_reciprocal_rerank(*sides, k1, k2)
    got = (found[0, 0], found[3, 7], found[59, 24], found.sum(), every.sum())
    np.testing.assert_allclose(got, RECORDED[k1, k2], rtol=1e-6)


@pytest.mark.parametrize("definition", ["original", "softmax"])
@pytest.mark.parametrize("k1,k2,lam", [(20, 6, 0.3), (5, 2, 0.0), (4, 1, 0.7), (90, 70, 0.3)])
def test_distances_are_those_of_the_loop(sides, k1, k2, lam, definition):
    """The last lists are longer than there are queries: then they hold all of them."""
    words = {"definition": definition, "neighbors": "queries"}
    found = k_reciprocal_rerank(*sides, k1, k2, lam, **words)
    np.testing.assert_allclose(found, loop(*sides, k1, k2, lam, definition), atol=2e-6)


def test_the_words_name_it():
    assert str(Reranking(neighbors="queries")) == "k1=20 k2=6 λ=0.3 neighbors among queries"
    with pytest.raises(UserError, match="NEIGHBORS queries.*not both"):
        Reranking(cross_modality=True, neighbors="queries")
    with pytest.raises(UserError, match="neighbors must be one of .'all', 'queries'."):
        Reranking(neighbors="gallery")


def test_remarks_look_at_the_number_of_queries():
    (remark,) = Reranking(20, 6, neighbors="queries").remarks(num_gallery=3, num_query=12)
    assert "TEST.RERANK.K1 is 20, but a trial has 12 queries" in remark
    assert not Reranking(20, 6).remarks(num_gallery=30, num_query=1)


def test_no_query_or_no_gallery_gives_an_empty_matrix(sides):
    query, gallery = sides
    for a, b in ((query[:0], gallery), (query, gallery[:0])):
        assert k_reciprocal_rerank(a, b, neighbors="queries").shape == (len(a), len(b))
    one = k_reciprocal_rerank(query[:1], gallery, neighbors="queries")
    assert one.shape == (1, 25) and np.isfinite(one).all()
