"""Read with which settings SynthVI rendered a dataset, from its marker file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Union

from ..errors import UserError
from .json_file import read_json

MARKER = "synthvi.json"  # a folder that holds this file was rendered, not photographed
#: What was rendered before there were dyes: nothing in infrared is linked to the visible colors.
FREE = {"dense": 0.0, "clear": 0.0, "free": 1.0}


def rendering(folder: Union[str, Path]) -> Dict[str, Any]:
    """Return the settings that the images below ``folder`` were rendered with, by name.

    Settings that an earlier renderer did not know have the value that it worked with. The dict is
    empty if there is no marker, or if it says nothing.
    """
    try:
        found = read_json(Path(folder) / MARKER).get("parameters")
    except UserError:
        return {}
    return complete(found) if isinstance(found, dict) and found else {}


def complete(parameters: Dict[str, Any]) -> Dict[str, Any]:
    """Return the settings of a marker as today's renderer would write them.

    What version 2 of the renderer wrote is the free form of version 3, to the byte.
    """
    version = parameters.get("version")
    today = {"version": 3 if version == 2 else version} if version else {}
    return {"infrared": dict(FREE), **parameters, **today}


def setting_words(value: Any) -> str:
    """Return the value of a setting in words: shares as '0.5 dense + 0.5 free'."""
    if not isinstance(value, dict):
        return str(value)
    return " + ".join(
        f"{share:g} {name}" if isinstance(share, (int, float)) else f"{name} {share}"
        for name, share in value.items()
        if share
    )
