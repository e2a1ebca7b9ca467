"""Who may see whom. Oracle: a double loop over the images, written from the definition."""

import numpy as np
import pytest
import torch

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import LLCMProtocol, RankRules, RegDBProtocol, SYSUMM01Protocol
from vireid_plugins.evaluation.rules import Labels

RULES = [
    RankRules(),
    RankRules(skip_camera_pairs=((3, 2),)),
    RankRules(skip_camera_pairs=((3, 2), (1, 1), (2, 3))),
    RankRules(skip_same_camera=True),
    RankRules(skip_camera_pairs=((3, 2), (1, 4)), skip_same_camera=True),
]


def looped(rules, query, gallery):
    hidden = np.zeros((len(query), len(gallery)), dtype=bool)
    for i, (person, camera) in enumerate(zip(query.targets, query.camids)):
        for j, (other_person, other_camera) in enumerate(zip(gallery.targets, gallery.camids)):
            if (camera, other_camera) in rules.skip_camera_pairs:
                hidden[i, j] = True
            if rules.skip_same_camera and person == other_person and camera == other_camera:
                hidden[i, j] = True
    return hidden


def random_labels(rng, count):
    return Labels(rng.integers(0, 4, count), rng.integers(1, 5, count))


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("sizes", [(30, 50), (1, 9), (0, 5), (5, 0)])
def test_hidden_equals_the_double_loop(rules, sizes):
    rng = np.random.default_rng(sum(sizes))
    query, gallery = (random_labels(rng, size) for size in sizes)
    expected = looped(rules, query, gallery)
    found = rules.hidden(query, gallery)
    assert found.dtype == bool and found.shape == sizes
    np.testing.assert_array_equal(found, expected)
    if sizes == (30, 50):  # the case is not empty: some pairs are hidden, some are not
        assert expected.any() == rules.needs_cameras and not expected.all()


@pytest.mark.parametrize("rules", RULES)
def test_tensors_are_answered_as_arrays_are(rules):
    rng = np.random.default_rng(8)
    query, gallery = random_labels(rng, 30), random_labels(rng, 50)
    same = torch.from_numpy(query.targets)[:, None] == torch.from_numpy(gallery.targets)[None]
    cameras = torch.from_numpy(query.camids)[:, None], torch.from_numpy(gallery.camids)[None]
    found = rules.hides(same, *cameras)
    np.testing.assert_array_equal(found.numpy(), looped(rules, query, gallery))
    # Of strangers only the pair of cameras decides, so one question answers for all images.
    strangers = rules.hides(torch.tensor(False), *cameras).expand(30, 50).numpy()
    np.testing.assert_array_equal(strangers[~same.numpy()], found.numpy()[~same.numpy()])


def test_without_cameras_nothing_is_hidden():
    assert not RankRules().hidden(Labels(np.arange(3)), Labels(np.arange(4))).any()


def test_labels_of_some_images():
    labels = Labels(np.array([5, 6, 7]), np.array([1, 2, 3]))
    some = labels.take(np.array([2, 0]))
    assert len(some) == 2 and some.targets.tolist() == [7, 5] and some.camids.tolist() == [3, 1]
    assert Labels(labels.targets).take(slice(1, 3)).camids is None


def test_words_name_every_rule_and_nothing_else():
    assert SYSUMM01Protocol().rules().words() == "query camera 3 with gallery camera 2"
    assert (
        SYSUMM01Protocol().rules().words("infrared", "visible")
        == "infrared camera 3 with visible camera 2"
    )
    llcm = LLCMProtocol("visible_to_infrared").rules()
    assert llcm.words() == "images of one person by one camera"
    assert RegDBProtocol("visible_to_infrared").rules().words() == ""
    both = RankRules(skip_camera_pairs=((4, 1), (3, 2), (3, 2)), skip_same_camera=True)
    assert both.words() == (
        "query camera 3 with gallery camera 2; query camera 4 with gallery camera 1; "
        "images of one person by one camera"
    )


@pytest.mark.parametrize(
    "words,said",
    [
        ({"cmc": "person"}, "cmc must be one of .*image.*identity.*'person'"),
        ({"max_rank": 0}, "max_rank must be at least 1; got 0"),
        ({"skip_camera_pairs": (3, 2)}, "pairs .query camera, gallery camera.*got"),
        ({"skip_camera_pairs": ((3, 2, 1),)}, r"got \(3, 2, 1\)"),
    ],
)
def test_rules_that_make_no_sense_are_refused(words, said):
    with pytest.raises(UserError, match=said):
        RankRules(**words)
