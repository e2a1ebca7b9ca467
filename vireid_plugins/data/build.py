"""Build data loaders from a config: datasets, checks before training, samplers and workers."""

import logging
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch.utils.data import DataLoader

from fastreid.config import CfgNode
from fastreid.data.datasets.bases import ImageDataset
from fastreid.data.samplers import InferenceSampler
from fastreid.utils import comm

from .cache import build_cache
from .checks import (
    check_queries,
    check_test_set,
    check_training_sets,
    find_broken_images,
    raise_if_broken,
)
from .dataset import Loader, VIReIDDataset, collate
from .datasets.build import build_dataset
from .item import Item, test_items
from .keypoints import KeyPoints, load_keypoints, needs_keypoints
from .named_sampler import build_sampler
from .pseudo_labels import PseudoLabelSampler
from .range_survey import check_ranges_suit, resolved_reader
from .reading import ImageReader
from .train_loader import EpochBatchSampler, TrainLoader
from .training_items import training_fingerprint, training_items, training_sources
from .transforms import build_transforms

logger = logging.getLogger(__name__)


def build_train_loader(cfg: CfgNode) -> TrainLoader:
    """Return the loader of ``DATASETS.NAMES``, after every check that can be made before training.

    Batches are dicts as :func:`vireid_plugins.data.dataset.collate` describes. ``.dataset`` has
    ``num_classes`` and ``class_ids``; ``.sources`` are the dataset objects; ``len`` is the number
    of iterations in an epoch. The loader starts at epoch 0 and stays there until ``set_epoch``.

    Raises:
        UserError: these data cannot be trained on with this config; the message says what to
            change. Its subclasses ``DatasetError`` and ``ImageError`` occur, too.
    """
    seed, rank, world_size = _seed(cfg), comm.get_rank(), comm.get_world_size()
    transforms = build_transforms(cfg, is_train=True)
    sources = training_sources(cfg)
    items = training_items(cfg, sources)
    sampler = _training_sampler(cfg, items, seed=seed, rank=rank, world_size=world_size)
    tests = _checked_tests(cfg)
    check_training_sets(cfg, sources, tests)
    tested = [item for test in tests for item in test_items(test)]
    reader = resolved_reader(cfg, items)
    check_ranges_suit(reader, tested, "Test")
    _check_images(cfg, items + tested, reader)
    keypoints = None
    if needs_keypoints(cfg, is_train=True):
        keypoints = load_keypoints(cfg, items, [(source, source.train) for source in sources])
    for test in tests:  # what is missing is known before the training, not after an epoch
        _test_keypoints(cfg, test, test_items(test))
    dataset = VIReIDDataset(
        items,
        transforms,
        relabel=True,
        fingerprint=training_fingerprint(cfg, sources, keypoints),
        cache=build_cache(cfg),
        reader=reader,
        keypoints=keypoints,
    )
    batches = EpochBatchSampler(
        sampler, cfg.SOLVER.IMS_PER_BATCH // world_size, seed=seed, rank=rank
    )
    workers = cfg.DATALOADER.NUM_WORKERS
    loader = TrainLoader(
        dataset, batch_sampler=batches, persistent_workers=workers > 0, **_loader_options(cfg)
    )
    loader.sources = sources
    if comm.is_main_process():
        _log_training(cfg, loader, transforms.describe())
    return loader


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Tuple[DataLoader, ImageDataset]:
    """Return the loader of all test images, ``query + gallery`` in this order, and the dataset.

    Each process of a distributed run gets a contiguous share; every row comes exactly once.
    ``index`` in a batch is the position in ``query + gallery``.

    Raises:
        UserError: as :func:`build_train_loader`.
    """
    transforms = build_transforms(cfg, is_train=False)
    source = build_dataset(cfg, dataset_name, "DATASETS.TESTS", mode="query")
    if comm.is_main_process():
        source.show_test()
        logger.info("Test transforms:\n%s", transforms.describe())
    items = test_items(source)
    check_queries(source, dataset_name)
    check_test_set(cfg, source)
    reader = ImageReader.from_config(cfg)
    check_ranges_suit(reader, items, dataset_name)
    _check_images(cfg, items, reader)
    dataset = VIReIDDataset(
        items,
        transforms,
        relabel=False,
        cache=build_cache(cfg),
        reader=reader,
        keypoints=_test_keypoints(cfg, source, items),
    )
    loader = Loader(
        dataset,
        batch_size=max(1, cfg.TEST.IMS_PER_BATCH // comm.get_world_size()),
        sampler=InferenceSampler(len(dataset)),
        **_loader_options(cfg),
    )
    return loader, source


def build_unlabeled_loader(cfg: CfgNode, loader: TrainLoader) -> Loader:
    """Return a loader of the training images of ``loader``, each once, without augmentation.

    Each process of a distributed run gets a contiguous share. ``index`` in a batch is the position
    in the training list.
    """
    trained = loader.dataset
    dataset = VIReIDDataset(
        trained.items,
        build_transforms(cfg, is_train=False),
        relabel=False,
        cache=build_cache(cfg),
        reader=trained.reader,
        keypoints=trained.keypoints if needs_keypoints(cfg, is_train=False) else None,
    )
    return Loader(
        dataset,
        batch_size=max(1, cfg.TEST.IMS_PER_BATCH // comm.get_world_size()),
        sampler=InferenceSampler(len(dataset)),
        **_loader_options(cfg),
    )


def _training_sampler(cfg: CfgNode, items: Sequence[Item], **ranks: int) -> Any:
    """Return the sampler of the training: one of identities or, with ``CLUSTERS``, of clusters.

    Args and errors are those of :func:`build_sampler`.
    """
    if cfg.CLUSTERS.ENABLED:
        return PseudoLabelSampler(cfg, items, **ranks)
    return build_sampler(cfg, items, **ranks)


def _test_keypoints(
    cfg: CfgNode, source: ImageDataset, items: Sequence[Item]
) -> Optional[KeyPoints]:
    """Return the key points of test images; None if the config asks for none."""
    if not needs_keypoints(cfg, is_train=False):
        return None
    return load_keypoints(cfg, items, [(source, items)])


def _checked_tests(cfg: CfgNode) -> List[ImageDataset]:
    """Return the datasets that are evaluated during training, after a check of their queries."""
    names = cfg.DATASETS.TESTS if cfg.TEST.EVAL_PERIOD > 0 else ()
    tests = [build_dataset(cfg, name, "DATASETS.TESTS", mode="query") for name in names]
    for source, name in zip(tests, names):
        check_queries(source, name)
    return tests


def _check_images(cfg: CfgNode, items: Sequence[Item], reader: ImageReader) -> None:
    """Check the images; the processes share the work, and all of them raise the same error."""
    rank, world_size = comm.get_rank(), comm.get_world_size()
    mine = find_broken_images(
        [item.path for item in items][rank::world_size],
        cfg.DATASETS.VERIFY_IMAGES,
        read=reader.for_items(items),
        how=repr(reader),
    )
    raise_if_broken([message for part in comm.all_gather(mine) for message in part])


def _seed(cfg: CfgNode) -> int:
    if cfg.SEED >= 0:
        return int(cfg.SEED)
    return int(comm.shared_random_seed())  # for scripts: the trainer draws one and logs it


def _loader_options(cfg: CfgNode) -> Dict[str, Any]:
    on_gpu = str(cfg.MODEL.DEVICE).startswith("cuda") and torch.cuda.is_available()
    return {
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "collate_fn": collate,
        "pin_memory": on_gpu,
        # the loader draws a base seed when it is iterated; training's generator must not change
        "generator": torch.Generator(),
    }


def _log_training(cfg: CfgNode, loader: TrainLoader, transforms: str) -> None:
    identities = f"{loader.dataset.num_classes} identities"
    logger.info(
        "Training on %s: %d images, %s, %d iterations of %d images per epoch, sampler %s",
        ", ".join(cfg.DATASETS.NAMES),
        len(loader.dataset),
        "clusters in the place of identities" if cfg.CLUSTERS.ENABLED else identities,
        loader.iterations_per_epoch,
        cfg.SOLVER.IMS_PER_BATCH,
        cfg.DATALOADER.SAMPLER_TRAIN,
    )
    logger.info("Training transforms:\n%s", transforms)
