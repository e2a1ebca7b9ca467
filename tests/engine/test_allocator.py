"""Freed memory stays with a run on Linux; oracle: page faults as the system counts them."""

import logging
import platform
import subprocess
import sys

import pytest

from vireid_plugins import add_vireid_config
from vireid_plugins.engine import allocator

from fastreid.config import get_cfg

from tests.engine.small import ROOT

ON_GLIBC = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"

FAULTS = """
import resource, sys
import vireid_plugins, torch
from vireid_plugins import add_vireid_config
from vireid_plugins.engine.allocator import keep_freed_memory
from fastreid.config import get_cfg
cfg = get_cfg()
add_vireid_config(cfg)
cfg.MODEL.DEVICE = "cpu"
cfg.RUNTIME.KEEP_MEMORY = sys.argv[1] == "keep"
keep_freed_memory(cfg)
def step():
    blocks = [torch.ones(2**23) for _ in range(2)]  # 32 MiB each
    return sum(float(block[-1]) for block in blocks)
for _ in range(10):
    step()
before = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(30):
    assert step() == 2.0
after = resource.getrusage(resource.RUSAGE_SELF)
sys.stdout.write(f"{after.ru_minflt - before.ru_minflt} {after.ru_maxrss - before.ru_maxrss}")
"""


@pytest.fixture
def cfg(monkeypatch):
    """A CPU run that has said nothing yet."""
    monkeypatch.setattr(allocator, "_said", set())
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def faults(word):
    """(page faults, growth of the peak in KiB) of 30 equal steps after ten."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, word], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()[-2:]))


@pytest.mark.slow
@pytest.mark.skipif(not ON_GLIBC, reason="a setting of glibc")
def test_later_steps_fetch_no_new_pages():
    """Pages of 30 steps of 64 MiB: all of them anew, or next to none."""
    kept, growth = faults("keep")
    given_back, _ = faults("give")
    assert kept < given_back / 10, (kept, given_back)
    assert growth < 128 * 1024  # KiB; aligned blocks leave a gap or two, not one each step


@pytest.mark.parametrize(
    "change,reason",
    [
        (lambda cfg, patch: cfg.merge_from_list(["RUNTIME.KEEP_MEMORY", False]), "is False"),
        (lambda cfg, patch: cfg.merge_from_list(["MODEL.DEVICE", "cuda:0"]), "on a GPU"),
        (lambda cfg, patch: patch.setattr(platform, "system", lambda: "Windows"), "Windows has"),
        (lambda cfg, patch: patch.setattr(platform, "libc_ver", lambda: ("", "")), "not glibc"),
        (lambda cfg, patch: patch.setattr(allocator.ctypes, "CDLL", lambda _: object()), "refused"),
    ],
)
def test_the_log_says_why_memory_is_not_kept(cfg, monkeypatch, caplog, change, reason):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    change(cfg, monkeypatch)
    if reason != "refused":  # nothing is set where something stands against it
        monkeypatch.setattr(allocator, "_set_up", lambda: pytest.fail("was set"))
    with caplog.at_level(logging.INFO, logger=allocator.__name__):
        assert not allocator.keep_freed_memory(cfg)
        assert not allocator.keep_freed_memory(cfg)
    (record,) = caplog.records  # once
    assert reason in record.message


@pytest.mark.skipif(not ON_GLIBC, reason="a setting of glibc")
def test_the_log_says_that_memory_is_kept(cfg, caplog):
    with caplog.at_level(logging.INFO, logger=allocator.__name__):
        assert allocator.keep_freed_memory(cfg)
    assert "RUNTIME.KEEP_MEMORY" in caplog.text and "kept" in caplog.text


def test_only_a_run_keeps_memory():
    """A library's user must not find the whole process changed."""
    callers = {
        path.name
        for path in (ROOT / "vireid_plugins").rglob("*.py")
        if "benchmarks" not in path.parts  # which measures it, in a process of its own
        and "keep_freed_memory(" in path.read_text(encoding="utf-8")
    }
    assert callers == {"allocator.py", "setup.py", "trainer.py"}
