"""The losses of CM-NAS that this package has: cross-entropy, and the correlation of the modalities.

The script's own ``train`` runs on a small network. Its other two losses, the hardest triplets
between modalities and the maximum mean discrepancy of classes (CMMD), are set to 0: this package
does not have them.
"""

import torch
from torch import nn

from vireid_plugins.modeling.losses import (
    CorrelationConsistencyLoss,
    LabelSmoothingCrossEntropyLoss,
)

from ..side import Side
from ..small_network import Losses, SmallNetwork, batch_of

SP_WEIGHT = 5.0  # --sp_lambda


class CMNAS(Losses):
    def terms(self, features, bn_features, logits, labels):
        targets, modalities = labels["targets"], labels["modalities"]
        correlation = CorrelationConsistencyLoss(norm="row", reduction="mse", level="image")
        return {
            "loss_id": LabelSmoothingCrossEntropyLoss(smoothing=0.0)(logits, targets),
            "loss_correlation": SP_WEIGHT
            * correlation(bn_features, targets, modalities, labels["index"]),
        }

    def theirs(self, public, variant):
        network = SmallNetwork()
        values = public.run(
            self.script,
            ("parser", "args", "train"),
            ("--data_root", "", "--dataset", "sysu", "--cuda", "0"),
        )
        assert values["args"].sp_lambda == SP_WEIGHT
        losses, seen = public.module("losses"), {}
        criterions = {
            "criterionCE": recorded(nn.CrossEntropyLoss(), "loss_id", 1, seen),
            "criterionSP": recorded(losses.SP(), "loss_correlation", SP_WEIGHT, seen),
            "criterionTri": nothing,
            "criterionCMMD": nothing,
        }
        optimizer = network.optimizer()

        def step(number):
            seen.clear()
            visible, infrared, targets = batch_of(number)
            batch = [(visible, infrared, targets, targets)]
            values["train"](batch, network, None, optimizer, criterions, 0)
            return {**seen, "total": sum(seen.values())}

        return Side(network.tensors, step)


def nothing(*tensors):
    return torch.zeros(())


def recorded(module, name, weight, seen):
    """Return a module that adds its weighted values to ``seen``."""

    def read(module, inputs, output):
        seen[name] = seen.get(name, 0.0) + weight * output.item()

    module.register_forward_hook(read)
    return module


CASES = [
    CMNAS(
        "cm_nas",
        repository="JDAI-CV/CM-NAS",
        commit="bbc77f427b2c8afb9f3865f5a04e86079d33dd28",
        script="train_base.py",
    )
]
