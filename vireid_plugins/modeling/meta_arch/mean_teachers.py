"""Two networks and the temporal average of each: the base of ``MMT``, see ``mmt.py``.

*Here*: ``MeanTeachers``: which network is which, the averages, what a test and a clustering see. A
method says which average is evaluated, and what the networks learn.

B images, D features.
"""

from typing import Any, Dict, List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ema import move_toward
from .base import DualStreamBaseline

NUMBERS = (1, 2)  # of the students, and of their teachers


class MeanTeachers(DualStreamBaseline):
    """Two students, and for each of them a teacher, the temporal average of its weights.

    ``backbone`` and ``heads`` are those of the evaluated teacher.

    Args:
        networks: both students, of one class and size, such as ``DualStreamBaseline``.
        momentum: alpha of the temporal average, 0 to below 1.

    Attributes:
        num_steps: () int64, updates so far.
    """

    takes_clusters = False
    may_be_student = False
    training_only: Tuple[str, ...] = ("student_1", "student_2")
    #: the parts of the model whose parameters are a backbone's, for the optimizer
    backbones: Sequence[str] = ("student_1.backbone", "student_2.backbone")
    num_steps: Tensor

    def __init__(self, networks: Sequence[DualStreamBaseline], momentum: float) -> None:
        nn.Module.__init__(self)
        for number, network in zip(NUMBERS, networks):
            setattr(self, f"student_{number}", network)
        for number, network in zip(NUMBERS, networks):
            average = network.averaged()
            average.requires_grad_(False)
            setattr(self, f"teacher_{number}", average)
        self.momentum = momentum
        self.learns_keypoints = networks[0].learns_keypoints
        self.without_keypoints = networks[0].without_keypoints
        if networks[0].guides_average:  # features pass a student, too
            parts = ("heads", *networks[0].training_only)
            self.training_only = tuple(f"student_{n}.{part}" for n in NUMBERS for part in parts)
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))

    @property
    def place(self) -> int:
        """Return which teacher is evaluated, 0 or 1."""
        raise NotImplementedError

    @property
    def students(self) -> List[Any]:
        """Return both students."""
        return [getattr(self, f"student_{number}") for number in NUMBERS]

    @property
    def teachers(self) -> List[Any]:
        """Return the mean teacher of each student."""
        return [getattr(self, f"teacher_{number}") for number in NUMBERS]

    @property
    def evaluated_network(self) -> Any:
        """Return the teacher that is evaluated."""
        return self.teachers[self.place]

    @property
    def test_feature(self) -> str:
        """Return the words of the student whose average is evaluated."""
        words: str = self.students[self.place].test_feature
        return words

    @property
    def backbone(self) -> Any:
        """Return the backbone of the evaluated teacher."""
        return self.evaluated_network.backbone

    @property
    def heads(self) -> Any:
        """Return the head of the evaluated teacher."""
        return self.evaluated_network.heads

    @property
    def map_tap(self) -> Any:  # type: ignore[override]  # a module of the evaluated teacher
        """Return where the feature map of the evaluated teacher can be read."""
        return self.evaluated_network.map_tap

    @property
    def pixel_mean(self) -> Any:  # type: ignore[override]  # a buffer of a network
        """Return the mean of the three channels, in 0..255."""
        return self.teachers[0].pixel_mean

    @property
    def pixel_std(self) -> Any:  # type: ignore[override]  # a buffer of a network
        """Return the deviation of the three channels, in 0..255."""
        return self.teachers[0].pixel_std

    def took_starts(self) -> None:
        """Let the teachers begin where the students begin."""
        for student, average in zip(self.students, self.teachers):
            own = student.state_dict()
            average.load_state_dict({name: own[name] for name in average.state_dict()})

    def classifiers(self) -> List[Any]:
        """Return the heads of all four networks, whose classes are clusters."""
        return [network.heads for network in (*self.students, *self.teachers)]

    def cluster_features(self, batch: Dict[str, Any]) -> Tensor:
        """Return the mean of both teachers' features of length 1, (B, D)."""
        pairs = zip(self.students, self.teachers)
        found = (student.average_features(average, batch) for student, average in pairs)
        first, second = (F.normalize(one.float(), dim=1) for one in found)
        return (first + second) / 2

    def tested_features(self, batch: Dict[str, Any]) -> Tensor:
        """Return the features (B, D) by the evaluated teacher."""
        features: Tensor = self.students[self.place].average_features(self.evaluated_network, batch)
        return features

    def after_step(self) -> None:
        """Move the teachers toward their students."""
        super().after_step()
        for student in self.students:
            student.after_step()
        steps = int(self.num_steps)
        keep = min(1 - 1 / (steps + 1), self.momentum)  # _update_ema_variables of the code
        for student, average in zip(self.students, self.teachers):
            move_toward(average, student, keep)
        self.num_steps += 1

    def measures(self) -> Dict[str, Tensor]:
        """Return what the students measure, by name, with the number of the student."""
        return {
            f"student_{number}_{name}": value
            for number, student in zip(NUMBERS, self.students)
            for name, value in student.measures().items()
        }
