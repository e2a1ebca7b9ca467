"""Begin a run: continue the one in its folder, or start from weights, or from nothing."""

import logging
from typing import Any

from fastreid.utils import comm

from .checkpoint import load_to_resume, read_facts, remove_partial_files
from .encoder import check_feature, load_encoder
from .encoder_data import check_same_encoder
from .networks import load_networks
from .resume import continue_from
from .run_folder import log_move, move_earlier_run, write_config
from .same_rendering import check_same_rendering
from .same_run import check_same_config, check_same_data, log_differences
from .seeding import with_seed
from .start_paths import start_path
from .start_split import START_KEYS, WEIGHTS, check_start_splits

logger = logging.getLogger(__name__)


def resume_or_start(trainer: Any, resume: bool) -> None:
    """Continue the run in ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS``, or from nothing.

    Args:
        trainer: a ``VIReIDTrainer``.
        resume: whether to continue, if there is a run.

    Raises:
        CheckpointError: the checkpoint belongs to other data or to another model.
    """
    if comm.is_main_process():
        remove_partial_files(trainer.cfg.OUTPUT_DIR)
    if not (resume and trainer.checkpointer.has_checkpoint()):
        if resume:
            logger.info(
                "Nothing to resume in %s; starting from the beginning.", trainer.cfg.OUTPUT_DIR
            )
        log_move(trainer.cfg, move_earlier_run(trainer.cfg))
        trainer.load_start()
        write_config(trainer.cfg)
        return
    path = trainer.checkpointer.get_checkpoint_file()
    facts = read_facts(path) or {}
    check_feature(trainer.cfg, facts, path)
    own = trainer.facts()
    check_same_data(facts, own, path)
    check_same_rendering(facts, own, path)
    check_same_encoder(trainer.cfg, path)
    differences = check_same_config(facts, trainer.cfg, path)
    continue_from(trainer, load_to_resume(trainer.checkpointer, trainer.optimizer, path), path)
    log_differences(differences)
    write_config(with_seed(trainer.cfg, trainer.seed) if trainer.cfg.SEED >= 0 else trainer.cfg)


def load_start(trainer: Any) -> None:
    """Load the weights that a new run begins with, and let the model prepare for it.

    Raises:
        UserError: they are those of a model that was trained on another split.
    """
    model: Any = trainer.unwrapped_model
    check_start_splits(trainer.cfg, [*START_KEYS, *getattr(model, "starts", ())])
    load_encoder(trainer.cfg, model)
    load_networks(trainer.cfg, model)
    trainer.checkpointer.load(start_path(trainer.cfg, WEIGHTS), checkpointables=[])
    if hasattr(model, "start_run"):  # FastReID's own models have none
        model.start_run()
