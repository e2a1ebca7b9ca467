"""Constants of a trace, and the difference of a trace from them or from another trace."""

import json
from pathlib import Path

from .numbers import probe

FOLDER = Path(__file__).parent / "recorded"
LIMIT = 1e-9  # of every difference below


def constants(found):
    """Return what is recorded of a ``Trace``: all loss terms, and a probe of each change."""
    return {
        "terms": found.terms,
        "probes": {name: probe(name, change) for name, change in found.changes.items()},
    }


def differences(found, expected):
    """Return the largest difference of the terms and of the changes, each with its place.

    A loss term: relative to its value. A change of a tensor: its distance from the other change,
    relative to that one's length; a tensor that does not move must not move at all.

    Args:
        found: this package's ``Trace``.
        expected: the public one, or recorded constants of it; then probes are compared.
    """
    if isinstance(expected, dict):
        terms = expected["terms"]
        changes = {
            name: (abs(probe(name, found.changes[name]) - value), found.changes[name].norm().item())
            for name, value in expected["probes"].items()
        }
    else:
        terms = expected.terms
        changes = {
            name: ((found.changes[name] - change).norm().item(), change.norm().item())
            for name, change in expected.changes.items()
        }
    assert terms.keys() == found.terms.keys(), (list(terms), list(found.terms))
    assert changes.keys() == found.changes.keys(), changes.keys() ^ found.changes.keys()
    return (
        max(
            (relative(abs(a - b), abs(b)), f"{name}, step {step + 1}")
            for name, values in terms.items()
            for step, (a, b) in enumerate(zip(found.terms[name], values))
        ),
        max((relative(*pair), name) for name, pair in changes.items()),
    )


def relative(difference, size):
    if difference == 0:
        return 0.0
    return difference / size if size else float("inf")


def file_of(case):
    return FOLDER / f"{case.name}.json"


def read(case):
    return json.loads(file_of(case).read_text(encoding="utf-8"))


def write(case, commit, versions, variants):
    """Write the constants of a case.

    Args:
        case: the case.
        commit: of the checkout.
        versions: of PyTorch and others, by name.
        variants: the public ``Trace`` of each variant.
    """
    text = {
        "source": f"https://github.com/{case.repository}",
        "commit": commit,
        "script": case.script,
        "recorded with": versions,
        "variants": {name: constants(found) for name, found in variants.items()},
    }
    FOLDER.mkdir(exist_ok=True)
    file_of(case).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
