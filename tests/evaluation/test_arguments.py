"""Arguments of the public functions: a right value, or an error that names the argument.

Oracles: the same call with plain float64 arrays, and a list of what is not an argument at all.
"""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import (
    AffinityInference,
    CrossModalityProtocol,
    LLCMProtocol,
    NearestNeighbors,
    PairSet,
    QueryExpansion,
    RankRules,
    Reranking,
    SYSUMM01Protocol,
    TestFeatures,
    VIReIDEvaluator,
    affinity_inference,
    count_pairs,
    equal_error_threshold,
    expand_features,
    jaccard_distance,
    k_reciprocal_rerank,
    rank_metrics,
    rank_metrics_from_similarity,
    rank_rescored,
    rank_trials,
)

Q, G, D = 6, 8, 4
RNG = np.random.default_rng(0)
QUERY, GALLERY = RNG.integers(-9, 9, (Q, D)) / 8, RNG.integers(-9, 9, (G, D)) / 8
QUERY[0, 0] = GALLERY[0, 0] = 1.0  # no row of zeros
BOTH = np.concatenate([QUERY, GALLERY])
QUERY_TARGETS, GALLERY_TARGETS = np.arange(Q) % 3, np.arange(G) % 4
TARGETS = np.concatenate([QUERY_TARGETS, GALLERY_TARGETS])
QUERY_CAMIDS, GALLERY_CAMIDS = np.full(Q, 3), np.arange(G) % 2 + 1
CAMIDS = np.concatenate([QUERY_CAMIDS, GALLERY_CAMIDS])
TRIAL = SimpleNamespace(query=np.arange(Q), gallery=np.arange(Q, Q + G))
LABELS = dict(
    query_targets=QUERY_TARGETS,
    gallery_targets=GALLERY_TARGETS,
    query_camids=QUERY_CAMIDS,
    gallery_camids=GALLERY_CAMIDS,
)
RULES = dict(skip_camera_pairs=(), skip_same_camera=False, cmc="image", max_rank=20)
NEIGHBORS = dict(k1=3, k2=2)
PAIR = dict(query_features=QUERY, gallery_features=GALLERY)


class Rescorer:
    description, top, weight = "local", 2, 1.0

    def distances(self, query, gallery, candidates):
        return torch.zeros(candidates.shape)


def neighbors(features, ids, queries, k, **options):
    return NearestNeighbors(**options).fit(features, ids).search(queries, k)


def sysu_galleries(**options):
    dataset = SimpleNamespace(query=[("a", 1, 3, 1)], gallery=[("b", 1, 1, 0)])
    return list(SYSUMM01Protocol(**options).trials(dataset))


CALLS = {
    rank_metrics: {**PAIR, **LABELS, **RULES, "metric": "cosine", "top": 0, "device": None},
    rank_metrics_from_similarity: {
        "similarity": QUERY @ GALLERY.T,
        **LABELS,
        **RULES,
        "query_rows": None,
        "gallery_rows": None,
    },
    rank_trials: {
        "features": BOTH,
        "targets": TARGETS,
        "camids": CAMIDS,
        "trials": [TRIAL],
        "rules": RankRules(),
        "metric": "euclidean",
        "device": None,
    },
    rank_rescored: {
        "features": torch.from_numpy(BOTH),
        "local": torch.zeros(Q + G, 2, 3),
        "targets": TARGETS,
        "camids": CAMIDS,
        "trial": TRIAL,
        "rules": RankRules(),
        "device": None,
    },
    RankRules: RULES,
    jaccard_distance: {
        "features": BOTH,
        **NEIGHBORS,
        "definition": "original",
        "groups": None,
        "max_distance": 1.0,
        "device": "cpu",
    },
    k_reciprocal_rerank: {
        **PAIR,
        **NEIGHBORS,
        "lambda_value": 0.3,
        "definition": "softmax",
        "cross_modality": False,
        "neighbors": "queries",
    },
    Reranking: {**NEIGHBORS, "lambda_value": 0.3, "definition": "original"},
    affinity_inference: {**PAIR, **NEIGHBORS},
    AffinityInference: NEIGHBORS,
    expand_features: {**PAIR, "k": 3, "alpha": 3.0, "times": 1},
    QueryExpansion: {"k": 3, "alpha": 3.0, "times": 1},
    neighbors: {
        "features": GALLERY,
        "ids": None,
        "queries": QUERY,
        "k": 2,
        "metric": "euclidean",
        "device": "cpu",
        "index": "flat",
        "gpus": "one",
        "probes": 1,
    },
    count_pairs: {
        "features": torch.from_numpy(BOTH),
        "targets": TARGETS,
        "camids": CAMIDS,
        "pairs": PairSet("pairs", TRIAL.query, TRIAL.gallery),
        "metric": "cosine",
        "upper": 2.0,
        "bins": 10,
    },
    equal_error_threshold: {"same": [3, 1], "other": [1, 3], "edges": [0.0, 1.0, 2.0]},
    sysu_galleries: {"mode": "all", "shots": 1, "trials": 2, "gallery": "random"},
    LLCMProtocol: {"direction": "visible_to_infrared", "trials": 2},
    CrossModalityProtocol: {
        "direction": "visible_to_infrared",
        "skip_same_camera": False,
        "cmc": "image",
    },
}
ODD = [
    *(None, True, 0, -1, 2.5, 2.0, float("nan"), float("inf"), 10**30, 1j, "", "1", b"x"),
    *([], [1, 2], [[1, 2], [3]], [None] * Q, ["a"] * Q, [2**63] * Q, [2**64] * G, {}, object()),
    *((3, 2), ((3,),), (("3", "2"),), ((3.5, 2),), ((True, 2),), {(3, 2)}, "gpu", "meta", "IVF"),
    *(
        np.bool_(True),
        np.int64(2),
        np.array(2),
        np.array([2, 3]),
        np.float32(0.5),
        np.zeros((0, D)),
    ),
    *(np.zeros((Q, 0)), np.zeros((Q, D, 1)), np.zeros((Q, D + 1)), np.zeros(Q), QUERY > 0),
    *(
        QUERY + 0j,
        QUERY.astype(object),
        QUERY.astype("U8"),
        QUERY * np.nan,
        np.full((Q, D), np.inf),
    ),
    *(QUERY * 1e300, QUERY * 1e-300, QUERY.astype("M8[s]"), np.ma.masked_less(QUERY, 0)),
    *(np.array([2**63] * Q, np.uint64), QUERY_TARGETS[:, None], QUERY_TARGETS * 1.0),
    *(torch.tensor(2), torch.tensor(2.5), torch.zeros(Q, D).to_sparse(), torch.zeros(Q, D) + 1j),
    *(torch.empty(Q, D, device="meta"), torch.zeros(Q, dtype=torch.bool), RankRules(), TRIAL),
]
CASES = [(call, name) for call, arguments in CALLS.items() for name in arguments]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(case=st.sampled_from(CASES), odd=st.sampled_from(range(len(ODD))))
def test_an_odd_argument_is_used_or_refused_by_its_name(case, odd):
    call, name = case
    arguments = {**CALLS[call], name: ODD[odd]}
    if call is rank_rescored:
        arguments["rescorer"] = Rescorer()
    try:
        call(**arguments)
    except UserError as error:
        # "device": features without memory; "items": fewer features than are asked for
        named = {name, name.split("_")[-1], "device", "items"}
        assert any(re.search(rf"\b{word}", str(error)) for word in named), error


CONTAINERS = {
    "float64": lambda rows: rows,
    "float32": lambda rows: rows.astype(np.float32),
    "float16": lambda rows: rows.astype(np.float16),
    "long double": lambda rows: rows.astype(np.longdouble),
    "other bytes": lambda rows: rows.astype(">f4"),
    "lists": lambda rows: rows.tolist(),
    "rows": lambda rows: list(rows),
    "columns": np.asfortranarray,
    "reversed": lambda rows: rows[::-1, ::-1].copy()[::-1, ::-1],
    "step": lambda rows: np.repeat(rows, 2, axis=0)[::2],
    "tensor": torch.from_numpy,
    "half": lambda rows: torch.from_numpy(rows).half(),
    "bfloat16": lambda rows: torch.from_numpy(rows).bfloat16(),
    "graph": lambda rows: torch.from_numpy(rows).requires_grad_(),
    "transposed": lambda rows: torch.from_numpy(rows.T.copy()).T,
    "imaginary part": lambda rows: torch.from_numpy(-1j * rows).conj().imag,
}
#: eighths below 2 are exact in every precision above
eighths = st.integers(-15, 15).filter(bool).map(lambda number: number / 8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    query=st.lists(st.lists(eighths, min_size=3, max_size=3), min_size=1, max_size=4),
    gallery=st.lists(st.lists(eighths, min_size=3, max_size=3), min_size=1, max_size=5),
    first=st.sampled_from(sorted(CONTAINERS)),
    second=st.sampled_from(sorted(CONTAINERS)),
)
def test_every_container_of_the_same_numbers_gives_the_same_metrics(query, gallery, first, second):
    """Euclidean scores are computed in float64, so they do not depend on the precision given."""
    query, gallery = np.array(query), np.array(gallery)
    targets = np.arange(len(query)) % 2, np.arange(len(gallery)) % 3
    expected = rank_metrics(query, gallery, *targets, metric="euclidean", top=2)
    given = CONTAINERS[first](query), CONTAINERS[second](gallery)
    found = rank_metrics(*given, *map(list, targets), metric="euclidean", top=2)
    np.testing.assert_array_equal(found.nearest, expected.nearest)
    np.testing.assert_array_equal(found.average_precision, expected.average_precision)
    np.testing.assert_array_equal(found.cmc, expected.cmc)


@pytest.mark.parametrize(
    "call", [jaccard_distance, k_reciprocal_rerank, expand_features, neighbors]
)
def test_whole_numbers_may_be_those_of_numpy_and_torch(call):
    """``np.int64`` once ended re-ranking of float32 features with a traceback."""
    plain = dict(CALLS[call])
    for name in ("features", "query_features", "gallery_features", "queries"):
        if name in plain:
            plain[name] = plain[name].astype(np.float32)
    whole = {name: value for name, value in plain.items() if type(value) is int}
    for kind in (np.int64, np.uint8, torch.tensor):
        found = call(**{**plain, **{name: kind(value) for name, value in whole.items()}})
        expected = call(**plain)
        if call is jaccard_distance:
            found, expected = (found.toarray(),), (expected.toarray(),)
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_large_and_tiny_features_keep_their_order():
    """Oracle: the same features at an ordinary scale, a power of two apart."""
    expected = NearestNeighbors("euclidean").fit(GALLERY).search(QUERY, 3)[1]
    for scale in (2.0**80, 2.0**-80):
        query, gallery = (np.float32(rows * scale) for rows in (QUERY, GALLERY))
        found = NearestNeighbors("euclidean").fit(gallery).search(query, 3)[1]
        np.testing.assert_array_equal(found, expected)
        metrics = rank_metrics(query, gallery, QUERY_TARGETS, GALLERY_TARGETS, metric="euclidean")
        plain = rank_metrics(QUERY, GALLERY, QUERY_TARGETS, GALLERY_TARGETS, metric="euclidean")
        np.testing.assert_array_equal(metrics.average_precision, plain.average_precision)
        np.testing.assert_allclose(
            k_reciprocal_rerank(query, gallery, 3, 2),
            k_reciprocal_rerank(QUERY, GALLERY, 3, 2),
            atol=1e-6,
        )


def test_labels_of_any_kind_of_integer_give_the_same_metrics():
    expected = rank_metrics(**PAIR, **LABELS, skip_same_camera=True)
    far = 2**63 - 1 - GALLERY_TARGETS.max()
    for change in (
        list,
        np.uint64,
        np.int8,
        torch.tensor,
        lambda found: [int(n) + far for n in found],
    ):
        labels = {name: change(values) for name, values in LABELS.items()}
        found = rank_metrics(**PAIR, **labels, skip_same_camera=True)
        np.testing.assert_array_equal(found.average_precision, expected.average_precision)


def test_images_with_features_that_are_not_finite_are_named():
    from vireid_plugins.data import Item

    items = [Item(f"camera/{n}.jpg", n % 2, 1 + n % 2, n % 2) for n in range(8)]
    items = [item._replace(pid=n // 4) for n, item in enumerate(items)]
    dataset = SimpleNamespace(query=items[:4], gallery=items[4:])
    evaluator = VIReIDEvaluator(
        [CrossModalityProtocol("visible_to_infrared")], dataset, dataset_name="Mine"
    )
    features = torch.ones(8, 3)
    features[2, 1], features[5, 0] = float("nan"), float("inf")
    columns = (np.array([item[place] for item in items]) for place in (1, 2, 3))
    said = r"Mine: the features of 2 of 8 test images.*NaN.*camera/2.jpg, camera/5.jpg\."
    with pytest.raises(UserError, match=said):
        evaluator.evaluate(TestFeatures(features, *columns, np.arange(8)))
