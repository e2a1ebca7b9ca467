"""Files of pretrained weights. Oracles: the tensors that were saved; SHA-256 by hashlib."""

import errno
import hashlib
import shutil
from urllib.error import HTTPError, URLError

import pytest
import torch

from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.modeling.backbones import pretrained
from vireid_plugins.modeling.backbones.pretrained import fetch_pretrained, read_weights

from fastreid.config import get_cfg
from fastreid.modeling.backbones import BACKBONE_REGISTRY


def build(path="", name="build_resnet_backbone", depth="18x"):
    """A backbone of FastReID."""
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = name, depth
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.BACKBONE.PRETRAIN_PATH = bool(path), path
    return BACKBONE_REGISTRY.get(name)(cfg)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return build().state_dict()


def first(state, count):
    """The first tensors that every file has."""
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    return {name: state[name] for name in names[:count]}


WRAPPED = {
    "bare": lambda state: state,
    "model": lambda state: {"model": state, "vireid": "no matter"},
    "state_dict": lambda state: {"state_dict": state, "epoch": "no matter"},
    "DDP": lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
    "of a whole model": lambda state: {"model": {f"backbone.{k}": v for k, v in state.items()}},
    "with a head": lambda state: {
        "model": {"heads.weight": torch.ones(2, 512), **{f"backbone.{k}": state[k] for k in state}}
    },
    "half": lambda state: {k: v.half() if v.dim() else v for k, v in state.items()},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_a_backbone_of_fastreid_takes_every_usual_file(state, tmp_path, how):
    """It loaded nothing, without a word, from all but the first and the last."""
    torch.save(WRAPPED[how](state), tmp_path / "weights.pth")
    found = build(str(tmp_path / "weights.pth")).state_dict()
    for name, value in state.items():
        expected = value.half().float() if how == "half" and value.dim() else value
        assert torch.equal(found[name], expected)


def test_another_wrapper_than_fastreid_expects(state, tmp_path):
    """ShuffleNet's loader answers ``KeyError: 'state_dict'``."""
    options = dict(name="build_shufflenetv2_backbone", depth="0.5x")
    torch.manual_seed(4)
    cfg_state = build(**options).state_dict()
    torch.save(cfg_state, tmp_path / "weights.pth")
    found = build(str(tmp_path / "weights.pth"), **options).state_dict()
    assert all(torch.equal(found[name], value) for name, value in cfg_state.items())


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda state: {"conv1.weight": state["conv1.weight"] * float("nan")}, "holds NaN"),
        (lambda state: {"blocks.0.weight": torch.ones(3)}, "fits this backbone.*MODEL.WEIGHTS"),
        (lambda state: {"bn1.bias": state["bn1.bias"]}, "fits this backbone .the first: bn1.bias"),
        (lambda state: {"conv1.weight": state["conv1.weight"].long()}, "of the type torch.int64"),
        (lambda state: {"conv1.weight": state["conv1.weight"]}, "lacks 99 of the 100 .*DEPTH fit"),
        (lambda state: first(state, 45), "lacks 55 of the 100 .*DEPTH fit"),
        (lambda state: {}, "holds no tensors"),
        (lambda state: {"model": {"a": "word"}}, "holds no tensors"),
        (lambda state: [state], "of the type list"),
        (lambda state: torch.ones(3), "of the type Tensor"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(state, tmp_path, change, words):
    path = str(tmp_path / "weights.pth")
    torch.save(change(state), path)
    with pytest.raises(CheckpointError, match=f"weights.pth.*{words}"):
        build(path)


def test_a_deeper_network_is_refused_though_most_of_its_tensors_fit(tmp_path):
    """A ResNet-50 has all batch norms of a ResNet-18 and half of its convolutions."""
    path = str(tmp_path / "resnet50.pth")
    torch.save(build(depth="50x").state_dict(), path)
    with pytest.raises(CheckpointError, match="another network: 11 convolutions.*DEPTH fit"):
        build(path)


def test_a_first_layer_of_other_channels_is_only_a_warning(state, tmp_path, caplog):
    torch.save({**state, "conv1.weight": torch.ones(64, 1, 7, 7)}, tmp_path / "gray.pth")
    build(str(tmp_path / "gray.pth"))
    assert "such as conv1.weight" in caplog.text


def test_a_tenth_of_the_convolutions_may_have_another_shape(tmp_path):
    """A ResNet-34 has 36 convolutions."""
    path, state = str(tmp_path / "other.pth"), build(depth="34x").state_dict()
    names = [name for name, tensor in state.items() if tensor.dim() == 4]
    assert len(names) == 36
    for count in (3, 4):
        torch.save({**state, **dict.fromkeys(names[:count], torch.ones(1, 1, 1, 1))}, path)
        if count == 3:
            build(path, depth="34x")
            continue
        with pytest.raises(CheckpointError, match="another network: 4 convolutions"):
            build(path, depth="34x")


def test_a_text_is_no_file_of_weights(tmp_path):
    """``KeyError: 105`` came of it."""
    (tmp_path / "text.pth").write_text("import os\n")
    with pytest.raises(CheckpointError, match="text.pth was not loaded: it is not a PyTorch"):
        read_weights(str(tmp_path / "text.pth"))


@pytest.fixture
def cache(tmp_path, monkeypatch, state):
    """The folder of the cache, the URL of a file, and what the network returns for it."""
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    torch.save(state, tmp_path / "right.pth")
    digest = hashlib.sha256((tmp_path / "right.pth").read_bytes()).hexdigest()
    served = {"file": tmp_path / "right.pth"}
    monkeypatch.setattr(
        torch.hub,
        "download_url_to_file",
        lambda url, target, **options: shutil.copy(served["file"], target),
    )
    return tmp_path / "cache/weights", f"https://host/net-{digest[:8]}.pth", served


def files_in(folder):
    return [path.name for path in folder.iterdir() if path.name != ".lock"]


def test_a_download_is_kept_if_its_hash_is_right(cache, state):
    folder, url, _ = cache
    found = fetch_pretrained("18x", {"18x": url})
    assert torch.equal(found["conv1.weight"], state["conv1.weight"])
    assert files_in(folder) == [url.rpartition("/")[2]]


def test_a_file_in_the_cache_of_pytorch_is_not_downloaded_again(cache, tmp_path, state):
    folder, url, served = cache
    served["file"] = tmp_path / "none"
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    shutil.copy(tmp_path / "right.pth", tmp_path / "hub/checkpoints" / url.rpartition("/")[2])
    found = fetch_pretrained("18x", {"18x": url})
    assert torch.equal(found["conv1.weight"], state["conv1.weight"])
    assert not folder.exists()


@pytest.mark.parametrize("url", ["", "https://host/net.pth"], ids=["hash", "no hash"])
def test_a_download_that_is_cut_off_is_not_kept(cache, tmp_path, url):
    folder, with_hash, served = cache
    served["file"] = tmp_path / "cut.pth"
    served["file"].write_bytes((tmp_path / "right.pth").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="could not be fetched.*PRETRAIN_PATH"):
        fetch_pretrained("18x", {"18x": url or with_hash})
    assert files_in(folder) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot be written: No space left"),
        (PermissionError(errno.EACCES, "Denied", "/a/file"), "cannot be written: Denied"),
        (URLError(OSError(errno.ENETUNREACH, "Unreachable")), "was not reached .URLError"),
        (HTTPError("https://host/a", 403, "Forbidden", {}, None), "was not reached .HTTPError"),
        (ConnectionResetError(errno.ECONNRESET, "Reset"), "was not reached .ConnectionReset"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_the_disk_and_the_network_are_told_apart(cache, monkeypatch, error, said):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(CheckpointError, match=f"{said}.*PRETRAIN False"):
        fetch_pretrained("18x", {"18x": cache[1]})


def test_another_file_in_the_cache_is_named_and_kept(cache, state):
    folder, url, _ = cache
    folder.mkdir(parents=True)
    target = folder / url.rpartition("/")[2]
    torch.save({**state, "more": torch.ones(1)}, target)
    with pytest.raises(CheckpointError, match="not the file that its name promises.*Move it away"):
        fetch_pretrained("18x", {"18x": url})
    assert target.exists()


@pytest.mark.parametrize("fails", [False, True])
def test_one_process_of_a_machine_fetches_and_all_learn_of_its_failure(monkeypatch, fails):
    """Process 1 asks for the file after process 0; it does not wait for one that has failed."""
    events = []

    def gather(found, own):
        events.append("told")
        found[:] = [UserError("no network") if fails else None, own]

    monkeypatch.setattr(pretrained.comm, "get_local_rank", lambda: 1)
    monkeypatch.setattr(pretrained.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(pretrained.dist, "all_gather_object", gather)
    ask = lambda: (events.append("fetched"), "file")[1]  # noqa: E731
    if fails:
        with pytest.raises(CheckpointError, match="no network.*PRETRAIN False"):
            pretrained.fetched_once(ask)
    else:
        assert pretrained.fetched_once(ask) == "file"
    assert events == ["told"] + ["fetched"] * (not fails)
