"""CrossViT: ten steps of a small one, embeddings, encoders and the exchange between its branches.

The encoders within a branch are timm's on both sides: the public file imports them from an old
timm. Images are resized for the fine branch, as the public network does it.
"""

import importlib
import re
import sys
import types
from functools import partial
from unittest import mock

import torch
from torch import nn

from vireid_plugins.modeling.backbones import DualStreamCrossViT
from vireid_plugins.modeling.backbones.vit.crossvit_loading import places_of

from ..case import Case
from ..numbers import uniform
from ..side import Side

SIZE, ROWS = 32, 6  # pixels, of both sides of an image; images of a batch
FINE, COARSE = 24, 32  # pixels that the branches see
SIZES = {
    "patch_size": (12, 16),
    "embed_dim": (8, 12),
    "num_heads": (2, 3),
    "mlp_ratio": (2, 2, 1),
    "num_classes": 0,
}
DEPTHS = {"exchange": ((1, 2, 0), (1, 1, 0)), "exchange_1": ((1, 1, 1),)}


class CrossViT(Case):
    name = "crossvit"
    repository = "IBM/CrossViT"
    commit = "3f7ab77c5728b1c31a2d5cc6185ee9c7e754d952"
    script = "models/crossvit.py"
    variants = tuple(DEPTHS)
    needs = ("timm",)

    def ours(self, variant):
        crossvit = importlib.import_module("timm.models.crossvit")
        plain = crossvit.CrossVit(
            img_size=SIZE, img_scale=(FINE / SIZE, 1.0), depth=DEPTHS[variant], **SIZES
        )
        shapes = {of_ibm(name): value.shape for name, value in plain.state_dict().items()}
        backbone = DualStreamCrossViT(
            network=plain, image_size=(SIZE, SIZE), branch_scales=(FINE / SIZE, 1.0)
        ).train()
        backbone.load_ordinary({name: initial(name, shape) for name, shape in shapes.items()})
        places = {name: places_of(backbone, name)[0] for name in shapes}
        modalities = torch.arange(ROWS) % 2

        def tensors():
            state = backbone.state_dict()
            return {name: state[place] for name, place in places.items()}

        def features(images):
            return backbone(images, modalities)[..., 0, 0]

        return Side(tensors, stepper(backbone, features))

    def theirs(self, public, variant):
        with old_timm():
            module = public.module("crossvit")
        # of the arguments, the present class calls one otherwise
        block = importlib.import_module("timm.models.vision_transformer").Block
        module.Block = lambda drop, qk_scale=None, **options: block(proj_drop=drop, **options)
        network = module.VisionTransformer(
            img_size=[FINE, COARSE],
            depth=[list(one) for one in DEPTHS[variant]],
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            **SIZES,
        ).train()
        network.load_state_dict({n: initial(n, v.shape) for n, v in network.state_dict().items()})

        def features(images):
            return torch.cat(network.forward_features(images), dim=1)

        return Side(network.state_dict, stepper(network, features))


def of_ibm(name):
    """Return IBM's name of a tensor of timm's CrossViT."""
    return re.sub(r"^(pos_embed|cls_token)_", r"\1.", name)


def old_timm():
    """Let the names be imported that timm had when the public code was written."""
    registry = types.ModuleType("timm.models.registry")
    registry.register_model = lambda function: function
    layers = importlib.import_module("timm.layers")
    modules = {"timm.models.registry": registry, "timm.models.layers": layers}
    return mock.patch.dict(sys.modules, modules)


def initial(name, shape):
    numbers = uniform(name, shape)
    if len(shape) == 4:
        return 0.1 * numbers
    if len(shape) == 2:
        return numbers * shape[1] ** -0.5
    if len(shape) == 3:  # tokens and positions
        return 0.5 * numbers
    return 0.1 * numbers + ("norm" in name and name.endswith("weight"))


def stepper(network, features):
    """Return a step of SGD with momentum toward given class tokens."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)

    def step(number):
        found = features(uniform(f"images {number}", (ROWS, 3, SIZE, SIZE)))
        loss = (found - uniform(f"tokens {number}", found.shape)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item()}

    return step


CASES = [CrossViT()]
