"""Write one page about a run: what was run, its numbers, its pictures.

    python tools/report.py LOG_DIR [--out report.html] [KEY VALUE ...]

The page is one file: it opens without a server, without a network, and on another machine.
"""

import argparse
import logging
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from ..engine.checks import make_output_folder
from ..errors import ReportError, is_foreseen, message_of, one_line
from ..evaluation import evaluate
from ..files import write_atomically
from ..plots import Subject, all_kinds, load_subject
from ..runs.folder import Missing, Results
from ..runs.names import CONFIG, METRICS
from ..runs.reading import read_run_folder
from ..runs.record import now
from .config_differences import Comparison, compare_with_base, recorded_config_file
from .figures import Figures, draw_figures, kinds
from .hardest import hardest_queries
from .page import build_page, figures_section, footer, hardest_section, header
from .sections import (
    Section,
    files_section,
    missing_section,
    results_section,
    size_words,
    what_was_run,
)

logger = logging.getLogger(__name__)

PAGE, FIGURES = "report.html", "figures"
_LARGE = 6_000_000  # bytes: what mail and browsers take without thinking


def argument_parser() -> argparse.ArgumentParser:
    """The command line; read it by ``parse_intermixed_args``."""
    parser = argparse.ArgumentParser(
        prog="report.py",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="LOG_DIR", help="a run's OUTPUT_DIR")
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="pairs over the run's config: MODEL.DEVICE cpu"
    )
    parser.add_argument("--out", metavar="FILE", help=f"default: LOG_DIR/{PAGE}")
    parser.add_argument(
        "--figures",
        metavar="DIR",
        help=f"where PNG, PDF and CSV files go; default: {FIGURES} beside the page",
    )
    parser.add_argument("--weights", default="", metavar="FILE", help="default: the run's last")
    parser.add_argument("--no-model", action="store_true", help="only what needs no model")
    parser.add_argument(
        "--skip", nargs="+", default=[], metavar="KIND", help=f"of {', '.join(all_kinds())}"
    )
    parser.add_argument(
        "--queries", type=int, default=8, metavar="N", help="hardest ones shown; default 8"
    )
    parser.add_argument("--title", default="", help="default: the folder's name")
    return parser


class Report:
    """One page in the making.

    Args:
        args: of ``argument_parser``.

    Raises:
        ReportError: there is nothing to report on, or a word is wrong.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        _check(args)
        self._args = args
        self._began = time.perf_counter()
        folder = Path(args.folder)
        self.page = Path(args.out) if args.out else folder / PAGE
        self._figures = Path(args.figures) if args.figures else self.page.parent / FIGURES
        self.run = read_run_folder(folder, args.weights, not args.no_model)
        self.title = args.title or "/".join(folder.resolve().parts[-2:])
        self.failed = False  # a picture, by an error that nobody foresaw

    def write(self) -> int:
        """Draw everything and write the page; its size in bytes."""
        for folder, word in ((self.page.parent, "--out"), (self._figures, "--figures")):
            make_output_folder(str(folder), word)
        run = self.run
        comparison = subject = hardest = None
        if run.cfg is not None:
            comparison = self._attempt("differences from the paper's base", self._compared)
        curves = self._draw(kinds(False, self._args.skip), None)
        if run.checkpoint is not None:
            subject = self._attempt("pictures of the model", self._subject)
        shown = self._draw(kinds(True, self._args.skip), subject) if subject else []
        if subject and self._args.queries:
            hardest = self._attempt("hardest queries", lambda: self._hardest(subject))
        if subject and not (run.results and run.results.explained):
            found = self._attempt("how the results were made", lambda: self._evaluated(subject))
            run.results = found or run.results
        sections = [
            results_section(run.results),
            what_was_run(run, comparison),
            figures_section("training", "Training", curves),
            figures_section("pictures", "What the model does", shown, self._weights_words()),
            hardest,
            missing_section(run.missing),
            files_section(run, self.page, self._figures),
        ]
        return self._save([section for section in sections if section is not None])

    def _weights_words(self) -> str:
        return f"Drawn with {self.run.checkpoint.words}." if self.run.checkpoint else ""

    def _compared(self) -> Comparison:
        return compare_with_base(self.run.cfg, recorded_config_file(self.run.sessions))

    def _save(self, sections: Sequence[Section]) -> int:
        seconds = time.perf_counter() - self._began
        top = header(self.run, self.title, self._notices())
        html = build_page(self.title, top, sections, footer(now(), seconds))
        content = html.encode("utf-8")
        write_atomically(self.page, lambda file: file.write(content))
        return len(content)

    def _notices(self) -> List[str]:
        run, notices = self.run, []
        if run.damaged_lines:
            notices.append(
                f"{run.damaged_lines} line{'s' * (run.damaged_lines != 1)} of {METRICS} could not "
                "be read, as after a run that was cut off; the others are shown."
            )
        for one in run.missing:
            if not one.of_method:
                notices.append(f"Not shown: {one.what}: {one.why}.")
        return notices

    def _draw(self, chosen: Sequence[Any], subject: Optional[Subject]) -> List[Figures]:
        drawn = []
        for kind in chosen:
            say(f"drawing {kind.name} ...")
            where = (self.run.folder, self._figures, self.page)
            drawn.append(draw_figures(kind, subject, *where, say))
        self.run.missing += [one.missing for one in drawn if one.missing]
        self.failed |= any(one.failed for one in drawn)
        return drawn

    def _attempt(self, what: str, action: Callable[[], Any]) -> Any:
        """What ``action`` returns; None if it fails, which is listed: the rest is still shown."""
        try:
            return action()
        except Exception as error:
            self.run.missing.append(Missing(what, one_line(error)))
            say(f"  not shown: {what}: {one_line(error)}")
            if not is_foreseen(error):
                self.failed = True
                logger.warning("%s", traceback.format_exc())
            return None

    def _subject(self) -> Subject:
        """The model on its test set, and the features of all its images."""
        weights = str(self.run.checkpoint.path)
        say(f"loading {weights} ...")
        config_file = str(self.run.folder / CONFIG) if self.run.cfg is not None else ""
        subject = load_subject(weights, config_file, self._args.opts, label=self.title)
        say(f"  features of {len(subject.features.features)} test images")
        return subject

    def _hardest(self, subject: Subject) -> Optional[Section]:
        say("finding the hardest queries ...")
        hard = hardest_queries(subject, self._args.queries)
        if not hard.queries:
            raise ReportError("no query has a right answer in the gallery")
        return hardest_section(subject, hard)

    def _evaluated(self, subject: Subject) -> Results:
        """The run was never evaluated, or does not say how: its features are at hand."""
        say("evaluating ...")
        table = evaluate(subject.cfg, subject.dataset_name, subject.dataset, subject.features)
        return Results(
            metrics=table.metrics,
            protocols=table.protocol_facts(),
            weights=self.run.checkpoint.path.name,
            finished=now(),
            source="this report",
            notes=(*([table.note] if table.note else []), self._beside_recorded(table.metrics)),
        )

    def _beside_recorded(self, metrics: Dict[str, float]) -> str:
        """In how far numbers of this report are those that the run wrote."""
        recorded = self.run.results
        if recorded is None:
            return "The run itself was not evaluated."
        common = set(metrics) & set(recorded.metrics)
        most = max((abs(metrics[key] - recorded.metrics[key]) for key in common), default=0.0)
        return (
            f"{recorded.source} does not say how its numbers were made ({recorded.weights}); these "
            f"were made anew, and differ from them by at most {most:.2f}."
        )


def _check(args: argparse.Namespace) -> None:
    if len(args.opts) % 2:
        raise ReportError(f"KEY VALUE words come in pairs; got: {' '.join(args.opts)}.")
    if args.queries < 0:
        raise ReportError(f"--queries is {args.queries}; expected 0 (none) or more.")
    unknown = sorted(set(args.skip) - set(all_kinds()))
    if unknown:
        known = ", ".join(all_kinds())
        raise ReportError(f"--skip names {', '.join(unknown)}; the kinds are: {known}.")
    if args.no_model and args.weights:
        raise ReportError("--weights names a model and --no-model wants none; leave one out.")
    if args.out and Path(args.out).is_dir():
        raise ReportError(f"--out is {args.out!r}, which is a folder; name a file in it.")


def say(line: str) -> None:
    """A line for the user, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run the command line.

    Returns:
        0: written; 1: written, but a picture failed by an error of the program; 2: nothing was
        written, the message says why; 130: interrupted.
    """
    args = argument_parser().parse_intermixed_args(words)
    try:
        report = Report(args)
        size = report.write()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 130
    except Exception as error:
        if not is_foreseen(error):
            raise
        sys.stderr.write(f"error: {message_of(error)}\n")
        return 2
    say(f"Written: {report.page} ({size_words(size)})")
    if size > _LARGE:
        say("  That is large for one page; --skip KIND and --queries N make it smaller.")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
