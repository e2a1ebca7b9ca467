"""AGW's two-stream ResNet-50 and its relatives: this package's side, and the public one.

Both sides read the same pictures, take their own transforms, and draw from generators that are
seeded with the number of the step. Constants that the pipelines hold in float32 are float64 here,
so that rounding is not in the comparison. Five steps have the rates of epoch 0, five of epoch 1.
"""

from types import SimpleNamespace

import numpy as np
import torch
from torchvision import transforms

from vireid_plugins.data import build_transforms
from vireid_plugins.data.dataset import collate
from vireid_plugins.data.transforms.channels import NormalizedTransform
from vireid_plugins.data.transforms.plain import ToTensor
from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modality import Modality
from vireid_plugins.solver import build_lr_scheduler, build_optimizer

from .case import Case
from .numbers import initial, picture, pil
from .public import Stepper, seed_all, without_weights
from .side import STEPS, Side

CLASSES, IDENTITIES, IMAGES = 395, 2, 2  # classes of SYSU-MM01; of each identity in each modality
PAIRS = IDENTITIES * IMAGES
SIZE = (48, 24)
AUGMENTATIONS = (
    *("PADDING", "FLIP", "GREY"),
    *("CHANNEL_ERASING", "CHANNEL_EXCHANGE", "ADAPTIVE_GREY"),
)


class TwoStream(Case):
    """A config of this package beside a script that trains ``embed_net`` on ``SYSUData``.

    Args:
        name, repository, commit, script: see ``Case``.
        config: file below ``configs``, without its ending.
        words: the script's command line; sizes are added.
        terms: for each loss term of this package, the script's module that computes it, and the
            weight that the script gives it.
        twice: whether the first visible image of each batch is drawn again for the second pair, in
            variant "on".
    """

    def __init__(self, name, *, repository, commit, script, config, words, terms, twice=False):
        self.name, self.repository, self.commit, self.script = name, repository, commit, script
        self.config, self.words, self.terms, self.twice = config, words, terms, twice

    def visible(self, variant):
        """Return the visible image of each pair of all steps, (steps * pairs,)."""
        numbers = np.arange(STEPS * PAIRS)
        repeated = self.twice and variant == "on"
        return numbers - (numbers % PAIRS == 1) * repeated

    def ours(self, variant):
        return ours(self.config, variant == "on", self.visible(variant))

    def theirs(self, public, variant):
        script = self.script.split("/")[-1]
        augmented, visible = variant == "on", self.visible(variant)
        return theirs(public, script, augmented, visible, self.words, self.terms)


def target_of(number):
    """Return the identity of pair ``number``, counted over all steps."""
    step, pair = divmod(number, PAIRS)
    return (step + pair // IMAGES) % CLASSES


def epoch_of(step):
    return step // (STEPS // 2)


def pictures(modality):
    return [
        picture(f"{modality.label} {number}", SIZE, modality == Modality.INFRARED)
        for number in range(STEPS * PAIRS)
    ]


# this package


def ours(config, augmented, visible):
    """Return this package's side with a config of ``configs/``; see ``TwoStream``."""
    words = [
        *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"),
        *("MODEL.HEADS.NUM_CLASSES", str(CLASSES), "INPUT.SIZE_TRAIN", str(list(SIZE))),
    ]
    if not augmented:
        words += [w for node in AUGMENTATIONS for w in (f"INPUT.{node}.ENABLED", "False")]
    cfg = build_config(f"configs/{config}.yml", words)
    model = build_model(cfg).double().train()
    for name in ("PIXEL_MEAN", "PIXEL_STD"):
        setattr(model, name.lower(), exact(cfg.MODEL[name]).unsqueeze(0))
    tensors = {public_name(name): value for name, value in tensors_of(model).items()}
    set_initial(tensors)
    optimizer = build_optimizer(cfg, model)
    schedule = build_lr_scheduler(cfg, optimizer, iters_per_epoch=1)["lr_sched"]
    batches = Batches(cfg, visible)

    def step(number):
        schedule.set(epoch_of(number))
        terms = model(batches[number])
        optimizer.zero_grad()
        total = sum(terms.values())
        total.backward()
        optimizer.step()
        model.after_step()
        return {**{name: term.item() for name, term in terms.items()}, "total": total.item()}

    return Side(lambda: tensors, step)


def exact(values):
    return torch.tensor(list(values), dtype=torch.float64).view(3, 1, 1)


class Batches:
    """The batches of all steps, through the training transforms of a config, in float64."""

    def __init__(self, cfg, visible):
        self.visible = visible
        self.transforms = build_transforms(cfg, is_train=True)
        mean, std = exact(cfg.MODEL.PIXEL_MEAN), exact(cfg.MODEL.PIXEL_STD)
        for chain in (c for views in self.transforms.chains.values() for c in views):
            for step in chain:
                if isinstance(step, NormalizedTransform):
                    step.mean, step.std = mean, std
            place = next(i for i, step in enumerate(chain) if isinstance(step, ToTensor))
            chain.insert(place + 1, torch.Tensor.double)
        self.pictures = {modality: pictures(modality) for modality in Modality}

    def __getitem__(self, step):
        seed_all(step)
        return collate(
            [
                self.sample(step * PAIRS + pair, modality)
                for pair in range(PAIRS)
                for modality in Modality
            ]
        )

    def sample(self, number, modality):
        if modality == Modality.VISIBLE:
            number = int(self.visible[number])
        return {
            "images": self.transforms(pil(self.pictures[modality][number]), modality),
            "targets": target_of(number),
            "modalities": int(modality),
            "camids": int(modality),
            "index": 2 * number + int(modality),
        }


def tensors_of(model):
    """Return parameters and statistics of batch norm by name."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    left_out = ("num_batches_tracked", "pixel_mean", "pixel_std")
    return {n: value for n, value in state.items() if not n.endswith(left_out)}


def public_name(name):
    """Return the public name of a tensor of this package's model."""
    if name.startswith("heads."):
        return {"heads.weight": "classifier.weight"}.get(name, f"bottleneck.{name.split('.')[-1]}")
    _, stream, stage, rest = name.split(".", 3)
    if stage == "stem":
        stem = {"visible": "visible_module.visible", "infrared": "thermal_module.thermal"}
        return f"{stem[stream]}.{rest}"
    if not rest.startswith("non_local."):
        return f"base_resnet.base.{stage}.{rest}"
    _, block, rest = rest.split(".", 2)
    first = {"layer2": 2, "layer3": 3}[stage]  # [0, 2, 3, 0] of [3, 4, 6, 3] blocks
    return f"NL_{stage[-1]}.{int(block) - first}.{rest.replace('g.', 'g.0.')}"


def set_initial(tensors):
    """Set all tensors by their public names; both stems are the same, as from one file."""
    with torch.no_grad():
        for name, value in tensors.items():
            name = name.replace("thermal_module.thermal", "visible_module.visible")
            value.copy_(initial(name, value.shape))
        tensors["bottleneck.bias"].zero_()


# the public code


def theirs(public, script, augmented, visible, words, terms):
    """Return the side of a script that trains ``embed_net`` on its ``SYSUData``.

    Args:
        public: the folder of the script.
        script: its file name.
        augmented: with its own transforms, or only normalized.
        visible: the visible image of each pair.
        words: its command line; sizes are added.
        terms: see ``TwoStream``.
    """
    public.module("model").resnet50 = without_weights(public.module("resnet").resnet50)
    values = public.run(
        script,
        (
            "parser",
            "args",
            "normalize",
            "transform_train_list",
            "transform_train",
            "net",
            "optimizer",
        )
        + ("criterion_id", "criterion_tri", "criterion_kl", "loss_ws")
        + ("adjust_learning_rate", "train"),
        (*words, *("--img_h", str(SIZE[0]), "--img_w", str(SIZE[1]))),
        n_class=CLASSES,
        device="cpu",
    )
    data = dataset(public, values, augmented)
    data.cIndex = visible
    tensors = tensors_of(values["net"])
    set_initial(tensors)
    step = Stepper(values, lambda number: one_batch(data, number), terms, epoch_of)
    moving = {n: v for n, v in tensors.items() if not _unused(n)}
    return Side(lambda: moving, step)


def _unused(name):
    """Return whether a tensor belongs to a copy of ResNet-50 whose stem alone is used, or else."""
    module, _, rest = name.partition(".")
    part = rest.split(".")[1] if module.endswith(("_module", "_resnet")) else ""
    stem = part in ("conv1", "bn1")
    return bool(part) and (stem if module == "base_resnet" else not stem)


def dataset(public, values, augmented):
    """Return the script's own data set of our pictures, with its own transforms."""
    modalities = {"rgb": Modality.VISIBLE, "ir": Modality.INFRARED}
    targets = np.array([target_of(number) for number in range(STEPS * PAIRS)])

    def load(path):
        _, word, _, kind = path.split("/")[-1][: -len(".npy")].split("_")
        return targets if kind == "label" else np.stack(pictures(modalities[word]))

    public.module("data_loader").np = SimpleNamespace(load=load)
    everything = np.arange(len(targets))
    data = values["SYSUData"](
        "", transform=values.get("transform_train"), colorIndex=everything, thermalIndex=everything
    )
    for chain in vars(data).values():
        if isinstance(chain, transforms.Compose):
            chain.transforms = [resized(step) for step in chain.transforms]
            if not augmented:
                kept = (transforms.ToPILImage, transforms.ToTensor, transforms.Normalize)
                chain.transforms = [step for step in chain.transforms if isinstance(step, kept)]
    data.cIndex = data.tIndex = everything
    return data


def resized(step):
    """Set the size of a crop, which the script fixes for its data set, to ours."""
    if isinstance(step, transforms.RandomCrop):
        step.size = SIZE
    return step


def one_batch(data, number):
    """Return the batch of a step, as the script's loader would collate it."""
    seed_all(number)
    rows = [data[number * PAIRS + pair] for pair in range(PAIRS)]
    return torch.utils.data.dataloader.default_collate(rows)
