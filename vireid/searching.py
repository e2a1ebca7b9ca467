"""Run the actions of ``vireid search``, and report what they have done."""

import argparse
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional

from tqdm import tqdm

from vireid_plugins.engine import FeatureExtractor
from vireid_plugins.errors import MissingFileError, UserError
from vireid_plugins.evaluation.left_out import left_out
from vireid_plugins.files import check_can_write
from vireid_plugins.modality import Modality
from vireid_plugins.search import (
    IndexingSummary,
    Query,
    SearchIndex,
    calibrate,
    index_folder,
    search_images,
)
from vireid_plugins.search.broken_list import BROKEN
from vireid_plugins.search.folder import check_image_folder, shown_name, sorted_images
from vireid_plugins.search.picture import check_picture, draw_grid, rows_of
from vireid_plugins.search.querying import write_csv

from .verb import say

MOST_NAMED = 5  # largest number of broken queries that are named


def run_action(args: argparse.Namespace) -> int:
    """Run ``index``, ``query`` or ``calibrate``; return the exit status.

    Raises:
        UserError: a wrong word; also a disk that is full or cannot be written.
    """
    if args.workers < 0:
        raise UserError(f"--workers must be 0 or more; got {args.workers}.")
    try:
        return ACTIONS[args.action](args)
    except UserError:
        raise
    except (OSError, sqlite3.Error) as error:
        where = args.out if args.action == "index" else args.index
        raise UserError(system_message(error, where)) from error


def system_message(error: Exception, where: str) -> str:
    """Return the message of the operating system or the database, with the file it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or where}: {error.strerror}. What was done before it is kept."
    if isinstance(error, sqlite3.Error):
        return f"{where}: its catalog: {error}. What was done before it is kept."
    return str(error)


def model_options(args: argparse.Namespace) -> Dict[str, Any]:
    """Return the words about the model as keywords of ``FeatureExtractor``."""
    return dict(device=args.device, precision=args.precision, batch_size=args.batch_size)


# ------------------------------------------------------------------------------------------ index


def index(args: argparse.Namespace) -> int:
    """Index a folder; return 0 if all images are in the index, 1 if some could not be read."""
    if not Path(args.weights).is_file():
        raise MissingFileError(f"--weights names {args.weights}, and there is no such file.")
    check_image_folder(Path(args.images))
    extractor = FeatureExtractor(
        args.weights,
        infrared_range=args.infrared_range,
        visible_range=args.visible_range,
        keypoints=args.keypoints,
        keypoints_folder=args.images,
        **model_options(args),
    )
    _say_what_is_left_out(extractor)
    summary = index_folder(
        extractor,
        args.images,
        args.modality,
        args.out,
        weights=args.weights,
        kind=args.kind,
        workers=args.workers,
    )
    report_indexing(summary, Path(args.out), args.command)
    return 1 if summary.broken else 0


def _say_what_is_left_out(extractor: FeatureExtractor) -> None:
    sentence = left_out(extractor.model)
    if sentence:
        say(sentence)


def report_indexing(summary: IndexingSummary, out: Path, command: str) -> None:
    """Write what an indexing has done."""
    say(
        f"{out}: {summary.unchanged + summary.added:,} images can be searched: "
        f"{summary.added:,} new ({summary.rate:.0f} images/s), {summary.unchanged:,} as before; "
        f"{summary.dropped:,} changed or removed since were dropped."
    )
    say(f"Search: {summary.search}.")
    if summary.broken:
        say(f"{summary.broken:,} could not be read: {out / BROKEN} says which and why.")
    found = summary.unchanged + summary.added
    if found and not SearchIndex(out).facts.get("thresholds"):
        say(f"No threshold is known: scores only rank. To compute one: {command} calibrate {out}")


# ------------------------------------------------------------------------------------------ query


class Threshold(NamedTuple):
    """The smallest score that counts as the same person."""

    value: Optional[float]  # None: no threshold is known
    words: str  # a sentence that says where it comes from


def query(args: argparse.Namespace) -> int:
    """Answer queries; return 0 if all were answered, 1 if some could not be read."""
    check_query_words(args)
    index = SearchIndex(args.index)
    modality = Modality.parse(args.modality)
    threshold = choose_threshold(index, args.threshold, modality, args.command)
    extractor = index.extractor(
        args.weights,
        keypoints=args.keypoints,
        keypoints_folder=args.images,
        **model_options(args),
    )
    say(
        f"{args.index}: {len(index):,} {index.facts['modality']} images of {index.images}, "
        f"by {index.facts['weights']}"
    )
    _say_what_is_left_out(extractor)
    if not index.facts["complete"]:
        say("This index is not complete: only what is in it is searched. Run `index` again.")
    broken: List[str] = []
    queries = answers(args, index, extractor, modality, broken)
    if args.images:
        number = write_csv(queries, args.csv, threshold.value)
        say(f"{number:,} queries, the best {args.topk} of each: {args.csv}")
    else:
        show_answers(list(queries), args, index, threshold, broken)
    say(threshold.words)
    for line in broken[:MOST_NAMED]:
        sys.stderr.write(f"skipped: {line}\n")
    if len(broken) > MOST_NAMED:
        sys.stderr.write(f"... and {len(broken) - MOST_NAMED:,} more could not be read\n")
    return 1 if broken else 0


def check_query_words(args: argparse.Namespace) -> None:
    """Raise ``UserError`` for words that do not go together, before anything is loaded."""
    if bool(args.image) == bool(args.images):
        raise UserError("Name the queries: either --image FILE [FILE ...] or --images DIR.")
    if args.topk < 1:
        raise UserError(f"--topk must be at least 1; got {args.topk}.")
    if args.images:
        check_image_folder(Path(args.images))
        if args.csv is None:
            raise UserError("--images DIR needs --csv FILE, which the results are written to.")
    if args.save:
        check_picture(args.save, 1 if args.images else len(args.image), args.topk)
    if args.save and args.images:
        raise UserError("--save draws queries that --image names; for --images DIR use --csv.")
    for path in filter(None, (args.save, args.csv)):
        if any(os.path.realpath(path) == os.path.realpath(image) for image in args.image or ()):
            raise UserError(
                f"--save {path} is a query too, and would be lost; choose another name."
            )
        check_can_write(path)
    if args.csv and args.csv.suffix.lower() != ".csv":
        raise UserError(f"--csv {args.csv}: expected a name that ends in .csv.")


def choose_threshold(index: SearchIndex, word: str, modality: Modality, command: str) -> Threshold:
    """Return the threshold that ``--threshold`` names, or the one that is kept in the index."""
    if word != "auto":
        try:
            number = float(word)
        except ValueError:
            number = float("nan")
        if not -1 <= number <= 1:
            raise UserError(f"--threshold must be auto or a number from -1 to 1; got {word!r}.")
        return Threshold(number, f"Threshold {number:g}, as asked.")
    known = index.calibration(modality)
    if known is None:
        return Threshold(
            None,
            f"No threshold is known for {modality.label} queries: scores only rank. "
            f"{command} calibrate {index.folder} computes one from labeled images.",
        )
    return Threshold(
        known.threshold,
        f"Threshold {known.describe()}. For other images, the errors differ: among many images of "
        "other people, some reach it by chance.",
    )


def answers(
    args: argparse.Namespace,
    index: SearchIndex,
    extractor: FeatureExtractor,
    modality: Modality,
    broken: List[str],
) -> Iterator[Query]:
    """Yield each query with its results; add the queries that cannot be read to ``broken``."""
    folder = Path(args.images) if args.images else Path()

    def note(name: bytes, reason: str, is_folder: bool = False) -> None:
        broken.append(f"{shown_name(name) or folder}: {reason}")

    names: Iterable[bytes] = [os.fsencode(name) for name in args.image]
    if args.images:
        names = sorted_images(folder, note)
    found = search_images(
        index,
        extractor,
        names,
        modality,
        args.topk,
        folder=folder,
        workers=args.workers if args.images else 0,
        on_broken=note,
    )
    return iter(tqdm(found, unit="query", disable=None if args.images else True))


def show_answers(
    queries: List[Query],
    args: argparse.Namespace,
    index: SearchIndex,
    threshold: Threshold,
    broken: List[str],
) -> None:
    """Write the results of each query and, if asked for, the table and the picture."""
    if not queries:
        raise UserError(f"No query could be read: {'; '.join(broken)}")
    for query in queries:
        say(f"\n{shown_name(os.fsencode(query.name))} ({args.modality})")
        for rank, (score, name) in enumerate(zip(query.scores.tolist(), query.names), start=1):
            mark = ""
            if threshold.value is not None:
                mark = "  above" if score >= threshold.value else "  below"
            say(f"{rank:5}  {score:7.3f}{mark}  {shown_name(name)}")
    say("")
    if args.csv:
        write_csv(queries, args.csv, threshold.value)
        say(f"Written: {args.csv}")
    if args.save:
        asked = "query" if len(queries) == 1 else "queries"
        draw_grid(
            rows_of(index, queries),
            args.save,
            title=f"{args.modality} {asked} among {len(index):,} {index.modality.label} images",
            threshold=threshold.value,
            note=threshold.words if threshold.value is not None else "",
        )
        say(f"Written: {args.save}")


# -------------------------------------------------------------------------------------- calibrate


def calibrate_index(args: argparse.Namespace) -> int:
    """Compute thresholds from labeled images, and keep them with the index."""
    index = SearchIndex(args.index)
    extractor = index.extractor(args.weights, **model_options(args))
    found = calibrate(extractor, index.modality, args.dataset, args.opts)
    index.keep_calibrations(found)
    for modality, calibration in found.items():
        say(f"{modality} queries: {calibration.describe()}.")
        for threshold, accepts, rejects in calibration.others:
            say(
                f"  --threshold {threshold:.3f}: {accepts:.1f} % of different people at or above, "
                f"{rejects:.1f} % of same people below"
            )
    return 0


ACTIONS = {"index": index, "query": query, "calibrate": calibrate_index}
