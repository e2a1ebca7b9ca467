"""Differences from the paper's base. Oracle: files of a chain written here and in configs/."""

from vireid_plugins.engine.setup import build_config
from vireid_plugins.readers.config_file import read_chain
from vireid_plugins.reporting.config_differences import compare_with_base

from tests.engine.small import ROOT

SYNTHETIC = ROOT / "configs/mrda/synthetic.yml"


def test_each_difference_names_the_file_that_sets_it(tmp_path):
    """Paper, SynthVI's file, one's own file, command line: the nearest that has the value."""
    mine = tmp_path / "mine.yml"
    mine.write_text(f"_BASE_: {SYNTHETIC}\nSOLVER: {{MAX_EPOCH: 5, BASE_LR: 0.2, STEPS: [7]}}\n")
    assert [one.path.name for one in read_chain(mine)] == [
        "mine.yml",
        "synthetic.yml",
        "Base-mrda.yml",
        "Base-vireid.yml",
    ]
    words = ["SOLVER.STEPS", "[8]", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", "elsewhere"]
    found = compare_with_base(build_config(str(mine), words), str(mine))
    assert found.recorded and found.base_file == "configs/mrda/Base-mrda.yml"
    own = f"{tmp_path.name}/mine.yml"
    assert found.config_file == own
    by_key = {one.key: (one.base, one.value, one.source) for one in found.differences}
    assert by_key["SOLVER.MAX_EPOCH"] == ("80", "5", own)
    assert by_key["SOLVER.BASE_LR"] == ("0.1", "0.2", own)
    assert by_key["SOLVER.STEPS"] == ("[20, 50]", "[8]", "")
    assert by_key["SOLVER.OPT"] == ("SGD", "Adam", "configs/mrda/synthetic.yml")
    assert by_key["MODEL.DEVICE"] == ("cuda", "cpu", "configs/mrda/synthetic.yml")
    assert "OUTPUT_DIR" not in by_key


def test_for_a_file_that_is_gone_the_nearest_config_is_taken():
    found = compare_with_base(build_config(str(SYNTHETIC), ["SOLVER.MAX_EPOCH", "3"]), "gone.yml")
    assert not found.recorded
    assert found.config_file == "configs/mrda/synthetic.yml"
    assert [one.key for one in found.differences if not one.source] == ["SOLVER.MAX_EPOCH"]


def test_keys_that_no_file_sets_may_be_the_encoders():
    path = str(ROOT / "configs/nformer/synthetic.yml")
    cfg = build_config(path, [])
    assert compare_with_base(cfg, path).elsewhere == "command line"
    cfg.defrost()
    cfg.MODEL.NFORMER.ENCODER_ARCHITECTURE = "DualStreamBaseline"
    assert compare_with_base(cfg, path).elsewhere == "command line, or the encoder"
    assert compare_with_base(cfg, "gone.yml").elsewhere == "no file"
