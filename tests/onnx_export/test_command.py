"""``vireid export`` on small checkpoints: what it writes, and when it writes nothing."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import vireid_plugins as vp
from vireid.cli import run_verb
from vireid_plugins.data import build_dataset
from vireid_plugins.modality import modality_rows
from vireid_plugins.modeling.meta_arch import DualStreamBaseline
from vireid_plugins.readers.checkpoint import read_checkpoint

from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from tests.engine.small import ROOT
from tests.onnx_export.small import small_checkpoint

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from vireid_plugins.onnx_export import export_onnx  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("weights") / "model_final.pth")


def run(weights, out, *words):
    return run_verb("export", ["--weights", str(weights), "--out", str(out), *words])


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_the_file_says_what_it_is_and_gives_the_extractors_features(
    weights, datasets, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("vireid.verbs.export.SECONDS", 0.1)
    assert run(weights, tmp_path / "new" / "model.onnx") == 0
    said = capsys.readouterr().out
    for source in ("random", "SYSUMM01"):
        for batch in (1, 7):
            line = re.search(rf"{source} images, +batches of {batch}: (.*)", said).group(1)
            difference, cosine = re.findall(r"\d[\d.e-]+", line)
            assert float(difference) < 1e-5 and float(cosine) > 0.999999
    rates = re.findall(r"batches of (\d): PyTorch ([\d.]+), onnxruntime ([\d.]+)", said)
    assert [int(rate[0]) for rate in rates] == [1, 7]
    assert all(float(number) > 0 for rate in rates for number in rate[1:])
    assert files_in(tmp_path / "new") == ["model.onnx"] and "replaced" not in said

    session = onnxruntime.InferenceSession(
        str(tmp_path / "new" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    extractor = vp.FeatureExtractor(str(weights))
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["fingerprint"] == extractor.fingerprint
    assert (facts["image_height"], facts["image_width"]) == ("32", "16")
    assert facts["interpolation"] == extractor.cfg.INPUT.INTERPOLATION == "bicubic"
    assert int(facts["feature_size"]) == session.get_outputs()[0].shape[1] == 512
    assert facts["feature"].startswith("after BNNeck") and "0 visible, 1 infrared" in str(facts)


def recipe_of_the_docs(folder):
    text = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- example: onnx_features.py -->\n```python\n(.*?)```", text, re.S)
    (folder / "onnx_features.py").write_text(found.group(1), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_the_recipe_of_the_docs_needs_no_pytorch(modality, weights, datasets, tmp_path):
    """Of real images and one that is turned in its EXIF data; one graph for both, one for one."""
    extractor = vp.FeatureExtractor(str(weights))
    dataset = build_dataset(extractor.cfg, "SYSUMM01")
    items = dataset.query if modality == "infrared" else dataset.gallery
    paths = [item.path for item in items[:3]] + [str(tmp_path / "turned.jpg")]
    tag = Image.Exif()
    tag[0x0112] = 6  # the camera was turned by a quarter
    Image.open(paths[0]).save(paths[-1], exif=tag)
    only = modality if modality == "infrared" else None
    export_onnx(weights, tmp_path / "model.onnx", only)
    recipe_of_the_docs(tmp_path)
    script = (
        "import sys, numpy; from onnx_features import OnnxExtractor\n"
        "features = OnnxExtractor('model.onnx')(sys.argv[2:], sys.argv[1])\n"
        "numpy.save('features.npy', features)\n"
        "assert not {'torch', 'vireid_plugins', 'fastreid'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, modality, *paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    found, expected = np.load(tmp_path / "features.npy"), extractor(paths, modality)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.abs(expected[0] - expected[-1]).max() > 0.01  # the turned one was turned


class Flawed(DualStreamBaseline):
    """The baseline, with something that no graph can hold."""

    def forward(self, batch):
        return self.spoil(super().forward(batch), batch)


FLAWED = {
    # The graph is recorded with two images.
    "Deciding": (lambda x, batch: -x if len(x) == 2 else x, 1, "cosine -1.0"),
    "SeeingAll": (lambda x, batch: x - x.mean(0), 2, "looks at the whole batch"),
    "Sorting": (lambda x, batch: x + len(modality_rows(batch["modalities"])[0]), 2, "was called"),
    "Decomposing": (lambda x, batch: torch.linalg.svd(x)[2][: len(x)], 2, "svd"),
    "Answering": (lambda x, batch: {"features": x}, 2, "returns no features"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAWED)
def test_what_cannot_be_exported_says_why_and_leaves_the_old_file(
    name, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    spoil, status, reason = FLAWED[name]
    method = type(name, (Flawed,), {"spoil": staticmethod(spoil)})
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, name, method)
    path = small_checkpoint(tmp_path / "model.pth", MODEL__META_ARCHITECTURE=name)
    out = tmp_path / "model.onnx"
    out.write_bytes(b"as before")
    assert run(path, out) == status
    said = capsys.readouterr()
    assert re.fullmatch(rf"error: .*{reason}.*\n", said.err), said.err
    assert f"{out} exists; it is replaced if the features are the same." in said.out
    assert out.read_bytes() == b"as before"
    assert files_in(tmp_path) == ["model.onnx", "model.pth"]


@pytest.mark.slow
def test_what_evaluation_does_beyond_the_network_is_reported(tmp_path, capsys, monkeypatch):
    """And without the dataset random images must do."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    config = "configs/cm_lsp_ge/ablation/rescored.yml"
    path = small_checkpoint(tmp_path / "model.pth", config, TEST__FLIP__ENABLED=True)
    exported = export_onnx(path, tmp_path / "model.onnx", say=print)
    rescoring, flipping = exported.notes
    assert "path distance × 0.5, top 20" in rescoring and "TEST.FLIP" in flipping
    assert "random images only: SYSUMM01" in capsys.readouterr().out
    assert [one.source for one in exported.agreements] == ["random", "random"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--weights", "nowhere.pth"], "'nowhere.pth', and there is no such file"),
        (["--weights", "."], "which is a folder; name a checkpoint in it"),
        (["--weights", "text.pth"], "text.pth was not loaded"),
        (["--weights", "foreign.pth"], "says nothing about its model"),
        (["--weights", "other.pth"], "'Unheard'.*Is the method your own"),
        (["--out", "model.pt"], "a file name that ends in .onnx"),
        (["--out", "folder.onnx"], "which is a folder"),
        (
            ["--out", "text.pth/model.onnx"],
            "text.pth/model.onnx cannot be written: Not a directory",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(words, reason, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "text.pth").write_text("no checkpoint")
    torch.save({"model": {"weight": torch.ones(1)}}, "foreign.pth")
    state = read_checkpoint(weights)
    text = state["vireid"]["config"]
    state["vireid"]["config"] = text.replace("DualStreamBaseline", "Unheard")
    torch.save(state, "other.pth")
    given = {"--weights": str(weights), "--out": "model.onnx", words[0]: words[1]}
    before = files_in(tmp_path)
    assert run_verb("export", [word for pair in given.items() for word in pair]) == 2
    assert re.fullmatch(rf"error: .*{reason}.*\n", capsys.readouterr().err)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    assert run(weights, tmp_path / "model.onnx") == 2
    error = capsys.readouterr().err
    assert package in error and "pip install 'vireid_plugins[onnx]'" in error
