"""What was written after a checkpoint is taken back, and nothing else. Oracle: what was written."""

import json

import pytest
from torch.utils.tensorboard import SummaryWriter

from vireid_plugins.runs.rewind import cut_measurements, restore_results

tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")


def results(epoch):
    return json.dumps({"weights": f"after epoch {epoch} of 4", "metrics": {}})


@pytest.mark.parametrize("kept", [None, results(2)])
def test_results_of_later_epochs_alone_are_taken_back(tmp_path, kept):
    path = tmp_path / "results.json"
    restore_results(str(tmp_path), 2, kept)
    assert not path.exists()
    for text in (results(1), results(2), '{"weights": "model_final.pth"}', "{"):
        path.write_text(text)
        restore_results(str(tmp_path), 2, kept)
        assert path.read_text() == text
    path.write_text(results(3))
    restore_results(str(tmp_path), 2, kept)
    assert (path.read_text() if path.exists() else None) == kept


@pytest.fixture
def folder(tmp_path):
    """Return a folder with four measurements, and with those of an evaluation afterwards."""
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(4):
            writer.add_scalar("lr", step, step)
    lines = [{"iteration": step, "lr": step} for step in range(4)] + [{"weights": "x", "mAP": 1.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.json").write_text(text + '{"iterat')
    return tmp_path


def steps(folder):
    (path,) = folder.glob("events*")
    events = tensorboard.EventFileLoader(str(path)).Load()
    return [event.step for event in events if event.HasField("summary")]


def test_measurements_after_the_checkpoint_are_taken_back(folder):
    cut_measurements(str(folder), 1)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert [line.get("iteration") for line in lines] == [0, 1, None]
    assert steps(folder) == [0, 1]


def test_a_damaged_event_file_does_not_stop_a_run(folder, caplog):
    """It stays as it is where its records cannot be told apart."""
    (path,) = folder.glob("events*")
    content, said = path.read_bytes(), 0
    for place in range(12, len(content), 7):
        damaged = content[:place] + b"\xff" * 4 + content[place + 4 :]
        path.write_bytes(damaged)
        caplog.clear()
        cut_measurements(str(folder), 1)
        if "is damaged and stays as it is" in caplog.text:
            assert path.read_bytes() == damaged
            said += 1
    assert said > 5
