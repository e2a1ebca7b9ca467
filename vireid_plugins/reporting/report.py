"""Write one page about a run: what was run, its numbers, its pictures."""

import logging
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar, Union

from ..engine.checks import make_output_folder
from ..errors import ReportError, UnwritableError, is_foreseen, one_line
from ..evaluation import evaluate
from ..files import check_can_write, write_atomically
from ..plots import Kind, Subject, all_kinds, load_subject
from ..readers.text import readable
from ..runs.folder import Checkpoint, Missing, Results, RunFolder
from ..runs.names import CONFIG, METRICS
from ..runs.reading import read_run_folder
from ..runs.record import utc_now
from .config_differences import ConfigDifferences, compare_with_base, recorded_config_file
from .figures import Figures, draw_figures, kinds_to_draw
from .hardest import hardest_queries
from .page import build_page, figures_section, footer, hardest_section, header
from .sections import Section, files_section, missing_section, results_section, what_was_run

logger = logging.getLogger(__name__)

PAGE, FIGURES = "report.html", "figures"
PathLike = Union[str, Path]
Say = Callable[[str], Any]
Found = TypeVar("Found")


@dataclass(frozen=True)
class WrittenReport:
    """A page that was written."""

    page: Path
    size: int  # bytes
    missing: Sequence[Missing]  # what the page does not show, and why
    failed: bool  # whether a picture is missing because of a fault of the program


def write_report(
    folder: PathLike,
    *,
    out: Optional[PathLike] = None,
    figures: Optional[PathLike] = None,
    weights: PathLike = "",
    with_model: bool = True,
    skip: Sequence[str] = (),
    queries: int = 8,
    title: str = "",
    opts: Sequence[Any] = (),
    say: Say = lambda line: None,
) -> WrittenReport:
    """Write one page about a run: a file that opens without a server and without a network.

    Args:
        folder: ``OUTPUT_DIR`` of the run.
        out: where the page goes; None: ``report.html`` in ``folder``.
        figures: where PNG, PDF and CSV files go; None: ``figures`` beside the page.
        weights: checkpoint of the model that is drawn; empty: the run's last checkpoint.
        with_model: False: show only what can be shown without a model.
        skip: kinds of pictures that are left out.
        queries: how many of the hardest queries are shown.
        title: title of the page; empty: the name of the folder.
        opts: KEY VALUE pairs that override the run's config.
        say: called with lines that say what happens.

    Raises:
        ReportError: there is nothing to report on, or an argument is wrong.
    """
    _check(opts, queries, skip)
    if not with_model and weights:
        raise ReportError("--weights and --no-model exclude each other; leave one out.")
    if out and Path(out).is_dir():
        raise ReportError(f"--out is {str(out)!r}, which is a folder; name a file in it.")
    if out and Path(out).suffix.lower() not in (".html", ".htm"):
        raise ReportError(f"--out is {str(out)!r}; expected a file name that ends in .html.")
    if Path(folder).is_file():
        raise ReportError(f"{folder} is a file. Give the folder of a run: its OUTPUT_DIR.")
    page = Path(out) if out else Path(folder) / PAGE
    check_can_write(page)
    report = _Report(
        run=read_run_folder(Path(folder), str(weights), with_model),
        page=page,
        figures=Path(figures) if figures else page.parent / FIGURES,
        title=title or "/".join(Path(folder).resolve().parts[-2:]),
        opts=opts,
        say=say,
    )
    return report.write(skip, queries)


def _check(opts: Sequence[Any], queries: int, skip: Sequence[str]) -> None:
    if len(opts) % 2:
        raise ReportError(f"KEY VALUE words come in pairs; got: {' '.join(map(str, opts))}.")
    if queries < 0:
        raise ReportError(f"--queries is {queries}; expected 0 (none) or more.")
    known = all_kinds()
    unknown = sorted(set(skip) - set(known))
    if unknown:
        raise ReportError(f"--skip names {', '.join(unknown)}; the kinds are: {', '.join(known)}.")


class _Report:
    """One page in the making.

    Args:
        run: what is in the run's folder.
        page: where the page goes.
        figures: where PNG, PDF and CSV files go.
        title: title of the page.
        opts: KEY VALUE pairs that override the run's config.
        say: called with lines that say what happens.
    """

    def __init__(
        self, run: RunFolder, page: Path, figures: Path, title: str, opts: Sequence[Any], say: Say
    ) -> None:
        self._run, self._page, self._figures = run, page, figures
        self._title, self._opts, self._say = title, opts, say
        self._began = time.perf_counter()
        self._failed = False  # whether something is missing because of a fault of the program
        self._changed_images = ""  # a sentence, if the test set is not that of the results
        self._left_out = ""  # a sentence, if pictures show other features than the results have

    def write(self, skip: Sequence[str], queries: int) -> WrittenReport:
        """Draw all pictures but those of the kinds ``skip``, and write the page."""
        for folder, word in ((self._page.parent, "--out"), (self._figures, "--figures")):
            make_output_folder(str(folder), word)
        run = self._run
        differences = None
        if run.cfg is not None:
            differences = self._attempt("differences from the paper's base", self._compared)
        curves = self._draw(kinds_to_draw(False, skip), None)
        shown, hardest = self._show_model(skip, queries)
        sections = [
            results_section(run.results),
            what_was_run(run, differences),
            figures_section("training", "Training", curves),
            figures_section("pictures", "What the model does", shown, self._weights_words()),
            hardest,
            missing_section(run.missing),
            files_section(run, self._page, self._figures),
        ]
        size = self._save([section for section in sections if section is not None])
        return WrittenReport(self._page, size, tuple(run.missing), self._failed)

    def _show_model(
        self, skip: Sequence[str], queries: int
    ) -> Tuple[List[Figures], Optional[Section]]:
        """Return the pictures of the model and the section of its hardest queries.

        If the run recorded no results, or not how they were made, they are computed here.
        """
        checkpoint = self._run.checkpoint
        if checkpoint is None:
            return [], None
        subject = self._attempt("pictures of the model", lambda: self._load(checkpoint))
        if subject is None:
            return [], None
        self._left_out = f"Pictures: {subject.left_out}" if subject.left_out else ""
        shown, hardest = self._draw(kinds_to_draw(True, skip), subject), None
        if queries:
            hardest = self._attempt("hardest queries", lambda: self._hardest(subject, queries))
        if not (self._run.results and self._run.results.explained):
            found = self._attempt(
                "how the results were made", lambda: self._evaluate(subject, checkpoint)
            )
            self._run.results = found or self._run.results
        if self._run.results and subject.images:
            self._changed_images = self._run.results.changed_images(subject.images)
        return shown, hardest

    def _weights_words(self) -> str:
        checkpoint = self._run.checkpoint
        return f"Drawn with {checkpoint.words}." if checkpoint else ""

    def _compared(self) -> ConfigDifferences:
        return compare_with_base(self._run.cfg, recorded_config_file(self._run.sessions))

    def _save(self, sections: Sequence[Section]) -> int:
        """Write the page; return its size in bytes."""
        seconds = time.perf_counter() - self._began
        top = header(self._run, self._title, self._notices())
        html = build_page(self._title, top, sections, footer(utc_now(), seconds))
        content = readable(html).encode("utf-8")
        write_atomically(self._page, lambda file: file.write(content))
        return len(content)

    def _notices(self) -> List[str]:
        """Return sentences that a reader must know before the numbers."""
        run, notices = self._run, [*filter(None, (self._changed_images, self._left_out))]
        if run.damaged_lines:
            notices.append(
                f"{run.damaged_lines} line{'s' * (run.damaged_lines != 1)} of {METRICS} could not "
                "be read, as after a run that was cut off; the others are shown."
            )
        for one in run.missing:
            if not one.of_method:
                notices.append(f"Not shown: {one.what}: {one.why}.")
        return notices

    def _draw(self, chosen: Sequence[Kind], subject: Optional[Subject]) -> List[Figures]:
        """Draw the kinds; list those that cannot be drawn."""
        drawn = []
        for kind in chosen:
            self._say(f"drawing {kind.name} ...")
            where = (self._run.folder, self._figures, self._page)
            drawn.append(draw_figures(kind, subject, *where, self._say))
        self._run.missing += [one.missing for one in drawn if one.missing]
        self._failed |= any(one.failed for one in drawn)
        return drawn

    def _attempt(self, what: str, action: Callable[[], Found]) -> Optional[Found]:
        """Return what ``action`` returns. If it fails, list why and return None.

        The page shows the rest.
        """
        try:
            return action()
        except UnwritableError:  # a full disk: the page would not be written either
            raise
        except Exception as error:
            self._run.missing.append(Missing(what, one_line(error)))
            self._say(f"  not shown: {what}: {one_line(error)}")
            if not is_foreseen(error):
                self._failed = True
                logger.warning("%s", traceback.format_exc())
            return None

    def _load(self, checkpoint: Checkpoint) -> Subject:
        """Return the model on its test set, with the features of all its images."""
        weights = str(checkpoint.path)
        self._say(f"loading {weights} ...")
        own = self._run.folder / CONFIG  # a folder of evaluations alone has none
        config_file = str(own) if self._run.cfg is not None and own.is_file() else None
        subject = load_subject(weights, config_file, self._opts, label=self._title)
        self._say(f"  features of {len(subject.features.features)} test images")
        return subject

    def _hardest(self, subject: Subject, count: int) -> Section:
        self._say("finding the hardest queries ...")
        hard = hardest_queries(subject, count)
        if not hard.queries:
            raise ReportError("no query has a right answer in the gallery")
        return hardest_section(subject, hard)

    def _evaluate(self, subject: Subject, checkpoint: Checkpoint) -> Results:
        """Evaluate a run that was never evaluated, or that does not say how."""
        self._say("evaluating ...")
        table = evaluate(subject.cfg, subject.dataset_name, subject.dataset, subject.features)
        return Results(
            metrics=table.metrics,
            protocols=table.protocol_facts(),
            weights=checkpoint.path.name,
            finished=utc_now(),
            source="this report",
            notes=(*([table.note] if table.note else []), self._beside_recorded(table.metrics)),
        )

    def _beside_recorded(self, metrics: Dict[str, float]) -> str:
        """Return a sentence that says how far these numbers are from those that the run wrote."""
        recorded = self._run.results
        if recorded is None:
            return "The run itself was not evaluated."
        common = set(metrics) & set(recorded.metrics)
        most = max((abs(metrics[key] - recorded.metrics[key]) for key in common), default=0.0)
        return (
            f"{recorded.source} does not say how its numbers were made ({recorded.weights}); these "
            f"were computed again, and differ from them by at most {most:.2f}."
        )
