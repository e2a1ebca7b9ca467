"""Check a dataset on this machine: compare its counts with published ones, find broken files."""

import os
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Sequence, Type

from tabulate import tabulate

from vireid_plugins.config import add_vireid_config
from vireid_plugins.errors import UnknownNameError, UserError
from vireid_plugins.keys import check_ranges, value_of
from vireid_plugins.merge import merge_config
from vireid_plugins.modality import Modality
from vireid_plugins.readers.rendering import rendering, setting_words
from vireid_plugins.registry import registered_names, suggest

from fastreid.config import CfgNode, get_cfg
from fastreid.data.datasets import DATASET_REGISTRY

from ..datasets import CrossModalityDataset, DatasetError
from ..datasets.base import SPLITS
from ..item import Item
from ..range_survey import check_set
from ..reading import ImageReader
from .identities import lacking_modality, match_queries, too_few_identities
from .images import find_broken_images
from .protocols import rehearse_protocols

_SHOWN = 30  # how many problems a report shows; the files come last


class DatasetReport(NamedTuple):
    """The result of :func:`check_dataset`."""

    lines: List[str]  # for the reader, in order
    problems: List[str]  # what keeps the dataset from being used, or from being comparable

    @property
    def usable(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def __str__(self) -> str:
        verdict = (
            ["Usable: no problem found."]
            if self.usable
            else [f"NOT usable as it is: {len(self.problems)} problem(s)"]
            + [f"  {n}. {problem}" for n, problem in enumerate(self.problems[:_SHOWN], 1)]
        )
        if len(self.problems) > _SHOWN:
            verdict.append(f"  ... and {len(self.problems) - _SHOWN} more")
        return "\n".join(self.lines + verdict)


def dataset_class(name: str) -> Type[CrossModalityDataset]:
    """Return the class of a visible-infrared dataset, given its name or alias, in any case.

    Raises:
        UnknownNameError: there is no such dataset; the message has the nearest names.
    """
    registered = map(DATASET_REGISTRY.get, registered_names(DATASET_REGISTRY))
    known = {
        word: kind
        for kind in registered
        if issubclass(kind, CrossModalityDataset)
        for word in (kind.__name__, *kind.aliases)
    }
    for word, kind in known.items():
        if word.lower() == name.lower():
            return kind
    raise UnknownNameError(
        f"No dataset is called {name!r}. {suggest(name, known)} A class in your own file: import "
        "it in Python, then call vireid_plugins.data.checks.check_dataset."
    )


def check_dataset(
    name: str,
    root: str,
    *,
    full: bool = False,
    allow_overlap: bool = False,
    opts: Sequence[Any] = (),
    **options: Any,
) -> DatasetReport:
    """Check a dataset below ``root``.

    Args:
        name: as :func:`dataset_class` takes it.
        full: decode every image; otherwise only find absent and empty files.
        allow_overlap: as ``DATASETS.ALLOW_OVERLAP``: what training and test share, and images with
            two labels, are not problems; the report shows them.
        options: for the dataset's constructor: ``trial`` (RegDB), ``csv_file`` (CSVDataset).

    Raises:
        UserError: the name or an option is not valid.
    """
    kind = dataset_class(name)
    strange = sorted(set(options) - set(kind.config_keys))
    if strange:
        known = ", ".join(kind.config_keys) or "(none)"
        raise UserError(f"{kind.__name__} has no option {strange[0]!r}. Valid: {known}.")
    cfg = _make_config(opts)
    for argument, key in kind.config_keys.items():
        if key in map(str, opts[0::2]):
            options.setdefault(argument, value_of(cfg, key))
    allow_overlap = allow_overlap or cfg.DATASETS.ALLOW_OVERLAP
    lines = [f"{kind.__name__} below {os.path.abspath(root)}"]
    problems: List[str] = []
    try:
        dataset = kind(root=root, deferred=True, allow_overlap=allow_overlap, **options)
    except DatasetError as error:
        problems.append(str(error))
    else:
        splits = _read_splits(dataset, lines, problems)
        _describe(dataset, splits, lines, problems)
        _check_identities(splits, dataset, cfg, lines, problems)
        _check_files(splits, full, ImageReader.from_config(cfg), lines, problems)
    lines.append(f"Request page: {kind.dataset_url}")
    return DatasetReport(lines, list(dict.fromkeys(problems)))


def _make_config(opts: Sequence[Any]) -> CfgNode:
    cfg = get_cfg()
    add_vireid_config(cfg)
    merge_config(cfg, opts=opts)
    check_ranges(cfg)
    return cfg


def _read_splits(
    dataset: CrossModalityDataset, lines: List[str], problems: List[str]
) -> Dict[str, Sequence[Item]]:
    splits: Dict[str, Sequence[Item]] = {}
    for split in SPLITS:
        try:
            splits[split] = dataset.split_items(split)
        except DatasetError as error:
            splits[split] = []
            problems.append(str(error))
    overlap = lines if dataset.allow_overlap else problems
    for part in dataset.parts_read():
        lines += part.notes
        problems += part.faults
        overlap += part.problems
    overlap += dataset.leaks()
    return splits


def _describe(
    dataset: CrossModalityDataset,
    splits: Dict[str, Sequence[Item]],
    lines: List[str],
    problems: List[str],
) -> None:
    if dataset.synthetic:
        lines.append(
            "These images were rendered (SynthVI, vireid render). They are not the real dataset, "
            "and its published counts do not apply."
        )
        settings = rendering(dataset.dataset_dir).items()
        if settings:
            told = ", ".join(f"{name} {setting_words(value)}" for name, value in sorted(settings))
            lines.append(f"Its settings: {told}.")
    lines += ["", "Images per camera and split:", _camera_table(splits), ""]
    lines += ["Counts:", _count_table(dataset, splits, problems), ""]
    lines += dataset.remarks()


def _camera_table(splits: Dict[str, Sequence[Item]]) -> str:
    counts = {
        split: Counter((i.modality, i.camid) for i in items) for split, items in splits.items()
    }
    cameras = sorted(set().union(*counts.values()))
    rows = [
        [Modality(modality).label, camera] + [counts[split][modality, camera] for split in SPLITS]
        for modality, camera in cameras
    ]
    return tabulate(rows, headers=["modality", "camera", *SPLITS], tablefmt="pipe")


def _count_table(
    dataset: CrossModalityDataset, splits: Dict[str, Sequence[Item]], problems: List[str]
) -> str:
    compare = bool(dataset.published) and not dataset.synthetic
    rows = []
    for what, found in _counts(splits).items():
        published = dataset.published.get(what, "-") if compare else "-"
        same = not compare or found == published
        rows.append([what, found, published, "" if same else "differs"])
        if not same:
            problems.append(
                f"{what}: {found} found, {published} published. The copy is incomplete or altered; "
                "results would not be comparable with published ones."
            )
    return tabulate(rows, headers=["what", "found", "published", ""], tablefmt="pipe")


def _counts(splits: Dict[str, Sequence[Item]]) -> Dict[str, int]:
    counts: Dict[str, int] = {}
    test = list(splits["query"]) + list(splits["gallery"])
    for part, items in (("train", splits["train"]), ("test", test)):
        counts[f"{part} ids"] = len({item.pid for item in items})
        for modality in Modality:
            counts[f"{part} {modality.label}"] = sum(item.modality == modality for item in items)
    return counts


def _check_identities(
    splits: Dict[str, Sequence[Item]],
    dataset: CrossModalityDataset,
    cfg: CfgNode,
    lines: List[str],
    problems: List[str],
) -> None:
    problems += lacking_modality(splits["train"], dataset.label_name)
    if splits["train"]:
        problems += too_few_identities(splits["train"])
    if splits["query"] and splits["gallery"]:
        matches = match_queries(splits["query"], splits["gallery"], type(dataset).__name__)
        problems += matches.problems
        lines += matches.notes
        if not matches.problems:
            rehearsed = rehearse_protocols(dataset, splits, cfg)
            problems += rehearsed.problems
            lines += [f"Evaluation, {note}." for note in rehearsed.notes]


def _check_files(
    splits: Dict[str, Sequence[Item]],
    full: bool,
    base: ImageReader,
    lines: List[str],
    problems: List[str],
) -> None:
    items = [item for split in SPLITS for item in splits[split]]
    paths = [item.path for item in items]
    reader, words = check_set(splits["train"], [*splits["query"], *splits["gallery"]], base)
    broken = find_broken_images(
        paths, "full" if full else "sizes", read=reader.for_items(items), how=repr(reader)
    )
    lines += words
    how = "decoded" if full else "looked at without decoding (--full decodes them)"
    count = len(set(paths))
    usable = f"{count - len(broken)} of " if broken else ""
    lines.append(f"{usable}{count} image files {how}, {len(broken)} unusable.")
    problems += broken
