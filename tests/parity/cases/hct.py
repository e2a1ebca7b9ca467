"""The losses of HCT: label smoothing, and the hetero-center triplet with weight 2.

The script's own ``train`` runs with ``--pcb off``, on a small network; ``hct_weighted`` is its
``--method agw``. HCT's training with stripes is not in this package, see ``heads/hct_head.py``.
"""

import torch

from vireid_plugins.modeling.losses import (
    HeteroCenterTripletLoss,
    LabelSmoothingCrossEntropyLoss,
    WeightedTripletLoss,
)

from ..public import Stepper
from ..side import Side
from ..small_network import CLASSES, Losses, SmallNetwork, batch_of, epoch_of

WEIGHT = 2.0  # --w_center


class HCT(Losses):
    def __init__(self, name, method, triplet):
        super().__init__(
            name,
            repository="hijune6/Hetero-center-triplet-loss-for-VT-Re-ID",
            commit="ecb860344febce68dff74245bd634e9228faf874",
            script="train_mine.py",
        )
        self.method, self.triplet = method, triplet

    def terms(self, features, bn_features, logits, labels):
        targets, modalities = labels["targets"], labels["modalities"]
        return {
            "loss_id": LabelSmoothingCrossEntropyLoss(smoothing=0.1)(logits, targets),
            self.triplet.log_name: WEIGHT * self.triplet(features, targets, modalities),
        }

    def theirs(self, public, variant):
        class PublicNetwork(SmallNetwork):
            def forward(self, visible, infrared):
                features, _, logits = super().forward(torch.cat((visible, infrared)))
                return features, logits

        network = PublicNetwork()
        values = public.run(
            self.script,
            ("parser", "args", "criterion_id", "criterion_tri", "optimizer")
            + ("adjust_learning_rate", "train"),
            ("--pcb", "off", "--method", self.method),
            net=network,
            device="cpu",
            n_class=CLASSES,
        )
        terms = {
            "loss_id": ("criterion_id", 1),
            self.triplet.log_name: ("criterion_tri", WEIGHT),
        }
        return Side(network.tensors, Stepper(values, pair_of, terms, epoch_of))


def pair_of(step):
    visible, infrared, targets = batch_of(step)
    return visible, infrared, targets, targets


CASES = [
    HCT("hct", "base", HeteroCenterTripletLoss(margin=0.3)),
    HCT("hct_weighted", "agw", WeightedTripletLoss(legacy_weights=True)),
]
