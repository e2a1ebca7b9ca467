"""MMT: mutual mean-teaching, adaptation to a domain without labels.

*Paper*: Y. Ge, D. Chen, H. Li, "Mutual Mean-Teaching: Pseudo Label Refinery for Unsupervised Domain
Adaptation on Person Re-identification", ICLR 2020, arXiv 2001.01526. Public code: yxgeee/MMT,
commit 057e1ea ("the code" below); later also open-mmlab/OpenUnReID, commit c3e3ada.
*Idea*: clusters are noisy labels. Two networks learn from them; each also learns from soft labels
that the temporal average of the *other* one makes, which is steadier than both.
*Here*: ``MMT``: the four terms; ``mean_teachers.py``: two students, two mean teachers. Clusters,
outliers, classifiers that begin as centers, and a new optimizer at each clustering:
``engine/clusters``, for any method; the radius: ``clustering.automatic_radius``. Hard terms:
``MODEL.LOSSES``.
*Known* from the code: all numbers of ``configs/mmt/Base-mmt.yml``; the formulas; the average's
factor min(1 - 1 / (step + 1), alpha), of parameters only, while batch norm of the teachers works
with the statistics of the batch; features for clustering are the mean of those of both teachers.
Equations are marked by the names of the code, since the text of the paper was not at hand.
*Departs*:

- Which teacher is evaluated. The code evaluates both on the *test set* after each epoch, and keeps
  and reports the better one: it chooses by test labels. Here ``MODEL.MMT.TEACHER`` says how:
  ``"clusters"`` (the default) takes the one whose classifier agrees better with the clusters in
  training, a running mean of its cross-entropy; ``"first"`` and ``"second"`` choose nothing; only
  ``"test"`` does as the code. Reported numbers are those of the last weights, not of the best
  epoch.
- An anchor of a triplet without another row of its cluster is left out; the code takes the anchor
  itself, at a distance of 1e-6. Distances are computed without the rounding of x^2 + y^2 - 2xy.
- A batch has exactly two views of each image, made by the loader; the code calls its transform
  twice, which is the same. Every row of both views has an image of its own, so that order is free.
- The step in the average's factor counts updates that were made. The code counts the iterations of
  skipped epochs, too, which it does not have.
- The network of the code has no ReLU after its first batch norm (``# no relu``), and its training
  on the source also forwards target images, which only moves the statistics of batch norm. Here
  the network is the usual one, and the source training is that of any config.

*Config*: ``configs/mmt``; ``MODEL.MMT``, ``CLUSTERS``, ``INPUT.NUM_VIEWS``,
``MODEL.LOSSES.LABEL_SMOOTHING``, ``MODEL.LOSSES.SOFTMAX_TRIPLET``.

B images in two views each, D features, C clusters.
"""

from typing import Any, Dict, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import Key, at_least, check_values, declare, one_of, text
from ...registry import lookup, registered_names
from ..gather import mean_of_processes
from ..losses import LossTerms
from ..losses.soft_cross_entropy import soft_cross_entropy
from ..losses.softmax_triplet import soft_softmax_triplet
from .base import DualStreamBaseline
from .mean_teachers import NUMBERS, MeanTeachers

TEACHERS = ("clusters", "test", "first", "second")
_RUNNING = 0.99  # of the mean cross-entropy of the teachers

declare(
    "MODEL.MMT",
    Key("SOFT_ID_SCALE", 0.5, at_least(0), "weight of the soft cross-entropy (lambda_id)"),
    Key("SOFT_TRIPLET_SCALE", 0.8, at_least(0), "weight of the soft triplet loss (lambda_tri)"),
    Key("MOMENTUM", 0.999, at_least(0, below=1), "of the temporal average (alpha)"),
    Key("START_1", "", text("a path"), "checkpoint that the first student begins with"),
    Key("START_2", "", text("a path"), "checkpoint that the second student begins with"),
    features=False,
)
declare(
    "MODEL.MMT",
    Key("STUDENT", "DualStreamBaseline", text("a method"), "method of each student, such as RBNet"),
    Key("TEACHER", "clusters", one_of(*TEACHERS), "the evaluated one; test: chosen by test labels"),
)


@META_ARCH_REGISTRY.register()
class MMT(MeanTeachers):
    """Two students that learn from labels and from each other's mean teacher.

    Args:
        networks: see ``MeanTeachers``.
        soft_id_scale: weight of the soft cross-entropy, 0 or more.
        soft_triplet_scale: weight of the soft triplet loss, 0 or more.
        momentum: alpha of the temporal average, 0 to below 1.
        teacher: which teacher is evaluated, one of ``TEACHERS``, see the module.
        loss_terms: the hard losses of each student.

    Attributes:
        teacher_losses: (2,) running means of the teachers' cross-entropy with the labels.
        chosen: () int64, the teacher that the test set chose: 0 or 1.

    Raises:
        UserError: a number or word is not allowed.
    """

    config_nodes = ("MODEL.MMT",)
    names_parts = ("MODEL.MMT.STUDENT",)
    takes_clusters = True
    own_weight_keys = {
        "loss_soft_id": "MODEL.MMT.SOFT_ID_SCALE",
        "loss_soft_triplet": "MODEL.MMT.SOFT_TRIPLET_SCALE",
    }
    teacher_losses: Tensor
    chosen: Tensor

    @configurable
    def __init__(
        self,
        *,
        networks: Sequence[DualStreamBaseline],
        loss_terms: LossTerms,
        soft_id_scale: float = 0.5,
        soft_triplet_scale: float = 0.8,
        momentum: float = 0.999,
        teacher: str = "clusters",
    ) -> None:
        check_values(
            "MODEL.MMT",
            SOFT_ID_SCALE=soft_id_scale,
            SOFT_TRIPLET_SCALE=soft_triplet_scale,
            MOMENTUM=momentum,
            TEACHER=teacher,
        )
        super().__init__(networks, momentum)
        self.loss_terms = loss_terms
        self.soft_id_scale, self.soft_triplet_scale = soft_id_scale, soft_triplet_scale
        self.teacher = teacher
        self.own_weight_keys = {
            **type(self).own_weight_keys,
            **networks[0].weight_keys_for(loss_terms),
        }
        self.register_buffer("teacher_losses", torch.zeros(2))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))
        self._last_losses = torch.zeros(2)  # of the step in progress

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.MMT``, and build two networks of the config.

        Raises:
            UserError: images do not have two views.
        """
        views = cfg.INPUT.NUM_VIEWS
        if (views.VISIBLE, views.INFRARED) != (2, 2):
            raise UserError(
                f"MMT gives each student a view of each image: set INPUT.NUM_VIEWS.VISIBLE 2 and "
                f"INPUT.NUM_VIEWS.INFRARED 2; now they are {views.VISIBLE} and {views.INFRARED}."
            )
        node, student = cfg.MODEL.MMT, _student(cfg.MODEL.MMT.STUDENT)
        parts = [student.from_config(cfg) for _ in NUMBERS]
        loss_terms = parts[0]["loss_terms"]
        return {
            "networks": [student(**{**part, "loss_terms": LossTerms({}, {})}) for part in parts],
            "loss_terms": loss_terms,
            "soft_id_scale": node.SOFT_ID_SCALE,
            "soft_triplet_scale": node.SOFT_TRIPLET_SCALE,
            "momentum": node.MOMENTUM,
            "teacher": node.TEACHER,
        }

    @property
    def place(self) -> int:
        """Return which teacher ``TEACHER`` says, 0 or 1."""
        if self.teacher in ("first", "second"):
            return int(self.teacher == "second")
        return int(self.chosen if self.teacher == "test" else self.teacher_losses.argmin())

    @property
    def starts(self) -> Dict[str, nn.Module]:
        """Return the part that each checkpoint of the config is loaded into, by its key."""
        return {f"MODEL.MMT.START_{n}": part for n, part in zip(NUMBERS, self.students)}

    def begin_clusters(self, centers: Tensor, labels: Tensor) -> None:
        """Measure the agreement of the teachers with the clusters anew."""
        self.teacher_losses.zero_()

    # -------------------------------------------------------------------------- the training

    def forward(self, batch: Dict[str, Any]) -> Any:
        """Return features (B, D) of the evaluated teacher, or loss terms of a batch of two views.

        Raises:
            UserError: the batch does not have two views of each image.
        """
        self.modalities_of(batch)  # checks the labels
        if not self.training:
            return self.tested_features(batch)
        views = _two_views(batch)
        outputs: Dict[str, Tensor] = {}
        for number, view in zip(NUMBERS, views):
            average = getattr(self, f"teacher_{number}")
            own, images = getattr(self, f"student_{number}").student_pass(view)
            outputs.update({f"s{number}.{name}": value for name, value in own.items()})
            # Weights of an average need no gradient; images that its student masks do.
            seen = average.extract(images, view["modalities"].to(self.device))
            averaged = average.head_outputs(seen, view)
            outputs.update({f"t{number}.{name}": value for name, value in averaged.items()})
        return self.objective(outputs, views[0])

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms of both students: hard ones, soft cross-entropy, soft triplet loss.

        Their sum is the code's ``loss`` (``mmt/trainers.py``, ``MMTTrainer.train``).
        """
        labels = self.labels(batch)
        targets = labels["targets"]
        terms: Dict[str, Tensor] = {}
        soft_id, soft_triplet = [], []
        for own, other in ((1, 2), (2, 1)):
            student = _named(outputs, f"s{own}.")
            reference = _named(outputs, f"t{other}.")  # of the other student, on the other view
            second = _named(outputs, f"t{own}.")
            hard = self.students[own - 1].terms(self.loss_terms, student, second, labels)
            for name, term in hard.items():
                terms[name] = terms[name] + term if name in terms else term
            soft_id.append(soft_cross_entropy(student["logits"], reference["logits"]))
            soft_triplet.append(
                soft_softmax_triplet(student["features"], reference["features"], targets)
            )
        terms["loss_soft_id"] = self.soft_id_scale * (soft_id[0] + soft_id[1])
        terms["loss_soft_triplet"] = self.soft_triplet_scale * (soft_triplet[0] + soft_triplet[1])
        with torch.no_grad():
            found = [F.cross_entropy(outputs[f"t{n}.logits"].float(), targets) for n in NUMBERS]
            self._last_losses = torch.stack(found)
        return terms

    def after_step(self) -> None:
        """Move the teachers toward their students, and note how well they agree with the labels."""
        super().after_step()
        last = mean_of_processes(self._last_losses.to(self.teacher_losses))
        fresh = self.teacher_losses.sum() == 0
        mean = _RUNNING * self.teacher_losses + (1 - _RUNNING) * last
        mean = torch.where(fresh, last, mean)
        # A step that overflows float16 is skipped, and must not be remembered.
        self.teacher_losses.copy_(torch.where(last.isfinite().all(), mean, self.teacher_losses))

    # ------------------------------------------------------------------------ the evaluation

    @property
    def num_candidates(self) -> int:
        """Return how many networks an evaluation in training compares on the test set."""
        return len(NUMBERS) if self.teacher == "test" else 1

    def choose(self, place: int) -> None:
        """Evaluate the teacher ``place``, 0 or 1, from now on, if ``TEACHER`` is ``"test"``."""
        self.chosen.fill_(place)

    def measures(self) -> Dict[str, Tensor]:
        """Return the running cross-entropy of both teachers with the labels, and the students'."""
        found = {f"teacher_{n}_id": value for n, value in zip(NUMBERS, self.teacher_losses)}
        return {**found, **super().measures()}


def _student(name: str) -> Any:
    """Return the method that ``MODEL.MMT.STUDENT`` names.

    Raises:
        UserError: there is none of this name, or it cannot be a student.
    """
    method = lookup(META_ARCH_REGISTRY, name, "MODEL.MMT.STUDENT")
    if not vars(method).get("may_be_student", False):
        able = [
            one
            for one in registered_names(META_ARCH_REGISTRY)
            if vars(META_ARCH_REGISTRY.get(one)).get("may_be_student", False)
        ]
        raise UserError(
            f"MODEL.MMT.STUDENT is {name!r}, which does not say that it can be a student of MMT; "
            f"these can: {', '.join(able)}."
        )
    return method


def _two_views(batch: Dict[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the first and the second views of a batch, each ordered by image.

    Raises:
        UserError: an image does not have exactly two views.
    """
    views, index = batch.get("views"), batch.get("index")
    if views is not None and index is not None:
        places = [torch.nonzero(views == number)[:, 0] for number in (0, 1)]
        rows = [place[index[place].argsort(stable=True)] for place in places]
        same = len(rows[0]) == len(rows[1]) and torch.equal(index[rows[0]], index[rows[1]])
        if same and len(rows[0]) + len(rows[1]) == len(views):
            names = [name for name, value in batch.items() if isinstance(value, Tensor)]
            first, second = ({name: batch[name][own] for name in names} for own in rows)
            return first, second
    raise UserError(
        "MMT needs batches with exactly two views of each image ('views' and 'index', (B,) each), "
        "as INPUT.NUM_VIEWS.VISIBLE 2 and INPUT.NUM_VIEWS.INFRARED 2 let the loader give them."
    )


def _named(outputs: Dict[str, Tensor], prefix: str) -> Dict[str, Tensor]:
    """Return the outputs whose names begin with ``prefix``, without it."""
    return {n[len(prefix) :]: value for n, value in outputs.items() if n.startswith(prefix)}
