"""Trials that need a model each. Oracle: hand arithmetic, beside each number; NumPy's ``std``."""

import csv
import functools
import io
import json
import shutil
import struct

import numpy as np
import pytest

from vireid.cli import run_verb
from vireid_plugins.comparison import Comparison, compare, queue, worker
from vireid_plugins.comparison.columns import format_difference, format_estimate
from vireid_plugins.comparison.contrasts import with_one_baseline
from vireid_plugins.comparison.estimate import TrialEstimate
from vireid_plugins.comparison.export import format_runs, format_summary
from vireid_plugins.comparison.noise import difference
from vireid_plugins.comparison.plot import draw_plot
from vireid_plugins.comparison.printed import format_latex, format_plain
from vireid_plugins.comparison.summary import collect, name_runs
from vireid_plugins.comparison.table import Outcome, format_markdown
from vireid_plugins.data.datasets import DatasetError
from vireid_plugins.engine import session
from vireid_plugins.engine.all_trials import how_to_run_all
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import PlanError
from vireid_plugins.runs.names import SETTINGS

from tests.comparison.fakes import fail, finish, protocol, write_config
from tests.engine.small import ROOT, small_words

main = functools.partial(run_verb, "compare")
REGDB = ROOT / "configs/agw/regdb.yml"
KEYS_OF_SECONDS = {
    "MODEL__DEVICE": "cpu",
    "MODEL__BACKBONE__DEPTH": "18x",
    "MODEL__BACKBONE__PRETRAIN": False,
    "SOLVER__MAX_EPOCH": 1,
    "SOLVER__WARMUP_EPOCHS": 0,
    "SOLVER__OPT": "Adam",
    "SOLVER__BASE_LR": 0.001,
}
OWN = ("OUTPUT_DIR", "TEST.EVAL_PERIOD")  # keys that a comparison sets itself
FORTH, BACK = (f"RegDB/{way}/multi" for way in ("visible_to_infrared", "infrared_to_visible"))
CPU = ("MODEL.DEVICE", "cpu")
TINY = (*CPU, "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.WITH_NL", "False")
VALUES = [40.0, 42.0, 44.0, 50.0, 41.0, 39.0, 47.0, 48.0, 43.0, 46.0]  # mean 44, of trials 1 to 10


def write_result(run, rank1, mAP, **changes):
    """The result of a run on RegDB; from infrared to visible it is one less."""
    lines = [
        {**protocol(key), "direction": key.split("/")[1], "trials": 1} for key in (FORTH, BACK)
    ]
    metrics = {
        f"{line['key']}/{name}{end}": value - less if not end else 0.0
        for less, line in enumerate(lines)
        for name, value in (("Rank-1", rank1), ("mAP", mAP), ("mINP", mAP / 2))
        for end in ("", "_std")
    }
    data = {"train_fingerprint": f"split {run.trial}", "test_sets": {"RegDB": run.trial}}
    finish(run, 0.0, 0.0, **{"protocols": lines, "metrics": metrics, **data, **changes})


def planned(output, configs=(REGDB,), trials=(), seeds=None, **options):
    return Comparison(configs, seeds, trials=trials, output=output, opts=TINY, **options)


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """Ten runs that are complete; tests do not change them."""
    found = planned(tmp_path_factory.mktemp("ten") / "out")
    for run, value in zip(found.runs, VALUES):
        write_result(run, value, value / 2)
    return found


def text_of(found, **options):
    return format_markdown(Outcome(collect(found.runs), [0], "command", **options), found.output)


# ------------------------------------------------------------------ which runs


def test_all_ten_trials_are_planned_with_one_seed(tmp_path):
    found = planned(tmp_path)
    assert [run.title for run in found.runs] == [f"agw trial {n} seed 0" for n in range(1, 11)]
    assert [run.cfg.DATASETS.REGDB_TRIAL for run in found.runs] == list(range(1, 11))
    assert found.runs[2].folder == tmp_path / "agw" / "trial3" / "seed0"


def test_some_trials_with_several_seeds_and_configs(tmp_path):
    """A published row, all configs on all trials, is complete before the next seed begins."""
    other = write_config(tmp_path, "other", DATASETS__NAMES=("RegDB",), DATASETS__TESTS=("RegDB",))
    found = planned(tmp_path / "out", (REGDB, other), (7, 2), (0, 1))
    assert [run.title for run in found.runs] == [
        f"{name} trial {trial} seed {seed}"
        for seed in (0, 1)
        for trial in (2, 7)
        for name in ("regdb", "other")
    ]


@pytest.mark.parametrize(
    "trials,opts,message",
    [
        ((11,), (), r"--trials is 11; RegDB has the trials 1, 2, .*10\. Name each at most once"),
        ((0,), (), "RegDB has the trials 1, 2"),
        ((3, 3), (), "--trials is 3 3; RegDB has"),
        ((), ("DATASETS.REGDB_TRIAL", "2"), "--set DATASETS.REGDB_TRIAL: leave it out; --trials"),
    ],
)
def test_trials_that_do_not_exist_are_refused(tmp_path, trials, opts, message):
    with pytest.raises(PlanError, match=message):
        Comparison([REGDB], trials=trials, opts=(*CPU, *opts), output=tmp_path)


@pytest.mark.parametrize("config", ["agw/sysu.yml", "agw/llcm.yml"])
def test_a_dataset_that_one_model_serves_has_no_such_trials(tmp_path, capsys, config):
    words = [config, "--output", str(tmp_path), "--set", *CPU, "--trials"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"configs/{config} trains on " in error and "Leave --trials out" in error
    assert error.count("\n") == 1


def test_a_word_that_is_no_number_of_a_trial(capsys):
    with pytest.raises(SystemExit):
        main(["--trials", "agw/regdb.yml"])
    assert "put it after the configs" in capsys.readouterr().err


def test_without_the_option_it_says_that_there_are_more_trials(tmp_path, monkeypatch, datasets):
    monkeypatch.setattr(queue, "execute", lambda *_: None)
    said = []
    compare([REGDB], seeds=(0,), output=tmp_path, opts=TINY, say=said.append)
    assert "RegDB has 10 trials, and each needs a model" in said[1] and "--trials" in said[1]
    assert "trains trial 1 alone" in said[1]


def test_lists_that_are_absent_are_said_before_the_first_training(tmp_path, datasets, monkeypatch):
    """Two lists of trial 7 and one of trial 9; trial 9 is already done elsewhere."""
    shutil.copytree(datasets / "RegDB" / "idx", tmp_path / "RegDB" / "idx")
    for name in ("Visible", "Thermal"):
        (tmp_path / "RegDB" / name).symlink_to(datasets / "RegDB" / name)
    (tmp_path / "RegDB/idx/train_visible_7.txt").unlink()
    (tmp_path / "RegDB/idx/test_thermal_9.txt").unlink()
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    monkeypatch.setattr(queue, "execute", lambda *_: pytest.fail("started"))
    found = planned(tmp_path / "out")
    with pytest.raises(DatasetError, match="2 of 10 trials cannot be used") as caught:
        found.execute()
    message = str(caught.value)
    assert "Trial 7: " in message and "train_visible_7.txt is missing" in message
    assert "test_thermal_9.txt is missing" in message and "others: 1 2 3 4 5 6 8 10." in message
    write_result(found.runs[8], 40.0, 20.0)
    with pytest.raises(DatasetError, match="1 of 10 trials .* 6 8 9 10. Trial 7: "):
        planned(tmp_path / "out").execute()


def test_what_is_complete_in_another_folder_is_not_run_again(tmp_path, ten):
    """Trials 1 to 5 here, all on another machine, of which trial 1 has another value."""
    own = planned(tmp_path / "here", trials=(1, 2, 3, 4, 5))
    for run in own.runs:
        write_result(run, 60.0, 30.0)
    found = planned(tmp_path / "here", also=[ten.output])
    assert [run.state for run in found.runs] == ["done"] * 10
    values = collect(found.runs)[0].estimate(FORTH, "Rank-1").by_trial
    assert values == {**dict(zip(range(1, 11), VALUES)), **{n: 60.0 for n in range(1, 6)}}
    with pytest.raises(PlanError, match=r"--also .*: no complete run .*trial1.seed0.result.json"):
        planned(tmp_path / "here", also=[tmp_path])


def test_another_machine_is_no_other_setting(tmp_path):
    found = planned(tmp_path)
    cfg = found.runs[0].cfg
    cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS = "cuda", 3
    write_result(found.runs[0], 40.0, 20.0, config=cfg.dump())
    assert planned(tmp_path).runs[0].state == "done"
    cfg.DATASETS.REGDB_TRIAL = 2
    write_result(found.runs[0], 40.0, 20.0, config=cfg.dump())
    with pytest.raises(PlanError, match="agw trial 1 seed 0 .*REGDB_TRIAL: was 2, is 1"):
        planned(tmp_path)


# ------------------------------------------------------------------ mean and deviations


def test_one_row_is_the_mean_and_numpys_deviation_over_the_trials(ten):
    """NumPy's ``std`` divides by n, as the ± of published tables does."""
    row = collect(ten.runs)[0]
    found = row.estimate(FORTH, "Rank-1")
    assert found.mean == pytest.approx(44.0) == np.mean(VALUES)
    assert found.spread == pytest.approx(np.std(VALUES)) and found.std is None
    assert f"{np.std(VALUES):.1f}" == "3.5"
    text = text_of(ten)
    assert "| config | trials | rank-1 V→I | mAP V→I | mINP V→I | rank-1 I→V | mAP I→V |" in text
    line = next(line for line in text.splitlines() if line.startswith("| agw | 10 |"))
    assert line.startswith("| agw | 10 | 44.0 ± 3.5 | 22.0 ± 1.7 | 11.0 ± 0.9 | 43.0 ± 3.5 |")
    assert "mean and population standard deviation over the 10 trials of RegDB" in text
    assert "Trials of RegDB: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10; a model for each" in text
    assert "different images" not in text and "lack runs" not in text
    assert "| agw | 4 | 0 | 50.00 | 25.00 | 12.50 | 49.00 | 24.00 | 11.50 |" in text


def test_several_seeds_have_a_deviation_of_their_own():
    """Seed 0: 10, 14 (mean 12, deviation 2); seed 1: 12, 20 (16, 4); the means differ by 4."""
    found = TrialEstimate({(1, 0): 10.0, (2, 0): 14.0, (1, 1): 12.0, (2, 1): 20.0})
    assert (found.mean, found.trials_std) == (14.0, 3.0)
    assert found.std == pytest.approx(8**0.5)  # (2² + 2²) / (2 - 1)
    assert format_estimate(found) == "14.0 ± 3.0 (seeds 2.8)"


def test_a_seed_that_lacks_a_trial_has_no_part_in_deviations():
    """Trial 2 has no seed 1: its value is 14, that of trial 1 is (10 + 12) / 2."""
    found = TrialEstimate({(1, 0): 10.0, (2, 0): 14.0, (1, 1): 12.0})
    assert (found.mean, found.trials_std, found.std) == (12.5, 2.0, None)
    crossed = TrialEstimate({(1, 0): 10.0, (2, 1): 14.0})  # no seed has both: of 10 and 14
    assert (crossed.mean, crossed.trials_std, crossed.std) == (12.0, 2.0, None)
    assert format_estimate(TrialEstimate({(3, 0): 10.0})) == "10.0"


def test_configs_are_compared_trial_by_trial():
    """Differences 1, 3: mean 2, s² = 2, error 1; t of one degree is 12.71.

    1, 1.2 and 1.1: mean 1.1, s = 0.1; 4.303 · 0.1 / sqrt(3) = 0.248.
    """
    base = TrialEstimate({(1, 0): 10.0, (2, 0): 50.0, (3, 0): 99.0})
    found = difference(TrialEstimate({(1, 0): 11.0, (2, 0): 53.0}), base)
    assert (found.delta, found.standard_error) == (2.0, pytest.approx(1.0))
    assert (found.bound, found.degrees) == (pytest.approx(12.7062, rel=1e-5), 1)
    assert found.verdict == "within noise"
    clear = TrialEstimate({(1, 0): 11.0, (2, 0): 51.2, (3, 0): 100.1})
    assert format_difference(difference(clear, base)) == "+1.1 [+0.9, +1.3] (beyond noise)"
    assert format_difference(difference(TrialEstimate({(3, 0): 98.0}), base)) == (
        "-1.0 (one trial: not judged)"
    )
    assert format_difference(difference(TrialEstimate({(4, 0): 98.0}), base)) == "–"


# ------------------------------------------------------------------ what is written


def test_missing_and_failed_trials_are_named(tmp_path):
    found = planned(tmp_path)
    for run in found.runs[:6]:
        write_result(run, 40.0, 20.0)
    fail(found.runs[6], "ValueError: no")
    text = text_of(found)
    line = next(line for line in text.splitlines() if line.startswith("| agw | "))
    assert line.startswith("| agw | 6 of 10 trials | 40.0 ± 0.0 |")
    assert "trial 7 seed 0 failed: ValueError: no; lacks trial 8, 9, 10 seed 0" in line
    assert "`agw/trial*/seed*/output.txt`" in line and "**Some rows lack runs**" in text
    printed = format_plain(collect(found.runs))
    assert "6 of 10 trials" in printed and "lack runs" in printed
    assert r"\\  % incomplete: 6 of 10 trials" in format_latex(collect(found.runs))


def test_the_printed_row_of_some_trials_says_which_they_are(tmp_path):
    for trials in ((3,), (3, 5)):
        found = planned(tmp_path / str(len(trials)), trials=trials)
        for run in found.runs:
            write_result(run, 40.0, 20.0)
        printed = format_plain(collect(found.runs))
        named = ", ".join(map(str, trials))
        assert f"Trials of RegDB: {named}, of 10; a published row is the mean over all" in printed
        assert ("1 seed " in printed) == (len(trials) == 1) and "1 seeds" not in printed


def test_runs_are_named_by_trial_and_seed(tmp_path):
    runs = planned(tmp_path, trials=(1, 2), seeds=(0, 1)).runs
    assert name_runs(runs) == "trial 1, 2 seed 0, 1"
    assert name_runs(runs[1:]) == "trial 2 seed 0; trial 1, 2 seed 1"


def test_trials_on_other_images_are_marked(tmp_path):
    """Splits differ by design; two runs of one trial must not."""
    found = planned(tmp_path, trials=(1, 2), seeds=(0, 1))
    for run in found.runs:
        write_result(run, 40.0, 20.0)
    assert "different images" not in text_of(found)
    write_result(found.runs[2], 40.0, 20.0, train_fingerprint="other")
    assert "**Runs were trained on different images" in text_of(found)


def test_one_trial_alone_says_that_it_is_no_published_row(tmp_path):
    found = planned(tmp_path, trials=(3,))
    write_result(found.runs[0], 40.0, 20.0)
    text = text_of(found)
    assert "Trials of RegDB: 3, of 10; **a published row is the mean over all 10**" in text
    assert "| agw | 1 | 40.0 | 20.0 |" in text  # one gallery, one trial: no deviation of 0.0
    assert "Each trial" not in text


def test_one_protocol_can_be_shown_alone(ten):
    text = text_of(ten, protocol=BACK)
    assert "| config | trials | rank-1 | mAP | mINP | training |" in text
    assert "| agw | 10 | 43.0 ± 3.5 |" in text


def test_csv_has_every_trial_and_the_deviation_over_them(ten):
    lines = list(csv.DictReader(io.StringIO(format_runs(collect(ten.runs)))))
    assert [line["trial"] for line in lines[::2]] == [str(n) for n in range(1, 11)]
    assert [float(line["Rank-1"]) for line in lines[::2]] == VALUES
    forth, back = csv.DictReader(io.StringIO(format_summary(with_one_baseline(collect(ten.runs)))))
    assert (forth["trials"], forth["seeds"], forth["runs"]) == ("10", "1", "10")
    assert float(forth["Rank-1_trials_std"]) == pytest.approx(np.std(VALUES))
    assert float(back["Rank-1"]) == pytest.approx(43.0) and back["Rank-1_std"] == ""


def test_a_row_for_a_paper(ten):
    text = format_latex(collect(ten.runs))
    assert r"method & rank-1 V$\to$I & mAP V$\to$I & mINP V$\to$I & rank-1 I$\to$V" in text
    row = r"agw & 44.0 $\pm$ 3.5 & 22.0 $\pm$ 1.7 & 11.0 $\pm$ 0.9 & 43.0 $\pm$ 3.5"
    assert row in text and "incomplete" not in text
    assert text.count("&") == 2 * 6


def test_the_command_that_repeats_it(ten, tmp_path):
    assert " --trials --seeds 0 --set " in ten.write().written[0].read_text(encoding="utf-8")
    some = planned(tmp_path, trials=(1, 2))
    write_result(some.runs[0], 40.0, 20.0)
    assert " --trials 1 2 --seeds 0 " in some.write().written[0].read_text(encoding="utf-8")


def test_the_plot_has_a_line_of_panels_for_each_direction(ten):
    """Heights in a PNG's header: a row of 0.34 inches and 0.62 between, at 130 dots an inch."""
    rows = collect(ten.runs)
    heights = []
    for protocols in ([FORTH], [FORTH, BACK]):
        content = draw_plot(with_one_baseline(rows), protocols, "title")
        heights.append(struct.unpack(">I", content[20:24])[0])
    assert heights[1] - heights[0] == pytest.approx((0.34 + 0.62) * 130, abs=1)


# ------------------------------------------------------------------ after trainings


@pytest.mark.slow
def test_the_row_is_the_mean_of_the_trials_trained_one_by_one(
    tmp_path, datasets, capsys, monkeypatch
):
    """Trial 2 by the ordinary commands, both by a comparison: equal numbers, and NumPy's mean."""

    def run_here(todo, jobs, on_start, on_end):
        for run in todo:
            run.folder.mkdir(parents=True)
            (run.folder / SETTINGS).write_text(run.cfg.dump())
            worker.run(run.folder, {"name": run.entry.name, "runs_at_once": 1})
            on_end(run, 1.0)

    monkeypatch.setattr(queue, "execute", run_here)
    opts = small_words(tmp_path / "one", **KEYS_OF_SECONDS, SEED=0, DATASETS__REGDB_TRIAL=2)
    session.train(str(REGDB), opts)
    weights = str(tmp_path / "one" / "model_final.pth")
    single = session.evaluate("", ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(tmp_path / "own")])
    words = dict(zip(*[iter(small_words(tmp_path, **KEYS_OF_SECONDS))] * 2))
    pairs = [w for pair in words.items() if pair[0] not in OWN for w in pair]
    folder = tmp_path / "out"
    assert main([str(REGDB), "--trials", "1", "2", "--output", str(folder), "--set", *pairs]) == 0
    found = [
        json.loads((folder / f"agw/trial{n}/seed0/result.json").read_text())["metrics"]
        for n in (1, 2)
    ]
    assert found[1] == {key: single[key] for key in found[1]}
    values = [one[f"{FORTH}/mAP"] for one in found]
    assert values[0] != values[1]
    assert f"{np.mean(values):.1f} ± {np.std(values):.1f}" in capsys.readouterr().out


def test_a_training_says_how_to_run_all_trials():
    opts = [
        *CPU,
        "SEED",
        "5",
        "DATASETS.REGDB_TRIAL",
        "3",
        "OUTPUT_DIR",
        "x",
        "INPUT.FLIP.PROB",
        "0",
    ]
    found = how_to_run_all(build_config(str(REGDB), opts), "agw/regdb.yml", opts)
    assert found.startswith("This was trial 3 of the 10 of RegDB.")
    assert found.endswith(
        "vireid compare agw/regdb.yml --trials --seeds 5 --set MODEL.DEVICE cpu INPUT.FLIP.PROB 0"
    )
    named = how_to_run_all(build_config(str(REGDB), CPU), "", [])
    assert named.endswith("vireid compare logs/regdb/agw/config.yaml --trials")
    assert how_to_run_all(build_config(str(ROOT / "configs/agw/sysu.yml"), CPU), "", []) == ""
