"""What two processes compute together, in one start, for ``test_two_processes``."""

import importlib.util
import sys
from pathlib import Path

import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import vireid_plugins  # noqa: F401  first: it repairs FastReID
from vireid_plugins.engine.checks import check_run
from vireid_plugins.engine.launch import launch
from vireid_plugins.engine.parallel import wrap
from vireid_plugins.engine.setup import build_config
from vireid_plugins.engine.step import StepTrainer
from vireid_plugins.engine.turns import build_stepper
from vireid_plugins.evaluation.features import extract_features
from vireid_plugins.keypoints import standing_person
from vireid_plugins.solver import build_optimizer

from fastreid.modeling.meta_arch import build_model
from fastreid.utils import comm
from fastreid.utils.events import EventStorage

from tests.engine.small import small_cfg
from tests.engine.twins import Twins

ROOT = Path(__file__).resolve().parents[2]
P, K = 4, 2
HAS_TIMM = importlib.util.find_spec("timm") is not None
CONFIGS = sorted(
    path.parent.name
    for path in ROOT.glob("configs/*/synthetic.yml")
    if HAS_TIMM or "TIMM_NAME" not in path.read_text(encoding="utf-8")
)
# Losses that compare images, beside those of the methods; the last one learns its centers.
LOSSES = [
    "LabelSmoothingCrossEntropyLoss",
    "CorrelationConsistencyLoss",
    "CrossModalityTripletLoss",
    "DiscriminativeCenterLoss",
    "IntraModalityTripletLoss",
    "ModalitySharedEnhancementLoss",
    "MeanDiscrepancyLoss",
    "CircleLoss",
    "TripletLoss",
    "CascadedAggregationLoss",
    "CenterLoss",
]
CASES = {name: (name, []) for name in CONFIGS}
CASES["losses"] = ("baseline", ["MODEL.LOSSES.NAME", str(LOSSES)])
CASES["mmt_rbnet"] = ("mmt", ["MODEL.MMT.STUDENT", "RBNet"])
CASES["bmil_global"] = ("bmil", [])  # a batch of the clusters of all images
LABELING = {"bmil_global": 1}
COMPARED = ("agw", "losses", "rbnet", "mmt_rbnet")  # also without the gathering
# whose memories and running means are compared as well
WITH_STATE = ("adca", "bmil", "bmil_global", "mmt", "mmt_rbnet", "pgm", "rbnet")
SMALL = (
    "MODEL.DEVICE",
    "cpu",
    "MODEL.BACKBONE.PRETRAIN",
    "False",
    "MODEL.HEADS.NUM_CLASSES",
    "5",
    "MODEL.BACKBONE.LAST_STRIDE",
    "1",
    "MODEL.HEADS.NUM_STRIPES",
    "2",
    "MODEL.HEADS.ATTENTION.STRIPES",
    "2",
    "MODEL.HEADS.ATTENTION.KEPT",
    "1",
    "MODEL.MSCLNET.PARTS",
    "2",
    "INPUT.SIZE_TEST",
    "[32, 16]",
)


def whole_batch(views):
    """P identities, each with K images of both modalities and their views; sorted by identity."""
    rows = [
        (target, modality, (2 * target + modality) * K + image, view)
        for target in range(P)
        for modality, count in enumerate(views)
        for image in range(K)
        for view in range(count)
    ]
    targets, modalities, index, view = torch.tensor(rows).unbind(1)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(len(rows), 3, 32, 16, generator=generator) * 255
    points = standing_person(len(rows), (32, 16))
    points[..., 2] = torch.rand(len(rows), 17, generator=generator)
    batch = {
        "images": images,
        "keypoints": points,
        "targets": targets,
        "modalities": modalities,
        "index": index,
        "camids": 2 * modalities + index % 2,
        "views": view,
    }
    return batch


def build(case):
    """The model of a case in float64, and the loader's views of each modality."""
    name, words = CASES[case]
    cfg = build_config(str(ROOT / "configs" / name / "synthetic.yml"), [*SMALL, *words])
    torch.manual_seed(0)
    model = build_model(cfg).double().train()
    for module in model.modules():  # statistics stand still, so that rows do not mix there
        norm = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        if norm or isinstance(module, torch.nn.Dropout) or type(module).__name__ == "DropPath":
            module.eval()  # and nothing is dropped, which depends on the place of a row
    return model, (cfg.INPUT.NUM_VIEWS.VISIBLE, cfg.INPUT.NUM_VIEWS.INFRARED)


def stepped(case, gather, rank=0, world_size=1):
    """Weights after one SGD step of each phase on this process's share of the batch, and buffers.

    Buffers are the memories, running means and counts that a checkpoint holds.
    """
    model, views = build(case)
    model.gather_features = gather
    batch = whole_batch(views)
    rows = len(batch["targets"]) // world_size
    share = {name: value[rank * rows : (rank + 1) * rows] for name, value in batch.items()}
    if case in LABELING:
        share["labeling"] = LABELING[case]
    run = model
    if world_size > 1:
        run = DistributedDataParallel(
            model, find_unused_parameters=model.may_leave_parameters_unused
        )
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for phase in model.phases:
        model.phase = phase
        model.after_step()
        optimizer.zero_grad(set_to_none=True)
        sum(run(share).values()).backward()
        optimizer.step()
    model.after_step()
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    own = {name: value.clone() for name, value in model.state_dict().items()}
    return weights, {name: value for name, value in own.items() if name not in weights}


class MeanOfImages(torch.nn.Module):
    """A model whose loss is a mean over images; float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)
        ).double()

    def forward(self, batch):
        return {"loss_a": self.layers(batch["images"]).square().mean()}


class Batches(list):
    """A list of batches as a loader."""

    class batch_sampler:
        @staticmethod
        def set_epoch(epoch):
            """Every epoch is the same."""


def images(count):
    return torch.rand(count, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def accumulated(batches, accumulation, wrap=lambda model: model):
    """Weights after an epoch of SGD over ``batches``, (B, 4) each."""
    model = MeanOfImages()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loader = Batches({"images": batch} for batch in batches)
    stepper = StepTrainer(wrap(model), loader, optimizer, accumulation=accumulation)
    stepper.start_epoch(0)
    with EventStorage() as stepper.storage:
        for _ in range(-(-len(loader) // accumulation)):
            stepper.run_step()
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def exchanged(rank):
    """Weights of two processes that accumulate, and how often they exchanged gradients."""
    times = []

    def wrap(model):
        wrapped = DistributedDataParallel(model)

        def count(state, bucket):
            times.append(bucket.index())
            return allreduce_hook(state, bucket)

        wrapped.register_comm_hook(None, count)
        return wrapped

    weights = accumulated(images(16).chunk(2)[rank].chunk(4), 2, wrap)
    return weights, len(times)


def turned(rank=0, world_size=1):
    """Weights after four steps of three optimizers that take turns; float64, statistics stand."""
    cfg = small_cfg("", SOLVER__OPT="SGD", SOLVER__BASE_LR=0.1)
    torch.manual_seed(0)
    model = Twins().double()
    share = {"images": images(16)[:, :3].chunk(world_size)[rank]}
    stepper = build_stepper(wrap(model), Batches([share] * 4), build_optimizer(cfg, model))
    model.eval()
    stepper.start_epoch(0)
    with EventStorage() as stepper.storage:
        for stepper.iter in range(4):
            stepper.run_step()
    return {name: value.detach().clone() for name, value in model.named_parameters()}


class Brightness(torch.nn.Module):
    """A model whose feature is an image's brightness."""

    def forward(self, batch):
        return batch["images"].mean((1, 2, 3)).unsqueeze(1)


def extracted(rank):
    """Test features of five images: 0, 2 and 4 from process 0, 1 and 3 from process 1."""
    batches = [
        {
            "images": torch.full((1, 3, 2, 2), float(i)),
            "targets": torch.tensor([10 + i]),
            "camids": torch.tensor([1]),
            "index": torch.tensor([i]),
        }
        for i in ([0, 2, 4], [1, 3])[rank]
    ]
    features = extract_features(Brightness(), batches)
    return {
        "features": features.features,
        "index": torch.from_numpy(features.index),
        "targets": torch.from_numpy(features.targets),
    }


def refusal():
    """What is said about synchronized batch norm on the CPU."""
    cfg = build_config(
        str(ROOT / "configs/agw/synthetic.yml"),
        ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NORM", "syncBN"],
    )
    try:
        check_run(cfg, num_classes=0)
    except ValueError as error:
        return str(error)
    return ""


def apart(buffers):
    """Names of the buffers that are not the same in all processes."""
    different = []
    for name, value in buffers.items():
        first = value.clone()
        torch.distributed.broadcast(first, 0)
        if not torch.equal(first, value):
            different.append(name)
    return sorted({name for names in comm.all_gather(different) for name in names})


def main(folder):
    """Every case with the gathering and some without; process 0 saves."""
    rank, world_size = comm.get_rank(), comm.get_world_size()
    found = {}
    for gather, cases in ((True, CASES), (False, COMPARED)):
        for case in cases:
            weights, buffers = stepped(case, gather, rank, world_size)
            found[f"{case} {gather}"] = weights
            if case in WITH_STATE:
                found[f"{case} {gather} buffers"] = buffers
                found[f"{case} {gather} apart"] = apart(buffers)
    found["accumulated"], found["exchanges"] = exchanged(rank)
    found["turned"] = turned(rank, world_size)
    found["synchronized"] = refusal()
    found["test features"] = extracted(rank)
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")


if __name__ == "__main__":
    launch(main, 2, args=(sys.argv[1],), device="cpu")
