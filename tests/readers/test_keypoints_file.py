"""Files of key points. Oracle: what the test has written, and which file or line it has damaged."""

import numpy as np
import pytest

from vireid_plugins.errors import FileContentError, MissingFileError, UserError
from vireid_plugins.joints import JOINTS
from vireid_plugins.readers.keypoints_file import COLUMNS, read_keypoints, write_arrays
from vireid_plugins.synthvi.annotations import INDEX_FILE, pack

HEADER = ",".join(COLUMNS)
NAMES = ["cam1/a.jpg", "cam2/é b.png"]


def some_points():
    points = np.random.default_rng(0).random((2, 17, 3)).astype(np.float32)
    points[..., :2] *= 20
    points[1, 3] = 0
    return points


def write_npz(path, names=NAMES, points=None, size_list=((24, 12), (30, 10)), **more):
    points = some_points() if points is None else points
    np.savez_compressed(path, **{**write_arrays(names, points, np.array(size_list)), **more})
    return path


def write_csv(path, lines, *, header=HEADER):
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def csv_lines(points, sizes=((24, 12), (30, 10))):
    return [
        f"{name},{size[0]},{size[1]},{joint},{x},{y},{confidence}"
        for name, size, rows in zip(NAMES, sizes, points.tolist())
        for joint, (x, y, confidence) in zip(JOINTS, rows)
        if confidence
    ]


def test_both_kinds_of_files_say_the_same(tmp_path):
    points = some_points()
    one = read_keypoints(write_npz(tmp_path / "keypoints.npz"))
    two = read_keypoints(write_csv(tmp_path / "keypoints.csv", csv_lines(points)))
    for found in (one, two):
        assert list(found.rows) == NAMES and found.sizes.tolist() == [[24, 12], [30, 10]]
        assert found.points.dtype == np.float32 and np.array_equal(found.points, points)


def test_images_are_found_below_the_folder(tmp_path):
    names = ["cam1\\a.jpg", "./cam2/b.jpg", str(tmp_path / "other/c.jpg")]
    sizes = [(24, 12)] * 3
    found = read_keypoints(write_npz(tmp_path / "k.npz", names, np.zeros((3, 17, 3)), sizes))
    rows = [found.row_of(tmp_path / name, tmp_path) for name in ("cam1/a.jpg", "cam2/b.jpg")]
    assert rows == [0, 1]
    assert found.row_of(tmp_path / "other/c.jpg", tmp_path) == 2
    assert found.row_of(tmp_path / "other/d.jpg", tmp_path) == -1


def test_links_to_images_and_to_the_folder_are_followed(tmp_path):
    """A file of paths below one name of a folder, and images that are reached by another."""
    images = tmp_path / "data/cam1"
    images.mkdir(parents=True)
    (images / "a.jpg").touch()
    try:
        (tmp_path / "link").symlink_to(tmp_path / "data")
        (tmp_path / "data/cam2").symlink_to(images)
    except OSError:
        pytest.skip("no links here")
    data, link = tmp_path / "data", tmp_path / "link"
    full = str((images / "a.jpg").resolve())
    for name in ("cam1/a.jpg", full):
        found = read_keypoints(
            write_npz(tmp_path / "k.npz", [name], np.zeros((1, 17, 3)), [(9, 9)])
        )
        for image, folder in ((link, data), (data, link), (link, link)):
            assert found.row_of(image / "cam1/a.jpg", folder) == 0
        assert found.row_of(data / "cam2/a.jpg", data) == 0
        assert found.row_of(data / "cam3/a.jpg", data) == -1


def test_the_folder_of_the_program_does_not_matter(tmp_path, monkeypatch):
    found = read_keypoints(write_npz(tmp_path / "k.npz"))
    monkeypatch.chdir(tmp_path)
    assert found.row_of("root/cam1/a.jpg", "root") == 0
    assert found.row_of(tmp_path / "root/cam1/a.jpg", "root/") == 0
    assert found.row_of("root/x/../cam1/./a.jpg", tmp_path / "root") == 0
    assert found.row_of("cam1/a.jpg", "root") == -1


def test_a_joint_without_a_place_is_unknown(tmp_path):
    points = some_points()
    points[0, 2] = np.nan
    points[0, 3, 0] = np.nan
    points[0, 4] = (np.inf, 3, 0)
    points[0, 5] = (-7, 3, 0)  # hidden, with a place
    found = read_keypoints(write_npz(tmp_path / "k.npz", points=points)).points
    assert found[0, 2:6].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [-7, 3, 0]]
    csv = write_csv(tmp_path / "k.csv", [f"a.jpg,24,12,nose,nan,{3},0.5"])
    with pytest.raises(FileContentError, match="line 2: found the x 'nan'; expected a number"):
        read_keypoints(csv)


def test_the_side_files_of_a_rendered_dataset_are_read(tmp_path):
    mask = np.ones((24, 12), bool)
    points = some_points()
    (tmp_path / "synthvi").mkdir()
    (tmp_path / "synthvi/1.npz").write_bytes(pack(list(points), [mask, mask]))
    index = "b.jpg,synthvi/1.npz,1\na.jpg,synthvi/1.npz,0\nc.jpg,synthvi/1.npz,1\n"
    (tmp_path / INDEX_FILE).write_text(index, encoding="utf-8")
    found = read_keypoints(tmp_path / INDEX_FILE)
    assert list(found.rows) == ["b.jpg", "a.jpg", "c.jpg"]
    assert found.sizes.tolist() == [[24, 12]] * 3
    assert np.array_equal(found.points, points[[1, 0, 1]])
    (tmp_path / INDEX_FILE).write_text("a.jpg,synthvi/1.npz,2\n", encoding="utf-8")
    with pytest.raises(FileContentError, match=r"1\.npz holds 2 images"):
        read_keypoints(tmp_path / INDEX_FILE)


def test_lines_may_be_written_in_other_ways(tmp_path):
    """Spaces and capitals; an image of which no joint is known has one line of confidence 0."""
    lines = [" a.jpg , 24 , 12 , Left_Eye , 1 , 2 , 0.5 ", "b.jpg,24,12,nose,0,0,0"]
    found = read_keypoints(write_csv(tmp_path / "k.csv", lines))
    assert list(found.rows) == ["a.jpg", "b.jpg"] and found.points[0, 1].tolist() == [1, 2, 0.5]
    assert (found.points[1] == 0).all()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a.jpg,24,12,knee,1,1,1"], "line 2: found the joint 'knee'; expected one of nose, left"),
        (["a.jpg,24,12,nose,1,1,1", "a.jpg,24,12,nose,2,1,1"], "line 3: found a second nose of a"),
        (["a.jpg,24,12,nose,1,1,1", "a.jpg,24,13,left_eye,2,1,1"], "line 3: found another size"),
        (["a.jpg,24,0,nose,1,1,1"], "line 2: found the width '0'; expected a whole number"),
        (["a.jpg,24,12,nose,1,one,1"], "line 2: found the y 'one'; expected a number"),
        (["a.jpg,24,12,nose,1,,1"], "line 2: no value for y"),
        (["a.jpg,24,12,nose,1,1,2"], "nose of a.jpg is x 1, y 1, confidence 2; expected"),
        (["a.jpg,24,12,nose,1,1,-0.1"], "confidence from 0 to 1"),
        (["a.jpg,24,12,nose,1,1000001,1"], "line 2: found the y '1000001'; expected a number"),
        (["a.jpg,24,1000001,nose,1,1,1"], "line 2: found the width '1000001'"),
        (["a/b.jpg,24,12,nose,1,1,1", "a\\b.jpg,24,12,left_eye,1,1,1"], "a/b.jpg appears twice"),
    ],
)
def test_wrong_lines_are_told(tmp_path, lines, words):
    with pytest.raises(FileContentError, match=words):
        read_keypoints(write_csv(tmp_path / "k.csv", lines))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoints": np.zeros((2, 18, 3))}, r"keypoints has the shape \(2, 18, 3\)"),
        ({"sizes": np.zeros((2, 2))}, "sizes has the shape .* float64; expected"),
        ({"sizes": np.array([[24, 12], [0, 1]])}, r"the size of .* is \[0, 1\]"),
        ({"sizes": np.array([[24, 12], [9, 1000001]])}, r"the size of cam2/.* is \[9, 1000001\]"),
        ({"keypoints": np.full((2, 17, 3), 1e300)}, "nose of cam1/a.jpg is x inf"),
        ({"keypoints": np.full((2, 17, 3), (2e6, 1, 1))}, r"is x 2e\+06, y 1, confidence 1"),
        ({"paths": np.array([1, 2])}, "paths has the shape"),
        ({"paths": np.array(["a.jpg", "./a.jpg"])}, r"the image a\.jpg appears twice"),
    ],
)
def test_wrong_arrays_are_told(tmp_path, change, words):
    with pytest.raises(FileContentError, match=words):
        read_keypoints(write_npz(tmp_path / "k.npz", **change))


def test_a_file_that_is_none_is_told(tmp_path):
    with pytest.raises(MissingFileError, match=r"no file .*k\.npz"):
        read_keypoints(tmp_path / "k.npz")
    with pytest.raises(UserError, match=r"ends with \.npz, \.csv or synthvi/index\.csv"):
        read_keypoints(tmp_path / "k.json")
    np.savez(tmp_path / "k.npz", keypoints=np.zeros((2, 17, 3)))
    with pytest.raises(FileContentError, match="must hold paths, keypoints, sizes"):
        read_keypoints(tmp_path / "k.npz")
    (tmp_path / "k.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(FileContentError, match=r"k\.npz is damaged"):
        read_keypoints(tmp_path / "k.npz")
