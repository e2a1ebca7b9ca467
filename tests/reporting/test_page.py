"""The page of a run. Oracles: the files that the run left, and the page's own parts."""

import base64
import hashlib
import json
import re
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

from vireid_plugins import plots
from vireid_plugins.evaluation.result import METRIC_NAMES
from vireid_plugins.reporting.page import _tiles

from tests.reporting.pages import decode


def test_everything_is_inside_the_file(report):
    """No address leads out of the page but links to files, and those are there."""
    assert report.status == 0
    page = report.page
    assert [i.attrs["src"][:11] for i in page.all("img")] == ["data:image/"] * len(page.all("img"))
    assert [link.attrs["href"] for link in page.all("link")] == ["data:,"]
    assert not [node for node in page.walk() if node.name in ("iframe", "object", "source", "base")]
    (script,) = page.all("script")
    (style,) = page.all("style")
    assert not script.attrs and "url(" not in style.text and "@import" not in style.text
    links = [a.attrs["href"] for a in page.all("a")]
    files = [link for link in links if not link.startswith("#")]
    assert len(files) > 10
    for link in files:
        parts = urlsplit(link)
        assert not parts.scheme and not parts.netloc and not link.startswith("/")
        assert (report.path.parent / unquote(parts.path)).exists(), link


def test_only_the_pages_own_script_and_style_run(report):
    """The policy names them by their hashes, which are computed here again."""
    (policy,) = [m.attrs["content"] for m in report.page.all("meta") if m.attrs.get("http-equiv")]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for name in ("style", "script"):
        content = "".join(report.page.one(name).children)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def all_kinds():
    """Return the kinds that draw runs; the others draw data."""
    return {name: kind for name, kind in plots.all_kinds().items() if not kind.needs_config}


def test_every_picture_decodes_and_says_what_is_seen(report):
    pictures = report.page.one("main").all("img")
    # 3 queries, and of each at least its first right answer
    assert len(pictures) >= len(all_kinds()) + 3 * 2
    for picture in pictures:
        image = decode(picture.attrs["src"])
        assert image.size == (int(picture.attrs["width"]), int(picture.attrs["height"]))
        low, high = image.convert("L").getextrema()
        assert high - low > 20  # something is drawn
        assert len(picture.attrs["alt"]) > 10 and picture.parent.name == "button"


def test_every_kind_of_figure_is_shown_with_its_numbers(report):
    """MRDA has no parts and makes no images: no other kind is left out, or named as missing."""
    kinds = {n: kind for n, kind in all_kinds().items() if n not in ("parts", "swaps")}
    shown = report.page.by_id("training"), report.page.by_id("pictures")
    links = [a.attrs["href"] for section in shown for a in section.all("a")]
    for name in kinds:
        stem = re.compile(rf"figures/{name}[\w.-]*\.png$")
        assert any(stem.match(link) for link in links), name
    headings = [h.text.lower() for section in shown for h in section.all("h3")]
    assert sorted(headings) == sorted(k.help.split(";")[0].lower() for k in kinds.values())
    assert sum(link.endswith(".csv") for link in links) >= len(kinds)
    missing = report.page.by_id("missing").text
    assert (
        "parts: " in missing
        and "swaps: " in missing
        and not [name for name in kinds if f"{name}: " in missing]
    )


def test_what_each_kind_chose_stands_with_its_figure(report):
    """The notes of a drawing; absolute paths are cut, as they belong to one machine."""
    pictures = report.page.by_id("pictures").text
    assert "seed 0. Identities: " in pictures and "t-SNE of " in pictures
    assert "pairs of one identity, mean " in pictures
    assert "Queries: 2 best (first ✓ ranked earliest" in pictures
    training = report.page.by_id("training").text
    assert ": 4 iterations, epoch 1, …/" in training
    assert str(report.folder.parent) not in training + pictures


def test_the_table_is_that_of_metrics_json(report):
    lines = [json.loads(one) for one in (report.folder / "metrics.json").read_text().splitlines()]
    numbers = [line for line in lines if "metric" in line][-1]
    header, *rows = report.page.by_id("results").one("table").rows()
    assert header == ["protocol", *METRIC_NAMES]
    assert [row[0].split()[0] for row in rows] == ["SYSUMM01/all/single", "SYSUMM01/indoor/single"]
    for first, *cells in rows:
        key = first.split()[0]
        for name, cell in zip(METRIC_NAMES, cells):
            mean, _, std = cell.partition(" ± ")
            assert mean == f"{numbers[f'{key}/{name}']:.2f}"
            assert float(std or 0) == round(numbers[f"{key}/{name}_std"], 2)
        for words in (
            "infrared to visible",
            "gallery random, 1 per id and camera",
            "2 trials",
            "8 queries (0 without a match left out)",
            "after BNNeck, cosine",
            "no flip",
            "no re-ranking",
        ):
            assert words in first
    tiles = report.page.one("ul", "tiles").text
    assert f"{numbers['SYSUMM01/all/single/mAP']:.1f} % mAP" in tiles
    assert "after epoch 1 of 1" in report.page.by_id("results").text


def test_the_run_is_described_by_differences_from_the_papers_base(report):
    """Values as the files of the chain say them: paper, then SynthVI's, then the command line."""
    tables = [table.rows() for table in report.page.by_id("run").all("table")]
    (rows,) = [rows for rows in tables if rows[0] == ["key", "base", "this run", "set by"]]
    found = {row[0]: row[1:] for row in rows[1:]}
    assert found["MODEL.BACKBONE.DEPTH"] == ["50x", "18x", "configs/mrda/synthetic.yml"]
    assert found["SOLVER.MAX_EPOCH"] == ["80", "1", "command line"]
    assert found["INPUT.SIZE_TEST"] == ["[288, 144]", "[96, 48]", "configs/mrda/synthetic.yml"]
    assert found["SOLVER.IMS_PER_BATCH"] == ["36", "16", "command line"]
    assert "MODEL.META_ARCHITECTURE" not in found and "OUTPUT_DIR" not in found
    text = report.page.by_id("run").text
    assert "Made from configs/mrda/synthetic.yml" in text
    assert f"{len(found)} keys differ from configs/mrda/Base-mrda.yml" in text
    session = json.loads((report.folder / "run.json").read_text())["sessions"][0]
    for name, value in session["environment"].items():
        assert f"{name} {value}" in text
    assert "finished" in report.page.one("header").text


def test_structure_is_that_of_a_document(report):
    """Landmarks, headings without a gap, heads of tables with a scope, names that are unique."""
    page = report.page
    for name in ("h1", "main", "nav", "header", "footer", "dialog", "title"):
        page.one(name)
    levels = [int(node.name[1]) for node in page.walk() if re.fullmatch("h[1-6]", node.name)]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    assert all(th.attrs["scope"] in ("row", "col") for th in page.all("th"))
    names = [node.attrs["id"] for node in page.walk() if "id" in node.attrs]
    assert len(names) == len(set(names))
    sections = page.one("main").all("section")
    assert all(page.by_id(s.attrs["aria-labelledby"]).name == "h2" for s in sections)
    targets = [a.attrs["href"] for a in page.one("nav").all("a")]
    assert targets == [f"#{s.attrs['id']}" for s in sections]
    assert page.one("html").attrs["lang"] == "en"


def test_names_are_text_and_not_markup(report):
    """The last two folders of the path are ``a <b>run<`` and ``b> & 'more'``."""
    assert report.page.one("h1").text == "a <b>run</b> & 'more'"
    assert "<b>run" in report.page.one("title").text
    assert len(report.page.all("script")) == 1
    for picture in report.page.by_id("pictures").all("img"):
        assert "<b>run</b> & 'more'" in picture.attrs["alt"]


def test_hardest_queries_come_with_their_answers(report):
    """The photographs of a query: itself, wrong answers in order, then one right answer."""
    queries = report.page.by_id("hardest").all("article")
    assert len(queries) == 3
    for query in queries:
        classes = [li.attrs["class"] for li in query.all("li")]
        wrong = classes.count("wrong")
        assert classes in (
            ["query", *["wrong"] * wrong, "right"],
            ["query", *["wrong"] * wrong, "gap", "right"],
        )
        who = re.search(r"Identity (\d+), camera (\d+)", query.one("h3").text).groups()
        words = [figure.text for figure in query.all("figure")]
        assert f"identity {who[0]} camera {who[1]} infrared" in words[0]
        assert f"identity {who[0]} " in words[-1] and words[-1].startswith("✓")
        for rank, text in enumerate(words[1:-1], start=1):
            assert text.startswith(f"✗ {rank}: ") and f"identity {who[0]} " not in text


def test_the_main_numbers_of_a_transductive_run_say_which_they_are():
    metrics = {"A/Rank-1": 50.0, "A/mAP": 40.0, "A/transductive/Rank-1": 60.0}
    lines = [{"key": "A"}, {"key": "A/transductive"}]
    run = SimpleNamespace(results=SimpleNamespace(protocols=lines, metrics=metrics))
    said = re.sub("<[^>]+>", "", str(_tiles(run)))
    assert "50.0 % Rank-1" in said and "A, image by image" in said
    assert "at once (transductive): Rank-1 60.0 %; the whole" in said
    run.results.protocols = lines[:1]
    assert "A; the whole" in re.sub("<[^>]+>", "", str(_tiles(run)))
