"""Signals as in a terminal, for tests that send them."""

import signal

import pytest


@pytest.fixture(autouse=True)
def usual_signals():
    """Let signals end the process, also where pytest was started with ``&`` or ``nohup``."""
    usual = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):
        usual["SIGHUP"] = signal.SIG_DFL
    before = {name: signal.signal(getattr(signal, name), one) for name, one in usual.items()}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)
