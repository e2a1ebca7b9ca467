"""What rendering loads, and how work is spread over processes. Oracle: ``sys.modules``."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import vireid_plugins
from vireid_plugins.synthvi.workers import map_in_processes

HEAVY = {"torch", "torchvision", "fastreid", "yacs", "matplotlib", "scipy", "sklearn", "PIL"}
PACKAGE = Path(vireid_plugins.__file__).parent

# The package's root is a bare module, as it is in a rendering process.
RENDER = f"""
import json, sys, types
sys.modules["vireid_plugins"] = root = types.ModuleType("vireid_plugins")
root.__path__ = [{str(PACKAGE)!r}]
from vireid_plugins.synthvi import make_settings, render_dataset, write_preview
write_preview(sys.argv[1] + "/sheet.png", make_settings("llcm", "tiny", ids=(1, 1)))
render_dataset(
    "llcm", sys.argv[1], ids=(1, 1), images_per_camera=1, size=(48, 32), jobs=1, progress=False
)
print(json.dumps(list(sys.modules)))
"""
LOADED = "__import__('vireid_plugins.synthvi.dataset') and list(__import__('sys').modules)"


def test_rendering_needs_numpy_opencv_and_tqdm_only(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RENDER, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert {"numpy", "cv2", "tqdm"} <= loaded and not HEAVY & loaded
    assert (tmp_path / "LLCM" / "synthvi" / "index.csv").is_file()


def test_a_rendering_process_does_not_load_the_packages_root():
    for names in map_in_processes(eval, [LOADED] * 2, jobs=2):
        assert "vireid_plugins.synthvi.render" in names
        assert not HEAVY & {name.split(".")[0] for name in names}


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order_and_opencv_keeps_to_one_thread(jobs):
    work = ["__import__('cv2').getNumThreads()", "2 * 3", "'last'"]
    assert list(map_in_processes(eval, work, jobs)) == [1, 6, "last"]


def test_the_error_of_a_process_arrives():
    with pytest.raises(ZeroDivisionError):
        list(map_in_processes(partial(divmod, 1), [1, 0], jobs=2))
