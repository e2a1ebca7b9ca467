"""Which queries are the hardest. Oracle: a plain sort under the rules of the protocol."""

import numpy as np
import pytest

from vireid_plugins.reporting.hardest import WRONG, hardest_queries

from tests.plots.planted import planted_subject


def plain_ranking(subject, row, gallery, pairs):
    """Gallery rows that a query may see, nearest first, with their scores."""
    features = subject.features
    rows = features.features.double().numpy()
    seen = [g for g in gallery if (features.camids[row], features.camids[g]) not in pairs]
    if subject.cfg.TEST.METRIC == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        scores = rows[seen] @ rows[row]
        order = np.argsort(-scores, kind="stable")
    else:
        scores = np.linalg.norm(rows[seen] - rows[row], axis=1)
        order = np.argsort(scores, kind="stable")
    return [seen[i] for i in order], scores[order]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equals_a_plain_sort(metric):
    subject = planted_subject(identities=7, images=3, noise=3.0, metric=metric)
    found = hardest_queries(subject, 4)
    features, protocol = subject.features, subject.protocols[0]
    trial = next(iter(protocol.trials(subject.dataset)))
    assert (3, 2) in protocol.skip_camera_pairs
    ranks = {}
    for row in trial.query:
        order, scores = plain_ranking(subject, row, trial.gallery, protocol.skip_camera_pairs)
        right = features.targets[order] == features.targets[row]
        hits = np.flatnonzero(right) + 1
        ranks[row] = (-hits[0], (np.arange(len(hits)) + 1) @ (1 / hits) / len(hits), order, scores)
    assert found.valid == len(ranks) and found.gallery == len(trial.gallery)
    assert found.at_first == sum(rank == -1 for rank, *_ in ranks.values())
    # of each identity the hardest query, then the hardest identities
    hardest = {}
    for row in sorted(ranks, key=lambda row: ranks[row][:2]):
        hardest.setdefault(features.targets[row], row)
    expected = list(hardest.values())[:4]
    assert [one.query.path for one in found.queries] == [
        subject.items[row].path for row in expected
    ]
    for one, row in zip(found.queries, expected):
        rank, precision, order, scores = ranks[row]
        places = [*range(min(-rank - 1, WRONG)), -rank - 1]
        answers = [*one.wrong, one.right]
        assert [a.rank for a in answers] == [place + 1 for place in places]
        assert [a.match.photo.path for a in answers] == [
            subject.items[order[p]].path for p in places
        ]
        assert [a.match.score for a in answers] == pytest.approx(scores[places], abs=1e-5)
        assert [a.match.correct for a in answers] == [False] * len(one.wrong) + [True]
        assert one.average_precision == pytest.approx(100 * precision)


def test_of_a_perfect_model_no_answer_is_wrong():
    found = hardest_queries(planted_subject(noise=0.0), 9)
    assert found.at_first == found.valid == 24
    assert len(found.queries) == 6  # as many as there are identities
    assert all(not one.wrong and one.right.rank == 1 for one in found.queries)
