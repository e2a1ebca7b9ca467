"""The training images of a config: from which datasets, which of them, and their fingerprint."""

from typing import List, Optional, Sequence

from fastreid.config import CfgNode
from fastreid.data.datasets.bases import ImageDataset
from fastreid.utils import comm

from .checks import too_few_identities
from .config_checks import training_names
from .datasets import CrossModalityDataset, DatasetError
from .datasets.base import fingerprint
from .datasets.build import build_dataset, dataset_root
from .item import Item
from .keypoints import KeyPoints
from .thin import describe_thinning, thin_items


def build_train_items(cfg: CfgNode) -> List[Item]:
    """Return the training items of ``DATASETS.NAMES``, exactly those that training uses.

    Raises:
        UserError: these data cannot be trained on with this config.
    """
    return training_items(cfg, training_sources(cfg))


def training_sources(cfg: CfgNode) -> List[ImageDataset]:
    """Return the datasets of ``DATASETS.NAMES``, whose training images are logged."""
    combineall = cfg.DATASETS.COMBINEALL
    sources = [build_dataset(cfg, name, combineall=combineall) for name in training_names(cfg)]
    if comm.is_main_process():
        for source in sources:
            source.show_train()
    return sources


def training_items(cfg: CfgNode, sources: Sequence[ImageDataset]) -> List[Item]:
    """Return the items of the datasets that a training uses.

    Raises:
        DatasetError: there are too few identities.
    """
    items = thin_items(cfg, join_items(sources))
    if cfg.CLUSTERS.ENABLED:
        # Datasets sort by identity, and no identity may decide anything here.
        return sorted(items, key=lambda item: item.path)
    too_few = too_few_identities(items)
    if too_few:
        raise DatasetError(f"{', '.join(cfg.DATASETS.NAMES)}: {too_few[0]}")
    return items


def join_items(sources: Sequence[ImageDataset]) -> List[Item]:
    """Return the training items of all ``sources``, with their identities kept apart.

    With several datasets an identity becomes ``"<place>/<dataset>/<identity>"``, so two persons
    with the same number stay two classes. Cameras keep their numbers. FastReID's own datasets leave
    their items in the order of the file system; these are sorted by path.
    """
    lists = [
        source.train if isinstance(source, CrossModalityDataset) else sorted(source.train)
        for source in sources
    ]
    joined = [[Item.of(fields) for fields in items] for items in lists]
    if len(sources) == 1:
        return joined[0]
    return [
        item._replace(pid=f"{place}/{source.dataset_name}/{item.pid}")
        for place, (source, items) in enumerate(zip(sources, joined))
        for item in items
    ]


def training_fingerprint(
    cfg: CfgNode, sources: Sequence[ImageDataset], keypoints: Optional[KeyPoints]
) -> str:
    """Return a fingerprint of the training items and their key points.

    Paths of stock datasets are relative to the root.
    """
    parts = [
        source.fingerprint(("train",))
        if isinstance(source, CrossModalityDataset)
        else fingerprint(type(source).__name__, dataset_root(), {"train": source.train})
        for source in sources
    ]
    points = keypoints.fingerprint if keypoints is not None else ""
    return "-".join(filter(None, (*parts, describe_thinning(cfg), points)))
