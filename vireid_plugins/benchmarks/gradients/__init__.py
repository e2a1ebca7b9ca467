"""Measure, over a training, what each loss term does to the backbone.

``measure.py`` computes the gradients at one batch, ``training.py`` trains and chooses the moments,
``findings.py`` judges, ``table.py`` and ``figure.py`` show.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch

from ...comparison.config_files import shown_path
from ...drawing.style import write_figure, write_numbers
from ...errors import UserError
from ...files import find_config, write_atomically
from ...runs.environment import environment
from ...runs.record import source_commit
from .figure import draw
from .table import as_json, csv_lines, format_table
from .training import watch

__all__ = ["run", "write"]

_NAME, _FOLDER = "gradients", Path("logs") / "gradients"
_MOST_MOMENTS = 1000


def run(
    *,
    config: str,
    opts: Sequence[str] = (),
    updates: Optional[int] = None,
    moments: int = 10,
    threads: int = torch.get_num_threads(),
) -> Dict[str, Any]:
    """Train a config, and measure the gradient of each loss term at some moments.

    The training makes the same updates as ``vireid train``; it neither evaluates nor saves.

    Args:
        config: a path, or a file below ``configs/``.
        opts: KEY VALUE words.
        updates: updates to make; None: the whole training of the config.
        moments: moments of each phase, spread evenly over its updates.
        threads: CPU threads.

    Returns:
        ``watched``, ``title`` and ``table``.

    Raises:
        UserError: a mistake in the arguments, the config or the data.
    """
    for word, value in (("--updates", updates), ("--moments", moments)):
        if value is not None and value < 1:
            raise UserError(f"{word} must be at least 1; got {value}")
    if moments > _MOST_MOMENTS:
        raise UserError(f"--moments must be at most {_MOST_MOMENTS}; got {moments}")
    title = " ".join([shown_path(Path(find_config(config))), *opts])
    watched = watch(config, opts, updates, moments)
    return {"watched": watched, "title": title, "table": format_table(watched, title)}


def write(out: str, words: Mapping[str, Any], result: Mapping[str, Any]) -> List[str]:
    """Write the picture, ``table.md``, and the numbers as CSV and JSON; return their paths.

    Args:
        out: the folder; empty: one in ``logs/gradients``, named after the config.
        words: the keywords of :func:`run`.
        result: what :func:`run` returned.
    """
    watched = result["watched"]
    folder = Path(out) if out else _FOLDER / _folder_name(words["config"])
    written = write_figure(draw(watched, result["title"]), str(folder), _NAME)
    written.append(write_numbers(str(folder), _NAME, *csv_lines(watched)))
    facts = {
        "config": words["config"],
        "opts": list(words["opts"]),
        "commit": source_commit(),
        "environment": environment(),
        **as_json(watched),
    }
    texts = {f"{_NAME}.json": json.dumps(facts, indent=1), "table.md": result["table"]}
    written += [_write_text(folder / name, text) for name, text in texts.items()]
    return written


def _write_text(path: Path, text: str) -> str:
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))
    return str(path)


def _folder_name(config: str) -> str:
    """Return ``maum_ablation_full`` for ``configs/maum/ablation/full.yml``."""
    parts = Path(shown_path(Path(find_config(config)))).with_suffix("").parts
    return "_".join(part for part in parts if part != "configs")
