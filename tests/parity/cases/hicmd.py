"""Hi-CMD: encoders, decoder, discriminators, every loss and three optimizers.

The public ``HICMD.dis_update`` and ``gen_update`` run as they are, with dropout, on networks of few
channels: its ResNets are replaced by ``Network``, of 64 channels, on both sides. The keys ``SAME``
and ``CYCLE`` are as in the code. Left out are its random erasing, which works in float32 only; the
running statistics of the shared layers, which the code updates in another order; and the biases in
front of a normalization that takes a mean away: no loss depends on them, so their gradients are
rounding, which Adam turns into steps.
"""

import contextlib
import importlib.util
import re
import sys
import types
from unittest import mock

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from vireid_plugins.engine.setup import build_config
from vireid_plugins.engine.turns import build_stepper
from vireid_plugins.modeling.backbones.dual_stream_resnet import DualStreamResNet
from vireid_plugins.modeling.generation import Mix, Settings, build_id_pig
from vireid_plugins.modeling.generation.blocks import LayerNorm
from vireid_plugins.modeling.heads.hicmd_head import HiCMDHead
from vireid_plugins.modeling.losses import LossTerms
from vireid_plugins.modeling.meta_arch import HiCMD
from vireid_plugins.solver import build_optimizer

from fastreid.utils.events import EventStorage

from ..case import Case
from ..numbers import uniform
from ..public import opened, seed_all
from ..side import Side, in_float64, matrix_convolution, trace

SIZE, CHANNELS, CLASSES, FEATURES, TRIPLET = (48, 48), 64, 9, 24, 12
MLP_WIDTH, JUDGE_WIDTH = 8, 4
SHARE = "combine_weight"
#: identities of two pairs, and of two visible and two infrared images of others
PAIRED, OTHERS = [1, 4], [[0, 6], [2, 7]]
TERMS = {
    "loss_discriminators": "loss_dis_total",
    "loss_same": "loss_gen_recon_x",
    "loss_cross": "loss_gen_cross_x",
    "loss_cycle": "loss_gen_cyc_x",
    "loss_code": "loss_gen_recon_s",
    "loss_kl": "loss_gen_kl",
    "loss_gan": "loss_gen_adv",
    "loss_id": "loss_CE",
    "loss_triplet": "loss_trip",
}


class Network(nn.Module):
    """A ResNet of 64 channels in each layer."""

    def __init__(self, pretrained=False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, CHANNELS, 7, 2, 3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(CHANNELS), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
        for place, stride in enumerate((1, 2, 2, 2), start=1):
            down = nn.Conv2d(CHANNELS, CHANNELS, 1, stride) if stride > 1 else None
            block = BasicBlock(CHANNELS, CHANNELS, stride, down)
            setattr(self, f"layer{place}", nn.Sequential(block))


def batch_of(step):
    """Return the images of a step: visible and infrared ones of the pairs, then of the others."""
    return [uniform(f"images {step} {part}", (2, 3, *SIZE)) for part in range(4)]


def named(part, *modules, statistics=True):
    """Return the tensors of the layers inside some modules, by names that both sides have.

    The modules of the two sides have other names, and the same order.
    """
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.BatchNorm1d)
    layers = [one for module in modules for one in module.modules() if isinstance(one, kinds)]
    found = {}
    for place, layer in enumerate(layers):
        for name, value in layer.state_dict(keep_vars=True).items():
            if "num_batches" not in name and (statistics or "running" not in name):
                found[f"{part}.{place}.{name}"] = value
    norms = [
        m for module in modules for m in module.modules() if type(m).__name__ == LayerNorm.__name__
    ]
    for place, norm in enumerate(norms):
        found.update(zip((f"{part}.ln{place}.weight", f"{part}.ln{place}.bias"), norm.parameters()))
    return found


def fill(tensors):
    """Set all tensors to their initial values, in place."""
    with torch.no_grad():
        for name, value in tensors.items():
            if "running" in name:
                continue
            numbers = uniform(name.replace("IR", "RGB"), value.shape)  # copies in the code
            if name == SHARE:
                value.fill_(0.5)
            elif value.dim() == 1 and name.endswith("weight"):
                value.copy_(1 + 0.1 * numbers)
            elif value.dim() > 1:
                value.copy_(numbers * (1.5 / value[0].numel()) ** 0.5)
            else:
                value.copy_(0.05 * numbers)


class Loader(list):
    class batch_sampler:
        set_epoch = staticmethod(lambda epoch: None)


class Generation(Case):
    name = "hicmd"
    repository = "bismex/HiCMD"
    commit = "48a96edafa16612725ac48b3d925a3cf00eda52f"
    script = "trainer.py"
    variants = ("on",)

    def trace_theirs(self, checkout, variant):
        with in_float64(), opened(checkout) as public:
            return trace(self.theirs(public, variant))

    def ours(self, variant):
        words = "MODEL.DEVICE cpu MODEL.HICMD.SAME paired MODEL.HICMD.CYCLE kept "
        words += f"MODEL.HICMD.MLP_WIDTH {MLP_WIDTH} MODEL.HICMD.DISCRIMINATOR_WIDTH {JUDGE_WIDTH}"
        cfg = build_config("hicmd/sysu.yml", words.split())
        deep = Network()
        length = CHANNELS + CHANNELS // 2
        model = HiCMD(
            backbone=DualStreamResNet(network=Network(), unshared_stages=5),
            heads=HiCMDHead(
                in_channels=length,
                num_classes=CLASSES,
                embedding_dim=FEATURES,
                triplet_dim=TRIPLET,
            ),
            loss_terms=LossTerms({}, {}),
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
            layers=nn.Sequential(deep.layer2, deep.layer3),
            prototype_width=CHANNELS // 8,
            mix=Mix(cfg.MODEL.HICMD.MIX_LR),
            id_pig=build_id_pig(cfg, CHANNELS // 8, CHANNELS),
            erasing=0.0,
            settings=Settings.from_config(cfg),
        )
        fill(tensors_here(model))
        targets = torch.tensor(PAIRED * 2 + OTHERS[0] + OTHERS[1])
        modalities = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
        optimizer, found = build_optimizer(cfg, model), {}

        def keep(module, inputs, terms):  # the log has them in float32
            found.update({name: float(term.detach()) for name, term in terms.items()})

        model.register_forward_hook(keep)

        def step(number):
            seed_all(number)
            images = torch.cat(batch_of(number))
            batch = {"images": images, "targets": targets, "modalities": modalities}
            batch["index"] = torch.arange(len(targets))
            stepper = build_stepper(model, Loader([batch]), optimizer)
            stepper.start_epoch(0)
            found.clear()
            with EventStorage(number):
                stepper.iter = number
                seed_all(number)
                stepper.run_step()
            found["loss_discriminators"] = found["loss_discriminator"] + found["loss_penalty"]
            return {name: found[name] for name in TERMS}

        return Side(lambda: without_idle(tensors_here(model)), step)

    def theirs(self, public, variant):
        stand_ins = ("cv2", "pretrainedmodels", "seaborn", "pandas", "sklearn.manifold", "yaml")
        absent = {name: mock.MagicMock() for name in stand_ins if not _is_here(name)}
        with mock.patch.dict(sys.modules, absent):
            options = public.module("set_option")
            trainer = public.module("trainer")
        opt = options.opt_model(types.SimpleNamespace(flag_exp=1, data_name="RegDB_01"))
        opt.use_gpu, opt.nclasses = True, CLASSES
        opt.G_dim, opt.D_dim, opt.G_mlp_dim = CHANNELS // 8, JUDGE_WIDTH, MLP_WIDTH
        opt.fc1_channel, opt.fc2_channel = FEATURES, TRIPLET
        opt.G_style_resnet_depth = opt.backbone_pro_resnet_depth = 18
        opt.G_style_pretrained = opt.backbone_pro_pretrained = False
        opt.backbone_pro_max_ouput_dim = 4 * CHANNELS  # layer2 and layer3 of a small ResNet
        for name in ("ft_resnet", "ft_resnet2"):
            vars(getattr(trainer, name))[f"_{name}__factory"][18] = Network
            setattr(trainer, name, with_length(getattr(trainer, name)))
        model = trainer.HICMD(opt)
        model.to_re = lambda images: images.clone()
        model.is_neg, model.cnt_cumul = True, 2
        model.case_a, model.case_b = "RGB", "IR"
        model.labels_a = model.labels_b = torch.tensor(PAIRED)
        model.labels_neg_a, model.labels_neg_b = map(torch.tensor, OTHERS)
        fill(tensors_there(model))
        model.train()

        def step(number):
            visible, infrared, other_visible, other_infrared = batch_of(number)
            seed_all(number)
            with contextlib.ExitStack() as stack:
                # on a GPU the result is no leaf, so that it can be filled in place
                clone = mock.patch.object(torch.Tensor, "cuda", lambda one: one.clone())
                stack.enter_context(clone)
                stack.enter_context(mock.patch.object(nn.Conv2d, "_conv_forward", convolution))
                model.dis_update(visible.clone(), infrared.clone(), opt, "train")
                parts = visible, infrared, other_visible, other_infrared
                model.gen_update(*(one.clone() for one in parts), opt, "train")
            return {name: float(getattr(model, attribute)) for name, attribute in TERMS.items()}

        return Side(lambda: without_idle(tensors_there(model)), step)


def convolution(*arguments):
    """Convolve as ``matrix_convolution``; the result lies in memory as PyTorch's own does."""
    return matrix_convolution(*arguments).contiguous()


def with_length(kind):
    """Return a class of the public code whose networks say how long their output is here."""

    class Short(kind):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.output_dim = CHANNELS

    return Short


def tensors_here(model):
    found = {}
    for kind, label in (("RGB", "visible"), ("IR", "infrared")):
        stages = getattr(model.backbone, label)
        found.update(named(f"enc_att {kind}", stages))
        found.update(named(f"enc_pro {kind}", model.prototypes[label]))
        found.update(named(f"dis {kind}", model.id_pig.discriminators[label]))
    decoder, head = model.id_pig.decoder, model.heads
    found.update(named("dec", decoder.blocks, decoder.painter))
    found.update(named("mlp", decoder.scales, decoder.shifts))
    found.update(named("backbone_pro", model.layers, statistics=False))
    order = (head.embedding, head.bottleneck, head.triplet, head.classifier)
    found.update(named("classifier", *order))
    found[SHARE] = model.mix.weight.view(1)
    return found


def tensors_there(model):
    found = {}
    for kind in ("RGB", "IR"):
        encoders = getattr(model, f"gen_{kind}")
        found.update(named(f"enc_att {kind}", encoders.enc_att))
        found.update(named(f"enc_pro {kind}", encoders.enc_pro))
        found.update(named(f"dis {kind}", getattr(model, f"dis_{kind}")))
    decoder, deep = model.gen_RGB.dec, model.backbone_pro.model
    found.update(named("dec", decoder.model))
    mlps = [getattr(decoder, f"mlp_{kind}{place}") for kind in "wb" for place in (1, 2, 3, 4)]
    found.update(named("mlp", *mlps))
    found.update(named("backbone_pro", deep.layer2, deep.layer3, statistics=False))
    block = model.id_classifier.classifier
    found.update(named("classifier", block.add_block, block.add_block2, block.classifier))
    found[SHARE] = model.combine_weight.multp.view(1)
    return found


def without_idle(tensors):
    """Return the tensors without the biases that a normalization takes away again."""
    idle = re.compile(r"enc_pro \w+\.\d+\.bias|dec\.[0-7]\.bias|classifier\.0\.bias")
    return {name: value for name, value in tensors.items() if not idle.fullmatch(name)}


def _is_here(name):
    return importlib.util.find_spec(name.split(".")[0]) is not None


CASES = [Generation()]
