"""Merging files and overrides: whole numbers for floats, idempotence, the host's defaults."""

import pytest

from vireid_plugins import add_vireid_config
from vireid_plugins.merge import flat_keys, merge_config

from fastreid.config import get_cfg


def fresh():
    cfg = get_cfg()
    add_vireid_config(cfg)
    return cfg


def test_adding_twice_changes_nothing_and_defaults_stay_the_hosts():
    cfg = fresh()
    cfg.SEED = 7
    add_vireid_config(cfg)
    assert cfg.SEED == 7
    assert "SEED" not in get_cfg()


def test_a_frozen_config_is_refused():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(RuntimeError, match="before cfg.freeze"):
        add_vireid_config(cfg)


@pytest.mark.parametrize("word,value", [("1", 1.0), ("-1", -1.0), ("0.5", 0.5), ("1e-3", 1e-3)])
def test_a_whole_number_is_a_float_where_one_is_asked_for(tmp_path, word, value):
    by_word, by_file = fresh(), fresh()
    merge_config(by_word, opts=["SOLVER.BASE_LR", word])
    path = tmp_path / "x.yml"
    path.write_text(f"SOLVER:\n  BASE_LR: {word if word != '1e-3' else '0.001'}\n")
    merge_config(by_file, str(path))
    assert by_word.SOLVER.BASE_LR == by_file.SOLVER.BASE_LR == value
    assert isinstance(by_word.SOLVER.BASE_LR, float) and isinstance(by_file.SOLVER.BASE_LR, float)


def test_a_whole_number_stays_one_elsewhere():
    cfg = fresh()
    merge_config(cfg, opts=["SOLVER.MAX_EPOCH", "3"])
    assert cfg.SOLVER.MAX_EPOCH == 3 and isinstance(cfg.SOLVER.MAX_EPOCH, int)


def test_every_key_of_a_dumped_config_is_known_again(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(fresh().dump())
    again = fresh()
    merge_config(again, str(path))
    assert sorted(flat_keys(again)) == sorted(flat_keys(fresh()))
