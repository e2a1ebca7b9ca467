"""Save the last measurements in checkpoints, for the next session of a run.

Lines of ``metrics.json`` and of the log contain medians over the last iterations. A resumed run
needs the values from before the checkpoint; otherwise its first lines would differ from those of a
run that was never stopped.
"""

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from fastreid.utils.events import EventStorage
from fastreid.utils.history_buffer import HistoryBuffer

KEPT = 100  # values of each measurement: the longest window that is shown
# These are not measured in the first steps of a session. Their last value before the checkpoint
# would become an extra line, which a run that was never stopped does not have.
_TIME = "time"

Value = Tuple[float, int]  # a measurement and its iteration


class ContinuedHistory(HistoryBuffer):
    """The values of this session; medians and means also see those before it.

    Args:
        earlier: the last values before the checkpoint, in order.
    """

    def __init__(self, earlier: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.earlier: List[Value] = [(float(value), int(number)) for value, number in earlier]

    def latest(self) -> float:
        """Return the last value."""
        return newest(self, 1)[0][0]

    def median(self, window_size: int) -> float:
        """Return the median of the last ``window_size`` values."""
        return float(np.median([value for value, _ in newest(self, window_size)]))

    def avg(self, window_size: int) -> float:
        """Return the mean of the last ``window_size`` values."""
        return float(np.mean([value for value, _ in newest(self, window_size)]))


def newest(history: HistoryBuffer, count: int) -> List[Value]:
    """Return the last ``count`` values of a history, those before this session included."""
    return [*getattr(history, "earlier", []), *history.values()[-count:]][-count:]


def storage_state(storage: EventStorage) -> Dict[str, Any]:
    """Return what a checkpoint keeps of the measurements: names, numbers and lists."""
    hints = storage.smoothing_hints()
    return {
        name: {
            "values": [[float(value), int(number)] for value, number in newest(history, KEPT)],
            "smoothed": bool(hints[name]),
        }
        for name, history in storage.histories().items()
    }


def restore_storage(storage: EventStorage, state: Dict[str, Any]) -> None:
    """Put what :func:`storage_state` returned into a new storage."""
    for name, kept in state.items():
        value, number = kept["values"][-1]
        storage._history[name] = ContinuedHistory(kept["values"])
        if name != _TIME:
            storage._latest_scalars[name] = (float(value), int(number))
        storage._smoothing_hints[name] = bool(kept["smoothed"])
