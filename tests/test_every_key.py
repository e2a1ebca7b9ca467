"""No key is dead: each, set to another value, changes something that it should change.

``every_key/table.py`` says for each key which other value, and who sees the change;
``every_key/facts.py`` has the observers. Oracle: the observer's facts under both values differ.
"""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from vireid_plugins.engine.setup import build_config
from vireid_plugins.keys import declared_keys, value_of
from vireid_plugins.readers.keypoints_file import write_arrays

from tests.engine.small import small_words
from tests.every_key import facts as seen
from tests.every_key.group import With
from tests.every_key.table import GROUPS, NOT_READ, REFUSED

CASES = {key: (group, other) for group in GROUPS for key, other in group.others.items()}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Return a folder of CSV files, of images and of weights."""
    folder = tmp_path_factory.mktemp("own")
    train = [(pid, "train", camera) for pid in (1, 2, 3, 4) for camera in (1, 2)]
    test = [(pid, "test", camera) for pid in (8, 9) for camera in (1, 2)]
    paths = _write_csv(folder, "one", train + test)
    for name, place in (("keypoints", 3.0), ("other", 5.0)):
        points, sizes = np.full((len(paths), 17, 3), place), np.full((len(paths), 2), (32, 16))
        points[..., 2] = 1
        np.savez(folder / f"{name}.npz", **write_arrays(paths, points, sizes))
    _write_csv(folder, "two", train[2:] + test)
    _write_csv(folder, "overlap", train + test + [(3, "test", 1)])
    _write_csv(folder, "cameras", train + test, one_camera=True)
    _write_csv(folder, "deep", train + test, deep=True)
    cut = folder / _write_csv(folder, "cut", train + test)[0]
    cut.write_bytes(cut.read_bytes()[:-40])
    torch.save(
        {"model": {"backbone.visible.stem.conv1.weight": torch.ones(16, 3, 7, 7)}},
        folder / "start.pth",
    )
    return folder


def _write_csv(folder, name, people, one_camera=False, deep=False):
    """Write two images of each person, camera and modality, and the list of them."""
    rng, rows = np.random.default_rng(0), []
    for pid, split, camera in people:
        for modality in ("visible", "infrared"):
            for copy in range(2):
                path = f"{name}_{pid}_{split}_{camera}_{modality}_{copy}.png"
                pixels = rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)
                if deep:
                    pixels = rng.integers(3000, 4000, (32, 16), dtype=np.uint16)
                Image.fromarray(pixels).save(folder / path)
                number = camera if one_camera else camera + 2 * (modality == "infrared")
                rows.append([path, pid, number, modality, split])
    with open(folder / f"{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "pid", "camid", "modality", "split"], *rows])
    return [row[0] for row in rows]


class Bases:
    """Configs of the groups with what their observers see; each is made once."""

    def __init__(self, own):
        self.own, self._configs, self._facts = own, {}, {}

    def config(self, group, more):
        if "TIMM_NAME" in group.words:
            pytest.importorskip("timm")
        name = (group.config, group.words, more)
        if name not in self._configs:
            words = f"{group.words} {more}".format(own=self.own).split()
            words = [*small_words(self.own / "run"), *words]
            self._configs[name] = build_config(group.config, words)
        return self._configs[name].clone()

    def facts(self, group, more):
        name = (group.observer, group.config, group.words, more)
        if name not in self._facts:
            self._facts[name] = seen.facts(group.observer, self.config(group, more))
        return self._facts[name]


@pytest.fixture(scope="module")
def bases(own):
    return Bases(own)


def _split(other):
    """Return the other value, and the words that both configs have besides those of the group."""
    if isinstance(other, With):
        return other
    return With(other, "")


def _keys():
    for key, (group, _) in sorted(CASES.items()):
        yield pytest.param(
            key, marks=[pytest.mark.slow] if group.observer in ("run", "clustered") else []
        )


@pytest.mark.parametrize("key", list(_keys()))
def test_a_key_changes_what_it_should_change(key, datasets, bases):
    group, entry = CASES[key]
    other, more = _split(entry)
    if isinstance(other, str):
        other = other.format(own=bases.own)
    cfg = bases.config(group, more)
    assert value_of(cfg, key) != other
    cfg.merge_from_list([key, other or "''" if isinstance(other, str) else repr(other)])
    assert declared_keys()[key].rule.allows(value_of(cfg, key)) or key == "VIREID.CONFIG_VERSION"
    before, after = bases.facts(group, more), seen.facts(group.observer, cfg)
    assert after != before
    refused = {side for side, found in (("base", before), ("other", after)) if seen.refused(found)}
    assert refused == set(REFUSED.get(key, ()))


def _places():
    for place, group in enumerate(GROUPS):
        slow = [pytest.mark.slow] if group.observer in ("run", "clustered") else []
        yield pytest.param(place, marks=slow, id=f"{group.observer}-{place}")


@pytest.mark.parametrize("place", list(_places()))
def test_what_is_seen_is_seen_again(place, datasets, bases):
    """Or a difference would say nothing."""
    group = GROUPS[place]
    again = seen.facts(group.observer, bases.config(group, ""))
    assert again == bases.facts(group, "")


def test_every_key_stands_in_the_table():
    """A new key gets a line in ``every_key/table.py``, or a reason why nothing reads it."""
    keys = set(declared_keys())
    assert sorted(keys - set(CASES) - set(NOT_READ)) == []
    assert sorted((set(CASES) | set(NOT_READ)) - keys) == []
    assert sorted(set(CASES) & set(NOT_READ)) == []
