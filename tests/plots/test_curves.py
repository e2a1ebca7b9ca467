"""Curves of training runs. Oracles: files written by hand, and what the drawn lines hold."""

import json
from pathlib import Path

import pytest

from vireid.cli import run_verb
from vireid_plugins.errors import PlotError, UserError
from vireid_plugins.plots import curves
from vireid_plugins.plots.kinds import draw_kind
from vireid_plugins.runs.metrics_log import read_metrics_log

from tests.plots.planted import read_numbers

PROTOCOL = "SYSUMM01/all/single"


def line(iteration, loss, rate=0.01, **others):
    return json.dumps(
        {
            "iteration": iteration,
            "total_loss": loss,
            "loss_id": loss / 2,
            "lr": rate,
            "time": 1.5,
            **others,
        }
    )


def metrics(rank1, protocol=PROTOCOL):
    return {
        f"{protocol}/{name}{end}": rank1 / (2 if end else 1)
        for name in ("Rank-1", "Rank-5", "mAP", "mINP")
        for end in ("", "_std")
    }


def write_run(folder, lines, epochs=(4, 40)):
    """A run's folder; ``epochs``: epochs and iterations of the whole, as the log says them."""
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("".join(f"{one}\n" for one in lines))
    if epochs:
        words = f"eta: 0:00:01  epoch/iter: 1/{epochs[0]} 5/{epochs[1]}  total_loss: 1"
        (folder / "log.txt").write_text(f"vireid_plugins INFO: something\n[x] INFO: {words}\n")
    return str(folder)


@pytest.fixture
def figures(monkeypatch):
    """What is drawn, as it is saved."""
    kept = []

    def keep(figure, folder, name):
        kept.append(figure)
        return []

    monkeypatch.setattr(curves, "write_figure", keep)
    return kept


def drawn(axes):
    """(label, x, y) of the lines of a panel."""
    return [
        (one.get_color(), one.get_xdata().tolist(), one.get_ydata().tolist()) for one in axes.lines
    ]


def test_a_run_is_read_as_it_was_written(tmp_path):
    lines = [line(4, 3.0), line(9, 2.0, **metrics(30.0)), line(14, 1.0, 0.001)]
    run = read_metrics_log(write_run(tmp_path / "run", lines))
    assert run.losses == ["total_loss", "loss_id"] and run.protocols == [PROTOCOL]
    assert run.iterations_per_epoch == 10 and (run.superseded, run.unreadable) == (0, ())
    iterations, values = run.series["total_loss"]
    assert (iterations.tolist(), values.tolist()) == ([4, 9, 14], [3.0, 2.0, 1.0])
    iterations, values = run.series[f"{PROTOCOL}/mAP"]
    assert (iterations.tolist(), values.tolist()) == ([9], [30.0])
    assert read_metrics_log(run.path).series.keys() == run.series.keys()


def test_what_a_resumed_session_repeats_replaces_what_was_killed(tmp_path):
    killed = [
        line(4, 5.0),
        line(9, 4.0, **metrics(10.0)),
        line(14, 9.0),
        line(19, 9.0),
        line(24, 9.0, **metrics(99.0)),
    ]
    resumed = [line(14, 3.0), line(19, 2.0)]  # from the checkpoint after iteration 9
    run = read_metrics_log(write_run(tmp_path / "run", killed + resumed))
    iterations, values = run.series["total_loss"]
    assert (iterations.tolist(), values.tolist()) == ([4, 9, 14, 19], [5.0, 4.0, 3.0, 2.0])
    assert run.series[f"{PROTOCOL}/mAP"][1].tolist() == [10.0]  # not that of iteration 24
    assert run.superseded == 3


def test_a_term_that_ended_between_two_regular_lines_is_no_restart(tmp_path):
    ended = json.dumps({"iteration": 7, "loss_early": 1.0})  # written after the line of 9
    run = read_metrics_log(
        write_run(tmp_path / "run", [line(4, 2.0), line(9, 1.0), ended, line(14, 0.5)])
    )
    assert run.series["total_loss"][0].tolist() == [4, 9, 14]
    assert run.series["loss_early"][0].tolist() == [7] and run.superseded == 0


def test_a_line_cut_off_is_left_out_and_what_follows_it_is_not(tmp_path):
    cut = line(9, 2.0)[:30]
    running = read_metrics_log(write_run(tmp_path / "running", [line(4, 3.0), cut]))
    assert running.series["total_loss"][1].tolist() == [3.0] and running.unreadable == (2,)
    # Resumed, the next session wrote on in the same line.
    resumed = read_metrics_log(write_run(tmp_path / "resumed", [line(4, 3.0), cut + line(9, 1.5)]))
    assert resumed.series["total_loss"][1].tolist() == [3.0, 1.5]
    # A machine that lost power leaves zeros.
    zeros = read_metrics_log(
        write_run(tmp_path / "zeros", [line(4, 3.0), "\x00" * 20, line(9, 1.0)])
    )
    assert zeros.series["total_loss"][1].tolist() == [3.0, 1.0] and zeros.unreadable == ()


def test_an_evaluation_after_the_training_is_no_point_of_a_curve(tmp_path):
    after = json.dumps({**metrics(77.0), "weights": "model_final.pth"})
    run = read_metrics_log(write_run(tmp_path / "run", [line(4, 3.0, **metrics(10.0)), after]))
    assert run.series[f"{PROTOCOL}/mAP"][1].tolist() == [10.0]
    with pytest.raises(UserError, match="holds no measurement of a training"):
        read_metrics_log(write_run(tmp_path / "evaluated", [after]))


def test_a_folder_without_a_run_is_refused(tmp_path):
    write_run(tmp_path / "logs" / "seed0", [line(4, 3.0)])
    with pytest.raises(UserError, match="metrics.json does not exist. There are runs in .*seed0"):
        read_metrics_log(str(tmp_path / "logs"))
    (tmp_path / "other.json").write_text("not a measurement\n[1, 2]\n")
    with pytest.raises(UserError, match="other.json is not a metrics.json"):
        read_metrics_log(str(tmp_path / "other.json"))


def test_each_series_has_a_panel_and_each_run_a_line(figures, tmp_path):
    first = [
        line(4, 3.0),
        line(9, 2.0, **metrics(30.0)),
        line(14, 1.0, 0.0001),
        line(19, 0.5, 0.0001, **metrics(40.0)),
    ]
    second = [line(9, 6.0, loss_extra=0.25, **metrics(20.0))]
    runs = [
        write_run(tmp_path / "mrda" / "seed0", first),
        write_run(tmp_path / "agw" / "seed0", second, epochs=(3, 15)),
    ]
    (path,) = draw_kind("curves", runs, str(tmp_path / "out")).paths
    *panels, footer = figures[0].axes
    titles = [
        "total_loss",
        "loss_id",
        "loss_extra",
        "learning rate",
        "Rank-1 (%)",
        "mAP (%)",
        "mINP (%)",
    ]
    assert [axes.get_title() for axes in panels] == titles
    by_title = {axes.get_title(): drawn(axes) for axes in panels}
    (blue, *mrda), (orange, *agw) = by_title["total_loss"]
    # Epochs that are done: of 10 iterations each in the one run, of 5 in the other.
    assert mrda == [[0.5, 1.0, 1.5, 2.0], [3.0, 2.0, 1.0, 0.5]] and agw == [[2.0], [6.0]]
    assert by_title["loss_extra"] == [(orange, [2.0], [0.25])]
    assert by_title["Rank-1 (%)"] == [(blue, [1.0, 2.0], [30.0, 40.0]), (orange, [2.0], [20.0])]
    assert panels[3].get_yscale() == "log"  # 0.01 and 0.0001
    assert [text.get_text() for text in footer.get_legend().get_texts()] == [
        "mrda/seed0",
        "agw/seed0",
    ]
    assert f"Metrics: {PROTOCOL}." in footer.texts[0].get_text()
    rows = read_numbers(path)
    assert {
        "run": "agw/seed0",
        "name": "loss_extra",
        "iteration": "9",
        "epoch": "2",
        "value": "0.25",
    } in rows
    deviations = [float(row["value"]) for row in rows if row["name"] == f"{PROTOCOL}/Rank-1_std"]
    assert deviations == [15.0, 20.0, 10.0]
    assert len(rows) == 4 * 3 + 2 * 6 + 4 + 6


def test_without_a_log_the_axis_counts_iterations(figures, tmp_path):
    run = write_run(tmp_path / "run", [line(4, 3.0), line(9, 2.0)], epochs=None)
    draw_kind("curves", run, str(tmp_path / "out"), label=["mine"])
    (axes, *_, footer) = figures[0].axes
    assert axes.get_xlabel() == "iteration" and drawn(axes)[0][1] == [5, 10]
    assert footer.get_legend().get_texts()[0].get_text() == "mine"


def test_runs_that_were_evaluated_differently_are_named(figures, tmp_path):
    protocol = "RegDB/visible_to_infrared/multi"
    runs = [write_run(tmp_path / name, [line(9, 1.0, **metrics(10.0, protocol))]) for name in "abc"]
    assert not _notes_on_conditions(runs, tmp_path)  # they do not say how
    facts = {
        **{"key": protocol, "direction": "visible_to_infrared", "gallery_rule": "all images"},
        **{"trials": 1, "queries": 8, "queries_left_out": 0.0, "gallery": 8.0},
        **{"feature": "pooled", "metric": "cosine", "flip": False, "reranking": ""},
    }
    for run, cmc in zip(runs, ("image", "identity", "image")):
        results = {"metrics": {}, "protocols": [{**facts, "cmc": cmc}]}
        (Path(run) / "results.json").write_text(json.dumps(results))
    head, cmc = _notes_on_conditions(runs, tmp_path)
    assert head == f"The runs were evaluated differently by {protocol}; compare with care:"
    assert cmc == "  cmc: a 'image', b 'identity', c 'image'"
    assert not _notes_on_conditions([runs[0], runs[2]], tmp_path)
    (Path(runs[1]) / "results.json").write_text("{")  # damaged
    assert not _notes_on_conditions(runs, tmp_path)


def _notes_on_conditions(runs, folder):
    notes = draw_kind("curves", runs, str(folder)).notes
    return [note for note in notes if "evaluated differently" in note or note.startswith("  cmc")]


def test_protocols_and_metrics_are_chosen_by_name(figures, tmp_path):
    other, third = "SYSUMM01/indoor/single", "RegDB/visible_to_infrared/multi"
    runs = [
        write_run(tmp_path / "a", [line(9, 1.0, **metrics(10.0), **metrics(20.0, other))]),
        write_run(tmp_path / "b", [line(9, 1.0, **metrics(30.0, other))]),
        write_run(tmp_path / "c", [line(9, 1.0, **metrics(40.0, third))]),
    ]
    draw_kind("curves", runs[:2], str(tmp_path), metrics="Rank-5")
    (axes,) = (one for one in figures[0].axes if one.get_title().endswith("(%)"))
    assert axes.get_title() == "Rank-5 (%)"
    assert [values for _, _, values in drawn(axes)] == [[20.0], [30.0]]  # what both were asked
    for some, options, message in (
        (runs, {}, "different protocols; there are RegDB/.*Name one by --protocol"),
        (runs, {"protocol": "SYSUM01/all/single"}, "Did you mean 'SYSUMM01/all/single'"),
        (runs[:1], {"metrics": "Rank1"}, "--metrics names 'Rank1'. Did you mean 'Rank-1'"),
        ([runs[0], runs[0]], {}, "is named twice"),
        (runs[:1], {"label": ["x", "y"]}, "--label is given once for each of 1 runs"),
        ([tmp_path / str(i) for i in range(43)], {}, "43 runs; at most 42"),
    ):
        with pytest.raises(PlotError, match=message):
            draw_kind("curves", some, str(tmp_path), **options)


def test_many_runs_all_look_different(figures, tmp_path):
    runs = [write_run(tmp_path / f"seed{i}", [line(9, i + 1.0)]) for i in range(curves.MOST_RUNS)]
    draw_kind("curves", runs, str(tmp_path / "out"))
    figures[0].canvas.draw()
    footer = figures[0].axes[-1]
    lines = footer.get_legend().get_lines()
    looks = {(one.get_color(), str(one._unscaled_dash_pattern)) for one in lines}
    assert len(lines) == len(looks) == curves.MOST_RUNS
    # The legend stands on the page and below the panels.
    box, page = footer.get_legend().get_window_extent(), figures[0].bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0
    assert all(box.y1 <= axes.get_tightbbox().y0 for axes in figures[0].axes[:-1])
    note = footer.texts[0].get_window_extent()
    assert note.y1 <= box.y0 + 1


def test_the_command_needs_no_model(tmp_path, capsys):
    run = write_run(tmp_path / "run", [line(4, 3.0), line(9, 2.0), '{"iter'])
    assert run_verb("plot", ["curves", run, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "run: 10 iterations, epoch 1" in told and "line 3 cannot be read" in told
    for kind in ("png", "pdf", "csv"):
        assert f"Written: {tmp_path / 'out' / f'curves.{kind}'}" in told
        assert (tmp_path / "out" / f"curves.{kind}").stat().st_size > 100
