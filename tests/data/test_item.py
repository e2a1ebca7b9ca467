"""An item and the list of all test images. Oracle: the tuples they are made of."""

import pickle
from types import SimpleNamespace

from vireid_plugins.data import Item
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
