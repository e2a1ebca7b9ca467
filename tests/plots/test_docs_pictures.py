"""The Python examples of docs/pictures.md. Oracle: they run, and write what they say."""

import re
import sys
from types import ModuleType

import pytest

from vireid_plugins.plots import draw_kind
from vireid_plugins.plots.kinds import KINDS
from vireid_plugins.runs.names import FACTS

from tests.engine.small import ROOT, small_cfg
from tests.plots.planted import planted_subject, read_numbers


def example(name):
    """Return the code of an example of the page."""
    page = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
    return re.search(
        rf"<!-- example: {re.escape(name)} -->\n```python\n(.*?)```", page, re.S
    ).group(1)


def test_a_map_is_drawn_from_a_notebook_in_five_lines(datasets, tmp_path, monkeypatch):
    from vireid_plugins.engine import VIReIDTrainer

    code = example("notebook")
    assert len([line for line in code.splitlines() if line]) <= 5
    trainer = VIReIDTrainer(small_cfg(tmp_path / "logs" / "demo"))
    trainer.checkpointer.save("model_final", **{FACTS: trainer.facts()})
    shown = []
    display = ModuleType("IPython.display")
    display.Image = shown.append
    ipython = ModuleType("IPython")
    ipython.version_info = (9, 0)  # matplotlib asks
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert shown == ["figures/tsne.png"] and (tmp_path / "figures" / "tsne.png").is_file()
    rows = read_numbers(tmp_path / "figures" / "tsne.csv")
    assert {row["model"] for row in rows} == {"demo"} and len(rows) == 4 * 6


def test_a_kind_of_ones_own(tmp_path, figures, monkeypatch):
    module = ModuleType("my_plot")  # Python 3.9 looks for it to resolve annotations
    monkeypatch.setitem(sys.modules, "my_plot", module)
    exec(example("my_plot.py"), vars(module))
    try:
        drawn = draw_kind("norms", planted_subject(), str(tmp_path), bins=5)
        with pytest.raises(Exception, match="norms has no option 'bin'. Did you mean 'bins'"):
            draw_kind("norms", planted_subject(), str(tmp_path), bin=5)
    finally:
        del KINDS["norms"]
    assert drawn.notes == ["72 images."] and len(figures[0].axes[0].patches) == 5
    assert len(read_numbers(drawn.paths[-1])) == 72
