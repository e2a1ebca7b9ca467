"""Search in a folder of one's own images by a trained model.

    python tools/search.py index --weights FILE --images DIR --modality visible --out INDEX
    python tools/search.py query INDEX --image night.jpg --modality infrared --save grid.png
    python tools/search.py query INDEX --images NIGHT_DIR --modality infrared --csv found.csv
    python tools/search.py calibrate INDEX

The same index command goes on where it was interrupted, and brings the index up to date.
"""

import argparse
import contextlib
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from tqdm import tqdm

from ..engine.feature_extractor import PRECISIONS, FeatureExtractor
from ..errors import is_foreseen, message_of
from ..modality import Modality
from .approximate import KINDS, LEAST_IMAGES
from .build import BROKEN, IndexingSummary, index_folder
from .calibration import Calibration, calibrate
from .feature_file import sole_writer
from .folder import check_image_folder, shown_name, sorted_images
from .index import SearchIndex
from .picture import check_picture, draw_grid, rows_of
from .querying import Query, search_images, write_csv

_MOST_NAMED = 5


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="search.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="index|query|calibrate")
    _add_index(commands)
    _add_query(commands)
    _add_calibrate(commands)
    return parser


def _add_index(commands: Any) -> None:
    parser = commands.add_parser("index", help="features of all images below a folder")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint")
    parser.add_argument("--images", required=True, metavar="DIR", help="with all folders below it")
    _add_modality(parser, "of all images")
    parser.add_argument("--out", required=True, metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "--index",
        default="",
        metavar="KIND",
        help=f"{', '.join(KINDS)}, or words of faiss's factory; default: {KINDS[0]}, exact. From "
        f"{LEAST_IMAGES:,} images on; fewer are always searched exactly",
    )
    _add_model_words(parser, batch_size=64)


def _add_query(commands: Any) -> None:
    parser = commands.add_parser("query", help="the images most similar to one's own")
    parser.add_argument("index", metavar="INDEX")
    parser.add_argument("--image", nargs="+", default=[], metavar="FILE", help="one or several")
    parser.add_argument("--images", default="", metavar="DIR", help="all images below a folder")
    _add_modality(parser, "of the queries; it cannot be told from grey images")
    parser.add_argument("--topk", type=int, default=10, metavar="K", help="default 10")
    parser.add_argument("--save", type=Path, metavar="FILE", help="a picture, .png or .pdf")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a line for each result")
    parser.add_argument(
        "--threshold",
        default="auto",
        metavar="NUMBER",
        help="of cosine similarity; default auto: that of `calibrate`, if it was run",
    )
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="default: where they were for `index`"
    )
    _add_model_words(parser, batch_size=32)


def _add_calibrate(commands: Any) -> None:
    parser = commands.add_parser(
        "calibrate", help="take a threshold for scores from labelled images, and keep it"
    )
    parser.add_argument("index", metavar="INDEX")
    parser.add_argument(
        "--dataset", default="", metavar="NAME", help="default: the first the model was tested on"
    )
    parser.add_argument("--weights", default="", metavar="FILE")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="of the model's config")
    _add_model_words(parser, batch_size=64)


def _add_modality(parser: argparse.ArgumentParser, what: str) -> None:
    words = [modality.label for modality in Modality]
    parser.add_argument("--modality", required=True, choices=words, help=what)


def _add_model_words(parser: argparse.ArgumentParser, batch_size: int) -> None:
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...; default cpu")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--batch-size", type=int, default=batch_size, metavar="N")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that read images; default 1"
    )


def _options(args: argparse.Namespace) -> Any:
    if args.workers < 0:
        raise ValueError(f"--workers must be 0 or more; got {args.workers}.")
    return dict(device=args.device, precision=args.precision, batch_size=args.batch_size)


# ------------------------------------------------------------------------------------------ index


def index_command(args: argparse.Namespace) -> int:
    """``search.py index``: 0: all images are in the index; 1: some could not be read."""
    if not Path(args.weights).is_file():
        raise FileNotFoundError(f"--weights names {args.weights}, and there is no such file.")
    check_image_folder(Path(args.images))
    extractor = FeatureExtractor(args.weights, **_options(args))
    summary = index_folder(
        extractor,
        args.images,
        args.modality,
        args.out,
        weights=args.weights,
        kind=args.index,
        workers=args.workers,
    )
    _tell_indexed(summary, Path(args.out))
    return 1 if summary.broken else 0


def _tell_indexed(summary: IndexingSummary, out: Path) -> None:
    say(
        f"{out}: {summary.unchanged + summary.added:,} images can be searched: "
        f"{summary.added:,} new ({summary.rate:.0f} images/s), {summary.unchanged:,} as before; "
        f"{summary.dropped:,} changed or removed since were dropped."
    )
    say(f"Search: {summary.search}.")
    if summary.broken:
        say(f"{summary.broken:,} could not be read: {out / BROKEN} says which and why.")
    if not SearchIndex(out).facts.get("thresholds"):
        say(f"No threshold is known: scores only rank. python tools/search.py calibrate {out}")


# ------------------------------------------------------------------------------------------ query


def query_command(args: argparse.Namespace) -> int:
    """``search.py query``: 0: all queries were answered; 1: some could not be read."""
    if bool(args.image) == bool(args.images):
        raise ValueError("Name the queries: either --image FILE [FILE ...] or --images DIR.")
    if args.topk < 1:
        raise ValueError(f"--topk must be at least 1; got {args.topk}.")
    if args.images:
        check_image_folder(Path(args.images))
        if args.csv is None:
            raise ValueError("--images DIR needs --csv FILE for what is found.")
    if args.save:
        check_picture(args.save, 1 if args.images else len(args.image), args.topk)
    if args.save and args.images:
        raise ValueError("--save draws queries that --image names; for --images DIR use --csv.")
    index = SearchIndex(args.index)
    modality = Modality.parse(args.modality)
    threshold, words = _threshold(index, args.threshold, modality)
    extractor = index.extractor(args.weights, **_options(args))
    say(
        f"{args.index}: {len(index):,} {index.facts['modality']} images of {index.images}, "
        f"by {index.facts['weights']}"
    )
    if not index.facts["complete"]:
        say("This index is not complete: only what is in it is searched. Run `index` again.")
    broken: List[str] = []
    queries = _asked(args, index, extractor, modality, broken)
    if args.images:
        number = write_csv(queries, args.csv, threshold)
        say(f"{number:,} queries, the best {args.topk} of each: {args.csv}")
    else:
        _answer_images(list(queries), args, index, threshold, words, broken)
    say(words)
    for line in broken[:_MOST_NAMED]:
        sys.stderr.write(f"skipped: {line}\n")
    if len(broken) > _MOST_NAMED:
        sys.stderr.write(f"... and {len(broken) - _MOST_NAMED:,} more could not be read\n")
    return 1 if broken else 0


def _threshold(index: SearchIndex, word: str, modality: Modality) -> Tuple[Optional[float], str]:
    """The threshold and what it means, in words."""
    if word != "auto":
        try:
            number = float(word)
        except ValueError:
            number = float("nan")
        if not -1 <= number <= 1:
            raise ValueError(f"--threshold must be auto or a number from -1 to 1; got {word!r}.")
        return number, f"Threshold {number:g}, as asked."
    known = index.facts.get("thresholds", {}).get(modality.label)
    if known is None:
        return None, (
            f"No threshold is known for {modality.label} queries: scores only rank. python "
            f"tools/search.py calibrate {index.folder} takes one from labelled images."
        )
    calibration = Calibration(**known)
    return calibration.threshold, (
        f"Threshold {calibration.describe()}. Other images have other errors: among many images "
        "of other people some reach it by chance."
    )


def _asked(
    args: argparse.Namespace,
    index: SearchIndex,
    extractor: FeatureExtractor,
    modality: Modality,
    broken: List[str],
) -> Iterator[Query]:
    folder = Path(args.images) if args.images else Path()
    workers = args.workers if args.images else 0

    def note(name: bytes, reason: str, is_folder: bool = False) -> None:
        broken.append(f"{shown_name(name) or folder}: {reason}")

    if args.images:
        names: Any = sorted_images(folder, note)
    else:
        names = iter([os.fsencode(name) for name in args.image])
    found = search_images(
        index,
        extractor,
        names,
        modality,
        args.topk,
        folder=folder,
        workers=workers,
        on_broken=note,
    )
    return iter(tqdm(found, unit="query", disable=None if args.images else True))


def _answer_images(
    queries: List[Query],
    args: argparse.Namespace,
    index: SearchIndex,
    threshold: Optional[float],
    words: str,
    broken: List[str],
) -> None:
    if not queries:
        raise ValueError(f"No query could be read: {'; '.join(broken)}")
    for query in queries:
        say(f"\n{shown_name(os.fsencode(query.name))} ({args.modality})")
        for rank, (score, name) in enumerate(zip(query.scores.tolist(), query.names), start=1):
            mark = "" if threshold is None else "  above" if score >= threshold else "  below"
            say(f"{rank:5}  {score:7.3f}{mark}  {shown_name(name)}")
    say("")
    if args.csv:
        write_csv(queries, args.csv, threshold)
        say(f"Written: {args.csv}")
    if args.save:
        asked = "query" if len(queries) == 1 else "queries"
        draw_grid(
            rows_of(index, queries),
            args.save,
            title=f"{args.modality} {asked} among {len(index):,} {index.modality.label} images",
            threshold=threshold,
            note=words if threshold is not None else "",
        )
        say(f"Written: {args.save}")


# -------------------------------------------------------------------------------------- calibrate


def calibrate_command(args: argparse.Namespace) -> int:
    """``search.py calibrate``: keep thresholds with the index."""
    extractor = SearchIndex(args.index).extractor(args.weights, **_options(args))
    found = calibrate(extractor, SearchIndex(args.index).modality, args.dataset, args.opts)
    folder = Path(args.index)
    with sole_writer(folder):
        index = SearchIndex(folder, writable=True)
        index.catalogue.remember(
            thresholds={query: calibration._asdict() for query, calibration in found.items()}
        )
        index.catalogue.close()
    for query, calibration in found.items():
        say(f"{query} queries: {calibration.describe()}.")
        for threshold, accepts, rejects in calibration.others:
            say(
                f"  --threshold {threshold:.3f}: {accepts:.1f} % of different people at or above, "
                f"{rejects:.1f} % of same people below"
            )
    return 0


# ------------------------------------------------------------------------------------------- main


def say(text: str) -> None:
    """A line for the user, at once, whatever letters the terminal knows."""
    known = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(known, "backslashreplace").decode(known) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


COMMANDS = {"index": index_command, "query": query_command, "calibrate": calibrate_command}


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run the command line.

    Returns:
        0: done; 1: done, but some images could not be read; 2: not done, the message says why;
        130: interrupted.
    """
    args = argument_parser().parse_args(words)
    try:
        with _terminated_like_interrupted():
            return COMMANDS[args.command](args)
    except KeyboardInterrupt:
        again = " The same command goes on where it was." if args.command == "index" else ""
        sys.stderr.write(f"Stopped.{again}\n")
        return 130
    except (OSError, sqlite3.Error) as error:
        where = getattr(args, "out", "") or args.index
        sys.stderr.write(f"error: {_of_the_system(error, where)}\n")
        return 2
    except Exception as error:
        if not is_foreseen(error):
            raise
        sys.stderr.write(f"error: {message_of(error)}\n")
        return 2


def _of_the_system(error: Exception, where: str) -> str:
    """A full or read-only disk and the like; what this package raised speaks for itself."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or where}: {error.strerror}. What was done before it is kept."
    if isinstance(error, sqlite3.Error):
        return f"{where}: its catalogue: {error}. What was done before it is kept."
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
