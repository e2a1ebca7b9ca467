"""What is said where single images are compared. Oracle: the numbers of the config."""

from types import SimpleNamespace

import pytest
from PIL import Image

from vireid.cli import run_verb
from vireid_plugins.evaluation.left_out import left_out
from vireid_plugins.evaluation.relation import Relation
from vireid_plugins.modeling.meta_arch.cm_lsp_ge import path_rescorer
from vireid_plugins.plots import load_subject

from tests.onnx_export.small import small_checkpoint

CONFIG = "configs/cm_lsp_ge/synthetic.yml"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """CM-LSP-GE whose evaluation re-orders the seven nearest images by its stripes."""
    path = tmp_path_factory.mktemp("rescored") / "model_final.pth"
    keys = {"MODEL__CM_LSP_GE__RESCORE_TOP": 7, "MODEL__CM_LSP_GE__RESCORE_WEIGHT": 0.25}
    return str(small_checkpoint(path, CONFIG, **keys))


def test_a_sentence_for_each_thing_that_is_left_out():
    assert left_out(SimpleNamespace()) == left_out(SimpleNamespace(rescorer=None)) == ""
    rescored = left_out(SimpleNamespace(rescorer=path_rescorer(7, 0.25)))
    assert "alone, without path distance × 0.25, top 7, by which" in rescored
    relation = Relation("NFormer", lambda rows, _: rows)
    both = left_out(SimpleNamespace(rescorer=path_rescorer(7), relation=relation))
    assert "without NFormer, by which" in both and "without path distance" in both


@pytest.mark.slow
def test_search_says_that_it_does_not_rescore(checkpoint, tmp_path, capsys):
    for value in (10, 90):
        Image.new("RGB", (20, 40), (value,) * 3).save(tmp_path / f"{value}.png")
    index = str(tmp_path / "index")
    words = ["index", "--weights", checkpoint, "--images", str(tmp_path), "--modality", "visible"]
    said = "Images are ranked by their features alone, without path distance × 0.25, top 7"
    assert run_verb("search", [*words, "--out", index]) == 0
    assert capsys.readouterr().out.count(said) == 1
    words = ["query", index, "--image", str(tmp_path / "10.png")]
    assert run_verb("search", [*words, "--modality", "infrared"]) == 0
    assert capsys.readouterr().out.count(said) == 1


def test_pictures_say_that_they_do_not_rescore(checkpoint, caplog):
    assert "top 7" in load_subject(checkpoint, progress=False).left_out
    assert "alone, without path distance × 0.25, top 7" in caplog.text
