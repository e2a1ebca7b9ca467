"""``cam``, ``masks`` and ``stripes`` on a checkpoint. Oracles: the model called by hand."""

import numpy as np
import pytest
import torch

from vireid.cli import run_verb
from vireid_plugins.data import build_train_loader, build_transforms
from vireid_plugins.drawing.photos import Photo, batch_of
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.modeling import recorded_maps
from vireid_plugins.plots.grad_cam import ClassScore, grad_cam
from vireid_plugins.plots.subject import load_subject
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import small_cfg
from tests.plots.photographs import words_of
from tests.plots.planted import read_numbers

SIZES = dict(
    INPUT__SIZE_TRAIN="[48, 24]",
    INPUT__SIZE_TEST="[48, 24]",
    MODEL__BACKBONE__LAST_STRIDE="1",
    MODEL__HEADS__ATTENTION__STRIPES="3",
    MODEL__HEADS__ATTENTION__KEPT="2",
)


@pytest.fixture(scope="module")
def weights(tiny_root, tmp_path_factory):
    """A checkpoint of MRDA as it begins, on 8 + 4 rendered identities."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        cfg = small_cfg(tmp_path_factory.mktemp("mrda"), "configs/mrda/synthetic.yml", **SIZES)
        cfg.freeze()
        trainer = VIReIDTrainer(cfg)
        trainer.epoch = 0
        trainer.save("model_final")
    return f"{cfg.OUTPUT_DIR}/model_final.pth"


def drawn(kind, weights, folder, *words):
    """Run the command; the numbers it writes, by image."""
    assert run_verb("plot", [kind, "MODEL.WEIGHTS", weights, *words, "--out", str(folder)]) == 0
    images = {}
    for row in read_numbers(folder / f"{kind}.csv"):
        images.setdefault((row.get("model"), row["image"]), []).append(row)
    return images


def photo(rows):
    return Photo(rows[0]["image"], modality=["visible", "infrared"].index(rows[0]["modality"]))


def test_the_images_own_training_identity_is_explained(
    datasets, weights, figures, tmp_path, capsys
):
    images = drawn("cam", weights, tmp_path, "--split", "train", "--count", "2")
    said = capsys.readouterr().out
    assert "drawn from the training set of SYSUMM01, seed 0" in said and "cam.pdf" in said
    assert len(images) == 4
    subject = load_subject(weights, progress=False)
    trained = build_train_loader(subject.cfg).dataset
    known = {item.path: item.pid for item in trained.items}
    for rows in images.values():
        number = trained.class_ids.index(known[rows[0]["image"]])
        assert rows[0]["target"] == f"class {number}"
        batch = batch_of([photo(rows)], build_transforms(subject.cfg, is_train=False))
        oracle = grad_cam(subject.model, batch, ClassScore(np.array([number])), "layer4")
        values = np.array([float(row["value"]) for row in rows]).reshape(oracle.maps.shape[1:])
        np.testing.assert_allclose(values, oracle.maps[0], rtol=1e-3, atol=1e-5)
        assert float(rows[0]["score"]) == pytest.approx(float(oracle.scores[0]), rel=1e-3)
    assert len(trained.class_ids) == 8


def test_matches_are_shown_beside_two_models(datasets, weights, figures, tmp_path):
    words = ["--target", "match", "--count", "1", "--compare", "-", weights, "--layer", "layer3"]
    images = drawn("cam", weights, tmp_path, *words, "--label", "one", "--label", "other")
    assert {label for label, _ in images} == {"one", "other"} and len(images) == 4
    for (_, path), rows in images.items():
        assert rows[0]["target"] != path and rows[0]["layer"] == "layer3"
        # The same weights twice: the same numbers.
        assert [r["value"] for r in rows] == [r["value"] for r in images["one", path]]
    page = figures[0].axes[0]
    assert len(page.images) == 2 * 4 + 1  # image, two maps and the match; and the colors
    assert {"image", "one", "other", "match"} <= set(words_of(figures[0]))
    boxes = [image.get_window_extent() for image in page.images]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    for box in boxes[:-1]:
        assert box.height / box.width == pytest.approx(48 / 32, rel=0.01)  # as rendered


def test_stripes_are_those_that_the_model_chooses(datasets, weights, figures, tmp_path):
    images = drawn("stripes", weights, tmp_path, "--count", "2")
    subject = load_subject(weights, progress=False)
    for rows in images.values():
        batch = batch_of([photo(rows)], build_transforms(subject.cfg, is_train=False))
        with torch.no_grad(), recorded_maps(subject.model, ["kept_stripes"]) as maps:
            subject.model(batch)
        places = {int(row["place"]): int(row["stripe"]) for row in rows if row["place"] != "0"}
        assert [places[1], places[2]] == maps["kept_stripes"][0].tolist()
        assert sum(float(row["attention"]) for row in rows) == pytest.approx(1, abs=1e-3)


def test_a_checkpoint_without_classifier_cannot_score_identities(
    datasets, weights, tmp_path, capsys
):
    state = read_checkpoint(weights)
    del state["model"]["heads.weight"]
    torch.save(state, tmp_path / "cut.pth")
    out = str(tmp_path / "out")
    assert run_verb("plot", ["cam", "MODEL.WEIGHTS", str(tmp_path / "cut.pth"), "--out", out]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "no weights for heads.weight" in said
    assert "--target match" in said
