"""The rehearsal of an evaluation. Oracles: counts of all pairs one by one, and the evaluation."""

import csv
import random
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluation_oracles import INFRARED, VISIBLE, fake_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import vireid_plugins as vp
from vireid_plugins.data import Item
from vireid_plugins.data.checks import check_dataset
from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import (
    AffinityInference,
    CrossModalityProtocol,
    LLCMProtocol,
    QueryExpansion,
    RankRules,
    RegDBProtocol,
    Reranking,
    SingleModalityProtocol,
    SYSUMM01Protocol,
    TestFeatures,
    VIReIDEvaluator,
    rehearse_tests,
)
from vireid_plugins.evaluation.rehearsal import tally
from vireid_plugins.evaluation.rules import Labels

from fastreid.config import get_cfg

labels = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=12)


def as_labels(rows):
    table = np.array(rows, np.int64).reshape(-1, 2)
    return Labels(table[:, 0], table[:, 1])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    query=labels,
    gallery=labels,
    pairs=st.sets(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=3),
    same=st.booleans(),
)
def test_a_tally_equals_a_count_of_all_pairs(query, gallery, pairs, same):
    rules = RankRules(tuple(pairs), same)
    found = tally(as_labels(query), as_labels(gallery), rules)
    absent = hidden = number = 0
    by_rule = {part.words(): 0 for part in rules.parts()}
    for pid, camera in query:
        matches = [other for other_pid, other in gallery if other_pid == pid]
        number += len(matches)
        for pair in pairs:
            words = RankRules((pair,)).words()
            by_rule[words] += sum((camera, other) == pair for other in matches)
        if same:
            by_rule[RankRules(skip_same_camera=True).words()] += matches.count(camera)
        seen = [o for o in matches if (camera, o) not in pairs and not (same and o == camera)]
        absent += not matches
        hidden += bool(matches) and not seen
    assert (found.queries, found.gallery, found.pairs) == (len(query), len(gallery), number)
    assert (found.absent, found.hidden, found.hidden_pairs) == (absent, hidden, by_rule)


def features_of(dataset, size=8):
    items = dataset.query + dataset.gallery
    columns = [np.array([item[place] for item in items]) for place in (1, 2, 3)]
    features = torch.randn(len(items), size, generator=torch.Generator().manual_seed(1))
    return TestFeatures(features, *columns, np.arange(len(items)))


PROTOCOLS = [
    [SYSUMM01Protocol(mode, shots) for mode in ("all", "indoor") for shots in (1, 10)],
    [LLCMProtocol("visible_to_infrared"), LLCMProtocol("infrared_to_visible")],
    [RegDBProtocol("visible_to_infrared"), RegDBProtocol("infrared_to_visible")],
    [CrossModalityProtocol("infrared_to_visible", True, "identity")],
    [SingleModalityProtocol()],
]


@pytest.mark.parametrize("protocols", PROTOCOLS, ids=lambda found: type(found[0]).__name__)
def test_a_rehearsal_changes_no_number_and_leaves_out_as_many(protocols):
    """Oracle: the evaluation without a rehearsal, and the queries that its table leaves out."""
    dataset = fake_dataset((1, 2, 4, 5), (2, 3, 6))
    dataset.query += [Item("m1/cam6/0099/0001.jpg", 99, 6, INFRARED)] * 2
    dataset.gallery += [Item("m0/cam1/0098/0001.jpg", 98, 1, VISIBLE)] * 2
    features = features_of(dataset)

    def evaluator():
        return VIReIDEvaluator(protocols, dataset, dataset_name="Mine")

    plain = evaluator().evaluate(features)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    rehearsed = evaluator()
    remarks = rehearsed.rehearse()
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert rehearsed.evaluate(features).metrics == plain.metrics
    for row in plain.rows:
        left_out = [
            text for text in remarks if "left out" in text and text.split(":")[0] in row.key
        ]
        assert len(left_out) == 1 and f" of {row.num_queries} queries" in left_out[0]
        assert row.num_trials > 1 or f": {row.num_invalid_queries:g} of" in left_out[0]


def test_the_rule_that_hides_every_match_is_named_with_its_pairs():
    dataset = fake_dataset((2,), (3,))
    with pytest.raises(UserError, match=r"query camera 3 with gallery camera 2 \(\d+ pairs\)"):
        VIReIDEvaluator([SYSUMM01Protocol()], dataset, dataset_name="SYSUMM01").rehearse()
    dataset = fake_dataset((4,), (4,))
    for direction in ("visible_to_infrared", "infrared_to_visible"):
        evaluator = VIReIDEvaluator([LLCMProtocol(direction)], dataset, dataset_name="LLCM")
        with pytest.raises(UserError, match=r"one person by one camera \(\d+ pairs\).*camera num"):
            evaluator.rehearse()


def test_parameters_that_the_test_set_is_too_small_for_are_remarked():
    dataset = fake_dataset((1, 2, 4, 5), (3, 6))
    steps = dict(reranking=Reranking(k1=20), expansion=QueryExpansion(k=15))
    found = VIReIDEvaluator([SYSUMM01Protocol()], dataset, dataset_name="S", **steps).rehearse()
    assert "TEST.RERANK.K1 is 20, but a gallery has 14 images" in "\n".join(found)
    assert "TEST.AQE.QE_K is 15, but" in "\n".join(found) and "K2" not in "\n".join(found)
    assert "a gallery has 4 identities, so Rank-5, Rank-10, Rank-20 say nothing" in "\n".join(found)
    aim = VIReIDEvaluator(
        [RegDBProtocol("visible_to_infrared")],
        dataset,
        dataset_name="R",
        reranking=AffinityInference(10_000, 1),
    )
    assert "TEST.RERANK.K1 is 10000" in "\n".join(aim.rehearse())
    five = fake_dataset((1, 2, 4, 5), (3, 6))
    remark = "a gallery has 5 identities, so Rank-5, Rank-10, Rank-20 say nothing"
    five.gallery.extend(item._replace(pid=99) for item in five.gallery[:2])
    assert remark in "\n".join(
        VIReIDEvaluator([SYSUMM01Protocol()], five, dataset_name="S").rehearse()
    )
    few = SimpleNamespace(
        query=[Item(f"q{pid}", pid, 3, INFRARED) for pid in range(30)],
        gallery=[Item(f"g{pid}", pid, 1, VISIBLE) for pid in range(30)],
    )
    found = VIReIDEvaluator([SYSUMM01Protocol()], few, dataset_name="S").rehearse()
    assert found == ["all/single: all 10 galleries hold the same images, so trials do not differ"]


def test_a_rehearsal_of_the_size_of_sysu_takes_less_than_a_second():
    def items(cameras, modality, images):
        return [
            Item(f"cam{camera}/{pid:04d}/{n:04d}.jpg", pid, camera, modality)
            for pid in range(96)
            for camera in cameras
            for n in range(images)
        ]

    dataset = SimpleNamespace(query=items((3, 6), 1, 20), gallery=items((1, 2, 4, 5), 0, 18))
    protocols = [SYSUMM01Protocol("all"), SYSUMM01Protocol("indoor")]
    evaluator = VIReIDEvaluator(protocols, dataset, dataset_name="SYSUMM01")
    begin = time.process_time()
    assert evaluator.rehearse() == []
    assert time.process_time() - begin < 1.0


# ------------------------------------------------------------------------------ from a config


def write_csv(folder, rows):
    """Rows (pid, camid, modality, split) with empty files as images, which nothing can decode."""
    with open(folder / "list.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "pid", "camid", "modality", "split"])
        for number, row in enumerate(rows):
            (folder / f"{number}.png").write_bytes(b"")
            writer.writerow([f"{number}.png", *row])


def both(pid, split, cameras=(1, 2)):
    return [(pid, cameras[0], "visible", split), (pid, cameras[1], "infrared", split)]


@pytest.fixture
def csv_config(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("CSVDataset",)
    cfg.DATASETS.CSV_FILE = "list.csv"
    cfg.OUTPUT_DIR, cfg.MODEL.DEVICE = str(tmp_path / "run"), "cpu"
    return cfg


TRAIN = [row for pid in (1, 2, 3, 4) for row in both(pid, "train")]


def test_a_test_set_filmed_by_one_camera_is_refused_before_any_image_is_read(csv_config, tmp_path):
    """The images are empty files: whoever reads one raises another error."""
    from vireid_plugins.engine import VIReIDTrainer

    write_csv(tmp_path, TRAIN + both(8, "test", (1, 1)) + both(9, "test", (1, 1)))
    fix = "one person by one camera .2 pairs.*set DATASETS.CSV_SKIP_SAME_CAMERA False"
    with pytest.raises(UserError, match=fix):
        VIReIDTrainer(csv_config)
    report = check_dataset("CSVDataset", str(tmp_path), csv_file="list.csv")
    assert not report.usable and "CSV_SKIP_SAME_CAMERA" in str(report)
    mended = ["DATASETS.CSV_SKIP_SAME_CAMERA", False, "DATASETS.CSV_FILE", "list.csv"]
    assert "no valid match" not in str(check_dataset("csv", str(tmp_path), opts=mended))
    csv_config.DATASETS.CSV_SKIP_SAME_CAMERA = False  # the remedy works
    rehearse_tests(csv_config)


def test_identities_have_the_names_of_the_list(csv_config, tmp_path):
    write_csv(tmp_path, TRAIN + both("anna", "test", (1, 1)) + both("bob", "test", (1, 1)))
    with pytest.raises(UserError, match="Identities .*anna.*, .*bob.* are in both"):
        rehearse_tests(csv_config)


def test_queries_without_a_match_are_one_warning_with_counts(csv_config, tmp_path, caplog):
    lonely = [(20, 1, "visible", "query"), (21, 2, "infrared", "gallery")]
    write_csv(tmp_path, TRAIN + both(8, "test") + both(9, "test", (1, 1)) + lonely)
    rehearse_tests(csv_config)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    text = record.getMessage()
    for direction in ("visible_to_infrared", "infrared_to_visible"):
        assert f"{direction}/multi: 2 of 3 queries have no valid match" in text
    assert text.count("1 of identities that the gallery lacks, 1 whose matches are never") == 2


def test_a_key_of_a_protocol_that_no_test_set_has_is_one_warning(csv_config, tmp_path, caplog):
    write_csv(tmp_path, TRAIN + both(8, "test") + both(9, "test"))
    rehearse_tests(csv_config)
    assert "TEST.PROTOCOL" not in caplog.text
    csv_config.TEST.PROTOCOL.LLCM = "released_code"
    csv_config.TEST.PROTOCOL.REGDB_CMC = "identity"
    csv_config.TEST.PROTOCOL.SHOTS = (10,)  # configs for SYSU-MM01 set it in any case
    rehearse_tests(csv_config)
    (text,) = [one.getMessage() for one in caplog.records if "TEST.PROTOCOL" in one.getMessage()]
    # Other tests may have registered datasets with these protocols.
    for key, owner in (
        ("LLCM (now 'released_code')", "LLCM"),
        ("REGDB_CMC (now 'identity')", "RegDB"),
    ):
        assert re.search(rf"TEST.PROTOCOL.{re.escape(key)}, which is for (\w+, )*{owner}\b", text)
    assert "SHOTS" not in text


def test_a_key_of_a_part_that_is_switched_off_is_a_warning(csv_config, tmp_path, caplog):
    write_csv(tmp_path, TRAIN + both(8, "test") + both(9, "test"))
    csv_config.TEST.FLIP.NORMALIZED, csv_config.TEST.RERANK.NEIGHBORS = True, "queries"
    rehearse_tests(csv_config)
    assert "NORMALIZED True is not read, because TEST.FLIP.ENABLED is False" in caplog.text
    assert "NEIGHBORS queries is not read, because TEST.RERANK.ENABLED is False" in caplog.text
    caplog.clear()
    csv_config.TEST.FLIP.ENABLED = csv_config.TEST.RERANK.ENABLED = True
    rehearse_tests(csv_config)
    assert "is not read" not in caplog.text


def test_a_check_reads_a_permutation_file_that_is_there(csv_config, tmp_path):
    dataset = fake_dataset((1, 2, 4, 5), (3, 6), str(tmp_path))
    keys = SYSUMM01Protocol.for_check(csv_config, dataset)
    assert {(key.mode, key.shots) for key in keys} == {
        (mode, shots) for mode in ("all", "indoor") for shots in (1, 10)
    }
    assert {key.gallery for key in keys} == {"random"}
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "rand_perm_cam.mat").write_bytes(b"nonsense")
    (official,) = [
        key for key in SYSUMM01Protocol.for_check(csv_config, dataset) if key.gallery == "official"
    ]
    with pytest.raises(UserError, match="rand_perm_cam.mat.*not the official permutation file"):
        official.rehearse(dataset, "SYSUMM01")
