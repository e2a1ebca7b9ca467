"""The losses of CM-NAS: cross-entropy, triplets in four pairings, and two of the modalities.

The script's own ``train`` runs on a small network, with the script's weights. The two losses of the
modalities are the correlation (SP) and the maximum mean discrepancy of the classes (CMMD).
"""

from torch import nn

from vireid_plugins.modeling.losses import (
    CorrelationConsistencyLoss,
    CrossModalityTripletLoss,
    LabelSmoothingCrossEntropyLoss,
    MeanDiscrepancyLoss,
)

from ..side import Side
from ..small_network import IMAGES, Losses, SmallNetwork, batch_of

WEIGHTS = {"loss_correlation": 5.0, "loss_mean_discrepancy": 0.05}
MARGIN = 0.4  # --margin


class CMNAS(Losses):
    def terms(self, features, bn_features, logits, labels):
        targets, modalities = labels["targets"], labels["modalities"]
        correlation = CorrelationConsistencyLoss(norm="row", reduction="mse", level="image")
        found = {
            "loss_id": LabelSmoothingCrossEntropyLoss(smoothing=0.0)(logits, targets),
            "loss_cross_modality_triplet": CrossModalityTripletLoss(margin=MARGIN)(
                features, targets, modalities
            ),
            "loss_correlation": correlation(bn_features, targets, modalities, labels["index"]),
            "loss_mean_discrepancy": MeanDiscrepancyLoss()(bn_features, targets, modalities),
        }
        return {name: WEIGHTS.get(name, 1.0) * value for name, value in found.items()}

    def theirs(self, public, variant):
        network = SmallNetwork()
        values = public.run(
            self.script,
            ("parser", "args", "train"),
            ("--data_root", "", "--dataset", "sysu", "--cuda", "0"),
        )
        args = values["args"]
        assert [args.sp_lambda, args.cmmd_lambda] == list(WEIGHTS.values())
        assert (args.margin, args.label_smooth, args.triplet_feat_norm) == (MARGIN, 0.0, "no")
        losses, seen = public.module("losses"), {}
        modules = {
            "criterionCE": (nn.CrossEntropyLoss(), "loss_id", 1.0),
            # called for each pairing of the modalities; the script divides their sum by four
            "criterionTri": (losses.TripletLoss(args.margin), "loss_cross_modality_triplet", 0.25),
            "criterionSP": (losses.SP(), "loss_correlation", args.sp_lambda),
            "criterionCMMD": (losses.CMMD(IMAGES), "loss_mean_discrepancy", args.cmmd_lambda),
        }
        criterions = {key: recorded(*module, seen) for key, module in modules.items()}
        optimizer = network.optimizer()

        def step(number):
            seen.clear()
            visible, infrared, targets = batch_of(number)
            batch = [(visible, infrared, targets, targets)]
            values["train"](batch, network, None, optimizer, criterions, 0)
            return {**seen, "total": sum(seen.values())}

        return Side(network.tensors, step)


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
