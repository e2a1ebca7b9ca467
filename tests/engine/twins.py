"""``Twins``, a small adversarial method with three optimizers, for ``test_turns``.

A generator makes points, a critic tells them from data, and a classifier learns a label from what
was made. It is the second user of ``turns.py`` beside Hi-CMD, and shows all that a method declares.
"""

import torch.nn.functional as F
from torch import nn

from vireid_plugins.turns import OptimizerPart, Turn

ADAM = {
    "OPT": "Adam",
    "BASE_LR": 0.01,
    "BIAS_LR_FACTOR": 1.0,
    "WEIGHT_DECAY": 0.0,
    "WEIGHT_DECAY_BIAS": 0.0,
    "WEIGHT_DECAY_NORM": 0.0,
}
JUDGE, MAKE, LABEL = ("judge",), ("make",), ("label",)
ALL = Turn(JUDGE + MAKE + LABEL, ())


class Twins(nn.Module):
    """Images (B, 3) are points; the critic steps first, then the generator and the classifier."""

    optimizer_parts = (
        OptimizerPart("critic", ("critic.",), ADAM, {"betas": (0.5, 0.999)}),
        OptimizerPart("generator", ("layer.", "norm."), ADAM),
        OptimizerPart("identity"),  # all others, with the keys of SOLVER
    )
    warm_up = 2  # iterations without the classifier

    def __init__(self):
        super().__init__()
        self.critic, self.layer = nn.Linear(3, 1), nn.Linear(3, 3)
        self.norm, self.classifier = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def turns_at(self, iteration):
        if iteration < self.warm_up:
            return Turn(JUDGE, ("critic",)), Turn(MAKE, ("generator",))
        return Turn(JUDGE, ("critic",)), Turn(MAKE + LABEL, ("generator", "identity"))

    def forward(self, batch, turn=ALL):
        images, terms = batch["images"], {}
        made = self.norm(self.layer(F.dropout(images, 0.2, self.training)))
        if "judge" in turn.losses:
            fake, real = self.critic(made.detach()), self.critic(images)
            terms["loss_critic"] = fake.square().mean() + (real - 1).square().mean()
        if "make" in turn.losses:
            terms["loss_generator"] = (self.critic(made) - 1).square().mean()
        if "label" in turn.losses:
            labels = (images.sum(dim=1) > 0).long()
            terms["loss_id"] = F.cross_entropy(self.classifier(made), labels)
        return terms
