"""Retrieval pictures.

Oracles: planted features whose neighbors are known, a ranking by a plain sort, and the
artists and pixels of the picture drawn from them.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import vireid_plugins as vp
from vireid_plugins.drawing import (
    draw_retrievals,
    save_retrieval_pictures,
    select_retrievals,
)
from vireid_plugins.drawing.photos import Photo
from vireid_plugins.drawing.retrieval import Match, Retrieval
from vireid_plugins.drawing.retrieval_page import retrieval_page
from vireid_plugins.evaluation import (
    LLCMProtocol,
    RegDBProtocol,
    SYSUMM01Protocol,
    Trial,
)
from vireid_plugins.evaluation.relation import Relation
from vireid_plugins.modeling.meta_arch.cm_lsp_ge import path_rescorer

from fastreid.config import get_cfg

from tests.plots.photographs import features_of


def everything(dataset: Any) -> Trial:
    queries = np.arange(len(dataset.query))
    return Trial(queries, len(queries) + np.arange(len(dataset.gallery)))


def test_perfect_features_put_the_same_person_first(sysu: SimpleNamespace) -> None:
    found = select_retrievals(
        features_of(sysu, 0.0), sysu, everything(sysu), SYSUMM01Protocol(), count=6, top=4
    )
    assert [retrieval.chosen for retrieval in found] == ["random"] * 3 + ["hardest"] * 3
    for retrieval in found:
        valid = 3 if retrieval.query.camid == 3 else 4  # camera 2 is not compared with 3
        flags = [match.correct for match in retrieval.matches]
        assert flags == [True] * valid + [False] * (4 - valid)
        assert [round(match.score, 5) for match in retrieval.matches] == list(map(float, flags))
        assert retrieval.first_correct == 1


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equals_a_plain_sort_under_the_rules_of_the_protocol(
    sysu: SimpleNamespace, metric: str
) -> None:
    features = features_of(sysu, 0.7)
    protocol = LLCMProtocol("visible_to_infrared")
    # Every image searches all others, so that camera and identity of a pair may both agree.
    rows = np.arange(len(features.features))
    found = select_retrievals(
        features, sysu, Trial(rows, rows), protocol, count=len(rows), metric=metric
    )
    assert len(found) == len(rows)
    items, table = sysu.query + sysu.gallery, features.features.double().numpy()
    for retrieval in found:
        own = [item.path for item in items].index(retrieval.query.path)
        ranking = []
        for other, item in enumerate(items):
            if item[1:3] != items[own][1:3]:
                gap = np.linalg.norm(table[own] - table[other])
                lengths = np.linalg.norm(table[own]) * np.linalg.norm(table[other])
                score = gap if metric == "euclidean" else table[own] @ table[other] / lengths
                ranking.append((score, item))
        ranking.sort(key=lambda entry: entry[0], reverse=metric == "cosine")
        assert [match.photo.path for match in retrieval.matches] == [
            item.path for _, item in ranking[:10]
        ]
        np.testing.assert_allclose(
            [match.score for match in retrieval.matches],
            [score for score, _ in ranking[:10]],
            rtol=1e-5,
        )
        same = [item.pid == items[own].pid for _, item in ranking]
        assert [match.correct for match in retrieval.matches] == same[:10]
        assert retrieval.first_correct == same.index(True) + 1


def test_pairs_that_are_never_compared_are_never_shown(sysu: SimpleNamespace) -> None:
    found = select_retrievals(
        features_of(sysu, 0.5), sysu, everything(sysu), SYSUMM01Protocol(), count=12, top=99
    )
    shown = {(r.query.camid, match.photo.camid) for r in found for match in r.matches}
    assert shown == {(3, 1), (3, 4), (3, 5), (6, 1), (6, 2), (6, 4), (6, 5)}


def test_choice_is_half_random_and_half_the_hardest(sysu: SimpleNamespace) -> None:
    features, trial, protocol = features_of(sysu, 0.9), everything(sysu), SYSUMM01Protocol()
    everyone = select_retrievals(features, sysu, trial, protocol, count=12, seed=3)
    assert len({retrieval.query.path for retrieval in everyone}) == 12
    five = select_retrievals(features, sysu, trial, protocol, count=5, seed=3)
    drawn, hardest = five[:3], five[3:]
    assert drawn == everyone[:3]
    left = sorted((r.first_correct for r in everyone[3:]), reverse=True)
    assert [r.first_correct for r in hardest] == left[:2] and left[0] > left[-1]
    # The draw knows the seed, not the features.
    again = select_retrievals(features_of(sysu, 0.1), sysu, trial, protocol, count=5, seed=3)
    assert [r.query for r in again[:3]] == [r.query for r in drawn]
    other = select_retrievals(features, sysu, trial, protocol, count=5, seed=4)
    assert [r.query for r in other[:3]] != [r.query for r in drawn]


def test_a_query_without_a_valid_match_is_not_chosen(sysu: SimpleNamespace) -> None:
    first = len(sysu.query)
    only_camera_2 = Trial(np.arange(first), np.array([first + 1]))  # identity 0, camera 2
    found = select_retrievals(
        features_of(sysu, 0.0), sysu, only_camera_2, SYSUMM01Protocol(), count=12
    )
    assert [(r.query.target, r.query.camid) for r in found] == [(0, 6)]


def test_features_of_another_test_set_are_refused(sysu: SimpleNamespace) -> None:
    features = features_of(sysu, 0.0)
    shorter = SimpleNamespace(query=sysu.query, gallery=sysu.gallery[1:])
    with pytest.raises(ValueError, match="features has 36 rows.*35 images"):
        select_retrievals(features, shorter, everything(sysu), RegDBProtocol("visible_to_infrared"))


@pytest.fixture
def drawn_figures(monkeypatch: pytest.MonkeyPatch) -> List[Figure]:
    """Figures as they are saved."""
    figures: List[Figure] = []
    savefig = Figure.savefig

    def keep(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_picture_has_a_framed_panel_per_image(
    sysu: SimpleNamespace, drawn_figures: List[Figure], tmp_path: Path
) -> None:
    found = select_retrievals(
        features_of(sysu, 0.0), sysu, everything(sysu), SYSUMM01Protocol(), count=2, top=5
    )
    path = tmp_path / "new folder" / "sheet.png"
    draw_retrievals(found, str(path), title="the title", note="the note")
    (figure,) = drawn_figures
    (axes,) = figure.axes
    assert len(axes.images) == len(axes.patches) == 2 * (1 + 5)
    words = [text.get_text() for text in axes.texts]
    right = sum(match.correct for retrieval in found for match in retrieval.matches)
    assert sum(word.startswith("✓ 1.00") for word in words) == right
    assert sum(word.startswith("✗ 0.00") for word in words) == 10 - right
    assert "the title" in words and any(word.endswith("\nthe note") for word in words)
    # Panels keep the proportions of the images, lie on the page and do not overlap.
    boxes = [patch.get_window_extent() for patch in axes.patches]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    for i, box in enumerate(boxes):
        assert box.height / box.width == pytest.approx(2.0)
        assert 0 <= box.x0 and box.x1 <= pixels.shape[1]
        assert 0 <= box.y0 and box.y1 <= pixels.shape[0]
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    # The middle of each panel shows the image's own color.
    photos = [photo for r in found for photo in (r.query, *(match.photo for match in r.matches))]
    for box, photo in zip(boxes, photos):
        row, column = pixels.shape[0] - int(box.y0 + box.y1) // 2, int(box.x0 + box.x1) // 2
        assert pixels[row, column].tolist() == [40 * photo.target, 30 * photo.camid, 90]


def test_lines_of_wide_images_are_as_far_apart_as_their_captions_need(tmp_path: Path) -> None:
    def ranking(width: int, height: int) -> Retrieval:
        path = tmp_path / f"{width}.png"
        Image.new("RGB", (width, height)).save(path)
        photo = Photo(str(path))
        return Retrieval(photo, (Match(photo, 0.5, True),), 1, "best")

    def tops(*rankings: Retrieval) -> List[float]:
        page = retrieval_page([rankings], [""], title="", note="")
        return [patch.get_y() for patch in page.axes.patches[::2]]  # type: ignore[attr-defined]

    tall, wide = ranking(32, 64), ranking(64, 32)  # 1.84 and 0.46 inches
    assert np.diff(tops(tall, tall)) == pytest.approx(2.55)
    assert np.diff(tops(wide, tall)) == pytest.approx(2.55)
    assert np.diff(tops(wide, wide)) == pytest.approx(2.55 - (1.84 - 0.46))


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one retrieval"):
        draw_retrievals([], str(tmp_path / "none.png"))


def test_one_picture_per_protocol_that_says_how_it_was_made(
    sysu: SimpleNamespace, drawn_figures: List[Figure], tmp_path: Path
) -> None:
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    cfg.TEST.RETRIEVAL_PICTURES = 4
    cfg.SEED = 7
    paths = save_retrieval_pictures(
        cfg, "SYSUMM01", sysu, features_of(sysu, 0.3), str(tmp_path / "retrieval")
    )
    assert [Path(path).name for path in paths] == [
        "SYSUMM01_all_single.png",
        "SYSUMM01_indoor_single.png",
    ]
    assert all(Path(path).is_file() for path in paths)
    words = "\n".join(text.get_text() for text in drawn_figures[0].axes[0].texts)
    assert "2 drawn at random (seed 7), 2 the hardest of 12 drawn" in words
    assert "query camera 3 with gallery camera 2" in words
    assert "cosine similarity" in words


def test_the_picture_says_what_is_left_out(
    sysu: SimpleNamespace, drawn_figures: List[Figure], tmp_path: Path
) -> None:
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    cfg.TEST.RETRIEVAL_PICTURES, cfg.TEST.PROTOCOL.MODES = 2, ("all",)
    related = replace(features_of(sysu, 0.3), relation=Relation("NFormer", lambda rows, _: rows))
    rescored = replace(features_of(sysu, 0.3), rescorer=path_rescorer(7))
    for features in (related, rescored):
        save_retrieval_pictures(cfg, "SYSUMM01", sysu, features, str(tmp_path))
    first, second = (
        "\n".join(text.get_text() for text in figure.axes[0].texts) for figure in drawn_figures
    )
    assert "Image by image, without NFormer.   Numbers: cosine similarity" in first
    assert "Order without path distance × 0.5, top 7.   Numbers: cosine similarity" in second
