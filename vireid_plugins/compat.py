"""Every repair of FastReID, or of a library that it uses: one function for each.

FastReID 1.4.0 (the registry's package) and the last commit of its repository do not import on
Python 3.10 or newer, and on PyTorch 2 they train nothing. Nothing of FastReID is edited or
copied: what is wrong is replaced in memory, here and nowhere else. Each repair says what it
replaces, what goes wrong without it and when it can be deleted, and may run twice. The numbers in
brackets are those of the tests in ``tests/test_compat.py`` that fail without the repair.

``prepare()`` runs at ``import vireid_plugins``. Where FastReID is absent or cannot be repaired
it raises one ``ImportError`` that says what to do.
"""

import collections
import collections.abc
import contextlib
import functools
import importlib
import importlib.util
import logging
import re
import sys
import types
from pathlib import Path
from typing import Any, Callable, Iterator, List

import numpy as np
import torch

from .errors import UserError
from .late_imports import LateModule, import_without, stand_ins

logger = logging.getLogger(__name__)

INSTALL_HINT = "pip install --no-deps fastreid==1.4.0"
_REPAIRED = "_vireid_repair"  # set on every replacement, so that a repair is made once


def prepare() -> None:
    """Import FastReID, with the repairs without which it cannot be imported; then repair the rest.

    Raises:
        ImportError: torchvision or FastReID is missing, or broken in a way not repaired here.
    """
    if importlib.util.find_spec("fastreid") is None:
        raise ImportError(
            f"vireid_plugins extends FastReID, which is not installed. Run: {INSTALL_HINT}"
        )
    make_torchvision_importable()
    restore_numpy_bool()
    with names_fastreid_imports():
        try:
            for name in ("config", "data", "evaluation", "modeling", "solver", "engine"):
                importlib.import_module(f"fastreid.{name}")
        except Exception as error:
            raise ImportError(_broken_host(error)) from error
    for repair in REPAIRS:
        repair()


def _broken_host(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("fastreid"):
        return (
            f"FastReID needs the package {error.name!r}, which is not installed. "
            f"Run: pip install {_PIP_NAMES.get(str(error.name), error.name)}"
        )
    return (
        f"FastReID could not be imported ({type(error).__name__}: {error}). If fastreid was "
        "imported before vireid_plugins, import vireid_plugins first, in a new process; else "
        f"reinstall it: {INSTALL_HINT} --force-reinstall"
    )


_PIP_NAMES = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


# ---------------------------------------------------------------- before FastReID is imported


def make_torchvision_importable() -> None:
    """[13] Import a torchvision for CUDA beside a CPU build of PyTorch of the same release.

    Its compiled operators look for the libraries of PyTorch's CUDA build and do not load, and
    importing it raises ``operator torchvision::nms does not exist``. If they are missing, and only
    then, their names are declared without code, and the import is repeated; ``torchvision.ops``
    then has no ``nms``, ``roi_align``, ... Can be deleted when torchvision imports without its
    operators.
    """
    try:
        import_without("torchvision", _LATE_IN_TORCHVISION)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"FastReID needs torchvision ({error}). Run: pip install --no-deps torchvision, of the "
            f"release that belongs to PyTorch {torch.__version__}"
        ) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare_torchvision_operators()
        import_without("torchvision", _LATE_IN_TORCHVISION)
        logger.debug(missing_operators())


# Nothing here uses them, and they import torch's compiler, which takes longer than torch itself.
_LATE_IN_TORCHVISION = ("datasets", "models", "ops")


def missing_operators() -> str:
    """Return one line on the torchvision operators that are absent; empty where none is."""
    if not _torchvision_library:
        return ""
    build = getattr(sys.modules.get("torchvision"), "__version__", "of another build")
    return (
        f"The compiled operators of torchvision {build} do not load beside PyTorch "
        f"{torch.__version__}: nms, roi_align, roi_pool, ps_roi_align, deform_conv2d and image "
        "decoding are absent from torchvision. Nothing here uses them."
    )


_torchvision_library: List[Any] = []  # keeps the declarations alive


def _declare_torchvision_operators() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None and spec.origin is not None  # importing it has just been tried
    source = Path(spec.origin).parent / "_meta_registrations.py"
    names = re.findall(r"""["']torchvision::(\w+)["']""", source.read_text(encoding="utf-8"))
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in sorted(set(names)):
        library.define(f"{name}(Tensor a) -> Tensor")
    _torchvision_library.append(library)


def restore_numpy_bool() -> None:
    """[1] Put back ``np.bool``, which ``evaluation/rank.py`` uses and NumPy 1.24 to 1.26 lack.

    Can be deleted when NumPy 2 is the oldest version supported.
    """
    if "bool" not in np.__dict__:
        np.__dict__["bool"] = bool


@contextlib.contextmanager
def names_fastreid_imports() -> Iterator[None]:
    """[1, 10] Provide names that FastReID imports and that may not exist, only while it imports.

    ``collections.Mapping`` (gone in Python 3.10), ``torch._six`` (gone in PyTorch 2) and
    ``torchvision.models.utils`` (gone in torchvision 0.13). faiss, scikit-learn and TensorBoard's
    writer are imported at their first use: FastReID imports them for its re-ranking, its ROC and
    one optimizer's log, and the three together take as long as torch. Can be deleted when FastReID
    imports without these names.
    """
    borrowed = not hasattr(collections, "Mapping")
    if borrowed:
        collections.__dict__["Mapping"] = collections.abc.Mapping
    try:
        with stand_ins(_modules_fastreid_imports()):
            yield
    finally:
        if borrowed:
            del collections.__dict__["Mapping"]


def _modules_fastreid_imports() -> List[types.ModuleType]:
    modules: List[types.ModuleType] = [
        # METRIC_L2 is read by a default argument while FastReID imports
        LateModule("faiss", hint="Run: pip install faiss-cpu (or faiss-gpu)", METRIC_L2=1),
        LateModule(
            "torchvision.models.utils", load_state_dict_from_url=torch.hub.load_state_dict_from_url
        ),
    ]
    if importlib.util.find_spec("torch._six") is None:
        modules.append(LateModule("torch._six", string_classes=str))
    if importlib.util.find_spec("sklearn") is not None:
        modules.append(LateModule("sklearn", metrics=LateModule("sklearn.metrics")))
    if importlib.util.find_spec("tensorboard") is not None:
        modules.append(LateModule("torch.utils.tensorboard", SummaryWriter=_summary_writer))
    return modules


def _summary_writer(*args: Any, **kwargs: Any) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(*args, **kwargs)


# ----------------------------------------------------------------- after FastReID is imported


def _replace(old: Any, new: Any) -> None:
    """Put ``new`` wherever a loaded module of FastReID holds the function or class ``old``."""
    setattr(new, _REPAIRED, True)
    name, found = old.__name__, False
    for module in [m for key, m in sys.modules.items() if key.split(".")[0] == "fastreid"]:
        if getattr(module, "__dict__", {}).get(name) is old:
            setattr(module, name, new)
            found = True
    if not found:
        raise ImportError(f"FastReID has no {name} to repair; this FastReID is not supported.")


def _override(owner: Any, name: str) -> Callable[[Callable], Callable]:
    """Return a decorator that replaces ``owner.name``; the new method gets the old one first."""

    def decorate(replacement: Callable) -> Callable:
        old = owner.__dict__[name]  # KeyError here: this FastReID is not supported
        if not getattr(old, _REPAIRED, False):
            new = functools.wraps(old)(lambda *args, **kwargs: replacement(old, *args, **kwargs))
            setattr(new, _REPAIRED, True)
            setattr(owner, name, new)
        return replacement

    return decorate


def train_on_pytorch_2() -> None:
    """[2, 18] Let the optimizer step the model's own parameters, and set gradients to None.

    FastReID flattens all parameters into one buffer whose gradient PyTorch 2 sets to None before
    every step: weights move by 0.0 and every check passes. On PyTorch 1.13 gradients were zeroed
    instead, so a frozen parameter still moved by momentum and weight decay. Can be deleted when
    FastReID's ``build_optimizer`` defaults to ``contiguous=False`` and PyTorch 1.13 is no longer
    supported.
    """
    from fastreid.solver import build as module

    old = module.build_optimizer
    if getattr(old, _REPAIRED, False):
        return

    @functools.wraps(old)
    def build_optimizer(cfg: Any, model: Any, contiguous: bool = False) -> Any:
        optimizer, parameters = old(cfg, model, contiguous=False)
        optimizer.zero_grad = functools.partial(optimizer.zero_grad, set_to_none=True)
        return optimizer, parameters

    _replace(old, build_optimizer)


def step_the_schedule_by_epoch() -> None:
    """[15] Make the learning rate fall at the epochs that ``SOLVER.STEPS`` names.

    FastReID's schedule stands still during warm-up, so steps (20, 50) after ten epochs of
    warm-up fall at epochs 29 and 59. Can be deleted when FastReID counts steps from epoch 0.
    """
    from fastreid.engine import hooks
    from fastreid.solver import build as module

    from .solver.schedule import EpochSchedule, build_lr_scheduler

    if not getattr(module.build_lr_scheduler, _REPAIRED, False):
        _replace(module.build_lr_scheduler, build_lr_scheduler)

    def ours(hook: Any) -> bool:
        return isinstance(hook._scheduler.get("lr_sched"), EpochSchedule)

    @_override(hooks.LRScheduler, "after_step")
    def after_step(old: Callable, hook: Any) -> None:
        if not ours(hook):
            return old(hook)
        lr = hook._optimizer.param_groups[hook._best_param_group_id]["lr"]
        hook.trainer.storage.put_scalar("lr", lr, smoothing_hint=False)
        hook._scheduler["lr_sched"].set(hook.trainer.iter + 1)

    @_override(hooks.LRScheduler, "after_epoch")
    def after_epoch(old: Callable, hook: Any) -> None:
        if not ours(hook):
            old(hook)


def load_data_without_cuda() -> None:
    """[3] Replace ``DataLoaderX``, which makes a CUDA stream and a thread bound to a CUDA device.

    Without CUDA the plain loader of PyTorch takes its place. Can be deleted when FastReID's loader
    works without CUDA.
    """
    from fastreid.data import data_utils

    old = data_utils.DataLoaderX
    if getattr(old, _REPAIRED, False) or torch.cuda.is_available():
        return

    class DataLoaderX(torch.utils.data.DataLoader):
        def __init__(self, local_rank: int, **kwargs: Any) -> None:
            super().__init__(**{**kwargs, "pin_memory": False})

        def shutdown(self) -> None:
            """Nothing runs in the background."""

    _replace(old, DataLoaderX)


def train_in_full_precision_on_a_cpu() -> None:
    """[3] Let ``AMPTrainer`` train a model on the CPU in full precision; the log says so once.

    It asserts CUDA, and nearly every stock config asks for mixed precision. Can be deleted when
    FastReID's ``AMPTrainer`` trains on a CPU.
    """
    from fastreid.engine import train_loop

    @_override(train_loop.AMPTrainer, "run_step")
    def run_step(old: Callable, trainer: Any) -> None:
        if next(trainer.model.parameters()).device.type != "cpu":
            return old(trainer)
        if trainer.iter == 0:
            logger.warning(
                "SOLVER.AMP.ENABLED is for a GPU: training in full precision on the CPU."
            )
        return train_loop.SimpleTrainer.run_step(trainer)


def evaluate_without_a_compiler() -> None:
    """[4] Keep ``ReidEvaluator`` from running ``make``, which ends the process if it fails.

    FastReID ranks in Python where its compiled helper is absent; nothing is compiled here. Can be
    deleted when FastReID stops compiling at run time.
    """
    from fastreid.evaluation.reid_evaluation import ReidEvaluator

    @_override(ReidEvaluator, "_compile_dependencies")
    def _compile_dependencies(old: Callable, evaluator: Any) -> None:
        logger.info("FastReID's compiled ranking is not built at run time; ranking in Python.")


def normalize_out_of_place() -> None:
    """[5] Let ``preprocess_image`` normalize a copy of the batch, on the model's device.

    FastReID normalizes in place: its flip test feeds a twice-normalized image, and any second pass
    is wrong. Can be deleted when FastReID normalizes a copy.
    """
    from fastreid.modeling.meta_arch import baseline, mgn

    for architecture in (baseline.Baseline, mgn.MGN):

        @_override(architecture, "preprocess_image")
        def preprocess_image(old: Callable, model: Any, batched_inputs: Any) -> torch.Tensor:
            if not isinstance(batched_inputs, (dict, torch.Tensor)):
                return old(model, batched_inputs)  # FastReID's own TypeError
            images = batched_inputs
            if isinstance(images, dict):
                images = images["images"]
            return (images.to(model.device) - model.pixel_mean) / model.pixel_std


def collate_every_kind_of_value() -> None:
    """[6] Collate tuples and NumPy numbers, for which ``fast_batch_collator`` returns None.

    Can be deleted when FastReID collates them.
    """
    from fastreid.data import build as module

    old = module.fast_batch_collator
    if getattr(old, _REPAIRED, False):
        return

    def fast_batch_collator(batched_inputs: Any) -> Any:
        first = batched_inputs[0]
        if isinstance(first, collections.abc.Mapping):
            return {
                key: fast_batch_collator([item[key] for item in batched_inputs]) for key in first
            }
        if isinstance(first, (tuple, list)):
            return type(first)(fast_batch_collator(list(column)) for column in zip(*batched_inputs))
        if isinstance(first, (np.ndarray, np.generic)):
            return torch.as_tensor(np.stack(batched_inputs))
        return old(batched_inputs)

    _replace(old, fast_batch_collator)


def refuse_endless_sampling() -> None:
    """[8] Raise an error where ``NaiveIdentitySampler`` would loop forever: too few identities.

    Can be deleted when FastReID checks this itself.
    """
    from fastreid.data.samplers import NaiveIdentitySampler

    @_override(NaiveIdentitySampler, "__init__")
    def __init__(old: Callable, sampler: Any, *args: Any, **kwargs: Any) -> None:
        old(sampler, *args, **kwargs)
        if sampler.num_identities < sampler.num_pids_per_batch:
            raise UserError(
                f"A batch needs {sampler.num_pids_per_batch} identities and the training set has "
                f"{sampler.num_identities}; lower SOLVER.IMS_PER_BATCH or raise "
                "DATALOADER.NUM_INSTANCE."
            )


def load_checkpoints_safely() -> None:
    """[14] Load checkpoints with ``weights_only=True``, so that no code in them runs.

    A checkpoint that needs more is refused with an explanation. Can be deleted when FastReID loads
    checkpoints in this way.
    """
    from fastreid.utils.checkpoint import Checkpointer

    from .readers.checkpoint import read_checkpoint

    @_override(Checkpointer, "_load_file")
    def _load_file(old: Callable, checkpointer: Any, file: str) -> Any:
        return read_checkpoint(file)


def launch_without_cuda() -> None:
    """[16] Let several processes train without CUDA: they communicate through gloo.

    FastReID's ``launch`` asserts CUDA and NCCL, and DDP on a CPU refuses ``device_ids``. Can be
    deleted when FastReID's ``launch`` works without CUDA.
    """
    from fastreid.engine import defaults
    from fastreid.engine import launch as _  # noqa: F401  the function hides the module

    module: Any = sys.modules["fastreid.engine.launch"]
    if not torch.cuda.is_available():
        module._distributed_worker = _worker_without_cuda

    plain: Any = defaults.DistributedDataParallel
    if not getattr(plain, _REPAIRED, False):

        class DistributedDataParallel(plain):
            def __init__(self, module: Any, device_ids: Any = None, **kwargs: Any) -> None:
                on_cpu = next(module.parameters()).device.type == "cpu"
                super().__init__(module, device_ids=None if on_cpu else device_ids, **kwargs)

        setattr(DistributedDataParallel, _REPAIRED, True)
        defaults.DistributedDataParallel = DistributedDataParallel


def _worker_without_cuda(*args: Any) -> None:
    """Run one process of FastReID's ``launch``, over gloo.

    It stands at the top of this module, so that a new process that unpickles it imports this
    package, and with it the repairs, before FastReID.
    """
    from .engine.launch import distributed_worker

    distributed_worker(*args)


def end_training_normally() -> None:
    """[17] End normally after a resumed finished run, ``EVAL_PERIOD 0``, or one or two steps.

    FastReID raises ``AttributeError``, ``ZeroDivisionError`` and ``AssertionError`` there. Can be
    deleted when it raises none of them.
    """
    from fastreid.engine import defaults, hooks
    from fastreid.utils import events

    @_override(events.CommonMetricPrinter, "write")
    def write(old: Callable, printer: Any) -> None:
        written = getattr(printer, "_last_write", None)  # set only before steps are timed
        if written is None or written[0] != events.get_event_storage().iter:
            old(printer)

    @_override(hooks.EvalHook, "after_train")
    def after_train(old: Callable, hook: Any) -> None:
        if hook._period > 0 and hasattr(hook.trainer, "epoch"):
            old(hook)
        else:
            del hook._func

    @_override(defaults.DefaultTrainer, "train")
    def train(old: Callable, trainer: Any) -> Any:
        if trainer.start_epoch >= trainer.max_epoch:
            logger.info(
                "Nothing to train: the checkpoint is at the end of epoch %d of %d. Raise "
                "SOLVER.MAX_EPOCH to train on, or use --eval-only.",
                trainer.start_epoch,
                trainer.max_epoch,
            )
            return {}
        if trainer.cfg.TEST.EVAL_PERIOD <= 0:
            trainer._last_eval_results = {}
            logger.info("TEST.EVAL_PERIOD is %d: no evaluation.", trainer.cfg.TEST.EVAL_PERIOD)
        return old(trainer)


def fetch_pretrained_weights_clearly() -> None:
    """Download pretrained weights with PyTorch; FastReID uses a package that it does not require.

    This holds for ResNet, ResNeXt, RegNet and EfficientNet; the error of a failed download names
    the file and the key to set. Can be deleted when FastReID does the same.
    """
    for name in ("resnet", "resnext", "regnet.regnet", "regnet.effnet"):
        module: Any = importlib.import_module(f"fastreid.modeling.backbones.{name}")
        if not getattr(module.init_pretrained_weights, _REPAIRED, False):
            module.init_pretrained_weights = _fetcher(module)


def _fetcher(module: Any) -> Callable[[str], Any]:
    @functools.wraps(module.init_pretrained_weights)
    def init_pretrained_weights(key: str) -> Any:
        from .modeling.backbones.pretrained import fetch_pretrained

        weights = fetch_pretrained(key, module.model_urls)
        return weights.get("model_state", weights)  # RegNet's and EfficientNet's wrapper

    setattr(init_pretrained_weights, _REPAIRED, True)
    return init_pretrained_weights


def load_pretrained_files_with_checks() -> None:
    """Read ``MODEL.BACKBONE.PRETRAIN_PATH`` safely, and load it under every usual wrapper.

    FastReID's backbones use ``torch.load``, which may run code, and load without a word nothing of
    a file whose names have a prefix, or whose weights lie under another entry. Can be deleted when
    FastReID reports how many tensors were loaded, and loads with ``weights_only=True``.
    """
    from fastreid.modeling.backbones import BACKBONE_REGISTRY

    for name, builder in list(BACKBONE_REGISTRY._obj_map.items()):
        if builder.__module__.startswith("fastreid.") and not getattr(builder, _REPAIRED, False):
            BACKBONE_REGISTRY._obj_map[name] = _checked_builder(builder)


def _checked_builder(builder: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(builder)
    def build(cfg: Any) -> Any:
        from .modeling.backbones.start import build_with_file

        return build_with_file(builder, cfg)

    setattr(build, _REPAIRED, True)
    return build


REPAIRS = (
    train_on_pytorch_2,
    step_the_schedule_by_epoch,
    load_data_without_cuda,
    train_in_full_precision_on_a_cpu,
    evaluate_without_a_compiler,
    normalize_out_of_place,
    collate_every_kind_of_value,
    refuse_endless_sampling,
    load_checkpoints_safely,
    launch_without_cuda,
    end_training_normally,
    fetch_pretrained_weights_clearly,
    load_pretrained_files_with_checks,
)
