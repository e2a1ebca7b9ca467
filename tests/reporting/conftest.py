"""One run of a second, and its report."""

from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from vireid.cli import run_verb
from vireid_plugins.engine import session

from tests.engine.small import ROOT, small_words
from tests.reporting.pages import parse

CONFIG = str(ROOT / "configs/mrda/synthetic.yml")


def quick_savefig(patch):
    """A PDF is not rendered, which takes long; a PNG is, coarsely."""
    savefig = Figure.savefig

    def save(figure, file, format=None, **kwargs):
        if format == "pdf":
            file.write(b"%PDF")
        else:
            savefig(figure, file, format=format, **{**kwargs, "dpi": 60})

    patch.setattr(Figure, "savefig", save)


@pytest.fixture(scope="session")
def run_folder(tiny_root, tmp_path_factory):
    """An MRDA run of one epoch, evaluated, in a folder whose name is awkward."""
    folder = tmp_path_factory.mktemp("logs") / "a <b>run</b> & 'more'"
    size = "[96, 48]"  # the last map has six rows, for the stripes
    overrides = small_words(
        folder,
        SOLVER__MAX_EPOCH=1,
        TEST__EVAL_PERIOD=1,
        INPUT__SIZE_TRAIN=size,
        INPUT__SIZE_TEST=size,
        MODEL__BACKBONE__LAST_STRIDE=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        session.train(CONFIG, overrides)
    return folder


@pytest.fixture(scope="session")
def report(run_folder, tiny_root):
    """The whole report of the run: exit status, path of the page and its tree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        quick_savefig(patch)
        status = run_verb("report", [str(run_folder), "--queries", "3"])
    page = run_folder / "report.html"
    return SimpleNamespace(status=status, path=page, page=parse(page), folder=run_folder)
