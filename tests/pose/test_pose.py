"""Estimators of poses. Oracles: squares painted at known places, arithmetic by hand."""

import sys

import numpy as np
import pytest
from PIL import Image

from vireid.cli import main
from vireid_plugins.errors import (
    ExistingFileError,
    FileContentError,
    MissingFileError,
    MissingLibraryError,
    UserError,
)
from vireid_plugins.joints import JOINTS
from vireid_plugins.pose import blazepose, compare, fill, open_estimator
from vireid_plugins.pose.blazepose import NUMBERS, BlazePose
from vireid_plugins.pose.estimator import Estimator
from vireid_plugins.pose.fill import list_images
from vireid_plugins.readers.keypoints_file import KeyPointFile, read_keypoints


def blob(size, x, y):
    """Return a black image (width, height) with a soft white spot whose middle is a pixel."""
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    return Image.fromarray(np.repeat(spot[..., None], 3, axis=2).astype(np.uint8))


class SpotNetwork:
    """Has the interface of an interpreter; all points are where its input is bright."""

    def get_input_details(self):
        return [{"index": 7}]

    def get_output_details(self):
        names = ("Identity", "Identity_1", "Identity_2")
        return [{"name": name, "index": place} for place, name in enumerate(names, start=1)]

    def resize_tensor_input(self, index, shape):
        assert index == 7 and shape[1:] == [256, 256, 3]
        self.shape = tuple(shape)

    def allocate_tensors(self):
        pass

    def set_tensor(self, index, pixels):
        assert pixels.shape == self.shape and pixels.dtype == np.float32
        assert 0 <= pixels.min() and pixels.max() <= 1
        self.pixels = pixels

    def invoke(self):
        gray = self.pixels.mean(axis=3)
        rows, columns = np.indices(gray.shape[1:]) + 0.5  # from the outer corner, in pixels
        total = gray.sum(axis=(1, 2))
        x, y = (gray * columns).sum(axis=(1, 2)) / total, (gray * rows).sum(axis=(1, 2)) / total
        points = np.zeros((len(gray), 39, 5), np.float32)
        points[..., 0], points[..., 1] = x[:, None], y[:, None]
        points[..., 3] = np.arange(39) / 10  # a logit that tells the points apart
        self.outputs = {1: points.reshape(len(gray), 195), 2: np.full((len(gray), 1), 0.5)}
        bright = gray > gray.max(axis=(1, 2), keepdims=True) / 2
        self.outputs[3] = np.where(bright, 99, -99)[..., None].astype(np.float32)  # logits

    def get_tensor(self, index):
        return self.outputs[index]


SPOTS = pytest.mark.parametrize(
    "spots",
    [
        [((64, 128), 20, 90)],
        [((64, 128), 60, 3), ((201, 57), 5, 50), ((13, 31), 6, 20), ((900, 1400), 450, 13)],
    ],
)


@SPOTS
def test_places_in_the_square_become_places_in_the_image(spots):
    found = BlazePose(SpotNetwork()).find([blob(*spot) for spot in spots])
    assert found.shape == (len(spots), 17, 3) and found.dtype == np.float32
    for points, (size, x, y) in zip(found, spots):
        near = max(0.35, max(size) / 400)  # a large image is seen smaller
        assert points[:, 0].tolist() == pytest.approx([x] * 17, abs=near)
        assert points[:, 1].tolist() == pytest.approx([y] * 17, abs=near)
        for name, confidence in zip(JOINTS, points[:, 2]):
            assert confidence == pytest.approx(0.5 / (1 + np.exp(-NUMBERS[name] / 10)), rel=1e-4)


@SPOTS
def test_masks_of_the_square_become_masks_of_the_image(spots):
    """The bright part of the spot is the mask, times the probability of a person, 0.5."""
    masks = BlazePose(SpotNetwork()).masks([blob(*spot) for spot in spots])
    for mask, (size, x, y) in zip(masks, spots):
        assert mask.shape == (size[1], size[0]) and mask.dtype == np.float32
        assert mask.min() < 1e-6 and mask.max() <= 0.5
        rows, columns = np.nonzero(mask > 0.2)
        near = max(1.0, max(size) / 200)  # a large image is seen smaller
        assert columns.mean() == pytest.approx(x, abs=near)
        assert rows.mean() == pytest.approx(y, abs=near)


def test_an_estimator_without_masks_says_so():
    with pytest.raises(UserError, match="spot finds joints, and no person masks"):
        Spot().masks([blob((9, 9), 1, 1)])


def test_the_joints_are_those_of_mediapipes_list():
    # the order of MediaPipe's documentation of the pose landmarks, 0 to 28
    words = """nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer
        left_ear right_ear mouth_left mouth_right left_shoulder right_shoulder left_elbow
        right_elbow left_wrist right_wrist left_pinky right_pinky left_index right_index left_thumb
        right_thumb left_hip right_hip left_knee right_knee left_ankle right_ankle""".split()
    assert {name: words.index(name) for name in JOINTS} == NUMBERS


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    blazepose._interpreter_class.cache_clear()
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingLibraryError, match=r"vireid_plugins\[pose\]"):
        open_estimator("blazepose")


def test_words_are_checked_before_a_network_is_fetched(tmp_path, monkeypatch, capsys):
    def fetched(*arguments):
        raise AssertionError("the network was fetched")

    monkeypatch.setattr("vireid_plugins.pose.open_estimator", fetched)
    blob((9, 9), 1, 1).save(tmp_path / "1.png")
    wrong = [
        (tmp_path / "absent", "k.npz", "no such folder"),
        (tmp_path, "k.csv", "ends with .npz"),
    ]
    for images, out, words in wrong:
        assert main(["pose", "--images", str(images), "--out", str(tmp_path / out)]) == 2
        assert words in capsys.readouterr().err


def test_estimators_that_are_unknown_or_absent(tmp_path):
    with pytest.raises(UserError, match="no estimator 'openpose'; expected blazepose, or the path"):
        open_estimator("openpose")
    with pytest.raises(MissingFileError, match=r"no file .*net\.onnx"):
        open_estimator(str(tmp_path / "net.onnx"))
    pytest.importorskip("onnxruntime")
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    with pytest.raises(FileContentError, match="is not an ONNX file"):
        open_estimator(str(tmp_path / "net.onnx"))


def write_simcc(path, batch, joints=17):
    """Write a network whose distributions are the brightest pixel of each column and row, twice."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    height, width = 64, 48

    def number(name, values, of=kind.INT64):
        return helper.make_tensor(name, of, [len(values)], values)

    nodes = [
        helper.make_node("Mul", ["images", "half"], ["low"]),
        helper.make_node("Clip", ["low", "zero", "one"], ["light"]),
    ]
    outputs = []
    for name, axis in (("simcc_x", 2), ("simcc_y", 3)):
        nodes += [
            helper.make_node("ReduceMax", ["light"], [f"{name}1"], axes=[1, axis], keepdims=0),
            helper.make_node("Unsqueeze", [f"{name}1", "last"], [f"{name}2"]),
            helper.make_node("Concat", [f"{name}2"] * 2, [f"{name}3"], axis=2),
            helper.make_node("Reshape", [f"{name}3", f"{name}_shape"], [f"{name}4"]),
            helper.make_node("Concat", [f"{name}4"] * joints, [name], axis=1),
        ]
        outputs.append(helper.make_tensor_value_info(name, kind.FLOAT, None))
    graph = helper.make_graph(
        nodes,
        "spots",
        [helper.make_tensor_value_info("images", kind.FLOAT, [batch, 3, height, width])],
        outputs,
        [
            helper.make_tensor("half", kind.FLOAT, [], [0.4]),
            helper.make_tensor("zero", kind.FLOAT, [], [0.0]),
            helper.make_tensor("one", kind.FLOAT, [], [1.0]),
            number("last", [2]),
            number("simcc_x_shape", [-1, 1, 2 * width]),
            number("simcc_y_shape", [-1, 1, 2 * height]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return str(path)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_the_distributions_of_an_onnx_network_are_decoded(tmp_path, batch):
    estimator = open_estimator(write_simcc(tmp_path / "spots.onnx", batch))
    spots = [((48, 64), 20, 40), ((90, 60), 70, 20)]
    found = estimator.find([blob(*spot) for spot in spots])
    assert estimator.name == "spots.onnx"
    for points, (size, x, y) in zip(found, spots):
        assert points[:, 0].tolist() == pytest.approx([x] * 17, abs=max(size) / 80)
        assert points[:, 1].tolist() == pytest.approx([y] * 17, abs=max(size) / 80)
        assert (points[:, 2] > 0.5).all() and (points[:, 2] <= 1).all()
    other = open_estimator(write_simcc(tmp_path / "other.onnx", batch, joints=18))
    with pytest.raises(FileContentError, match="not an RTMPose network of 17 joints"):
        other.find([blob(*spots[0])])


class Spot(Estimator):
    """Puts all joints where the image is brightest."""

    name = "spot"

    def __init__(self, stop_at=None):
        self.seen, self.stop_at = 0, stop_at

    def find(self, images):
        found = []
        for image in images:
            if self.seen == self.stop_at:
                raise KeyboardInterrupt
            self.seen += 1
            gray = np.asarray(image)[..., 0]
            y, x = np.unravel_index(gray.argmax(), gray.shape)
            found.append(np.tile([x, y, 0.75], (17, 1)))
        return np.array(found, np.float32)


@pytest.fixture
def folder(tmp_path):
    """Five images in two folders, whose brightest pixel is in column 2, 3, ..."""
    images = tmp_path / "images"
    for k, name in enumerate(["a/1.png", "a/2.png", "a/10.png", "b/1.png", "b/2.jpg"]):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        blob((20 + k, 30), 2 + k, 7).save(images / name)
    (images / "a/notes.txt").write_text("no image")
    return images


def filled(folder, out, estimator, **how):
    return fill(str(folder), str(out), estimator, progress=False, **how)


def test_a_folder_is_filled_and_images_are_added(folder, tmp_path):
    out = tmp_path / "new/keypoints.npz"
    done = filled(folder, out, Spot(), batch=2)
    assert (done.found, done.kept, done.broken, done.unsure) == (5, 0, [], 0)
    file = read_keypoints(out)
    assert list(file.rows) == ["a/1.png", "a/10.png", "a/2.png", "b/1.png", "b/2.jpg"]
    assert file.sizes.tolist() == [[30, 20], [30, 22], [30, 21], [30, 23], [30, 24]]
    assert file.points[:4, 3].tolist() == [[c, 7, 0.75] for c in (2, 4, 3, 5)]
    blob((9, 9), 1, 1).save(folder / "c.png")
    again = Spot()
    done = filled(folder, out, again)
    assert (done.found, done.kept, again.seen) == (1, 5, 1)
    assert filled(folder, out, again, overwrite=True).found == 6


def test_a_stop_keeps_what_was_found(folder, tmp_path):
    out = tmp_path / "keypoints.npz"
    with pytest.raises(KeyboardInterrupt):
        filled(folder, out, Spot(stop_at=2), batch=1)
    assert len(read_keypoints(out).rows) == 2
    rest = Spot()
    assert filled(folder, out, rest).kept == 2 and rest.seen == 3
    whole = filled(folder, tmp_path / "whole.npz", Spot())
    one, other = read_keypoints(out), read_keypoints(whole.path)
    assert one.rows == other.rows and np.array_equal(one.points, other.points)


def test_the_file_is_written_from_time_to_time(folder, tmp_path, monkeypatch):
    """A kill, unlike Ctrl-C, leaves no time to write."""
    monkeypatch.setattr(sys.modules[list_images.__module__], "_SECONDS", -1.0)
    out, counts = tmp_path / "k.npz", []

    class Watching(Spot):
        def find(self, images):
            counts.append(len(read_keypoints(out).rows) if out.exists() else 0)
            return super().find(images)

    filled(folder, out, Watching(), batch=2)
    assert counts == [0, 2, 4]


def test_links_that_lead_back_end_the_search(folder, tmp_path):
    try:
        (folder / "b/up").symlink_to(folder)
        (folder / "other").symlink_to(tmp_path / "outside")
    except OSError:
        pytest.skip("no links here")
    (tmp_path / "outside").mkdir()
    blob((9, 9), 1, 1).save(tmp_path / "outside/1.png")
    found = list_images(str(folder))
    assert found == ["a/1.png", "a/10.png", "a/2.png", "b/1.png", "b/2.jpg", "other/1.png"]


def test_images_that_show_nobody_are_counted(folder, tmp_path):
    class Nobody(Spot):
        def find(self, images):
            points = super().find(images)
            points[..., 2] = 0.49
            points[: len(points) // 2, 3, 2] = 0.5  # one joint is sure
            return points

    assert filled(folder, tmp_path / "k.npz", Nobody()).unsure == 3


def test_images_that_cannot_be_read_are_named(folder, tmp_path):
    (folder / "a/2.png").write_bytes(b"\x89PNG broken")
    done = filled(folder, tmp_path / "k.npz", Spot())
    assert done.found == 4 and len(done.broken) == 1 and "2.png" in done.broken[0]
    assert "a/2.png" not in read_keypoints(tmp_path / "k.npz").rows


def test_what_cannot_be_filled_is_told(folder, tmp_path):
    out = tmp_path / "k.npz"
    filled(folder, out, Spot())
    other = Spot()
    other.name = "other"
    with pytest.raises(ExistingFileError, match="points of spot, and this call takes other"):
        filled(folder, out, other)
    with pytest.raises(UserError, match=r"name ends with \.npz"):
        filled(folder, tmp_path / "k.csv", Spot())
    with pytest.raises(UserError, match="no such folder"):
        filled(tmp_path / "absent", out, Spot())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images in it"):
        filled(tmp_path / "empty", out, Spot())


def points_file(names, points, sizes=(50, 40)):
    rows = {name: k for k, name in enumerate(names)}
    return KeyPointFile("k.npz", rows, points, np.tile(sizes, (len(names), 1)))


def test_agreement_is_counted_by_hand():
    true = np.zeros((2, 17, 3), np.float32)
    true[:, 5] = (0, 0, 1)  # left shoulder
    true[:, 6] = (10, 0, 1)  # right shoulder
    true[:, 16] = (10, 100, 1)  # right ankle: the box is 100 pixels high
    true[1, 0] = (5, 5, 0)  # a nose that is hidden does not count
    found = true.copy()
    found[0, 16, 0] += 4  # within 5 pixels
    found[0, 6, 0] += 7  # within 10
    found[1, 5, 1] += 11  # outside
    found[1, 0, :2] = 99
    names = ["x/1.png", "y/1.png"]
    result = compare(
        points_file(names, found), points_file([*names, "z"], np.concatenate([true, true[:1]]))
    )
    assert list(result) == ["all", "x", "y"]
    assert result["all"].joints == 6 and result["all"].images == 2
    assert result["all"].correct == pytest.approx({0.05: 100 * 4 / 6, 0.1: 100 * 5 / 6})
    assert result["x"].correct == pytest.approx({0.05: 100 * 2 / 3, 0.1: 100})
    assert result["all"].groups["shoulders"] == pytest.approx(75)
    assert np.isnan(result["all"].groups["face"])
    swapped = found[:, [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]]
    other = compare(points_file(names, swapped), points_file(names, true))["all"]
    assert other.correct[0.1] < 50 and other.either_side == pytest.approx(100 * 5 / 6)
    with pytest.raises(FileContentError, match="no image in common"):
        compare(points_file(["q", "r"], found), points_file(names, true))
    with pytest.raises(FileContentError, match=r"is \(50, 40\) .* and \(51, 40\)"):
        compare(points_file(names, found), points_file(names, true, (51, 40)))


def test_the_command(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vireid_plugins.pose.open_estimator", lambda which, threads: Spot())
    words = ["pose", "--images", str(folder), "--out", str(tmp_path / "k.npz")]
    assert main(words) == 0
    assert main([*words, "--against", str(tmp_path / "k.npz")]) == 0
    told = capsys.readouterr().out
    assert "key points of 0 images found, 5 kept" in told and "PCK@0.1" in told
    (folder / "d.png").write_bytes(b"\x89PNG broken")
    assert main(words) == 1
    assert "1 images cannot be read" in capsys.readouterr().out
    assert main([*words, "--batch", "0"]) == 2
    assert "--batch is 0; expected" in capsys.readouterr().err
