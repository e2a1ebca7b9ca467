"""MMT, ``configs/mmt``: both students, both averages, the four losses, Adam.

The code's own ``MMTTrainer.train`` runs, one batch for each step, on four small networks in the
place of its ResNets. The radius and DBSCAN's labels are compared in ``tests/test_clustering.py``.
"""

import contextlib
import sys
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from vireid_plugins.modeling.heads import BNNeckHead
from vireid_plugins.modeling.losses import (
    LabelSmoothingCrossEntropyLoss,
    LossTerms,
    SoftmaxTripletLoss,
)
from vireid_plugins.modeling.meta_arch import MMT, DualStreamBaseline

from ..case import Case
from ..numbers import uniform
from ..public import opened
from ..side import Side, in_float64, trace
from ..small_network import CLASSES, ROWS, SIZE, WIDTH, SmallNetwork, batch_of

SOFT_ID, SOFT_TRIPLET, ALPHA = 0.5, 0.8, 0.8  # of ten averages, five are below this alpha
ADAM = {"lr": 0.00035, "weight_decay": 0.0005}
NUMBERS = (1, 2)
IMAGE = (3, 2, 2)  # SIZE numbers


class MMTCase(Case):
    name = "mmt"
    repository = "yxgeee/MMT"
    commit = "057e1ea5d3054c9d7e5fa72c727298d8e4c5f668"
    script = "mmt/trainers.py"
    variants = ("small",)

    def ours(self, variant):
        networks = [our_network(number) for number in NUMBERS]
        losses = {
            "LabelSmoothingCrossEntropyLoss": LabelSmoothingCrossEntropyLoss(smoothing=0.1),
            "SoftmaxTripletLoss": SoftmaxTripletLoss(),
        }
        scales = dict(zip(losses, (1 - SOFT_ID, 1 - SOFT_TRIPLET)))
        model = MMT(
            networks=networks,
            loss_terms=LossTerms(losses, scales),
            soft_id_scale=SOFT_ID,
            soft_triplet_scale=SOFT_TRIPLET,
            momentum=ALPHA,
        ).train()
        trained = [value for value in model.parameters() if value.requires_grad]
        optimizer = torch.optim.Adam(trained, **ADAM)

        def step(number):
            terms = model(our_batch(number))
            optimizer.zero_grad()
            total = sum(terms.values())
            total.backward()
            optimizer.step()
            model.after_step()
            return {**{name: term.item() for name, term in terms.items()}, "total": total.item()}

        return Side(lambda: our_tensors(model), step)

    def theirs(self, public, variant):
        networks = {
            f"{role}_{number}": PublicNetwork(number).train()
            for role in ("student", "teacher")
            for number in NUMBERS
        }
        for number in NUMBERS:
            networks[f"teacher_{number}"].requires_grad_(False)
        trainers = public.module("mmt.trainers")
        trainer = trainers.MMTTrainer(*networks.values(), num_cluster=CLASSES, alpha=ALPHA)
        students = [networks[f"student_{number}"] for number in NUMBERS]
        trained = [v for one in students for v in one.parameters() if v.requires_grad]
        optimizer, seen = torch.optim.Adam(trained, **ADAM), {}
        for name, module, weight in (
            ("loss_id", trainer.criterion_ce, 1 - SOFT_ID),
            ("loss_softmax_triplet", trainer.criterion_tri, 1 - SOFT_TRIPLET),
            ("loss_soft_id", trainer.criterion_ce_soft, SOFT_ID),
            ("loss_soft_triplet", trainer.criterion_tri_soft, SOFT_TRIPLET),
        ):
            module.register_forward_hook(reader(seen, name, weight))

        def step(number):
            seen.clear()
            with mock.patch.object(torch.Tensor, "add_", old_add(torch.Tensor.add_)):
                trainer.train(
                    number,
                    OneBatch(batch_of(number)),
                    optimizer,
                    ce_soft_weight=SOFT_ID,
                    tri_soft_weight=SOFT_TRIPLET,
                    train_iters=1,
                )
            return {**seen, "total": sum(seen.values())}

        return Side(
            lambda: {
                f"{n}.{k}": v for n, one in networks.items() for k, v in one.tensors().items()
            },
            step,
        )

    def trace_theirs(self, checkout, variant):
        """Return the ``Trace`` of the public code, without the libraries that no loss needs."""
        names = ("metric_learn", "metric_learn.base_metric", "h5py")
        stand_ins = {name: mock.MagicMock(BaseMetricLearner=object) for name in names}
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.dict(sys.modules, stand_ins))
            stack.enter_context(in_float64())
            public = stack.enter_context(opened(Path(checkout)))
            return trace(self.theirs(public, variant))


def reader(seen, name, weight):
    def read(module, inputs, output):
        seen[name] = seen.get(name, 0.0) + weight * output.item()

    return read


def old_add(add):
    """``add_`` that also takes a factor and a tensor, as PyTorch once did."""

    def added(self, *values, **keys):
        if len(values) == 2:
            return add(self, values[1], alpha=values[0])
        return add(self, *values, **keys)

    return added


class OneBatch:
    """The code's loader of two views, with one batch."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return 1

    def next(self):
        return self.batch


def of_network(number, tensors):
    """Let the second student begin elsewhere."""
    with torch.no_grad():
        for name, value in tensors.items():
            if number == 2 and value.dim() == 2:
                value.copy_(0.3 * uniform(f"second {name}", value.shape))


class PublicNetwork(SmallNetwork):
    """Returns what the code's networks do: features before batch norm, and logits."""

    def __init__(self, number):
        super().__init__()
        of_network(number, self.tensors())

    def forward(self, inputs):
        features, _, logits = super().forward(inputs)
        return features, logits


# this package


class Backbone(nn.Module):
    """The first layer of ``SmallNetwork``, on images of 12 numbers."""

    feat_dim = WIDTH

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(SIZE, WIDTH)

    def forward(self, images):
        return torch.relu(self.layer(images.flatten(1)))[..., None, None]


def our_network(number):
    heads = BNNeckHead(
        feat_dim=WIDTH,
        embedding_dim=0,
        num_classes=CLASSES,
        neck_feat="before",
        pool_type="GlobalAvgPool",
        cls_type="Linear",
        scale=1,
        margin=0,
        with_bnneck=True,
        norm_type="BN",
    )
    network = DualStreamBaseline(
        backbone=Backbone(),
        heads=heads,
        loss_terms=LossTerms({}, {}),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )
    own, wanted = network_tensors(network), PublicNetwork(number).tensors()
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(wanted[name])
    return network


def network_tensors(network):
    """Return the tensors of a network under the names of ``SmallNetwork``."""
    neck, layer = network.heads.bottleneck[0], network.backbone.layer
    return {
        "layer.weight": layer.weight,
        "layer.bias": layer.bias,
        "bottleneck.weight": neck.weight,
        "bottleneck.bias": neck.bias,
        "classifier.weight": network.heads.weight,
        "bottleneck.running_mean": neck.running_mean,
        "bottleneck.running_var": neck.running_var,
    }


def our_tensors(model):
    networks = {f"student_{n}": one for n, one in zip(NUMBERS, model.students)}
    networks.update({f"teacher_{n}": one for n, one in zip(NUMBERS, model.teachers)})
    return {f"{n}.{k}": v for n, one in networks.items() for k, v in network_tensors(one).items()}


def our_batch(step):
    """Return both views of each row, row by row."""
    first, second, targets = batch_of(step)
    rows = torch.arange(ROWS).repeat_interleave(2)
    return {
        "images": torch.stack((first, second), dim=1).view(2 * ROWS, *IMAGE),
        "targets": targets[rows],
        "modalities": torch.zeros(2 * ROWS, dtype=torch.int64),
        "camids": rows,
        "index": rows,
        "views": torch.arange(2).repeat(ROWS),
    }


CASES = [MMTCase()]
