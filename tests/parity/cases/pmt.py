"""PMT, ``configs/pmt/sysu.yml``: network, images, losses, both stages, optimizer, schedule.

The script's own ``train(epoch)`` runs, with epochs of the warm-up and of both stages, on its own
network and transforms. The network is small: two blocks of 32 channels and patches of 8 pixels, in
the place of twelve of 768 and of 16. Dropout and drop-path, which the two sides draw differently,
are 0. The epsilon of this package's layer norms, which is that of timm, becomes that of the code.
"""

import contextlib
import functools
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from vireid_plugins.data import build_transforms
from vireid_plugins.data.dataset import collate
from vireid_plugins.data.transforms.channels import NormalizedTransform
from vireid_plugins.data.transforms.plain import ToTensor
from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modality import Modality
from vireid_plugins.solver import build_lr_scheduler, build_optimizer

from ..case import Case
from ..numbers import picture, pil, uniform
from ..public import seed_all
from ..side import STEPS, Side

CLASSES, IDENTITIES, IMAGES = 7, 3, 4
ROWS = IDENTITIES * IMAGES  # of each modality
SIZE, PATCH, STRIDE, WIDTH = (32, 16), 8, 6, 32
NETWORK = {"depth": 2, "embed_dim": WIDTH, "num_heads": 2, "patch_size": PATCH}
EPOCHS = (1, 2, 3, 5, 6, 7, 8, 12, 23, 24)  # of the steps, counted from 1, as in the code
EPSILON = 1e-5  # of nn.LayerNorm, in the code
WEIGHTS = {"criterion_DCL": ("loss_dcl", 0.5), "criterion_MSEL": ("loss_msel", 0.5)}


class PMTCase(Case):
    name = "pmt"
    repository = "hulu88/PMT"
    commit = "0b31da97b06428473bc4a1134b322ea226340818"
    script = "Pytorch-PMT-VI-ReID/train.py"
    variants = ("on",)

    def ours(self, variant):
        cfg = config()
        model = build_model(cfg).double().train()
        for name in ("PIXEL_MEAN", "PIXEL_STD"):
            setattr(model, name.lower(), exact(cfg.MODEL[name]).unsqueeze(0))
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = EPSILON
        tensors = {public_name(name): value for name, value in tensors_of(model).items()}
        set_initial(tensors)
        optimizer = build_optimizer(cfg, model)
        schedule = build_lr_scheduler(cfg, optimizer, iters_per_epoch=1)["lr_sched"]
        transforms = exact_transforms(cfg)

        def step(number):
            epoch = EPOCHS[number] - 1
            schedule.set(epoch)
            model.phase = model.phase_of(epoch)
            terms = model(our_batch(transforms.at_epoch(epoch), number))
            optimizer.zero_grad()
            total = sum(terms.values())
            total.backward()
            optimizer.step()
            return {**filled(terms), "total": total.item()}

        return Side(lambda: comparable(tensors), step)

    def theirs(self, public, variant):
        settings = public.module("config.config").cfg
        settings.merge_from_file(str(Path(public.folder, "config", "SYSU.yml")))
        settings.merge_from_list(
            [
                *("H", SIZE[0], "W", SIZE[1], "STRIDE_SIZE", [STRIDE, STRIDE]),
                *("DROP_OUT", 0.0, "DROP_PATH", 0.0, "PRETRAIN_PATH", ""),
            ]
        )
        values = public.run(
            "train.py",
            ("parser", "args", "optimizer", "scheduler", "scaler", "train")
            + ("criterion_ID", "criterion_Tri", "criterion_DCL", "criterion_MSEL")
            + ("loss_meter", "loss_ce_meter", "loss_tri_meter", "acc_rgb_meter", "acc_ir_meter"),
            model=network(public, settings),
            device="cpu",
        )
        transforms = public.module("transforms")
        tensors = tensors_of(values["model"])
        seen = {}
        for name in ("criterion_ID", "criterion_Tri", *WEIGHTS):
            values[name].register_forward_hook(functools.partial(read, seen, name))

        def step(number):
            seen.clear()
            seen["epoch"] = EPOCHS[number]
            values["trainloader"] = [their_batch(transforms, number)]
            with mock.patch.object(torch.cuda, "synchronize", lambda *_: None):
                values["train"](EPOCHS[number])
            del seen["epoch"]
            return {**filled(seen), "total": values["loss_meter"].val}

        return Side(lambda: comparable(tensors), step)


def read(seen, name, module, inputs, output):
    """Add the weighted value of a criterion of the script to ``seen``."""
    triplet = "loss_intra_triplet" if seen["epoch"] <= 6 else "loss_batch_hard"
    names = {"criterion_ID": ("loss_id", 1.0), "criterion_Tri": (triplet, 1.0), **WEIGHTS}
    term, weight = names[name]
    seen[term] = seen.get(term, 0.0) + weight * output.item()


def filled(terms):
    """Return the terms of both stages; those that a stage does not have are 0."""
    names = ("loss_id", "loss_intra_triplet", "loss_batch_hard", "loss_dcl", "loss_msel")
    assert set(terms) <= set(names)
    return {name: float(torch.as_tensor(terms.get(name, 0.0)).detach()) for name in names}


def target_of(number):
    """Return the identity of pair ``number``, counted over all steps."""
    step, pair = divmod(number, ROWS)
    return (step + pair // IMAGES) % CLASSES


def picture_of(number, modality):
    return pil(picture(f"{modality.label} {number}", SIZE, modality == Modality.INFRARED))


def set_initial(tensors):
    """Set all tensors by their public names."""
    with torch.no_grad():
        for name, value in tensors.items():
            numbers = uniform(name, value.shape)
            if name.endswith("running_mean") or name == "bottleneck.bias":
                numbers = torch.zeros_like(numbers)
            elif name.endswith("running_var"):
                numbers = torch.ones_like(numbers)
            elif name.endswith(("cls_token", "pos_embed")):
                numbers = 0.5 * numbers
            elif value.dim() > 1:
                numbers = numbers * value[0].numel() ** -0.5
            elif name.endswith("weight"):
                numbers = 1 + 0.1 * numbers
            else:
                numbers = 0.02 * numbers
            value.copy_(numbers)


def tensors_of(model):
    """Return parameters and statistics of batch norm by name."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    left_out = ("num_batches_tracked", "pixel_mean", "pixel_std")
    return {n: value for n, value in state.items() if not n.endswith(left_out)}


def comparable(tensors):
    """Return the tensors without those that have no influence.

    The last norm's bias moves all features alike, which distances and batch norm do not see, and a
    bias of all keys moves all scores of a query alike. Their gradients are 0 but for rounding, and
    Adam makes steps of it.
    """
    found = {name: value for name, value in tensors.items() if name != "base.norm.bias"}
    for name, value in found.items():
        if name.endswith("attn.qkv.bias"):
            found[name] = torch.cat([value[:WIDTH], value[2 * WIDTH :]])
    return found


# this package


def config():
    """Return the config of SYSU-MM01 with a small network and small images."""
    options = [f"{name}={value}" for name, value in NETWORK.items()]
    return build_config(
        "configs/pmt/sysu.yml",
        [
            *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"),
            *("MODEL.BACKBONE.TIMM_OPTIONS", str(options), "MODEL.HEADS.NUM_CLASSES", str(CLASSES)),
            *("MODEL.BACKBONE.STRIDE_SIZE", str([STRIDE, STRIDE])),
            *("MODEL.BACKBONE.DROP_RATIO", "0.0", "MODEL.BACKBONE.DROP_PATH_RATIO", "0.0"),
            *("INPUT.SIZE_TRAIN", str(list(SIZE)), "INPUT.SIZE_TEST", str(list(SIZE))),
        ],
    )


def exact(values):
    return torch.tensor(list(values), dtype=torch.float64).view(3, 1, 1)


def exact_transforms(cfg):
    """Return the training transforms of a config, in float64 from ``ToTensor`` on."""
    transforms = build_transforms(cfg, is_train=True)
    mean, std = exact(cfg.MODEL.PIXEL_MEAN), exact(cfg.MODEL.PIXEL_STD)
    for chain in (c for views in transforms.chains.values() for c in views):
        for step in chain:
            if isinstance(step, NormalizedTransform):
                step.mean, step.std = mean, std
            if isinstance(step, ToTensor):
                step._apply = in_double(step._apply)
    return transforms


def in_double(apply):
    return lambda image: apply(image).double()


def our_batch(transforms, step):
    """Return the batch of a step; each image has draws of its own."""
    return collate([our_sample(transforms, n, m) for n in numbers_of(step) for m in Modality])


def our_sample(transforms, number, modality):
    seed_all(2 * number + int(modality))
    return {
        "images": transforms(picture_of(number, modality), modality),
        "targets": target_of(number),
        "modalities": int(modality),
        "camids": int(modality),
        "index": 2 * number + int(modality),
    }


def numbers_of(step):
    return range(step * ROWS, (step + 1) * ROWS)


def public_name(name):
    """Return the public name of a tensor of this package's model."""
    first, _, rest = name.partition(".")
    if first == "heads":
        return {"weight": "classifier.weight"}.get(rest, f"bottleneck.{rest.split('.')[-1]}")
    part, _, rest = rest.partition(".")
    if part == "sequence":
        return f"base.{rest}"
    stage, _, rest = rest.partition(".")
    if stage == "embedding":
        return f"base.patch_embed.{rest}"
    if rest.startswith("norm."):
        return f"base.{rest}"
    return f"base.blocks.{int(stage[len('block') :]) - 1}.{rest[len('block.') :]}"


# the public code


def network(public, settings):
    """Return the code's network, small and without weights from a file."""
    made = public.module("model.make_model")
    kind = made.ViT
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(kind, "load_param", lambda self, path: None))
        stack.enter_context(mock.patch.object(made, "ViT", functools.partial(kind, **NETWORK)))
        model = made.build_vision_transformer(num_classes=CLASSES, cfg=settings)
    model.classifier = nn.Linear(WIDTH, CLASSES, bias=False)
    model.bottleneck = nn.BatchNorm1d(WIDTH)
    model.bottleneck.bias.requires_grad_(False)
    set_initial(tensors_of(model))
    return model


def their_batch(transforms, step):
    """Return the batch of a step, through the transforms of its stage."""
    first = transforms.transform_rgb2gray if EPOCHS[step] <= 6 else transforms.transform_rgb
    chains = {Modality.VISIBLE: first, Modality.INFRARED: transforms.transform_thermal}
    images = [
        torch.stack([their_image(chains[m], n, m) for n in numbers_of(step)]) for m in Modality
    ]
    targets = torch.tensor([target_of(number) for number in numbers_of(step)])
    return (*images, targets, targets)


def their_image(chain, number, modality):
    seed_all(2 * number + int(modality))
    return chain(picture(f"{modality.label} {number}", SIZE, modality == Modality.INFRARED))


assert len(EPOCHS) == STEPS
CASES = [PMTCase()]
