"""Say how runs whose metrics stand side by side were evaluated differently."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from ..errors import UserError
from ..runs.names import RESULTS
from ..runs.records import read_results

_CONDITIONS = (
    *("gallery_rule", "trials", "cmc", "never_compared"),
    *("feature", "metric", "flip", "reranking"),
)


def different_conditions(
    labels: Sequence[str], folders: Sequence[Path], protocol: str
) -> List[str]:
    """Return lines that say how the last evaluations of runs differ; empty if they do not.

    Args:
        labels: the names of the runs.
        folders: their folders; a run without a readable ``results.json`` is left out.
        protocol: the protocol line that is looked at, such as ``RegDB/visible_to_infrared/multi``.
    """
    lines = {label: _line_of(folder, protocol) for label, folder in zip(labels, folders)}
    known = {label: line for label, line in lines.items() if line is not None}
    found = []
    for name in _CONDITIONS:
        values = {label: line[name] for label, line in known.items() if name in line}
        if len(set(values.values())) > 1:
            words = ", ".join(f"{label} {value!r}" for label, value in values.items())
            found.append(f"  {name}: {words}")
    head = f"The runs were evaluated differently by {protocol}; compare with care:"
    return [head, *found] if found else []


def _line_of(folder: Path, protocol: str) -> Optional[Dict[str, Any]]:
    path = folder / RESULTS
    try:
        lines = read_results(path).protocols if path.is_file() else []
    except UserError:  # a damaged record says nothing; a report lists it
        return None
    return next((line for line in lines if line["key"] == protocol), None)
