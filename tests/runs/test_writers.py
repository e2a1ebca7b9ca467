"""Folders that TensorBoard cannot write into. Oracle: the bytes of their names."""

import os

from vireid_plugins.runs.writers import TensorBoardWriter, tensorboard_writers


def test_tensorboard_is_left_out_where_it_would_write_elsewhere(tmp_path):
    (good,) = tensorboard_writers(str(tmp_path / "日志"), -1)
    assert isinstance(good, TensorBoardWriter)
    good.close()
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    assert tensorboard_writers(bad, -1) == []
    assert not os.path.exists(bad)
