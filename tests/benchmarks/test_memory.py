"""The memory benchmark: what it trains on, what it estimates, and one whole run."""

import json

import pytest
import torch

from vireid.cli import run_verb
from vireid_plugins.benchmarks import memory
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import UserError


def test_variants_are_words_of_a_config():
    words = memory.words_of("amp+accumulation", 64, on_gpu=False)
    cfg = build_config("agw/sysu.yml", ["MODEL.DEVICE", "cpu", *words])
    assert (cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE) == (True, "bfloat16")
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION) == (32, 2)
    assert memory.words_of("plain", 64, on_gpu=True) == []
    with pytest.raises(UserError, match="Unknown variant 'half'"):
        memory.words_of("amp+half", 64, on_gpu=True)


def test_a_batch_is_what_sampler_and_views_make():
    """CAJ+: two views of a visible image."""
    words = ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "32", "INPUT.SIZE_TRAIN", "[8, 4]"]
    batch = memory.RandomBatches(build_config("caj/plus_sysu.yml", words), 1).batch
    assert batch["images"].shape == (4 * (2 * 4 + 4), 3, 8, 4)
    assert batch["targets"].bincount().tolist() == [12] * 4
    assert batch["modalities"].bincount().tolist() == [4 * 2 * 4, 4 * 4]
    assert len(batch["index"].unique()) == 32


def test_a_batch_of_pairs_and_negatives_is_what_their_sampler_makes():
    """Hi-CMD's own eight images: two pairs, and four people of one image each."""
    cfg = memory.config_of_case("hicmd", "plain", 0, ["MODEL.DEVICE", "cpu"])
    cfg.defrost()
    cfg.INPUT.SIZE_TRAIN = [8, 4]
    batch = memory.RandomBatches(cfg, 1).batch
    rows = sorted(zip(batch["targets"].tolist(), batch["modalities"].tolist()))
    assert rows == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (4, 1), (5, 1)]
    assert batch["index"].tolist() == list(range(8))


@pytest.mark.parametrize(
    "method, batch, expected",
    [
        ("agw", 0, (64, 2)),
        ("mrda", 0, (36, 2)),  # its own
        ("agw", 16, (16, 2)),
        ("bmil", 0, (64, 2)),  # 256 in its config
        ("hicmd/synthetic.yml", 0, (24, 6)),
    ],
)
def test_the_images_of_an_update_are_those_of_the_config(method, batch, expected):
    cfg = memory.config_of_case(method, "plain", batch, ["MODEL.DEVICE", "cpu"])
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NEGATIVES) == expected


def test_accumulation_halves_both_kinds_of_images():
    cfg = memory.config_of_case("hicmd", "accumulation", 0, ["MODEL.DEVICE", "cpu"])
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NEGATIVES, cfg.SOLVER.ACCUMULATION) == (
        4,
        1,
        2,
    )


def test_an_unknown_method_or_variant_is_named_before_anything_is_measured():
    with pytest.raises(UserError, match="no method hi_cmd; there are: .*hicmd"):
        memory.run(methods=["hi_cmd"])
    with pytest.raises(UserError, match="Unknown variant 'half'"):
        memory.run(methods=["agw"], variants=["plain", "half"])


@pytest.mark.slow
def test_a_run_writes_what_it_measured(tmp_path):
    small = "MODEL.BACKBONE.DEPTH 18x INPUT.SIZE_TRAIN [32,16] DATALOADER.NUM_INSTANCE 2"
    words = [
        "configs/baseline/sysu.yml",
        "--variants",
        "accumulation",
        "--batch",
        "16",
        "--steps",
        "1",
        "--threads",
        "1",
        "--out",
        str(tmp_path),
        "--opts",
        "MODEL.DEVICE",
        "cpu",
    ]
    threads = torch.get_num_threads()
    try:
        assert run_verb("bench", ["memory", *words, *small.split()]) == 0
    finally:
        torch.set_num_threads(threads)
    (path,) = tmp_path.glob("memory_torch*_cpu_1threads.json")
    result = json.loads(path.read_text())
    (row,), (found,) = result["rows"], result["measures"]
    assert (found["case"], found["seconds"]) == (row["method"], row["seconds"])
    if row["multiply_adds"]:  # PyTorch 2.2 or newer
        assert found["work"] == {"product, float32": row["multiply_adds"]}
        stem = 3 * 7 * 7 * 64 * 16 * 8  # of one image of 32 x 16, stride 2; far less than all
        assert row["multiply_adds"] > 10 * 16 * stem
    assert (row["images"], row["rows"], row["size"]) == (16, 16, [32, 16])
    assert 100 < row["peak_MiB"] < 4000 and row["step_seconds"] > 0
    updates = 22258 // (2 * 2) / 2  # 2 identities x 2 visible images; two batches an update
    assert row["epoch_seconds_estimated"] == pytest.approx(row["step_seconds"] * updates)
    assert (
        "| configs/baseline/sysu.yml | accumulation | 16 |" in path.with_suffix(".md").read_text()
    )
