"""One image of a dataset, with its labels."""

from typing import Any, List, NamedTuple, Sequence

from vireid_plugins.modality import Modality


class Item(NamedTuple):
    """An image and its labels, as the dataset numbers them.

    It is still a tuple; FastReID's samplers, which unpack three fields, are given ``item[:3]``.
    FastReID's own datasets have words as ``pid`` and ``camid``; the datasets here have integers.
    """

    path: str
    pid: Any  # identity
    camid: Any  # camera
    modality: int  # a value of Modality

    @classmethod
    def of(cls, fields: Sequence[Any]) -> "Item":
        """Return a tuple ``(path, pid, camid[, modality])`` as an item.

        An item of FastReID's own datasets has three fields and counts as visible.
        """
        path, pid, camid = fields[:3]
        modality = fields[3] if len(fields) > 3 else Modality.VISIBLE
        return cls(str(path), pid, camid, int(modality))


def test_items(dataset: Any) -> List[Item]:
    """Return all test images of a dataset: those of ``query``, then those of ``gallery``.

    This is the order of the rows in every array of test features.
    """
    return [Item.of(fields) for fields in (*dataset.query, *dataset.gallery)]
