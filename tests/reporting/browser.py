"""A headless Chromium, driven through chromedriver by the WebDriver protocol: plain HTTP."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
)
KEYS = {
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "Left": "\ue012",
    "Right": "\ue014",
    "Home": "\ue011",
    "End": "\ue010",
    "Tab": "\ue004",
}


def find_browser():
    """Paths of a Chromium and its driver, or None and what is missing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser and driver:
        return (browser, driver), ""
    return None, f"no {'chromedriver' if browser else 'Chromium'} on PATH"


class Browser:
    """One session; use it by ``with open_browser(...)``."""

    def __init__(self, address):
        self._address = address

    def call(self, path, method="POST", **values):
        """A WebDriver command; its value."""
        data = json.dumps(values).encode() if method == "POST" else None
        request = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path):
        self.call("/url", url=path.resolve().as_uri())

    def run(self, script):
        """The value of a JavaScript expression."""
        return self.call("/execute/sync", script=f"return {script}", args=[])

    def press(self, *names):
        """Keys, one after the other, to whatever has the focus."""
        for name in names:
            key = KEYS[name]
            actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
            self.call("/actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def chrome(self, command, **parameters):
        """A command of Chromium's own protocol."""
        return self.call("/goog/cdp/execute", cmd=command, params=parameters)

    def window(self, width, height, scheme="light"):
        """Size in CSS pixels, and which colors the reader prefers."""
        self.chrome(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.chrome("Emulation.setEmulatedMedia", features=features)

    def console(self):
        """Everything that the page complained about since the last call."""
        return [line["message"] for line in self.call("/se/log", type="browser")]


@contextlib.contextmanager
def open_browser(paths, profile):
    """A browser with a new, empty profile in the folder ``profile``."""
    browser, driver = paths
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        root = f"http://127.0.0.1:{port}"
        session = Browser(root)
        _wait_until_ready(session)
        flags = [*FLAGS, f"--user-data-dir={profile}"]
        flags += ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
        wanted = {
            "goog:chromeOptions": {"binary": browser, "args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        made = session.call("/session", capabilities={"alwaysMatch": wanted})
        session = Browser(f"{root}/session/{made['sessionId']}")
        try:
            yield session
        finally:
            session.call("", method="DELETE")
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(session, seconds=30.0):
    end = time.monotonic() + seconds
    while True:
        try:
            if session.call("/status", method="GET")["ready"]:
                return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)
