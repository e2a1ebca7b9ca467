"""Observers: each returns what can be seen of one part under a config, as comparable values.

A mistake that the part refuses is a fact, too: the type of the error and its message.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vireid_plugins import data, evaluation
from vireid_plugins.data.datasets.build import build_dataset
from vireid_plugins.data.item import test_items
from vireid_plugins.data.training_items import build_train_items
from vireid_plugins.data.transforms import build_transforms
from vireid_plugins.engine import VIReIDTrainer, runtime
from vireid_plugins.engine.allocator import _obstacle
from vireid_plugins.engine.early_checks import check_training, odd_values
from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.same_run import check_same_config
from vireid_plugins.engine.scaling import apply_scaling_keys
from vireid_plugins.engine.sequences import training_batches
from vireid_plugins.engine.setup import set_up_run
from vireid_plugins.errors import UserError
from vireid_plugins.evaluation.features import TestFeatures
from vireid_plugins.modality import Modality
from vireid_plugins.solver import build_lr_scheduler, build_optimizer

STEPS = {"MAUM": 5, "MMT": 4}  # of a method whose memories fill step by step; others: one


def facts(observer, cfg):
    """Return what ``observer`` sees, or what was refused."""
    torch.manual_seed(0)
    try:
        return OBSERVERS[observer](cfg)
    except UserError as error:
        return Refusal(f"{type(error).__name__}: {error}")


class Refusal(str):
    """What a part says when it refuses a config."""


def refused(found):
    """Return whether an observer saw a refusal."""
    return isinstance(found, Refusal)


def digest(*tensors):
    """Return a digest of tensors or arrays, bit for bit."""
    parts = [np.ascontiguousarray(torch.as_tensor(one).detach()).tobytes() for one in tensors]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


# ------------------------------------------------------------------------------------------ models


def structure(cfg):
    """Layers, shapes, what trains, memory format; for real backbones, which take long to run."""
    model = _model(cfg)
    return _structure(model)


def model(cfg):
    """Structure, phases, and in each phase losses and gradients of some steps; test features."""
    made = _model(cfg)
    found = [_structure(made), [made.phase_of(epoch) for epoch in range(40)]]
    turns_at = getattr(made, "turns_at", None)
    turns = [turns_at(iteration) for iteration in range(12)] if turns_at else []
    batch = _batch(cfg)
    for made.phase in dict.fromkeys(found[1]):
        made.train()
        made.start_run()
        for step in range(STEPS.get(type(made).__name__, 1)):
            torch.manual_seed(step)
            terms = made(batch)
            made.zero_grad(set_to_none=True)
            sum(terms.values()).backward()
            gradients = {n: p.grad for n, p in made.named_parameters() if p.grad is not None}
            found.append({name: term.item() for name, term in terms.items()})
            found.append([*gradients, digest(*gradients.values())])
            _nudge(made)
            made.after_step()
    made.eval()
    found.append((digest(made(batch)), made.test_feature))
    found.append(turns)
    found.append(vars(getattr(made, "rescorer", None) or object.__new__(_Nothing)))
    relation = getattr(made, "relation", None)
    if relation is not None:
        related = relation.relate(made(batch), batch["modalities"])
        found.append((relation.description, digest(related)))
    return found


class _Nothing:
    pass


def _model(cfg):
    cfg = cfg.clone()
    cfg.MODEL.HEADS.NUM_CLASSES = cfg.MODEL.HEADS.NUM_CLASSES or 4
    made = build_model(cfg)
    apply_scaling_keys(cfg, made)
    return made


def _structure(made):
    first = next(p for p in made.parameters() if p.ndim == 4)
    return (
        repr(made),
        {name: tuple(value.shape) for name, value in made.state_dict().items()},
        [name for name, value in made.named_parameters() if value.requires_grad],
        [getattr(part, "checkpointed", None) for part in made.modules()],
        getattr(made, "gather_features", None),
        first.is_contiguous(memory_format=torch.channels_last),
        digest(made.state_dict()["heads.weight"]) if "heads.weight" in made.state_dict() else "",
    )


def _batch(cfg):
    """Two identities, two images each in both modalities, in all their views."""
    visible, infrared = cfg.INPUT.NUM_VIEWS.VISIBLE, cfg.INPUT.NUM_VIEWS.INFRARED
    values = torch.Generator().manual_seed(1)
    modalities = torch.tensor([0] * 4 * visible + [1] * 4 * infrared)
    return {
        "images": torch.rand(len(modalities), 3, *cfg.INPUT.SIZE_TRAIN, generator=values) * 255,
        "targets": torch.tensor([0, 0, 1, 1] * (visible + infrared)),
        "modalities": modalities,
        "camids": modalities + 1,
        "index": torch.tensor([0, 0, 2, 3] * visible + [4, 5, 6, 7] * infrared),
        "views": torch.tensor(
            [view for view in [*range(visible), *range(infrared)] for _ in range(4)]
        ),
        "keypoints": torch.rand(len(modalities), 17, 3, generator=values) * 16,
    }


@torch.no_grad()
def _nudge(made):
    for parameter in made.parameters():
        if parameter.grad is not None:
            parameter -= 0.01 * parameter.grad.clamp(-1, 1)


# -------------------------------------------------------------------------------------- optimizers


def optimizer(cfg):
    """Class, groups, two steps on given gradients, and the rates of some epochs."""
    made = _model(cfg)
    built = build_optimizer(cfg, made)
    groups = [
        {**{k: v for k, v in group.items() if k != "params"}, "number": len(group["params"])}
        for group in built.param_groups
    ]
    for step in range(2):
        for place, parameter in enumerate(made.parameters()):
            parameter.grad = torch.full_like(parameter, 0.5 + place / 7 + step)
        built.step()
    schedule = build_lr_scheduler(cfg, built, 3)["lr_sched"]
    rates = [schedule.rates(iteration) for iteration in range(0, 60)]
    return type(built).__name__, groups, digest(*made.state_dict().values()), rates


# -------------------------------------------------------------------------------------------- data


def transforms(cfg):
    """Outputs of a visible and of an infrared image, twelve draws each, training and test."""
    from PIL import Image

    rng = np.random.default_rng(0)
    color = Image.fromarray(rng.integers(0, 256, (48, 32, 3), dtype=np.uint8))
    gray = color.convert("L").convert("RGB")
    found = []
    for is_train in (True, False):
        chains = build_transforms(cfg, is_train)
        for modality, image in ((Modality.VISIBLE, color), (Modality.INFRARED, gray)):
            with data.seeding.seeded(0):
                own = chains.at_epoch(0)
                found.append(digest(*(own(image, modality) for _ in range(12))))
    return found


def loader(cfg):
    """Order, pixels and key points of the first batch, settings of the loader and of its cache."""
    made = data.build_train_loader(cfg)
    batch = next(iter(made))
    cache = made.dataset.cache
    return (
        len(made),
        made.num_workers,
        batch["index"].tolist(),
        digest(batch["images"]),
        digest(batch["keypoints"]) if "keypoints" in batch else "",
        [(str(cache.folder), cache.max_bytes)] if cache else [],
    )


def sequences(cfg):
    """The first batch of a method that trains on features."""
    made = training_batches(cfg, data.build_train_loader(cfg), _model(cfg), cfg.SEED)
    made.set_epoch(0)
    batch = next(iter(made))
    return len(made), tuple(batch["features"].shape), batch["modalities"].tolist()


def items(cfg):
    """Which images are trained and tested on."""
    found = [tuple(item) for item in build_train_items(cfg)]
    for name in cfg.DATASETS.TESTS:
        source = build_dataset(cfg, name, "DATASETS.TESTS", mode="query")
        found += [tuple(item) for item in test_items(source)]
    return found


def tested(cfg):
    """Order of the test batches, and the size of each."""
    made, _ = data.build_test_loader(cfg, cfg.DATASETS.TESTS[0])
    batches = list(made)
    return [len(batch["index"]) for batch in batches], tuple(batches[0]["images"].shape[2:])


# -------------------------------------------------------------------------------------- evaluation


def evaluated(cfg):
    """The table of each test set: protocols and metrics of made-up features."""
    found = []
    for name in cfg.DATASETS.TESTS:
        source = build_dataset(cfg, name, "DATASETS.TESTS", mode="query")
        pids, camids, modalities = map(np.array, zip(*(item[1:4] for item in test_items(source))))
        values = np.random.default_rng(0).normal(size=(len(pids), 4))
        values += 0.6 * np.eye(4)[pids % 4]
        features = TestFeatures(
            torch.from_numpy(values).float(), pids, camids, modalities, np.arange(len(pids))
        )
        table = evaluation.evaluate(cfg, name, source, features)
        found.append((table.format_table(), table.metrics))
    return found


def protocols(cfg):
    """The protocol lines of each test set, and their conditions; no image is needed."""
    made = [evaluation.build_protocols(cfg, name) for name in cfg.DATASETS.TESTS]
    return [(one.key, one.direction, one.conditions) for lines in made for one in lines]


# -------------------------------------------------------------------------------------------- runs


def run(cfg):
    """Files, log lines and numbers of a training of a few steps."""
    folder = Path(cfg.OUTPUT_DIR)
    set_up_run(cfg)
    trainer = VIReIDTrainer(cfg)
    trainer.resume_or_load(resume=False)
    try:
        found = trainer.train()
        lines = (folder / "metrics.json").read_text().splitlines()
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        files = [name for name in files if "events" not in name]
        weights = digest(*trainer.model.state_dict().values())
        return str(folder), len(lines), files, found, weights, torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = False
        shutil.rmtree(folder)


def clustered(cfg):
    """Labels, radii and weights of a training on clusters."""
    made = VIReIDTrainer(cfg)
    made.resume_or_load(resume=False)
    made.train()
    batches = made.data_loader
    state = batches.state_dict() if hasattr(batches, "skips_epoch") else {}
    labels = state.get("labels", torch.zeros(0)).tolist()
    shutil.rmtree(cfg.OUTPUT_DIR)
    return len(batches), labels, state.get("radii"), digest(*made.model.state_dict().values())


def trainer(cfg):
    """What a trainer has set up before its first step."""
    made = VIReIDTrainer(cfg)
    made.resume_or_load(resume=False)
    frozen = [hook for hook in made._hooks if type(hook).__name__ == "FreezeLayers"]
    return (
        made.iters_per_epoch,
        made.max_iter,
        made._trainer.amp_dtype,
        [(len(hook.parameters), hook.iterations) for hook in frozen],
        [hook._period for hook in made._hooks if type(hook).__name__ == "MethodPictures"],
        digest(*made.model.state_dict().values()),
        made.facts()["train_datasets"],
        odd_values(cfg),
    )


def checked(cfg):
    """What the checks before a training say, and what is known of the process."""
    check_training(cfg)
    names = cfg.DATASETS.TESTS
    devices = [str(evaluation.build_evaluator(cfg, name, None).device) for name in names]
    return devices, _obstacle(cfg)


def compiled(cfg):
    """Which parts of a backbone are compiled."""
    called, found = [], runtime._missing_for_compilation
    backbone = nn.ModuleDict({"part": nn.Identity()})
    backbone.compile = lambda: called.append("compiled")
    runtime._missing_for_compilation = lambda device: ""
    try:
        runtime.compile_backbone(cfg, type("Model", (), {"backbone": backbone}))
    finally:
        runtime._missing_for_compilation = found
    return called


def resumed(cfg):
    """Whether a checkpoint of another learning rate may be continued."""
    other = cfg.clone()
    other.SOLVER.BASE_LR = cfg.SOLVER.BASE_LR / 2
    return [one.key for one in check_same_config({"config": other.dump()}, cfg, "model.pth")]


OBSERVERS = {
    one.__name__: one
    for one in (
        structure,
        model,
        optimizer,
        transforms,
        loader,
        sequences,
        items,
        tested,
        evaluated,
        protocols,
        run,
        clustered,
        trainer,
        checked,
        compiled,
        resumed,
    )
}
