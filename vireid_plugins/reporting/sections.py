"""Write the sections of the page that consist of words and numbers."""

import datetime
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from fastreid.modeling.backbones import BACKBONE_REGISTRY

from ..comparison.table import feature_words, protocol_words
from ..evaluation.result import METRIC_NAMES
from ..registry import NETWORK_REGISTRY
from ..runs.folder import Missing, Results, RunFolder
from ..runs.names import BEST, FINAL, METRICS
from .config_differences import ConfigDifferences
from .figures import address
from .html import Markup, breakable, join, tag

_LISTED = 400  # largest number of files that are listed


class Section(NamedTuple):
    """One section of the page."""

    name: str  # its anchor
    title: str
    content: Markup


def render(section: Section) -> Markup:
    """Return a section as HTML, with its heading."""
    heading = tag("h2", section.title, id=f"{section.name}-title")
    return tag(
        "section",
        heading,
        section.content,
        id=section.name,
        aria_labelledby=f"{section.name}-title",
    )


def table(
    caption: Any, header: Sequence[Any], rows: Sequence[Sequence[Any]], class_: str = ""
) -> Markup:
    """Return a table that scrolls by itself; the first cell of each row is its heading."""
    head = tag("tr", *(tag("th", cell, scope="col") for cell in header))
    body = (
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
        for first, *rest in rows
    )
    content = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", head),
        tag("tbody", *body),
        class_=class_ or None,
    )
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)


def facts(pairs: Sequence[Tuple[Any, Any]]) -> Markup:
    """Return a list of names and values, without those that have no value."""
    known = ((name, value) for name, value in pairs if value not in (None, ""))
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", breakable(value, "_/"))) for name, value in known),
        class_="facts",
    )


def score(metrics: Dict[str, float], key: str, digits: int = 2) -> str:
    """Return a metric as ``38.51 ± 1.20``, or without the deviation if there is none."""
    if key not in metrics:
        return "–"
    std = metrics.get(f"{key}_std") or 0.0
    return f"{metrics[key]:.{digits}f}" + (f" ± {std:.{digits}f}" if std else "")


def results_section(results: Optional[Results]) -> Section:
    """Return the section with the table of results, and all that decides its numbers."""
    if results is None:
        content = tag(
            "p", "This run has not been evaluated: there are no numbers to show.", class_="empty"
        )
        return Section("results", "Results", content)
    rows = []
    for line in results.protocols:
        words = [line["key"]]
        if "direction" in line:
            how = f"{protocol_words(line)}; {feature_words(line)}"
            words.append(tag("span", how.partition(", ")[2], class_="how"))
        scores = (score(results.metrics, f"{line['key']}/{name}") for name in METRIC_NAMES)
        rows.append([join(words, between=" "), *scores])
    caption = "Percent; ± is the standard deviation over the protocol's trials."
    notes = [tag("p", note) for note in _result_notes(results)]
    header = ["protocol", *METRIC_NAMES]
    content = join([table(caption, header, rows, class_="results"), *notes])
    return Section("results", "Results", content)


def _result_notes(results: Results) -> List[str]:
    notes = list(results.notes)
    if not results.explained:
        notes.append(
            "How these numbers were made (gallery, trials, features, re-ranking) is not recorded: "
            f"{METRICS} holds only the numbers."
        )
    if Path(results.weights).stem == BEST:
        notes.append("model_best was chosen on the test set, so its numbers are too good.")
    made = f", {date_words(results.finished)}" if results.finished else ""
    what = Path(results.weights).name if results.weights.endswith(".pth") else results.weights
    notes.append(f"Evaluated: {what or 'not recorded'}{made}. Source: {results.source}.")
    return notes


def what_was_run(run: RunFolder, comparison: Optional[ConfigDifferences]) -> Section:
    """Return the section on method, data and schedule, sessions, versions and machine."""
    return Section(
        "run",
        "What was run",
        join([_method_facts(run), _differences(comparison), _sessions(run), _environment(run)]),
    )


def _backbone_words(node: Any) -> str:
    """Return the backbone's name, with the network and the depth that it is built of."""
    builder: Any = BACKBONE_REGISTRY._obj_map.get(node.NAME)
    if not hasattr(builder, "network_of"):
        return f"{node.NAME}, depth {node.DEPTH}"
    network = builder.network_of(node)
    adapter: Any = NETWORK_REGISTRY._obj_map.get(network.partition("/")[0])
    depth = f" {node.DEPTH}" if getattr(adapter, "depths", ()) else ""  # or the name has the size
    return f"{node.NAME}, {network}{depth}"


def _method_facts(run: RunFolder) -> Markup:
    cfg = run.cfg
    seed = "not recorded" if run.seed is None else run.seed
    if cfg is None:
        return facts([("Seed", seed)])
    losses = ", ".join(cfg.MODEL.LOSSES.NAME)
    size = " × ".join(map(str, cfg.INPUT.SIZE_TRAIN))
    per_batch = f"{cfg.SOLVER.IMS_PER_BATCH} images per batch"
    return facts(
        [
            ("Method", cfg.MODEL.META_ARCHITECTURE),
            ("Backbone", _backbone_words(cfg.MODEL.BACKBONE)),
            ("Head", cfg.MODEL.HEADS.NAME),
            ("Losses", losses),
            ("Trained on", ", ".join(cfg.DATASETS.NAMES)),
            ("Tested on", ", ".join(cfg.DATASETS.TESTS)),
            ("Images", f"{size} pixels (height × width), {per_batch}"),
            (
                "Schedule",
                f"{cfg.SOLVER.MAX_EPOCH} epochs, {cfg.SOLVER.OPT}, "
                f"learning rate {cfg.SOLVER.BASE_LR:g}",
            ),
            ("Seed", seed),
        ]
    )


def _differences(comparison: Optional[ConfigDifferences]) -> Optional[Markup]:
    if comparison is None:
        return None
    base = comparison.base_file or "FastReID's and this package's defaults"
    heading = tag("h3", "Config: differences from the paper's base")
    if comparison.recorded:
        origin = tag("p", "Made from ", tag("code", comparison.config_file), ".")
    else:
        origin = tag(
            "p",
            "The run does not say which file it was made from; the nearest is ",
            tag("code", comparison.config_file),
            ".",
        )
    if not comparison.differences:
        return join([heading, origin, tag("p", f"No key differs from {base}.")])
    rows = [
        [
            tag("code", breakable(one.key, "._")),
            tag("code", one.base),
            tag("code", one.value),
            tag("code", one.source) if one.source else comparison.elsewhere,
        ]
        for one in comparison.differences
    ]
    number = len(rows)
    caption = f"{number} key{'s' * (number != 1)} differ{'s' * (number == 1)} from {base}"
    shown = table(caption, ["key", "base", "this run", "set by"], rows, class_="settings")
    return join([heading, origin, shown])


def _sessions(run: RunFolder) -> Optional[Markup]:
    rows = []
    for one in run.sessions:
        command = one.get("command")
        rows.append(
            [
                date_words(one.get("started") or one.get("finished") or "not recorded"),
                one.get("task", ""),
                tag("code", command) if command else "not recorded",
                tag("code", one["commit"]) if one.get("commit") else "not recorded",
            ]
        )
    if not rows:
        return None
    header = ["time", "task", "command", "commit"]
    listed = table("How it was started, each time", header, rows)
    return join([tag("h3", "Sessions"), listed, *map(_changed_keys, run.sessions)])


def _changed_keys(session: Dict[str, Any]) -> Optional[Markup]:
    """Return which keys a resumed session changed; None if it changed none."""
    changed = session.get("changed")
    if not changed:
        return None
    words = ", ".join(f"{key} {before} → {now}" for key, (before, now) in changed.items())
    return tag("p", f"From {date_words(session.get('started', ''))} on with other values: {words}.")


def _environment(run: RunFolder) -> Optional[Markup]:
    if not run.environment:
        return None
    return join([tag("h3", "Versions and machine"), facts(list(run.environment.items()))])


def missing_section(missing: Sequence[Missing]) -> Optional[Section]:
    """Return the section that lists what the page does not show, and why."""
    if not missing:
        return None
    items = (tag("li", tag("strong", one.what), f" – {one.why}") for one in missing)
    return Section("missing", "Not shown, and why", tag("ul", *items))


def files_section(run: RunFolder, page: Path, figures: Path) -> Section:
    """Return links to everything in the run's folder and to the folder of the figures."""
    drawn = _files_of(figures)
    others = {*drawn, page.resolve()}
    inside = [path for path in _files_of(run.folder) if path not in others]
    rows = []
    if drawn:
        total = sum(path.stat().st_size for path in drawn)
        folder = tag("a", f"{figures.name}/", href=address(figures, page) + "/")
        rows.append([join([folder, f" ({len(drawn)} files of this report)"]), size_words(total)])
    root = run.folder.resolve()
    for path in sorted(inside, key=lambda one: (len(one.parts), str(one)))[:_LISTED]:
        link = tag("a", path.relative_to(root).as_posix(), href=address(path, page))
        rows.append([link, size_words(path.stat().st_size)])
    left = len(inside) - _LISTED
    note = tag("p", f"{left} more are not listed.") if left > 0 else None
    caption = "Files of the run; links work where the page lies"
    listed = table(caption, ["file", "size"], rows, class_="files")
    return Section("files", "Files", join([listed, note]))


def _files_of(folder: Path) -> List[Path]:
    found = folder.resolve().rglob("*") if folder.is_dir() else ()
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def date_words(date: Any) -> str:
    """Return a recorded date as ``2026-01-31 12:00 UTC``; anything else unchanged."""
    try:
        moment = datetime.datetime.fromisoformat(str(date))
    except ValueError:
        return str(date)
    zone = " UTC" if moment.utcoffset() == datetime.timedelta(0) else ""
    return f"{moment:%Y-%m-%d %H:%M}{zone}"


def size_words(size: float) -> str:
    """Return a number of bytes as ``12.3 MB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def state_words(run: RunFolder) -> Tuple[str, str]:
    """Return one word for how far the run has come, and a sentence."""
    total = run.cfg.SOLVER.MAX_EPOCH if run.cfg is not None else None
    if not run.trained:
        return "evaluation", "An evaluation of weights that were trained elsewhere."
    if run.finished:
        there = run.checkpoint is not None or (run.folder / FINAL).is_file()
        return "finished", "Trained to the end." + ("" if there else " Its weights are gone.")
    name, checkpoint = run.last_checkpoint, run.checkpoint
    if checkpoint is not None and run.epochs is not None and total:
        done = f"{run.epochs} of {total} epochs"
        how = f"its last checkpoint, {checkpoint.path.name}, is after {done}"
    elif name:
        how = f"its last checkpoint was {name}"
    else:
        how = "no checkpoint was written"
    seen = f", and {METRICS} ends at iteration {run.iterations}" if run.iterations else ""
    return "unfinished", f"This run is not finished: {how}{seen}."
