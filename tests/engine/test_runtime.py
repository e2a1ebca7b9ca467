"""Memory format, compilation and the optimizer's step: wired, harmless to checkpoints, refused."""

import copy
import shutil
from types import SimpleNamespace

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer, runtime
from vireid_plugins.readers.checkpoint import read_checkpoint
from vireid_plugins.solver import amp, build_optimizer

from fastreid.modeling.backbones import resnet

from tests.engine.small import small_cfg
from tests.engine.test_methods import CONFIGS, small_words_of

OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 4)
CAN_COMPILE = not runtime._missing_for_compilation("cpu")


def trained(folder, epochs=2, resume=False, **options):
    trainer = VIReIDTrainer(small_cfg(folder, SOLVER__MAX_EPOCH=epochs, **options))
    trainer.resume_or_load(resume=resume)
    trainer.results = trainer.train()
    return trainer


def losses(trainer):
    return [value for value, _ in trainer.storage.history("total_loss").values()]


def is_nhwc(tensor):
    """Whether it is in NHWC order and not, by its shape, in both orders."""
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_every_method_trains_in_nhwc_order(config, datasets, tmp_path):
    """One epoch ends, convolutions stay in the order, and the last map is in it."""
    cfg = small_cfg(
        tmp_path,
        config,
        SOLVER__MAX_EPOCH=1,
        RUNTIME__CHANNELS_LAST=True,
        **dict(small_words_of(config), INPUT__SIZE_TRAIN="[64, 32]", INPUT__SIZE_TEST="[64, 32]"),
    )
    trainer = VIReIDTrainer(cfg)
    seen = []
    taps = trainer.model.backbone.taps
    if "layer1" in taps:  # a transformer has tokens, which have no such order
        taps["layer1"].register_forward_hook(
            lambda module, inputs, output: seen.append(is_nhwc(output))
        )
    trainer.train()
    assert all(seen) and bool(seen) == ("layer1" in taps)
    kernels = [p for p in trainer.model.backbone.parameters() if p.dim() == 4]
    wide = [p for p in kernels if p.shape[1] > 1 and p.shape[2] > 1]  # others are in both orders
    assert wide and all(map(is_nhwc, wide))


def test_nhwc_order_changes_rounding_only_and_its_checkpoint_fits_elsewhere(datasets, tmp_path):
    plain = trained(tmp_path / "a", 1)
    nhwc = trained(tmp_path / "b", 1, RUNTIME__CHANNELS_LAST=True)
    assert losses(nhwc)[0] == pytest.approx(losses(plain)[0], rel=1e-4)
    kept = read_checkpoint(tmp_path / "b" / "model_final.pth")["model"]
    assert kept.keys() == plain.model.state_dict().keys()
    plain.model.load_state_dict(kept)
    batch = {"images": torch.rand(2, 3, 32, 16) * 255, "modalities": torch.tensor([0, 1])}
    with torch.no_grad():
        found, expected = plain.model.eval()(batch), nhwc.model.eval()(batch)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_and_two_epochs_equal_four(datasets, tmp_path):
    """Bitwise, in NHWC order and with fused steps, or many at once before PyTorch 2.4."""
    step = "foreach" if OLD else "fused"
    options = dict(RUNTIME__CHANNELS_LAST=True, RUNTIME__OPTIMIZER_STEP=step)
    whole = trained(tmp_path / "whole", 4, **options)
    trained(tmp_path / "parts", 2, **options)
    parts = trained(tmp_path / "parts", 4, resume=True, **options)
    assert losses(parts) == losses(whole)[len(losses(whole)) // 2 :]
    a, b = whole.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_bfloat16_goes_with_nhwc_order(datasets, tmp_path):
    """Close to float32's first loss; every step is finite."""
    amp = {"SOLVER__AMP__ENABLED": True, "SOLVER__AMP__DTYPE": "bfloat16"}
    half = trained(tmp_path / "a", 1, RUNTIME__CHANNELS_LAST=True, **amp)
    full = trained(tmp_path / "b", 1)
    assert losses(half)[0] == pytest.approx(losses(full)[0], rel=0.05)
    assert losses(half)[0] != losses(full)[0]


@pytest.mark.slow  # bfloat16 is imitated on most CPUs
@pytest.mark.parametrize("has_units", [True, False])
def test_auto_is_bfloat16_in_nhwc_order_or_nothing(has_units, datasets, tmp_path, monkeypatch):
    """The losses are bitwise those of the keys that ``auto`` stands for, and the log says why."""
    monkeypatch.setattr(amp, "cpu_has_bfloat16", lambda: has_units)
    mixed, same = {"SOLVER__AMP__ENABLED": True}, {}
    if has_units:
        same = dict(mixed, SOLVER__AMP__DTYPE="bfloat16", RUNTIME__CHANNELS_LAST=True)
    said = []
    monkeypatch.setattr(amp.logger, "info", lambda *words: said.append(words[0] % words[1:]))
    auto = trained(tmp_path / "a", 1, SOLVER__AMP__DTYPE="auto", **mixed)
    words = "bfloat16 and NHWC order, because this CPU has bfloat16 units"
    assert (words if has_units else "float32, because this CPU has no bfloat16") in "".join(said)
    assert losses(auto) == losses(trained(tmp_path / "b", 1, **same))
    assert auto.cfg.RUNTIME.CHANNELS_LAST == auto.cfg.SOLVER.AMP.ENABLED == has_units


def test_only_auto_is_replaced(tmp_path, monkeypatch):
    """The given config stays; a frozen one gives a frozen one."""
    monkeypatch.setattr(amp, "cpu_has_bfloat16", lambda: True)
    given = small_cfg(tmp_path, SOLVER__AMP__ENABLED=True, SOLVER__AMP__DTYPE="auto")
    given.freeze()
    found = amp.with_precision(given)
    assert found.is_frozen() and found.SOLVER.AMP.DTYPE == "bfloat16"
    assert given.SOLVER.AMP.DTYPE == "auto" and not given.RUNTIME.CHANNELS_LAST
    for word, enabled in (("auto", False), ("bfloat16", True)):
        other = small_cfg(tmp_path, SOLVER__AMP__ENABLED=enabled, SOLVER__AMP__DTYPE=word)
        assert amp.with_precision(other) is other


@pytest.mark.parametrize(
    "machine,accepted,units,expected",
    [
        ("x86_64", True, [True, False], True),
        ("x86_64", True, [False, True], True),
        ("x86_64", True, [False, False], False),  # imitated by AVX-512
        ("x86_64", False, [False, False], False),
        ("aarch64", True, [False, False], True),
        ("x86_64", True, [], True),  # PyTorch before 2.6 does not tell
    ],
)
def test_a_cpu_has_bfloat16_by_its_own_instructions(
    machine, accepted, units, expected, monkeypatch
):
    monkeypatch.setattr(amp.platform, "machine", lambda: machine)
    onednn = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: accepted)
    known = {name: (lambda has=has: has) for name, has in zip(amp._FAST_ON_X86, units)}
    monkeypatch.setattr(amp.torch, "ops", SimpleNamespace(mkldnn=onednn))
    monkeypatch.setattr(amp.torch, "cpu", SimpleNamespace(**known))
    assert amp.cpu_has_bfloat16() == expected


@pytest.mark.parametrize("capability,expected", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_has_bfloat16_since_ampere(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    for available in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=available: found)
        assert amp.has_bfloat16(torch.device("cuda")) == (available and expected)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("word", ["default", "loop", "foreach", "fused"])
def test_each_way_of_stepping_moves_the_weights_alike(name, word, tmp_path):
    """Three steps against PyTorch's plain loop, to rounding; the option reaches the optimizer."""
    if word == "fused" and OLD:
        pytest.skip("no fused step on a CPU before PyTorch 2.4")
    first = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 3))
    second = copy.deepcopy(first)
    found = build_optimizer(
        small_cfg(tmp_path, SOLVER__OPT=name, RUNTIME__OPTIMIZER_STEP=word), first
    )
    loop = build_optimizer(
        small_cfg(tmp_path, SOLVER__OPT=name, RUNTIME__OPTIMIZER_STEP="loop"), second
    )
    for _ in range(3):
        for model, optimizer in ((first, found), (second, loop)):
            optimizer.zero_grad()
            model(torch.ones(2, 3, 8, 8)).square().sum().backward()
            optimizer.step()
    for a, b in zip(first.parameters(), second.parameters()):
        torch.testing.assert_close(a, b)
    if word in ("foreach", "fused"):
        assert all(group[word] for group in found.param_groups)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"RUNTIME__OPTIMIZER_STEP": "quick"}, "'quick'; expected one of .*'foreach', 'fused'"),
        ({"RUNTIME__OPTIMIZER_STEP": "fused", "SOLVER__OPT": "Rprop"}, "Rprop .*does not know"),
        (
            {
                "RUNTIME__OPTIMIZER_STEP": "fused",
                "SOLVER__AMP__ENABLED": True,
                "SOLVER__CLIP_GRADIENTS__ENABLED": True,
            },
            "do not go together in float16",
        ),
    ],
)
def test_an_unavailable_optimizer_step_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        build_optimizer(small_cfg(tmp_path, **options), torch.nn.Linear(1, 1))


def test_the_config_and_not_the_checkpoint_says_how_a_resumed_run_steps(datasets, tmp_path):
    trained(tmp_path, 1, RUNTIME__OPTIMIZER_STEP="loop")
    resumed = VIReIDTrainer(small_cfg(tmp_path, RUNTIME__OPTIMIZER_STEP="foreach"))
    resumed.resume_or_load(resume=True)
    assert all(group["foreach"] for group in resumed.optimizer.param_groups)


@pytest.mark.parametrize("without,reason", [("compile", "PyTorch 2.6"), ("compiler", "C\\+\\+")])
def test_where_nothing_can_be_compiled_the_error_says_why(
    without, reason, datasets, tmp_path, monkeypatch
):
    if without == "compile":
        monkeypatch.delattr(torch.nn.Module, "compile", raising=False)
    elif not hasattr(getattr(torch, "compiler", None), "set_stance"):
        pytest.skip("this PyTorch is refused before")
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=f"RUNTIME.COMPILE is True, and .*{reason}"):
        VIReIDTrainer(small_cfg(tmp_path, RUNTIME__COMPILE=True))


@pytest.mark.slow
def test_compiling_with_activation_checkpointing_is_refused(datasets, tmp_path):
    both = dict(RUNTIME__COMPILE=True, MODEL__BACKBONE__CHECKPOINT_ACTIVATIONS=True)
    with pytest.raises(ValueError, match="are both True: nothing would be compiled"):
        VIReIDTrainer(small_cfg(tmp_path, **both))


@pytest.fixture
def one_block_a_layer(monkeypatch):
    """Half of ResNet-18's blocks: every stage is compiled, and all kinds of layers are in them."""
    build = resnet.ResNet.__init__

    def shallow(self, *args):
        args = list(args)
        args[args.index([2, 2, 2, 2])] = [1, 1, 1, 1]
        build(self, *args)

    monkeypatch.setattr(resnet.ResNet, "__init__", shallow)


@pytest.mark.slow
@pytest.mark.skipif(not CAN_COMPILE, reason="no compiler, or PyTorch before 2.6")
def test_a_compiled_run_keeps_names_and_losses(one_block_a_layer, datasets, tmp_path):
    """Evaluation included, which runs plain: the graphs are those of the training step alone."""
    options = dict(TEST__EVAL_PERIOD=1)
    fast = trained(tmp_path / "b", 1, RUNTIME__COMPILE=True, **options)
    stages = fast.model.backbone.shared.values()
    assert all(stage._compiled_call_impl is not None for stage in stages)
    plain = VIReIDTrainer(small_cfg(tmp_path / "a", SOLVER__MAX_EPOCH=1, **options))
    start = plain.model.state_dict().keys()
    assert fast.model.state_dict().keys() == start
    plain.train()
    assert losses(fast)[0] == pytest.approx(losses(plain)[0], rel=1e-3)
    plain.model.load_state_dict(fast.model.state_dict())
    assert VIReIDTrainer.test(plain.cfg, plain.model) == fast.results  # bitwise: it ran plain
