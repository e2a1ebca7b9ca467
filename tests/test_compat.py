"""Each trap of FastReID (numbered as in ``compat.py``): a test that fails without its repair."""

import collections
import copy
import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vireid_plugins import compat

import fastreid
from fastreid.config import get_cfg
from fastreid.data import build as data_build
from fastreid.data.samplers import NaiveIdentitySampler
from fastreid.engine import DefaultTrainer, hooks
from fastreid.modeling.meta_arch import build_model
from fastreid.solver import build_lr_scheduler, build_optimizer
from fastreid.utils.checkpoint import Checkpointer


def run_python(code, **kwargs):
    """A fresh interpreter; returns the finished process with its text."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        **kwargs,
    )


def host_cfg(tmp_path, **overrides):
    """A stock FastReID config that trains a ResNet-18 on the CPU."""
    cfg = get_cfg()
    options = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.DEPTH": "18x",
        "MODEL.BACKBONE.FEAT_DIM": 512,
        "MODEL.HEADS.WITH_BNNECK": True,
        "MODEL.LOSSES.NAME": ("CrossEntropyLoss", "TripletLoss"),
        "INPUT.SIZE_TRAIN": [64, 32],
        "INPUT.SIZE_TEST": [64, 32],
        "DATALOADER.SAMPLER_TRAIN": "NaiveIdentitySampler",
        "DATALOADER.NUM_INSTANCE": 2,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 8,
        "SOLVER.MAX_EPOCH": 2,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.CHECKPOINT_PERIOD": 1,
        "TEST.EVAL_PERIOD": 2,
        "TEST.IMS_PER_BATCH": 16,
        "OUTPUT_DIR": str(tmp_path / "logs"),
        **{key.replace("__", "."): value for key, value in overrides.items()},
    }
    cfg.merge_from_list([word for pair in options.items() for word in pair])
    return cfg


@pytest.fixture
def market(tmp_path, monkeypatch):
    """Market-1501's layout with 8 training and 12 test identities, two cameras, noise images."""
    rng = np.random.default_rng(0)
    root = tmp_path / "datasets" / "Market-1501-v15.09.15"
    folders = (("bounding_box_train", range(1, 9)), ("query", range(9, 21)))
    for folder, identities in (*folders, ("bounding_box_test", range(9, 21))):
        (root / folder).mkdir(parents=True)
        for pid in identities:
            for camera in (1,) if folder == "query" else (1, 2):
                pixels = rng.integers(0, 255, (64, 32, 3), dtype=np.uint8)
                name = f"{pid:04d}_c{camera}s1_000{camera}51_00.jpg"
                Image.fromarray(pixels).save(root / folder / name)
    (tmp_path / "logs").mkdir()  # FastReID's default_setup makes it
    monkeypatch.setattr(data_build, "_root", str(tmp_path / "datasets"))
    return tmp_path


# ------------------------------------------------------------------------------ importing


@pytest.fixture(scope="module")
def importable():
    """Which of torchvision and FastReID can be imported before the repairs, in this order."""
    done = run_python(
        """
        for name in ("torchvision", "fastreid.engine"):
            try:
                __import__(name)
                print(name)
            except Exception:
                pass
        """
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_fastreid_imports_only_after_the_repairs(importable):  # [1]
    """Where FastReID imports by itself, the repair of trap 1 can go."""
    if sys.version_info >= (3, 10):
        assert "fastreid.engine" not in importable
    done = run_python("import vireid_plugins, fastreid.engine, fastreid.modeling")
    assert done.returncode == 0, done.stderr


def test_the_borrowed_names_are_given_back():  # [1]
    if sys.version_info >= (3, 10):
        assert not hasattr(collections, "Mapping")
    if torch.__version__.split(".")[0] != "1":
        assert "torch._six" not in sys.modules
    assert np.bool(1) is not None


@pytest.mark.slow
def test_torchvision_is_touched_only_if_its_operators_are_missing(importable):  # [13]
    """Once imported it is whole: what is imported late is there when it is asked for."""
    missing = "torchvision" not in importable
    repaired = run_python(
        f"""
        import vireid_plugins.compat as compat, sys, torchvision, torchvision.transforms
        assert bool(compat._torchvision_library) == {missing}
        assert ("roi_align" in compat.missing_operators()) == {missing}
        late = ("torchvision.datasets", "torchvision.models", "torchvision.ops")
        assert [name for name in late if name in sys.modules] == []
        assert not hasattr(torchvision, "absent")
        import torchvision.ops.misc
        from torchvision import datasets
        assert len(torchvision.ops.misc.FrozenBatchNorm2d(3).weight) == 3
        assert datasets is sys.modules["torchvision.datasets"] is torchvision.datasets
        assert torchvision.models.resnet18().fc.out_features == 1000
        assert torchvision.models.resnet.ResNet is torchvision.models.ResNet
        """
    )
    assert repaired.returncode == 0, repaired.stderr
    assert "torchvision" not in repaired.stderr  # said in the set-up, not by every command


@pytest.mark.slow
def test_what_fastreid_seldom_calls_is_imported_at_its_first_use():
    """`import vireid_plugins` costs little more than `import torch`; nothing is lost by it."""
    late = (
        "sklearn",
        "scipy",
        "faiss",
        "matplotlib",
        "torch.utils.tensorboard",
        "torch._dynamo",
        "cv2",
        "faiss",
        "scipy",
    )
    done = run_python(
        f"""
        import vireid_plugins, sys, inspect, types
        assert [name for name in {late} if name in sys.modules] == []
        from fastreid.evaluation import reid_evaluation
        from fastreid.solver.optim import lamb
        from fastreid.utils import faiss_utils
        rates = reid_evaluation.metrics.roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])[0]
        assert rates.tolist() == [0, 0, 0.5, 0.5, 1]
        import sklearn.metrics, faiss, torch
        assert reid_evaluation.metrics.roc_curve is sklearn.metrics.roc_curve
        assert isinstance(sys.modules["sklearn"].__file__, str)
        assert faiss_utils.faiss.IndexFlatL2 is faiss.IndexFlatL2
        assert faiss_utils.faiss.METRIC_L2 == faiss.METRIC_L2
        from torch.utils.tensorboard import SummaryWriter
        import tempfile
        with tempfile.TemporaryDirectory() as folder, lamb.SummaryWriter(folder) as writer:
            assert type(writer) is SummaryWriter
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_is_already_imported_is_left_as_it_is(importable):
    whole = ["torchvision"] if "torchvision" in importable else []
    first = ["sklearn.metrics", "faiss", "torch.utils.tensorboard", *whole]
    done = run_python(
        f"""
        import importlib, sys
        loaded = [importlib.import_module(name) for name in {first}]
        modules, names = dict(sys.modules), [dict(vars(module)) for module in loaded]
        import vireid_plugins
        assert all(sys.modules[name] is module for name, module in modules.items())
        assert [dict(vars(module)) for module in loaded] == names
        from fastreid.evaluation import reid_evaluation
        assert reid_evaluation.metrics is sys.modules["sklearn.metrics"]
        """
    )
    assert done.returncode == 0, done.stderr


def test_a_late_module_that_cannot_be_imported_says_what_to_do():
    from vireid_plugins.late_imports import LateModule

    absent = LateModule("no_such_library", hint="Run: pip install it", NUMBER=3)
    assert absent.NUMBER == 3
    with pytest.raises(ImportError, match="no_such_library.Index is needed.*Run: pip install it"):
        absent.Index()


@pytest.mark.slow
def test_without_fastreid_one_clear_line():
    done = run_python(
        """
        import sys
        class Absent:
            def find_spec(self, name, *_):
                if name.split(".")[0] == "fastreid":
                    raise ModuleNotFoundError(name, name=name)
        import importlib.util as util
        find = util.find_spec
        util.find_spec = lambda name, *a: None if name == "fastreid" else find(name, *a)
        import vireid_plugins
        """
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "FastReID, which is not installed" in last and compat.INSTALL_HINT in last


@pytest.mark.slow
def test_after_a_half_broken_import_it_works_or_says_one_line():
    done = run_python(
        """
        try:
            import fastreid.engine
        except Exception:
            pass
        import vireid_plugins
        from fastreid.engine import DefaultTrainer
        """
    )
    last = (done.stderr.strip().splitlines() or [""])[-1]
    assert done.returncode == 0 or "import vireid_plugins first" in last, done.stderr


@pytest.mark.slow
def test_without_faiss_fastreid_imports_and_says_what_to_install():  # [10]
    done = run_python(
        """
        import sys
        sys.modules.pop("faiss", None)
        from importlib.machinery import PathFinder
        find = PathFinder.find_spec
        PathFinder.find_spec = lambda name, *a: None if name == "faiss" else find(name, *a)
        import vireid_plugins
        assert "faiss" not in sys.modules
        from fastreid.utils import faiss_utils
        try:
            faiss_utils.index_init_cpu(8)
        except ImportError as error:
            assert "pip install faiss-cpu" in str(error)
        else:
            raise SystemExit("no error")
        """
    )
    assert done.returncode == 0, done.stderr


def test_repairs_may_run_twice():
    before = (build_optimizer, hooks.LRScheduler.after_step, Checkpointer._load_file)
    compat.prepare()
    from fastreid.solver import build_optimizer as again

    assert before == (again, hooks.LRScheduler.after_step, Checkpointer._load_file)


# ------------------------------------------------------------------------------- training


def test_one_step_moves_the_weights(tmp_path):  # [2]
    cfg = host_cfg(tmp_path, MODEL__HEADS__NUM_CLASSES=4)
    model = build_model(cfg)
    before = copy.deepcopy(model.state_dict())
    optimizer, _ = build_optimizer(cfg, model)
    optimizer.zero_grad()
    model.heads(torch.rand(4, 512, 2, 1), torch.arange(4))["cls_outputs"].sum().backward()
    optimizer.step()
    assert not torch.equal(before["heads.weight"], model.heads.weight)


def test_gradients_are_none_after_zero_grad(tmp_path):  # [18]
    """A zeroed gradient would let SGD's momentum and decay move a frozen parameter."""
    cfg = host_cfg(tmp_path, MODEL__HEADS__NUM_CLASSES=4, SOLVER__OPT="SGD")
    model = build_model(cfg)
    optimizer, _ = build_optimizer(cfg, model)
    model.heads.weight.sum().backward()
    optimizer.zero_grad()
    assert model.heads.weight.grad is None


@pytest.mark.slow
def test_stock_config_trains_and_evaluates_on_the_cpu(market):  # [2, 3, 4, 5, 15, 17]
    trainer = DefaultTrainer(host_cfg(market))
    before = copy.deepcopy(trainer.model.state_dict())
    results = trainer.train()
    moved = [k for k, v in trainer.model.named_parameters() if not torch.equal(before[k], v)]
    assert len(moved) > 50
    assert 0 <= results["mAP"] <= 100

    finished = DefaultTrainer(host_cfg(market))  # resuming a finished run ends normally
    finished.resume_or_load(resume=True)
    assert finished.train() == {}


def test_mixed_precision_falls_back_to_full_on_the_cpu(market, caplog):  # [3]
    """Nearly every stock config enables it; FastReID's trainer asserts a GPU."""
    cfg = host_cfg(market, SOLVER__AMP__ENABLED=True, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=0)
    trainer = DefaultTrainer(cfg)
    before = copy.deepcopy(dict(trainer.model.named_parameters()))
    with caplog.at_level("WARNING", logger="vireid_plugins"):
        trainer.train()
    moved = [k for k, v in trainer.model.named_parameters() if not torch.equal(before[k], v)]
    assert len(moved) > 50
    assert caplog.text.count("training in full precision on the CPU") == 1


def test_no_evaluation_ends_normally(market):  # [17]
    trainer = DefaultTrainer(host_cfg(market, TEST__EVAL_PERIOD=0, SOLVER__MAX_EPOCH=1))
    assert trainer.train() == {}


def test_nothing_is_compiled_at_run_time(tmp_path, monkeypatch):  # [4]
    from fastreid.evaluation import ReidEvaluator, reid_evaluation

    def compile_helper():
        raise AssertionError("make was called")

    monkeypatch.setattr(reid_evaluation, "compile_helper", compile_helper)
    ReidEvaluator(host_cfg(tmp_path), 1)


@pytest.mark.parametrize("architecture", ["Baseline", "MGN"])
def test_the_batch_is_not_normalized_in_place(tmp_path, architecture):  # [5]
    overrides = {"MODEL__META_ARCHITECTURE": architecture, "MODEL__HEADS__NUM_CLASSES": 4}
    if architecture == "MGN":  # its branches are cut from a ResNet-50
        overrides.update(MODEL__BACKBONE__DEPTH="50x", MODEL__BACKBONE__FEAT_DIM=2048)
    model = build_model(host_cfg(tmp_path, **overrides))
    images = torch.full((1, 3, 8, 4), 100.0)
    first = model.preprocess_image({"images": images})
    assert torch.equal(images, torch.full_like(images, 100.0))
    expected = (100.0 - model.pixel_mean) / model.pixel_std
    torch.testing.assert_close(first, expected.expand_as(first))


def test_every_kind_of_value_is_collated():  # [6]
    items = [{"a": np.int64(3), "b": (1, "x"), "c": 2}, {"a": np.int64(4), "b": (5, "y"), "c": 6}]
    batch = data_build.fast_batch_collator(items)
    assert batch["a"].tolist() == [3, 4] and batch["c"].tolist() == [2, 6]
    assert batch["b"][0].tolist() == [1, 5] and batch["b"][1] == ["x", "y"]


def test_too_few_identities_raise_instead_of_looping():  # [8]
    with pytest.raises(ValueError, match="needs 4 identities and the training set has 2"):
        NaiveIdentitySampler([("a", 0, 0), ("b", 1, 0)], 8, 2, seed=0)


class Evil:
    def __reduce__(self):
        return (print, ("this code ran",))


def test_a_checkpoint_that_holds_code_is_refused(tmp_path, capsys):  # [14]
    path = str(tmp_path / "evil.pth")
    torch.save({"model": {}, "x": Evil()}, path)
    with pytest.raises(RuntimeError, match="weights_only=False"):
        Checkpointer(nn.Linear(1, 1)).load(path)
    assert "this code ran" not in capsys.readouterr().out


def test_a_checkpoint_of_fastreid_loads(tmp_path):  # [14]
    """With the scheduler state of FastReID, whose milestones are a ``Counter``."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    path = str(tmp_path / "model_0001.pth")
    torch.save({"model": model.state_dict(), "lr_sched": schedule.state_dict(), "epoch": 1}, path)
    other = nn.Linear(2, 1)
    assert Checkpointer(other).load(path)["epoch"] == 1
    assert torch.equal(other.weight, model.weight)


def test_steps_fall_at_the_epochs_that_are_named(tmp_path):  # [15]
    """AGW's table: warm-up in epochs 0-9, full to 19, a tenth from 20, a hundredth from 50."""
    cfg = host_cfg(tmp_path, SOLVER__STEPS=[20, 50], SOLVER__WARMUP_ITERS=30, SOLVER__BASE_LR=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = build_lr_scheduler(cfg, optimizer, iters_per_epoch=3)
    hook = hooks.LRScheduler(optimizer, scheduler)
    rates = run_schedule(hook, optimizer, epochs=60, iters_per_epoch=3)
    full = {10: 0.1, 19: 0.1, 20: 0.01, 49: 0.01, 50: 0.001, 59: 0.001}
    for epoch, rate in full.items():
        assert rates[epoch] == pytest.approx(rate), epoch
    assert rates[0] == pytest.approx(0.01) and 0.09 < rates[9] < 0.1


def run_schedule(hook, optimizer, epochs, iters_per_epoch):
    """Drive the host's hook as its training loop does; the rate at the start of each epoch."""

    class Storage:
        def put_scalar(self, *args, **kwargs):
            pass

    class Loop:
        storage, grad_scaler, warmup_iters, delay_epochs, iter = Storage(), None, 30, 0, 0

    hook.trainer, rates = Loop(), []
    for epoch in range(epochs):
        hook.trainer.epoch = epoch
        rates.append(optimizer.param_groups[0]["lr"])
        for _ in range(iters_per_epoch):
            hook.before_step()
            hook.after_step()
            hook.trainer.iter += 1
        hook.after_epoch()
    return rates


@pytest.mark.slow
def test_the_host_launches_two_processes_on_the_cpu(tmp_path):  # [16]
    script = Path(__file__).with_name("launch_helper.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    weights = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.equal(*weights)  # both processes took the same, averaged step
    # A group that outlives its process can abort it: PyTorch's threads then free tensors too late.
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["gone", "gone"]


@pytest.mark.parametrize(
    "module,key,file",
    [
        ("resnet", "18x", "resnet18-5c106cde.pth"),
        ("resnext", "ibn_101x", "resnext101_ibn_a-6ace051d.pth"),
        ("regnet.regnet", "800x", "RegNetX-200MF_dds_8gpu.pyth"),
    ],
)
def test_pretrained_weights_that_cannot_be_fetched_name_file_and_key(
    tmp_path, monkeypatch, module, key, file
):
    backbone = importlib.import_module(f"fastreid.modeling.backbones.{module}")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path))

    def no_network(url, *args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(RuntimeError) as error:
        backbone.init_pretrained_weights(key)
    assert file in str(error.value)
    assert "MODEL.BACKBONE.PRETRAIN_PATH" in str(error.value)


def test_fastreid_itself_is_untouched_on_disk():
    """Nothing is edited: the broken line is still in the host's file."""
    source = Path(fastreid.__file__).parent / "data" / "build.py"
    assert "Mapping" in source.read_text()
