"""Build the whole page: one file that needs no other file, no server and no network."""

import base64
import hashlib
from pathlib import Path
from string import Template
from typing import Iterable, List, Optional, Sequence

from ..drawing.photos import Photo
from ..drawing.retrieval_page import numbers_in_words
from ..plots.subject import Subject
from ..readers.image import read_picture
from ..runs.environment import environment
from ..runs.folder import RunFolder
from ..version import __version__
from .figures import Figures, heading
from .hardest import Answer, HardQueries, HardQuery
from .html import Markup, join, tag, text
from .pictures import Picture, links, photo_uri
from .sections import Section, date_words, render, state_words

_FOLDER = Path(__file__).resolve().parent
_TALL = 1.1  # a drawing higher than this many times its width is read from top to bottom
_TILES = ("Rank-1", "Rank-10", "mAP", "mINP")


def figures_section(
    name: str, title: str, drawn: Sequence[Figures], intro: str = ""
) -> Optional[Section]:
    """Return the section with the pictures of several kinds; None if none was drawn."""
    shown = [figures for figures in drawn if figures.pictures]
    if not shown:
        return None
    first = tag("p", intro) if intro else None
    return Section(name, title, join([first, *(_figures(one) for one in shown)]))


def _figures(figures: Figures) -> Markup:
    lines = join(figures.notes, between=Markup("<br>"))
    notes = tag("p", lines, class_="told") if figures.notes else None
    others = tag("p", "Numbers: ", links(figures.others), class_="told") if figures.others else None
    drawings = [
        tag(
            "figure",
            picture.button(),
            tag("figcaption", picture.caption, " ", links(picture.links)),
            class_="drawing tall" if picture.height > _TALL * picture.width else "drawing",
        )
        for picture in figures.pictures
    ]
    return join([tag("h3", heading(figures.kind)), notes, *drawings, others])


def hardest_section(subject: Subject, hard: HardQueries) -> Section:
    """Return the section of the hardest queries, each with its answers."""
    key = f"{subject.dataset_name}/{hard.protocol.key}"
    share = 100 * hard.at_first / max(hard.valid, 1)
    intro = tag(
        "p",
        f"{key}, first trial: for {hard.at_first} of {hard.valid} queries with a right answer "
        f"among {hard.gallery} gallery images ({share:.1f} %) the first answer is right. Below, "
        "one query of each identity, those whose first right answer has the highest rank, with the "
        f"wrong answers before it. {numbers_in_words(subject.cfg.TEST.METRIC)}",
    )
    never = hard.protocol.rules().words()
    note = tag("p", f"Never compared: {never}.", class_="told") if never else None
    queries = (_hard_query(place, query) for place, query in enumerate(hard.queries, start=1))
    return Section("hardest", "Hardest queries", join([intro, note, *queries]))


def _hard_query(place: int, hard: HardQuery) -> Markup:
    heading = tag("h3", f"{place}. Identity {hard.query.target}, camera {hard.query.camid}")
    first = (
        f"First right answer at rank {hard.right.rank}; average precision "
        f"{hard.average_precision:.1f} %."
    )
    if not hard.wrong:
        first += " No answer is wrong before it."
    items = [_panel(hard.query, "query", "Query", f"Query {place}")]
    for answer in hard.wrong:
        items.append(_answer(answer, "wrong", "✗", f"Query {place}, wrong answer"))
    if hard.right.rank > len(hard.wrong) + 1:
        items.append(tag("li", tag("span", "…", aria_hidden="true"), class_="gap"))
    items.append(_answer(hard.right, "right", "✓", f"Query {place}, first right answer"))
    strip = tag("ul", *items, class_="strip")
    return tag("article", heading, tag("p", first), strip, class_="query")


def _answer(answer: Answer, class_: str, mark: str, what: str) -> Markup:
    score = f"{answer.match.score:.2f}".replace("-", "−")
    return _panel(
        answer.match.photo,
        class_,
        f"{mark} {answer.rank}: {score}",
        f"{what} at rank {answer.rank}, {score}",
    )


def _panel(photo: Photo, class_: str, word: str, what: str) -> Markup:
    """Return one photograph with its caption."""
    uri, width, height = photo_uri(read_picture(photo.path))
    image = f"{photo.modality_label} image".strip()
    picture = Picture(
        uri, width, height, f"{what}: {image} of identity {photo.target} by camera {photo.camid}"
    )
    lines = [f"identity {photo.target}", f"camera {photo.camid}", photo.modality_label]
    caption = tag(
        "figcaption",
        tag("b", word),
        " ",
        join((line for line in lines if line), between=Markup("<br>")),
        title=Path(photo.path).name,
    )
    return tag("li", tag("figure", picture.button(), caption), class_=class_)


def header(run: RunFolder, title: str, notices: Sequence[str] = ()) -> Markup:
    """Return the head of the page: name, state and the main numbers."""
    word, sentence = state_words(run)
    lead = None
    if run.cfg is not None:
        tests = ", ".join(run.cfg.DATASETS.TESTS)
        lead = tag("p", f"{run.cfg.MODEL.META_ARCHITECTURE} on {tests}", class_="lead")
    state = tag(
        "p", tag("span", word, class_=f"badge {word}"), " ", tag("span", sentence), class_="state"
    )
    return tag(
        "header",
        tag("p", "Report of a run", class_="kicker"),
        tag("h1", title),
        lead,
        state,
        _tiles(run),
        *(tag("p", notice, class_="notice") for notice in notices),
    )


def _tiles(run: RunFolder) -> Optional[Markup]:
    if run.results is None:
        return None
    lines = run.results.protocols
    key = lines[0]["key"]
    tiles = [
        tag("li", tag("b", f"{run.results.metrics[f'{key}/{name}']:.1f} %"), " ", tag("span", name))
        for name in _TILES
        if f"{key}/{name}" in run.results.metrics
    ]
    other = next((one["key"] for one in lines if one["key"] == f"{key}/transductive"), "")
    at_once = ", ".join(
        f"{name} {run.results.metrics[f'{other}/{name}']:.1f} %"
        for name in _TILES
        if f"{other}/{name}" in run.results.metrics
    )
    words = f", image by image; with all images at once (transductive): {at_once}" if other else ""
    note = tag("p", f"{key}{words}; the whole table is below.", class_="tiles-note")
    return join([tag("ul", *tiles, class_="tiles"), note])


def footer(made: str, seconds: float) -> Markup:
    """Return the foot of the page: when and with what it was made."""
    python, torch = (environment()[name] for name in ("Python", "torch"))
    return tag(
        "footer",
        tag(
            "p",
            f"Made by vireid_plugins {__version__} (Python {python}, PyTorch {torch}) on "
            f"{date_words(made)}, in {seconds:.0f} s. Every picture is inside this file.",
        ),
    )


def build_page(title: str, top: Markup, sections: Iterable[Section], bottom: Markup) -> str:
    """Return the page as HTML.

    Args:
        title: title of the window.
        top: the header.
        sections: all sections in their order.
        bottom: the footer.
    """
    parts: List[Section] = list(sections)
    contents = tag("ul", *(tag("li", tag("a", part.title, href=f"#{part.name}")) for part in parts))
    style, script = (_read(name) for name in ("style.css", "viewer.js"))
    return Template(_read("page.html")).substitute(
        title=text(title),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        header=top,
        contents=contents,
        sections=join((render(part) for part in parts), between=Markup("\n")),
        footer=bottom,
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Return the hash by which a browser knows the page's own style and script."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
