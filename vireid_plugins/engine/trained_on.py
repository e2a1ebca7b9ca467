"""Find out what a published checkpoint was trained on: the dataset, and the split of it."""

from typing import Optional

from fastreid.data.datasets import DATASET_REGISTRY

from ..errors import UserError
from ..published import FileName
from ..published.file_names import DATASETS
from ..registry import lookup, registered_names


def dataset_of(given: str, said: FileName, num_classes: int, where: str) -> str:
    """Return the registered name of the dataset that the model was trained on.

    Args:
        given: the user's word, such as ``regdb``; empty: none.
        said: what the name of the file says.
        num_classes: identities of the classifier.
        where: the file, for messages.

    Raises:
        UserError: nothing tells the dataset, or two things contradict each other.
    """
    counted = _counted(num_classes)
    if given:
        name = DATASETS.get(given.lower(), given)
        lookup(DATASET_REGISTRY, name, "--dataset")
        if said.dataset not in ("", name):
            raise UserError(
                f"--dataset is {given}, and the name of {where} says {said.dataset}. Leave "
                "--dataset out, or rename the file."
            )
    else:
        name = said.dataset or counted
    if not name:
        raise UserError(
            f"{where}: neither its name nor its {num_classes} identities tell what it was trained "
            f"on. Add --dataset {', '.join(DATASETS)} or the name of another registered dataset."
        )
    if counted not in ("", name):
        raise UserError(
            f"{where} was trained on {num_classes} identities, as many as {counted} has for "
            f"training; {'--dataset' if given else 'its name'} says {name}. "
            + (f"Leave --dataset out, or write --dataset {short_name(counted)}." if given else "")
            + ("" if given else "Rename the file, so that its name does not say so.")
        )
    return name


def _counted(num_classes: int) -> str:
    """Return the dataset whose training set has so many identities; empty: none, or several."""
    found = [
        name
        for name in registered_names(DATASET_REGISTRY)
        if getattr(DATASET_REGISTRY.get(name), "published", {}).get("train ids") == num_classes
    ]
    return found[0] if len(found) == 1 else ""


def short_name(dataset: str) -> str:
    """Return what the public scripts call a dataset, such as ``sysu``; others keep their name."""
    return next((word for word, name in DATASETS.items() if name == dataset), dataset)


def trial_of(given: Optional[int], dataset: str, said: FileName, where: str) -> Optional[int]:
    """Return the split that the model was trained on; None for a dataset that has only one.

    Args:
        given: the user's number; None: none.
        dataset: a registered dataset.
        said: what the name of the file says.
        where: the file, for messages.

    Raises:
        UserError: nothing tells the split, it does not exist, or two things contradict each other.
    """
    numbers = getattr(DATASET_REGISTRY.get(dataset), "separate_trials", {}).get("trial", ())
    if not numbers:
        if given is not None:
            raise UserError(f"--trial is {given}, and {dataset} has only one split. Leave it out.")
        return None
    trial = said.trial if given is None else given
    if trial is None:
        raise UserError(
            f"{where} was trained on one of the {len(numbers)} splits of {dataset}, and its name "
            "does not say on which. Add --trial N: a model of one split has seen test persons of "
            "the others."
        )
    if given is not None and said.trial not in (None, given):
        raise UserError(
            f"--trial is {given}, and the name of {where} says trial {said.trial}. Leave --trial "
            "out, or rename the file."
        )
    if trial not in numbers:
        place = "--trial" if given is not None else f"The trial in the name of {where}"
        raise UserError(
            f"{place} is {trial}; {dataset} has the trials {min(numbers)} to "
            f"{max(numbers)}. Add --trial N."
        )
    return trial
