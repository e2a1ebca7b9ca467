"""Keep what a run of a comparison needs besides its checkpoints, so that nothing gets lost."""

from pathlib import Path
from typing import List, Optional

from ..files import write_json
from ..runs.names import PROGRESS
from .kept import read_progress


class Progress:
    """Times of epochs, peak memory and the last error of a run.

    Args:
        folder: folder of the run. Its ``progress.json`` is read here, and written by every method.

    Raises:
        UserError: ``progress.json`` is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS
        kept = read_progress(self._path) if self._path.is_file() else {}
        self.epoch_seconds: List[float] = kept.get("epoch_seconds", [])
        self.peak_memory_mib: Optional[float] = kept.get("peak_memory_mib")
        self.commits: List[str] = kept.get("commits", [])
        self.sessions: int = kept.get("sessions", 0)
        self.error: str = kept.get("error", "")

    def begin_session(self, commit: str) -> None:
        """Count this process, and forget the error of the process before it."""
        self.sessions += 1
        self.commits += [commit] if commit not in self.commits else []
        self.error = ""
        self._write()

    def end_epoch(self, epoch: int, seconds: float, memory: Optional[float]) -> None:
        """Keep the time of an epoch and the peak memory so far.

        An epoch that is trained again, because its checkpoint was not written, replaces its time.
        """
        self.epoch_seconds[epoch:] = [seconds]
        peaks = [peak for peak in (self.peak_memory_mib, memory) if peak is not None]
        self.peak_memory_mib = max(peaks, default=None)
        self._write()

    def fail(self, error: str) -> None:
        """Keep the reason why this process ended early."""
        self.error = error
        self._write()

    def _write(self) -> None:
        values = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        write_json(self._path, values)
