"""The trainer: FastReID's ``DefaultTrainer`` with this package's data, step and evaluation."""

import logging
from functools import partial
from typing import Any, Dict, List, Tuple

from torch import nn

from fastreid.engine import hooks as host_hooks
from fastreid.engine.defaults import DefaultTrainer
from fastreid.engine.train_loop import TrainerBase
from fastreid.utils import comm
from fastreid.utils.events import EventWriter

from .. import data, evaluation
from ..data.reading import with_ranges
from ..keys import value_of, with_values
from ..runs.log import log_to_console
from ..runs.writers import MetricsWriter, tensorboard_writers
from ..solver import build_lr_scheduler, build_optimizer
from ..solver.amp import amp_name, with_precision
from . import hooks, loop, runtime, saving
from .allocator import keep_freed_memory
from .checkpoint import AtomicCheckpointer
from .checks import check_run, make_output_folder, naming_what_needs_no_keypoints
from .clusters import ClusterBatches
from .early_checks import check_training, odd_values
from .encoder_data import check_unseen
from .model import build_model
from .parallel import synchronize_buffers, unwrap, wrap
from .precise_bn import recompute_statistics
from .resume import Continuation
from .run_hooks import training_hooks
from .scaling import apply_scaling_keys, read_accumulation
from .seeding import choose_seed, seed_everything, with_seed
from .sequences import training_batches
from .starting import load_start, resume_or_start
from .testing import evaluate_sets, keep_best_candidate, record
from .turns import build_stepper

logger = logging.getLogger(__name__)


class VIReIDTrainer(DefaultTrainer):
    """Train and evaluate what a config describes, visible-infrared or not.

    As with ``DefaultTrainer``: ``VIReIDTrainer(cfg)``, then ``resume_or_load(resume)``, then
    ``train()``; the ``build_*`` methods may be overridden. Mixed precision is decided in
    ``solver/amp.py``, a step is computed in ``step.py``, what happens between steps in
    ``hooks.py``, and what a run writes about itself in ``runs/record.py``.

    Raises:
        UserError: the config or the data cannot be trained on; it is raised before the first
            iteration, and the message names the key or the file to change.
    """

    #: whether Ctrl-C, SIGTERM and SIGHUP end a training between two steps, see ``interrupts.py``
    handles_signals = True
    steps_done = 0  # in the epoch in progress
    end_pending = False  # whether the end of that epoch is still to do

    def __init__(self, cfg: Any) -> None:
        TrainerBase.__init__(self)  # not DefaultTrainer's, which builds FastReID's own parts
        log_to_console(comm.get_rank())
        check_training(cfg, comm.get_world_size())
        cfg = with_precision(cfg)
        for sentence in odd_values(cfg) if comm.is_main_process() else ():
            logger.warning(sentence)
        make_output_folder(cfg.OUTPUT_DIR)
        keep_freed_memory(cfg)
        self.seed = choose_seed(cfg.SEED)
        seed_everything(self.seed)
        if cfg.TEST.EVAL_PERIOD > 0:
            evaluation.rehearse_tests(cfg)
        loader = self.build_train_loader(with_seed(cfg, self.seed))
        check_unseen(cfg, loader)
        cfg = with_ranges(cfg, getattr(loader.dataset, "reader", None))
        num_classes = saving.num_classes(loader)
        cfg = self.auto_scale_hyperparams(cfg, num_classes)
        check_run(cfg, num_classes)
        model = self.build_model(cfg)
        loader = training_batches(cfg, loader, model, self.seed)
        accumulation = read_accumulation(cfg, len(loader))
        apply_scaling_keys(cfg, model)
        runtime.compile_backbone(cfg, model)
        optimizer, _ = self.build_optimizer(cfg, model)
        self._trainer = build_stepper(wrap(model), loader, optimizer, amp_name(cfg), accumulation)
        self.cfg = cfg
        self.iters_per_epoch = -(-len(loader) // accumulation)  # updates; the last may be shorter
        self.scheduler = self.build_lr_scheduler(cfg, optimizer, self.iters_per_epoch)
        self.start_epoch, self.max_epoch = 0, cfg.SOLVER.MAX_EPOCH
        self.max_iter = self.max_epoch * self.iters_per_epoch
        self.best_metric = float("-inf")
        self.continuation = Continuation()
        self.kept = "Nothing was saved: no step was finished."  # said when a signal stops the run
        self.kept_state = (-1, False)  # its iteration, and whether the end of an epoch is pending
        self.checkpointer = self._build_checkpointer(model, optimizer)
        self.register_hooks(self.build_hooks())

    def _build_checkpointer(self, model: nn.Module, optimizer: Any) -> AtomicCheckpointer:
        stateful = {"optimizer": optimizer, **self.scheduler}
        if self.grad_scaler is not None:
            stateful["grad_scaler"] = self.grad_scaler
        if isinstance(self.data_loader, ClusterBatches):
            stateful["clusters"] = self.data_loader
        return AtomicCheckpointer(
            model, self.cfg.OUTPUT_DIR, save_to_disk=comm.is_main_process(), **stateful
        )

    # ------------------------------------------------------------------------------ building

    @classmethod
    def build_model(cls, cfg: Any) -> nn.Module:
        """Return the model of ``MODEL.*``, see ``model.py``."""
        model = build_model(cfg)
        logger.info("Model:\n%s", model)
        return model

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        """Return the loader of ``DATASETS.NAMES``; one pass is one epoch."""
        with naming_what_needs_no_keypoints(cfg):
            return data.build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: Any, dataset_name: str) -> Tuple[Any, Any]:
        """Return the loader of all test images of a dataset, and the dataset."""
        with naming_what_needs_no_keypoints(cfg):
            return data.build_test_loader(cfg, dataset_name)

    @classmethod
    def build_optimizer(cls, cfg: Any, model: nn.Module) -> Tuple[Any, None]:
        """Return the optimizer or the ``Optimizers``, and None for FastReID's parameter wrapper."""
        return build_optimizer(cfg, model), None

    @classmethod
    def build_lr_scheduler(cls, cfg: Any, optimizer: Any, iters_per_epoch: int) -> Dict[str, Any]:
        """Return the learning-rate schedule, under FastReID's name for it."""
        return build_lr_scheduler(cfg, optimizer, iters_per_epoch)

    @staticmethod
    def auto_scale_hyperparams(cfg: Any, num_classes: int) -> Any:
        """Return ``cfg`` with ``MODEL.HEADS.NUM_CLASSES``, if that is 0.

        FastReID's method also writes ``config.yaml``, before it is known whether a run can resume.
        """
        key = "MODEL.HEADS.NUM_CLASSES"
        return cfg if value_of(cfg, key) else with_values(cfg, {key: int(num_classes)})

    def build_hooks(self) -> List[host_hooks.HookBase]:
        """Return the hooks in order: time, phase, rate, freezing, evaluation, checkpoint, log."""
        return training_hooks(self)

    def build_writers(self) -> List[EventWriter]:
        """Return the writers of the progress line, of ``metrics.json`` and of TensorBoard."""
        output, last = self.cfg.OUTPUT_DIR, self.continuation.last_write
        return [
            hooks.ProgressLine(self.max_epoch, self.max_iter),
            MetricsWriter(output, last),
            *tensorboard_writers(output, last),
        ]

    # ------------------------------------------------------------------------------ training

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue the run in ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS``, or from nothing.

        Raises:
            CheckpointError: the checkpoint belongs to other data or to another model.
        """
        resume_or_start(self, resume)

    def load_start(self) -> None:
        """Load the weights that a new run begins with, and let the model prepare for it."""
        load_start(self)

    @property
    def unwrapped_model(self) -> nn.Module:
        """Return the model without the wrapper of several processes."""
        return unwrap(self.model)

    def use_batches(self, batches: Any) -> None:
        """Train on other batches from now on; what a checkpoint said of clusters goes over."""
        if isinstance(self.data_loader, ClusterBatches):
            batches.load_state_dict(self.data_loader.state_dict())
            self.checkpointer.checkpointables["clusters"] = batches
        self._trainer.data_loader = batches

    def train(self) -> Dict[str, float]:
        """Train to ``SOLVER.MAX_EPOCH``.

        Returns:
            The metrics of the last evaluation on the main process; empty without an evaluation.
        """
        self._last_eval_results: Dict[str, float] = {}
        if self.start_epoch >= self.max_epoch:
            logger.info(
                "Nothing to train: epoch %d of %d is done. Raise SOLVER.MAX_EPOCH to train on.",
                self.start_epoch,
                self.max_epoch,
            )
            if self.continuation.is_complete:
                self.checkpointer.remove_unfinished()
                return self._evaluate() if self.cfg.TEST.EVAL_PERIOD > 0 else {}
            self.continuation.require_end(self.max_epoch)
        if self.cfg.TEST.EVAL_PERIOD <= 0:
            logger.info("TEST.EVAL_PERIOD is %d: no evaluation.", self.cfg.TEST.EVAL_PERIOD)
        loop.run_epochs(self)
        if isinstance(self.data_loader, ClusterBatches):
            self.data_loader.end_run()
        return self._last_eval_results

    def before_epoch(self) -> None:
        """Set random states and the order of images, which follow from the seed and the epoch.

        With ``CLUSTERS``, the labels of the epoch are found before. If it is skipped, it is at its
        end afterward.
        """
        batches = self.data_loader
        if isinstance(batches, ClusterBatches):
            batches.begin_epoch(self)
        seed_everything(self.seed, self.epoch, comm.get_rank())
        if not getattr(batches, "skips_epoch", False):
            self._trainer.start_epoch(self.epoch, self.steps_done)
        super().before_epoch()

    def pass_epoch(self) -> None:
        """Go to the end of this epoch without a step; its learning rate is passed, too."""
        self.iter += self.iters_per_epoch - self.steps_done
        self.steps_done = self.iters_per_epoch
        self.scheduler["lr_sched"].set(self.iter)
        self.storage.iter = self.iter - 1
        signals = getattr(
            self, "signals", None
        )  # a stop is agreed upon in steps, and there is none
        asked = signals is not None and signals.requested is not None
        if any(comm.all_gather(asked)):
            self._trainer.stop_after = self.iter

    def after_epoch(self) -> None:
        """Check the last losses before the weights are evaluated or saved."""
        self._trainer.finish()
        super().after_epoch()

    def save(self, name: str, pending: bool = False, resumable: bool = True) -> None:
        """Write ``<name>.pth`` after the steps of an epoch, with all that a resumed run needs.

        Args:
            name: name of the file, without its suffix.
            pending: whether the evaluation, record and saving of this epoch are still to be done.
            resumable: whether ``--resume`` continues from this file from now on.
        """
        saving.save_after_epoch(self, name, pending, resumable)

    def facts(self) -> Dict[str, Any]:
        """Return what a checkpoint says about itself: numbers, strings and lists of strings."""
        return saving.facts_of(self)

    # ---------------------------------------------------------------------------- evaluation

    def _renew_statistics(self) -> None:
        with runtime.uncompiled_calls():
            recompute_statistics(self)
        synchronize_buffers(self.model)

    def _evaluate(self) -> Dict[str, float]:
        self._renew_statistics()
        with runtime.uncompiled_calls():
            found = keep_best_candidate(unwrap(self.model), partial(self.test, self.cfg))
        # ``test`` has FastReID's two arguments, and does not know how far the weights are trained.
        record(self.cfg, found, weights=self._progress())
        self._last_eval_results = found
        return found

    def _progress(self) -> str:
        """Return in words how far the weights are trained."""
        done = getattr(self, "epoch", self.start_epoch - 1) + 1
        return f"after epoch {done} of {max(done, self.max_epoch)}"

    @classmethod
    def test(cls, cfg: Any, model: nn.Module) -> Dict[str, float]:
        """Evaluate on every dataset of ``DATASETS.TESTS``, and record it in ``OUTPUT_DIR``.

        Returns:
            Flat metrics in percent, see ``evaluation``; ``metric`` is that of the first dataset.
            Empty on all processes but the main one.
        """
        return evaluate_sets(cls.build_test_loader, cfg, model)
