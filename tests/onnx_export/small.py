"""Models of seconds, with random weights that make features differ."""

import torch
from torch import nn

from fastreid.modeling.meta_arch import build_model

from tests.engine.small import small_cfg

# A map of 2 x 1, which two stripes cut.
SMALL = {
    "MODEL__BACKBONE__LAST_STRIDE": 1,
    "MODEL__HEADS__NUM_CLASSES": 8,
    "MODEL__HEADS__NUM_STRIPES": 2,
    "MODEL__HEADS__ATTENTION__STRIPES": 2,
    "MODEL__HEADS__ATTENTION__KEPT": 1,
    "MODEL__MSCLNET__PARTS": 2,
}


def small_model(config, **overrides):
    """A config and its model, in evaluation mode."""
    cfg = small_cfg("unused", config, **{**SMALL, **overrides})
    model = build_model(cfg).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # nothing stays at a special value
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return cfg, model


def small_checkpoint(path, config="configs/agw/synthetic.yml", **overrides):
    """A checkpoint that says of itself what ``FeatureExtractor`` reads."""
    cfg, model = small_model(config, **overrides)
    facts = {"config": cfg.dump(), "num_classes": cfg.MODEL.HEADS.NUM_CLASSES}
    torch.save({"model": model.state_dict(), "vireid": facts}, path)
    return path
