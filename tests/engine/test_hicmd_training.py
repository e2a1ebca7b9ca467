"""Hi-CMD through the trainer. Oracles: the uninterrupted run, bit by bit; the terms in the log."""

import json

import numpy as np
import pytest
import torch

from vireid_plugins import FeatureExtractor
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.checkpoint import AtomicCheckpointer
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import small_cfg
from tests.engine.test_trainer import same_state
from tests.every_key.narrow import NAME

OPTIONS = dict(
    MODEL__BACKBONE__NAME=NAME,
    MODEL__HEADS__EMBEDDING_DIM=8,
    MODEL__HEADS__TRIPLET_DIM=8,
    MODEL__HICMD__MLP_WIDTH=4,
    MODEL__HICMD__DISCRIMINATOR_WIDTH=2,
    MODEL__HICMD__WARM_GENERATION=2,
    MODEL__HICMD__WARM_IDENTITY=3,
    DATALOADER__NUM_INSTANCE=1,
    DATALOADER__NEGATIVES=1,
    DATALOADER__EPOCH_BATCHES=3,
    INPUT__SIZE_TRAIN="[64, 32]",
    INPUT__SIZE_TEST="[64, 32]",
    SOLVER__IMS_PER_BATCH=6,
    SOLVER__LOG_PERIOD=1,
    SOLVER__PICTURE_PERIOD=4,
)
GENERATION = {"loss_same", "loss_cross", "loss_cycle", "loss_code", "loss_kl", "loss_gan"}
JUDGES = {"loss_discriminator", "loss_penalty"}
IDENTITY = {"loss_id", "loss_triplet"}


def run(folder, epochs, resume=False):
    cfg = small_cfg(folder, "configs/hicmd/synthetic.yml", SOLVER__MAX_EPOCH=epochs, **OPTIONS)
    trainer = VIReIDTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return read_checkpoint(f"{folder}/model_final.pth")


@pytest.fixture(scope="module")
def whole(tiny_root, tmp_path_factory):
    """The folder of four epochs without a stop, and their last checkpoint."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        return folder, run(folder, 4)


@pytest.mark.slow
def test_two_and_two_epochs_equal_four(datasets, whole, tmp_path):
    """Bitwise, pictures, holes, dropout and warm-ups included; the first stop is in a warm-up."""
    run(tmp_path, 1)
    parts = run(tmp_path, 4, resume=True)
    assert set(parts["optimizer"]) == {"identity", "generator", "discriminator"}
    for name in ("model", "optimizer", "lr_sched"):
        assert same_state(whole[1][name], parts[name])


@pytest.mark.slow
def test_the_terms_of_each_iteration_are_those_of_its_turns(whole):
    """Two iterations of images alone, three of identities alone, then all."""
    lines = [json.loads(line) for line in (whole[0] / "metrics.json").read_text().splitlines()]
    found = {
        line["iteration"]: {name for name in line if name.startswith("loss_")} for line in lines
    }
    everything = GENERATION | JUDGES | IDENTITY
    assert [found[number] for number in range(2)] == [GENERATION | JUDGES] * 2
    assert [found[number] for number in range(2, 5)] == [IDENTITY] * 3
    assert [found[number] for number in range(5, 12)] == [everything] * 7
    assert all(0 <= line["prototype_share"] <= 1 for line in lines if "prototype_share" in line)


@pytest.mark.slow
def test_tensorboard_has_a_picture_of_the_swaps(whole):
    """Three persons, two images of each at 64 x 32: 7 x 7, 6 x 5 and 6 x 7 images, and gaps."""
    from tensorboard.compat.proto.event_pb2 import Event

    from vireid_plugins.runs.rewind import _records

    sizes = []
    for path in whole[0].glob("events*"):
        for _, record in _records(path.read_bytes()):
            for value in Event.FromString(record[12:-4]).summary.value:
                if value.tag == "swaps":
                    picture = value.image
                    sizes.append((picture.height, picture.width))
    assert sizes == [(7 * 64, (7 + 5 + 7) * 32 + 3 * 4)] * 3


@pytest.mark.slow
def test_the_identity_path_alone_can_be_evaluated(datasets, whole, tmp_path):
    """A checkpoint without decoder and discriminators gives the same features."""
    weights = {n: v for n, v in whole[1]["model"].items() if not n.startswith("id_pig.")}
    torch.save({"model": weights}, tmp_path / "path.pth")
    cfg = small_cfg(tmp_path, "configs/hicmd/synthetic.yml", **OPTIONS)
    cfg.MODEL.HEADS.NUM_CLASSES = len(weights["heads.classifier.bias"])
    features = []
    for path in (tmp_path / "path.pth", whole[0] / "model_final.pth"):
        model = VIReIDTrainer.build_model(cfg).eval()
        AtomicCheckpointer(model, "").load(str(path), need="features")
        batch = {"images": torch.full((2, 3, 64, 32), 99.0), "modalities": torch.tensor([0, 1])}
        features.append(model(batch))
    assert torch.equal(*features)


@pytest.mark.slow
def test_one_needs_no_decoder_to_use_a_model(whole, tmp_path):
    """``FeatureExtractor``, which a search also uses, with a checkpoint of the identity path."""
    held = {n: v for n, v in whole[1]["model"].items() if not n.startswith("id_pig.")}
    state = {**whole[1], "model": held}
    state.pop("checksum", None)
    torch.save(state, tmp_path / "path.pth")
    pictures = [np.random.default_rng(0).integers(0, 255, (40, 20, 3), dtype=np.uint8)]
    for modality in ("visible", "infrared"):
        expected = FeatureExtractor(whole[0] / "model_final.pth")(pictures, modality)
        found = FeatureExtractor(tmp_path / "path.pth")(pictures, modality)
        assert expected.shape == (1, 8) and np.array_equal(found, expected)
