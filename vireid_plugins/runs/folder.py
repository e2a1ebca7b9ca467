"""What a run left in its folder: results, checkpoint, config and how it was started."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from fastreid.config import CfgNode

from ..evaluation.result import ImageSet
from .names import BEST, COMPARED, FINAL


@dataclass(frozen=True)
class Missing:
    """Something that a reader of the run would look for, and why it is not there."""

    what: str
    why: str
    of_method: bool = False  # True: a picture that only other methods or test sets can have


class RecordedImages(NamedTuple):
    """The images of an evaluation, as recorded with its results."""

    number: int
    fingerprint: str  # see ``data.item.fingerprint_of``


@dataclass(frozen=True)
class Results:
    """The numbers of one evaluation, in percent, and how they were made.

    Attributes:
        metrics: values by ``<dataset>/<mode or direction>/<single|multi|variant>/<metric>``.
        protocols: the protocol lines in order; a line that has only ``key`` does not say how its
            numbers were made.
        weights: which weights were evaluated, in words or as a path.
        finished: date and time; empty if it was not recorded.
        source: name of the file that holds the numbers, or "this report".
        notes: sentences about the numbers.
        test_sets: which images were tested on, by dataset; older records do not say it.
    """

    metrics: Dict[str, float]
    protocols: List[Dict[str, Any]]
    weights: str
    finished: str
    source: str
    notes: Tuple[str, ...] = ()
    test_sets: Mapping[str, RecordedImages] = field(default_factory=dict)

    def changed_images(self, now: ImageSet) -> str:
        """Return a sentence if the images of a test set are not those of these numbers.

        It is empty if they are the same, or if the record does not name them.
        """
        recorded = self.test_sets.get(now.name)
        if recorded is None or recorded.fingerprint == now.fingerprint:
            return ""
        return (
            f"The test set {now.name} has changed since the numbers in {self.source} were "
            f"recorded: it had {recorded.number} images and has {now.number} now, and they are not "
            "the same. Those numbers and what is drawn now belong to different images. Evaluate "
            "again (vireid evaluate), or put the earlier images back."
        )

    @property
    def explained(self) -> bool:
        """Return whether the record says how each number was made."""
        return all("direction" in line for line in self.protocols)


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, and what it says about itself."""

    path: Path
    epochs: Optional[int]  # number of epochs done; None if the file does not say it
    facts: Dict[str, Any]

    @property
    def words(self) -> str:
        """Return the name of the file, its epochs, and a warning if the test set chose it."""
        number = self.epochs
        after = "" if number is None else f", after {number} epoch{'s' * (number != 1)}"
        chosen = "; it was chosen on the test set" if self.path.stem == BEST else ""
        return f"{self.path.name}{after}{chosen}"


@dataclass
class RunFolder:
    """The folder of a run, as far as it could be read.

    Attributes:
        folder: its path.
        cfg: the config of the run; None if it cannot be read.
        sessions: the records of each start, in order.
        environment: versions and hardware of the last training, by name.
        results: results of the last evaluation; None if there was none.
        checkpoint: the last checkpoint; None if there is none or it was not read.
        last_checkpoint: the file name that ``last_checkpoint`` holds.
        iterations: number of iterations that ``metrics.json`` covers.
        damaged_lines: the number of lines of ``metrics.json`` that cannot be read.
        missing: what is absent or damaged.
    """

    folder: Path
    cfg: Optional[CfgNode] = None
    sessions: List[Dict[str, Any]] = field(default_factory=list)
    environment: Dict[str, str] = field(default_factory=dict)
    results: Optional[Results] = None
    checkpoint: Optional[Checkpoint] = None
    last_checkpoint: str = ""
    iterations: int = 0
    damaged_lines: int = 0
    missing: List[Missing] = field(default_factory=list)

    @property
    def epochs(self) -> Optional[int]:
        """Return the epochs done at the run's last checkpoint; None if that is not known."""
        own = self.folder / (self.last_checkpoint or FINAL)
        return self.checkpoint.epochs if self.checkpoint and self.checkpoint.path == own else None

    @property
    def finished(self) -> bool:
        """Return whether the training came to its end."""
        if self.last_checkpoint and self.last_checkpoint != FINAL:
            return False
        if self.cfg is None or self.epochs is None:
            return self.last_checkpoint == FINAL or (self.folder / COMPARED).is_file()
        return self.epochs >= self.cfg.SOLVER.MAX_EPOCH

    @property
    def trained(self) -> bool:
        """Return whether the run trained; False if it only evaluated."""
        tasks = {session.get("task") for session in self.sessions}
        return tasks != {"evaluate"}

    @property
    def seed(self) -> Optional[int]:
        """Return the seed that was used; None if it was not recorded."""
        if self.checkpoint and "seed" in self.checkpoint.facts:
            return int(self.checkpoint.facts["seed"])
        return int(self.cfg.SEED) if self.cfg is not None and self.cfg.SEED >= 0 else None
