"""Which keys a run does not read.

Oracles: a config whose nodes note who asks for them while a model is built, and the table of
``tests/every_key``, which knows a config under which each key changes something.
"""

import pytest
import yaml

from vireid_plugins import keys
from vireid_plugins.comparison import runs
from vireid_plugins.comparison.runs import differing_settings
from vireid_plugins.engine.setup import build_config
from vireid_plugins.engine.unread import unread_keys
from vireid_plugins.keys import Key, at_least, declare
from vireid_plugins.merge import flat_values

from fastreid.config import CfgNode
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from tests.engine.small import ROOT
from tests.every_key.group import NARROW
from tests.modeling.test_meta_arch import CONFIGS, make_model, on_a_small_network, settings
from tests.test_every_key import CASES

CPU = ["MODEL.DEVICE", "cpu"]


def config(name="agw/synthetic.yml", *opts):
    return build_config(str(ROOT / "configs" / name), [*CPU, *map(str, opts)])


def stored(cfg):
    """What the record of a run holds."""
    return yaml.safe_load(cfg.dump())


@pytest.mark.parametrize("registry", [META_ARCH_REGISTRY, REID_HEADS_REGISTRY])
def test_every_method_and_head_says_which_nodes_it_reads(registry):
    """Or no key is ever unread in its runs. Every such node holds declared keys."""
    declared = {key.rpartition(".")[0] for key in keys.declared_keys()}
    for name, part in registry._obj_map.items():
        if part.__module__.startswith("vireid_plugins"):
            assert "config_nodes" in vars(part), name
            assert set(part.config_nodes) <= declared, name


def _one_of_each():
    """A config of each method with each head, the first of its own folder."""
    found = {}
    for name in CONFIGS:
        model = settings(name).MODEL
        found.setdefault((model.META_ARCHITECTURE, model.HEADS.NAME), name)
    return sorted(found.values())


@pytest.mark.parametrize("name", _one_of_each())
def test_what_is_asked_for_while_a_model_is_built_counts_as_read(name, monkeypatch):
    words = on_a_small_network(name)
    if not settings(name).MODEL.BACKBONE.TIMM_NAME:
        words = [*words, *NARROW.split(), "MODEL.NFORMER.DIM", "0"]
    asked = set()
    cfg = settings(name, *words)
    _mark(cfg, "")
    for method in ("__getattr__", "__getitem__"):
        monkeypatch.setattr(CfgNode, method, _noting(getattr(CfgNode, method), asked))
    make_model(name, *words)
    monkeypatch.undo()
    unread = unread_keys(flat_values(cfg))
    assert len(asked) > 4 and len(unread) > 100
    assert [key for key in sorted(unread) if key.rpartition(".")[0] in asked] == []


def _mark(node, path):
    """Let each node know its name, which its copies keep."""
    node.__dict__["_path"] = path
    for name, value in node.items():
        if isinstance(value, CfgNode):
            _mark(value, f"{path}.{name}".lstrip("."))


def _noting(get, asked):
    def noting(node, name):
        value = get(node, name)
        if isinstance(value, CfgNode) and "_path" in value.__dict__:
            asked.add(value.__dict__["_path"])
        return value

    return noting


def test_a_key_that_changes_something_counts_as_read():
    found = {}
    for key, (group, other) in CASES.items():
        if key.startswith("MODEL."):  # no other key is ever unread
            found.setdefault(
                (group.config, f"{group.words} {getattr(other, 'words', '')}"), []
            ).append(key)
    for (name, words), changing in found.items():
        unread = unread_keys(flat_values(config(name, *words.format(own="own").split())))
        assert len(unread) > 100 and unread.isdisjoint(changing), name


@pytest.mark.parametrize(
    "name, key, value, read",
    [
        ("agw/synthetic.yml", "MODEL.MAUM.UNIDIRECTIONAL_SCALE", 0.05, False),
        ("maum/synthetic.yml", "MODEL.MAUM.UNIDIRECTIONAL_SCALE", 0.05, True),
        ("agw/synthetic.yml", "MODEL.LOSSES.WEIGHTED_TRIPLET.SCALE", 0.5, True),
        ("mrda/synthetic.yml", "MODEL.LOSSES.CENTER.SCALE", 0.5, False),
        ("maum/synthetic.yml", "MODEL.LOSSES.LABEL_SMOOTHING.SMOOTHING", 0.3, True),
        ("agw/synthetic.yml", "MODEL.HEADS.NECK_FEAT", "after", True),
        ("agw/synthetic.yml", "MODEL.HEADS.ATTENTION.STRIPES", 3, False),
        ("mrda/synthetic.yml", "MODEL.HEADS.ATTENTION.STRIPES", 3, True),
        ("agw/synthetic.yml", "SOLVER.BASE_LR", 0.5, True),
        ("mmt/synthetic.yml", "MODEL.RBNET.GROUP_WIDTH", 4, False),
        ("mmt/rbnet_duke_to_market.yml", "MODEL.RBNET.GROUP_WIDTH", 4, True),
        ("pmt/synthetic.yml", "MODEL.LOSSES.INTRA_TRIPLET.MARGIN", 0.7, True),
        ("baseline/synthetic.yml", "MODEL.LOSSES.INTRA_TRIPLET.MARGIN", 0.7, False),
        ("spot/learned_structure.yml", "MODEL.STRUCTURE.PARTS", 3, True),
        ("nformer/synthetic.yml", "MODEL.CAJ.KL_SCALE", 0.5, False),
    ],
)
def test_a_default_that_changed(name, key, value, read):
    """The record has the earlier default, the config the present one."""
    now, then = config(name), config(name)
    then.merge_from_list([key, value])
    found = differing_settings(stored(then), stored(now))
    assert [line.partition(":")[0] for line in found] == [key] * read


def test_the_encoder_of_a_second_stage_and_the_losses_that_a_method_names_are_read():
    nformer = config("nformer/synthetic.yml", "MODEL.NFORMER.ENCODER_ARCHITECTURE", "CAJ")
    assert "MODEL.CAJ.KL_SCALE" not in unread_keys(flat_values(nformer))


def test_keys_of_methods_that_came_or_went(monkeypatch):
    """A run outlives them; a key that went from a node of its own is refused."""
    now = stored(config())
    monkeypatch.setattr(keys, "_declared", dict(keys._declared))
    declare("MODEL.OWN", Key("MARGIN", 1.0, at_least(0), "a margin"))
    declare("MODEL.LOSSES.OWN", Key("SCALE", 1.0, at_least(0), "a weight"))
    later = stored(config())
    runs._defaults.cache_clear()
    assert later["MODEL"]["OWN"] == {"MARGIN": 1.0} and differing_settings(now, later) == []
    monkeypatch.undo()
    runs._defaults.cache_clear()
    later["MODEL"]["OWN"]["MARGIN"] = later["MODEL"]["LOSSES"]["OWN"]["SCALE"] = 3.0
    later["MODEL"]["MAUM"]["GONE"] = later["MODEL"]["BACKBONE"]["GONE"] = 1
    assert differing_settings(later, now) == ["MODEL.BACKBONE.GONE: was 1, is absent"]


def test_a_method_that_does_not_say_what_it_reads_may_read_every_key(monkeypatch):
    """Such as a method of a user's own, also if its base class says it."""
    maum = META_ARCH_REGISTRY.get("MAUM")
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "Own", type("Own", (maum,), {}))
    own = config("agw/synthetic.yml", "MODEL.META_ARCHITECTURE", "Own")
    assert unread_keys(flat_values(own)) == frozenset()
    nodes = {"config_nodes": ("MODEL.MMT",)}
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "Own", type("Own", (maum,), nodes))
    unread = unread_keys(flat_values(own))
    assert not unread & {"MODEL.MAUM.ALPHA", "MODEL.MMT.MOMENTUM"} and "MODEL.CMTR.PHI" in unread


def test_what_either_config_reads_is_read():
    """A method is another one: its keys differ, too."""
    agw, maum = flat_values(config()), flat_values(config("maum/synthetic.yml"))
    assert "MODEL.MAUM.ALPHA" in unread_keys(agw)
    assert "MODEL.MAUM.ALPHA" not in unread_keys(agw, maum) | unread_keys(maum, agw)
