"""NFormer's second stage: its module, losses and both optimizers, on given features.

The script's own update runs (``create_supervised_nformer_trainer``), without ignite, whose
``Engine`` only calls it. Landmarks are drawn by Python's generator on both sides, as in the public
code. ``off`` and ``on`` are dropout.
"""

import random
import sys
import types
from unittest import mock

import torch
from torch import nn

from vireid_plugins.engine.setup import build_config
from vireid_plugins.modeling.losses import build_losses
from vireid_plugins.modeling.meta_arch import NFormer
from vireid_plugins.solver import build_optimizer

from ..case import Case
from ..numbers import uniform
from ..public import opened, seed_all
from ..side import Side, in_float64, trace

SEQUENCES, ROWS, DIM, CLASSES, TOPK = 2, 40, 16, 8, 6
# names of a block's parts here and there
PARTS = {
    "attention.project_in": "attn.c_attn",
    "attention.project_out": "attn.c_proj",
    "expand": "mlp.c_fc",
    "contract": "mlp.c_proj",
    "norm_1": "ln_1",
    "norm_2": "ln_2",
}


def features_of(step):
    """Return features (S, L, D), several rows of each identity, and their labels (S, L)."""
    targets = torch.arange(SEQUENCES * ROWS).view(SEQUENCES, ROWS) % CLASSES
    centers = uniform("centers", (CLASSES, DIM))
    return centers[targets] + 0.7 * uniform(f"features {step}", (SEQUENCES, ROWS, DIM)), targets


def initial_of(name, value):
    """Return the initial value of the tensor with this public name."""
    numbers = uniform(name, value.shape)
    if name.endswith(("ln_1.g", "ln_2.g", "bottleneck.weight")):
        return 1 + 0.1 * numbers
    if "running" in name:
        return value.clone()
    return (0.3 if value.dim() > 1 else 0.1) * numbers


def fill(tensors):
    """Set the tensors with these public names to their initial values, in place."""
    with torch.no_grad():
        for name, value in tensors.items():
            value.copy_(initial_of(name, value))


def drop_counters(tensors):
    return {name: value for name, value in tensors.items() if "num_batches" not in name}


class Encoder(nn.Module):
    """Stands for the trained model, whose features are given."""

    def __init__(self):
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(1, 3, 1, 1), persistent=False)


class SecondStage(Case):
    name = "nformer"
    repository = "haochenheheda/NFormer"
    commit = "c78cb848c6b8cf64e973a1ee0ce14488d4904f8f"
    script = "engine/trainer.py"

    def trace_theirs(self, checkout, variant):
        with in_float64(), opened(checkout) as public:
            return trace(self.theirs(public, variant))

    def ours(self, variant):
        words = f"MODEL.DEVICE cpu MODEL.HEADS.NUM_CLASSES {CLASSES} MODEL.NFORMER.DIM {DIM}"
        words += f" MODEL.HEADS.EMBEDDING_DIM {DIM} MODEL.NFORMER.TOPK {TOPK}"
        words += f" MODEL.NFORMER.DROPOUT {0.1 if variant == 'on' else 0.0}"
        cfg = build_config("nformer/reference.yml", words.split())
        node = cfg.MODEL.NFORMER
        own = ("layers", "heads", "landmarks", "topk", "normalize_input", "dropout")
        model = NFormer(
            encoder=Encoder(),
            encoder_dim=DIM,
            num_classes=CLASSES,
            loss_terms=build_losses(cfg, ("features", "bn_features", "logits", "targets")),
            **{name: node[name.upper()] for name in own},
        )
        fill(names_there(model))
        optimizer = build_optimizer(cfg, model)

        def step(number):
            seed_all(number)
            features, targets = features_of(number)
            zeros = torch.zeros(targets.numel(), dtype=torch.int64)
            batch = {"features": features, "targets": targets.flatten(), "modalities": zeros}
            optimizer.zero_grad()
            with mock.patch.object(torch, "randperm", sampled):
                terms = model(batch)
            total = sum(terms.values())
            total.backward()
            optimizer.step()
            model.after_step()
            return {"total": total.item()}

        return Side(lambda: names_there(model), step)

    def theirs(self, public, variant):
        engine = types.ModuleType("ignite.engine")
        engine.Engine, engine.Events = (lambda update: update), None
        absent = ("ignite", "ignite.handlers", "ignite.metrics", "utils.reid_metric")
        absent += ("data.datasets.nformer",)
        stand_ins = {name: mock.MagicMock() for name in absent}
        with mock.patch.dict(sys.modules, {**stand_ins, "ignite.engine": engine}):
            values = public.run(self.script, ("create_supervised_nformer_trainer",))
        words = {
            **dict(N_EMBD=DIM, N_HEAD=2, N_LAYER=4, AFN="gelu", TOPK=TOPK, LANDMARK=5),
            **dict(RESID_PDROP=0.1 if variant == "on" else 0.0, IF_LABELSMOOTH="on"),
        }
        weight = 5e-4
        cfg = types.SimpleNamespace(
            MODEL=types.SimpleNamespace(**words),
            SOLVER=types.SimpleNamespace(MARGIN=0.3, CENTER_LOSS_WEIGHT=weight),
        )
        network = public.module("modeling.nformer").NFormer(cfg, num_classes=CLASSES)
        losses = public.module("layers")
        with mock.patch.object(losses, "CenterLoss", small_centers(losses.CenterLoss)):
            loss, centers = losses.make_nformer_loss_with_center(cfg, CLASSES)
        wrapped = Wrapped(network)
        # ``solver/build.py``: the optimizers of the second stage
        adam = torch.optim.Adam(network.parameters(), lr=1e-5, eps=1e-8, betas=[0.9, 0.999])
        sgd = torch.optim.SGD(centers.parameters(), lr=0.5)
        make = values["create_supervised_nformer_trainer"]
        update = make(wrapped, centers, adam, sgd, loss, weight)

        def tensors():
            return drop_counters({**network.state_dict(), **centers.state_dict()})

        def step(number):
            seed_all(number)
            return {"total": update(None, features_of(number))[0]}

        fill(tensors())
        return Side(tensors, step)


class Wrapped(nn.Module):
    """Has the second argument of the public model."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, rows, stage):
        assert stage == "nformer"
        return self.network(rows)


def small_centers(kind):
    """Return the public class with features of DIM numbers; the script has 256 fixed."""
    return lambda num_classes, feat_dim, use_gpu: kind(num_classes, DIM, use_gpu)


def sampled(count, generator=None):
    """Return a permutation that begins with the landmarks of the public code."""
    return torch.tensor(random.sample(range(count), 5))


def names_there(model):
    """Return the tensors of this package's model, under their public names and in their shapes."""
    found = {}
    for name, value in drop_counters(model.state_dict()).items():
        if name.startswith("transformer.blocks."):
            number, part = name.split(".", 3)[2:]
            module, kind = part.rsplit(".", 1)
            is_norm = module.startswith("norm")
            letter = {"weight": "g" if is_norm else "w", "bias": "b"}[kind]
            found[f"h.{number}.{PARTS[module]}.{letter}"] = value.mT if value.dim() > 1 else value
        elif name.startswith(("bottleneck", "classifier")):
            found[name] = value
        elif name.startswith("loss_terms.CenterLoss"):
            found["centers"] = value
    return found


CASES = [SecondStage()]
