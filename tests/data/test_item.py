"""An item and the list of all test images. Oracle: the tuples they are made of."""

import pickle
from types import SimpleNamespace

from vireid_plugins.data import Item
from vireid_plugins.data.item import fingerprint_of
from vireid_plugins.data.item import test_items as all_test_items
from vireid_plugins.modality import Modality


def test_an_item_is_a_tuple_with_names():
    item = Item.of(("a.jpg", 7, 3, Modality.INFRARED))
    assert item == ("a.jpg", 7, 3, 1) and item[:3] == ("a.jpg", 7, 3)
    assert (item.path, item.pid, item.camid, item.modality) == ("a.jpg", 7, 3, 1)
    assert type(item.modality) is int
    copy = pickle.loads(pickle.dumps(item))  # as a loading process gets it
    assert type(copy) is Item and copy == item == Item.of(item)


def test_an_item_of_the_hosts_datasets_is_visible():
    assert Item.of(("a.jpg", "market1501_7", "c3")) == ("a.jpg", "market1501_7", "c3", 0)


def test_test_images_are_the_queries_and_then_the_gallery():
    dataset = SimpleNamespace(query=[("q", 1, 3, 1)], gallery=[("g", 1, 2), Item("h", 2, 1, 0)])
    assert all_test_items(dataset) == [("q", 1, 3, 1), ("g", 1, 2, 0), ("h", 2, 1, 0)]
    assert {type(item) for item in all_test_items(dataset)} == {Item}


def test_a_fingerprint_is_that_of_images_and_labels(tmp_path):
    """The same for a copy and in any order; another for any change of a label or of a file."""

    def make(folder, content="pixels"):
        items = []
        for number in range(4):
            path = folder / f"cam{number % 2}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            items.append(Item(str(path), number // 2, number % 2, number % 2))
        return items

    items = make(tmp_path / "a")
    known = fingerprint_of(items)
    assert len(known) == 16 and int(known, 16)
    assert fingerprint_of(make(tmp_path / "b")) == fingerprint_of(items[::-1]) == known
    others = [items[:3], items + items[:1]]
    for change in ({"pid": 7}, {"camid": 7}, {"modality": 1}, {"path": items[0].path + "x"}):
        others.append([items[0]._replace(**change), *items[1:]])
    assert all(fingerprint_of(other) != known for other in others)
    assert fingerprint_of(make(tmp_path / "a", "other pixels")) != known
    assert fingerprint_of([]) == fingerprint_of([])
