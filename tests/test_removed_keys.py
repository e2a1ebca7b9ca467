"""Keys that were removed: older files are read, or refused in a sentence. Oracle: values here."""

import logging

import pytest
import yaml

from vireid_plugins import add_vireid_config
from vireid_plugins.comparison.runs import differing_settings
from vireid_plugins.engine.fingerprint import model_words
from vireid_plugins.engine.other_values import other_values
from vireid_plugins.engine.same_run import differences_to
from vireid_plugins.errors import UserError
from vireid_plugins.keys import declared_keys
from vireid_plugins.merge import flat_keys, merge_config, merge_text
from vireid_plugins.removed_keys import REMOVED

from fastreid.config import get_cfg

HIDDEN, PAIRS = "MODEL.MSCLNET.HIDDEN", "MODEL.MSCLNET.PAIRS"


def fresh():
    cfg = get_cfg()
    add_vireid_config(cfg)
    return cfg


def older(pairs="all", hidden=0):
    """A config as an older version wrote it."""
    return f"MODEL:\n  MSCLNET: {{HIDDEN: {hidden}, JOINT: true, PAIRS: {pairs}}}\nSEED: 7\n"


def test_a_removed_key_is_not_declared():
    assert not REMOVED.keys() & declared_keys().keys()
    assert not REMOVED.keys() & set(flat_keys(fresh()))


def test_an_older_file_with_the_old_defaults_is_read(tmp_path):
    (tmp_path / "old.yml").write_text(older())
    cfg = fresh()
    merge_config(cfg, str(tmp_path / "old.yml"), [HIDDEN, "0", PAIRS, "all", "SEED", "8"])
    assert cfg.MODEL.MSCLNET.JOINT and cfg.SEED == 8
    assert "PAIRS" not in cfg.MODEL.MSCLNET


def test_a_file_that_asks_for_what_is_gone_is_refused(tmp_path):
    (tmp_path / "old.yml").write_text(older(pairs="ranked"))
    with pytest.raises(UserError, match=f"old.yml: the key {PAIRS} was removed.*'ranked'.*Delete"):
        merge_config(fresh(), str(tmp_path / "old.yml"))
    with pytest.raises(UserError, match=f"the command line: the key {HIDDEN} was removed"):
        merge_config(fresh(), "", [HIDDEN, "24"])


def test_a_checkpoint_of_an_older_training_is_read_whatever_it_had(caplog):
    """Features do not depend on a removed key."""
    cfg = fresh()
    with caplog.at_level(logging.WARNING):
        merge_text(cfg, older(pairs="ranked"), "old.pth")
    assert cfg.MODEL.MSCLNET.JOINT and cfg.SEED == 7
    assert f"old.pth: {PAIRS} was 'ranked' in training" in caplog.text
    assert HIDDEN not in caplog.text


def test_a_run_with_the_old_defaults_is_resumed_and_another_is_not():
    cfg = fresh()
    cfg.MODEL.MSCLNET.JOINT, cfg.SEED = True, 7
    assert differences_to(older(), cfg, "old.pth") == []
    (difference,) = differences_to(older(pairs="ranked"), cfg, "old.pth")
    assert difference.words == f"{PAIRS} 'ranked' -> 'all'" and not difference.free


def test_an_evaluation_does_not_warn_of_a_removed_key():
    cfg = fresh()
    cfg.MODEL.MSCLNET.JOINT, cfg.SEED = True, 7
    assert other_values(cfg, {"config": older(pairs="ranked")}, "old.pth") == []


def test_a_comparison_with_the_old_defaults_is_continued_and_another_is_not():
    cfg = fresh()
    cfg.MODEL.MSCLNET.JOINT, cfg.SEED = True, 7
    wanted = yaml.safe_load(cfg.dump())
    assert differing_settings(yaml.safe_load(older()), wanted) == []
    told = differing_settings(yaml.safe_load(older(hidden=24)), wanted)
    assert told == [f"{HIDDEN}: was 24, is 0"]


def test_fingerprints_of_older_models_still_name_the_removed_keys():
    """So an index that was made before the keys were removed still belongs to its model."""
    lines = model_words(fresh()).splitlines()
    start = lines.index("MSCLNET:")
    assert lines[start + 1 : start + 8] == [
        "  HIDDEN: 0",
        "  JOINT: false",
        "  PAIRS: all",
        "  PARTITION: stripes",
        "  PARTS: 6",
        "  RANK: 256",
        "  ROUNDS: 5",
    ]
