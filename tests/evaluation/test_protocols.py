"""Oracles: counts known from the fake datasets, and AGW's drawing loop over file names."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
from evaluation_oracles import IDS, INFRARED, VISIBLE, fake_dataset, number_of_images

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import (
    CrossModalityProtocol,
    LLCMProtocol,
    RegDBProtocol,
    SingleModalityProtocol,
    SYSUMM01Protocol,
)
from vireid_plugins.keys import check_values


@pytest.fixture
def sysu(tmp_path):
    return fake_dataset((1, 2, 4, 5), (3, 6), str(tmp_path))


def files(dataset, rows):
    items = dataset.query + dataset.gallery
    return [items[row].path for row in rows]


def draw_by_loop(dataset, cameras, trial, shots, modality=VISIBLE):
    """Seed the global generator; one draw per folder of sorted names."""
    items = dataset.query + dataset.gallery
    random.seed(trial)
    drawn = []
    for pid in sorted(IDS):
        for camera in cameras:
            names = sorted(i.path for i in items if i[1:] == (pid, camera, modality))
            if names and shots == 1:
                drawn.append(random.choice(names))
            elif names:
                drawn += random.sample(names, min(shots, len(names)))
    return drawn


@pytest.mark.parametrize("mode,cameras", [("all", (1, 2, 4, 5)), ("indoor", (1, 2))])
@pytest.mark.parametrize("shots", [1, 10])
def test_sysu_random_galleries_are_those_of_the_seeded_loop(sysu, mode, cameras, shots):
    trials = list(SYSUMM01Protocol(mode, shots).trials(sysu))
    assert len(trials) == 10
    for number, trial in enumerate(trials):
        assert files(sysu, trial.gallery) == draw_by_loop(sysu, cameras, number, shots)
        assert list(trial.query) == list(range(len(sysu.query)))
    folders = 2 * 4 + (2 * 4 - 2 if mode == "all" else 0)  # identity 10 is not in cameras 4, 5
    pick = {1: lambda n: min(n, 1), 10: lambda n: min(n, 10)}[shots]
    expected = sum(pick(number_of_images(pid, camera)) for pid in IDS for camera in cameras)
    assert len(trials[0].gallery) == expected
    if shots == 1:
        assert expected == folders


def test_random_draw_matches_recorded_constants(sysu):
    """``random.seed(0)``, then ``random.choice`` over the ranges of lengths 10, 5 and 5.

    Recorded from CPython 3.11; the stream is the same in 3.9 to 3.13.
    """
    random.seed(0)
    lengths = [number_of_images(6, camera) for camera in (1, 2, 4)]
    expected = [random.choice(range(n)) for n in lengths]
    trial = next(SYSUMM01Protocol().trials(sysu))
    names = [int(name[-8:-4]) - 1 for name in files(sysu, trial.gallery[:3])]
    assert names == expected == RECORDED


RECORDED = [6, 3, 0]


def test_global_generator_is_left_alone(sysu):
    random.seed(11)
    expected = random.random()
    random.seed(11)
    list(SYSUMM01Protocol().trials(sysu))
    assert random.random() == expected


def write_permutations(dataset, path, broken=False):
    """The official structure: cameras × 1 cells of identities × 1 cells of (10, n), from 1."""
    rng = np.random.default_rng(5)
    cells = np.empty((6, 1), dtype=object)
    orders = {}
    for camera in range(1, 7):
        cell = np.empty((max(IDS), 1), dtype=object)
        for pid in range(1, max(IDS) + 1):
            n = number_of_images(pid, camera) + int(broken) if pid in IDS else 0
            orders[pid, camera] = np.array([rng.permutation(n) + 1 for _ in range(10)])
            cell[pid - 1, 0] = orders[pid, camera]
        cells[camera - 1, 0] = cell
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(str(path), {"rand_perm_cam": cells})
    return orders


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("shots", [1, 10])
def test_official_galleries_are_the_first_of_the_permutation(sysu, tmp_path, shots, elsewhere):
    path = tmp_path / ("other/perm.mat" if elsewhere else "exp/rand_perm_cam.mat")
    orders = write_permutations(sysu, path)
    protocol = SYSUMM01Protocol(
        "all", shots, gallery="official", permutation_file=str(path) if elsewhere else ""
    )
    trials = list(protocol.trials(sysu))
    assert len(trials) == 10
    for number, trial in enumerate(trials):
        expected = [
            f"{tmp_path}/m{VISIBLE}/cam{camera}/{pid:04d}/{n:04d}.jpg"
            for pid in IDS
            for camera in (1, 2, 4, 5)
            if number_of_images(pid, camera)
            for n in orders[pid, camera][number][:shots]
        ]
        assert files(sysu, trial.gallery) == expected


def test_official_without_its_file_says_what_to_do(sysu):
    protocol = SYSUMM01Protocol(gallery="official")
    with pytest.raises(FileNotFoundError, match="PERMUTATION_FILE.*'random' needs no file"):
        list(protocol.trials(sysu))


def test_a_permutation_file_that_no_gallery_would_read_is_refused(sysu):
    with pytest.raises(
        UserError, match="is my.mat, but TEST.PROTOCOL.GALLERY is 'random'.*Set GAL"
    ):
        SYSUMM01Protocol(permutation_file="my.mat")
    assert SYSUMM01Protocol(gallery="official", permutation_file="my.mat").permutation_file


def test_official_file_of_another_copy_is_refused(sysu, tmp_path):
    write_permutations(sysu, tmp_path / "exp/rand_perm_cam.mat", broken=True)
    with pytest.raises(ValueError, match="identity 6, camera 1, trial 0.*but the folder has"):
        list(SYSUMM01Protocol(gallery="official").trials(sysu))


def test_file_that_is_no_mat_file_is_refused(sysu, tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/rand_perm_cam.mat").write_bytes(b"nonsense" * 40)
    with pytest.raises(ValueError, match="not the official permutation file"):
        list(SYSUMM01Protocol(gallery="official").trials(sysu))


@pytest.mark.parametrize(
    "direction,modality", [("visible_to_infrared", INFRARED), ("infrared_to_visible", VISIBLE)]
)
def test_llcm_draws_one_per_identity_and_camera(direction, modality):
    infrared = tuple(camera for camera in range(1, 10) if camera != 3)
    dataset = fake_dataset(range(1, 10), infrared)
    cameras = infrared if modality == INFRARED else range(1, 10)
    trials = list(LLCMProtocol(direction).trials(dataset))
    assert len(trials) == 10
    items = dataset.query + dataset.gallery
    for number, trial in enumerate(trials):
        expected = draw_by_loop(dataset, cameras, number, 1, modality)
        assert files(dataset, trial.gallery) == expected
        assert {items[row].modality for row in trial.query} == {1 - modality}
    assert len(trials[0].query) == sum(item.modality != modality for item in items)


@pytest.mark.parametrize("protocol", [RegDBProtocol, CrossModalityProtocol])
def test_whole_modalities_in_both_directions(protocol):
    dataset = fake_dataset((1,), (2,))
    forth = list(protocol("infrared_to_visible").trials(dataset))
    back = list(protocol("visible_to_infrared").trials(dataset))
    assert len(forth) == len(back) == 1
    num_query = len(dataset.query)  # infrared
    assert list(forth[0].query) == list(back[0].gallery) == list(range(num_query))
    expected = list(range(num_query, num_query + len(dataset.gallery)))
    assert list(forth[0].gallery) == list(back[0].query) == expected


def test_single_modality_keeps_the_datasets_own_split():
    dataset = SimpleNamespace(query=[("a", 1, 1)] * 3, gallery=[("b", 1, 2)] * 5)
    (trial,) = SingleModalityProtocol().trials(dataset)
    assert list(trial.query) == [0, 1, 2] and list(trial.gallery) == [3, 4, 5, 6, 7]
    assert SingleModalityProtocol().rules().skip_same_camera


@pytest.mark.parametrize(
    "word,right",
    [("t2v", "infrared_to_visible"), ("v2t", "visible_to_infrared")]
    + [("ir2vis", "infrared_to_visible"), ("vis2ir", "visible_to_infrared")],
)
def test_old_words_name_the_right_one(word, right):
    with pytest.raises(ValueError, match=f"Say '{right}'"):
        RegDBProtocol(word)


@pytest.mark.parametrize(
    "build",
    [
        lambda: RegDBProtocol(True),
        lambda: SYSUMM01Protocol("outdoor"),
        lambda: SYSUMM01Protocol(shots=5),
        lambda: SYSUMM01Protocol(shots=True),
        lambda: SYSUMM01Protocol(gallery="fixed"),
        lambda: SYSUMM01Protocol(trials=0),
        lambda: SYSUMM01Protocol(trials=11, gallery="official"),
        lambda: LLCMProtocol("visible_to_infrared", trials=True),
        lambda: CrossModalityProtocol("visible_to_infrared", cmc="video"),
    ],
)
def test_unknown_words_raise_and_name_the_choices(build):
    with pytest.raises(ValueError, match="must be|boolean|Valid"):
        build()


@pytest.mark.parametrize("direction", ["visible_to_infrared", "infrared_to_visible"])
@pytest.mark.parametrize(
    "form", ["{}2{}", "{}_to_{}", "{} to {}", "{}-to-{}", "{}->{}", "{} → {}", "{}_2_{}", "{}to{}"]
)
@pytest.mark.parametrize("visible,infrared", [("visible", "thermal"), ("RGB", "IR"), ("v", "t")])
def test_other_words_for_a_direction_are_told_what_it_is_called(direction, form, visible, infrared):
    """In Python and in a config alike. Oracle: which of the two words stands first."""
    pair = (visible, infrared) if direction.startswith("v") else (infrared, visible)
    other = form.format(*pair)
    with pytest.raises(UserError, match=f"Say '{direction}'"):
        LLCMProtocol(other)
    with pytest.raises(UserError, match=f"TEST.PROTOCOL.DIRECTIONS is .*Say '{direction}'"):
        check_values("TEST.PROTOCOL", DIRECTIONS=[direction, other])


@pytest.mark.parametrize("word", ["thermal", "thermal_to_ir", "rgb2rgb", "x2y", "", "2", 3, None])
def test_what_is_no_direction_gets_no_guess(word):
    with pytest.raises(UserError, match="Unknown search direction.*Valid: vis") as caught:
        RegDBProtocol(word)
    assert "Say" not in str(caught.value)
