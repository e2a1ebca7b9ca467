"""One SGD step of every method, by one process or by one of several; see ``test_gather.py``."""

import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

import vireid_plugins  # noqa: F401  first: it repairs FastReID
from vireid_plugins.engine.launch import launch
from vireid_plugins.engine.setup import build_config

from fastreid.modeling.meta_arch import build_model
from fastreid.utils import comm

ROOT = Path(__file__).resolve().parents[2]
P, K = 4, 2
CONFIGS = sorted(path.parent.name for path in ROOT.glob("configs/*/synthetic.yml"))
# Losses that compare images, beside those of the methods; the last one learns its centres.
LOSSES = [
    "LabelSmoothingCrossEntropyLoss", "CorrelationConsistencyLoss", "CircleLoss", "TripletLoss",
    "CascadedAggregationLoss", "CenterLoss",
]  # fmt: skip
CASES = {name: (name, []) for name in CONFIGS}
CASES["losses"] = ("baseline", ["MODEL.LOSSES.NAME", str(LOSSES)])
COMPARED = ("agw", "losses")  # also without the gathering
SMALL = (
    "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NUM_CLASSES", "5",
    "MODEL.BACKBONE.LAST_STRIDE", "1", "MODEL.HEADS.NUM_STRIPES", "2",
    "MODEL.HEADS.ATTENTION.STRIPES", "2", "MODEL.HEADS.ATTENTION.KEPT", "1",
    "MODEL.MSCLNET.PARTS", "2", "INPUT.SIZE_TEST", "[32, 16]",
)  # fmt: skip


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
    batch = {
        "images": images, "targets": targets, "modalities": modalities, "index": index,
        "camids": 2 * modalities + index % 2, "views": view,
    }  # fmt: skip
    return batch


def build(case):
    """The model of a case in float64, and the loader's views of each modality."""
    name, words = CASES[case]
    cfg = build_config(str(ROOT / "configs" / name / "synthetic.yml"), [*SMALL, *words])
    torch.manual_seed(0)
    model = build_model(cfg).double().train()
    for module in model.modules():  # statistics stand still, so that rows do not mix there
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model, (cfg.INPUT.NUM_VIEWS.VISIBLE, cfg.INPUT.NUM_VIEWS.INFRARED)


def stepped(case, gather, rank=0, world_size=1):
    """Weights after one SGD step of each phase on this process's share of the batch."""
    model, views = build(case)
    model.gather_features = gather
    batch = whole_batch(views)
    rows = len(batch["targets"]) // world_size
    share = {name: value[rank * rows : (rank + 1) * rows] for name, value in batch.items()}
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
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def main(folder):
    """Every case with the gathering and some without; process 0 saves."""
    rank, world_size = comm.get_rank(), comm.get_world_size()
    found = {
        f"{case} {gather}": stepped(case, gather, rank, world_size)
        for gather, cases in ((True, CASES), (False, COMPARED))
        for case in cases
    }
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")


if __name__ == "__main__":
    launch(main, 2, args=(sys.argv[1],), device="cpu")
