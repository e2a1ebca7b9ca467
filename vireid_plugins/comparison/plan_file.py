"""Read a plan: one setting, rows in groups, what each is compared with, and when to stop.

    title: Masks and attention
    setting: setting.yml              # a config file; its keys are set on top of every row
    seeds: [0, 1, 2]
    more_seeds: [3, 4]                # for rows whose claim is within the noise
    stop_rule: Seeds 0 to 2 for all rows; then ...
    rows:                             # or groups: [{heading: ..., setting: ..., rows: [...]}]
      - {name: baseline, config: baseline/synthetic.yml}
      - name: mask
        config: mrda/ablation/mask.yml
        set: {MODEL.MRDA.CONSTRAINT_STAGE: 1}
        against: [baseline]
        claim: {rank-1: 2.1, mAP: 1.5, source: "SYSU-MM01, all, single-shot, Table 4"}

Files are looked for beside the plan, then here, then below ``configs/``. A plan may begin with
another one, ``_BASE_: plan.yml``: what it does not say itself is as there, and
``only: [NAME, ...]`` takes some of its rows.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import PlanError
from ..files import find_config
from ..readers.config_file import read_chain
from ..readers.shape import expect, field, found, optional_field
from ..registry import suggest
from .claims import Claim, read_claim
from .config_files import shown_path, unique_names
from .plan_settings import Files, Pairs, read_pairs, read_setting
from .runs import DataPoint

_TOP = {
    "title": str,
    "setting": str,
    "protocol": str,
    "stop_rule": str,
    "seeds": list,
    "more_seeds": list,
    "datasets": dict,
    "only": list,
    "rows": list,
    "groups": list,
}
_GROUP = {"heading": str, "setting": str, "set": dict, "rows": list}
_ROW = {
    "name": (str, int, float),
    "config": str,
    "set": dict,
    "against": (list, str, int, float),
    "claim": dict,
    "add_to_seed": int,
}
_DATASETS = {"axis": str, "points": list}
_POINT = {"value": float, "folder": str}


@dataclass(frozen=True)
class PlanRow:
    """A row of the table."""

    name: str
    config: Path
    pairs: Pairs  # of the group's setting and its own, on top of the plan's setting
    heading: str
    against: Tuple[str, ...]
    claim: Optional[Claim]
    add_to_seed: int = 0  # a second training of the same config for each seed


@dataclass(frozen=True)
class Plan:
    """What a plan file says."""

    path: Path
    title: str
    setting: Optional[Path]
    setting_pairs: Pairs
    protocol: str
    seeds: Tuple[int, ...]
    more_seeds: Tuple[int, ...]
    stop_rule: str
    axis: str  # title of the axis of ``points``
    points: Tuple[DataPoint, ...]
    rows: Tuple[PlanRow, ...]

    @property
    def headings(self) -> List[str]:
        """Return the headings of the groups, in order."""
        return list(dict.fromkeys(row.heading for row in self.rows))


def read_plan(name: str, setting: str = "") -> Plan:
    """Return what a plan file says.

    Args:
        name: a path, or a file below ``configs/``.
        setting: a config file that takes the place of the plan's setting; empty: none.

    Raises:
        PlanError: a name or a value is wrong, or a row is compared with one that is not there.
        UserError: a file is missing or damaged.
    """
    path = Path(find_config(name))
    where = shown_path(path)
    chain = read_chain(path)
    values: Dict[str, Any] = {}
    for file in reversed(chain):
        own = file.values
        if "rows" in own or "groups" in own:  # one of both replaces both
            values = {key: one for key, one in values.items() if key not in ("rows", "groups")}
        values.update(own)
    _check_names(values, _TOP, where, "a plan")
    files = Files([file.path.parent for file in chain])
    wanted = setting or values.get("setting", "")
    chosen = Path(find_config(setting)) if setting else files.find(wanted, f"{where}: setting")
    rows = _choose(_rows(values, where, files), values.get("only"), where)
    _check_rows(rows, where)
    axis, points = _points(values.get("datasets"), where)
    seeds = _seeds(values.get("seeds", [0, 1, 2]), f"{where}: seeds")
    more = _seeds(values.get("more_seeds", []), f"{where}: more_seeds", needed=False)
    both = sorted(set(seeds) & set(more))
    if both:
        raise PlanError(f"{where}: {both[0]} is in seeds and in more_seeds. Leave it in one.")
    return Plan(
        path,
        values.get("title", ""),
        chosen,
        read_setting(chosen),
        values.get("protocol", ""),
        seeds,
        more,
        " ".join(values.get("stop_rule", "").split()),
        axis,
        points,
        tuple(rows),
    )


def _check_names(values: Mapping[str, Any], kinds: Mapping[str, Any], where: str, of: str) -> None:
    """Raise ``PlanError`` for an unknown name, and ``FileContentError`` for a wrong value."""
    for name in expect(values, dict, where):
        if name not in kinds:
            raise PlanError(f"{where}: {name!r} is no name of {of}. {suggest(name, kinds)}")
        expect(values[name], kinds[name], f"{where}: {name}")


def _rows(values: Mapping[str, Any], where: str, files: Files) -> List[PlanRow]:
    if "rows" in values and "groups" in values:
        raise PlanError(f"{where}: rows and groups: give one of them.")
    groups = values.get("groups", [{"rows": values["rows"]}] if "rows" in values else [])
    found_rows: List[Tuple[Dict[str, Any], Path, Pairs, str, str]] = []
    for number, group in enumerate(groups, 1):
        place = f"{where}: group {number}" if "groups" in values else where
        _check_names(group, _GROUP, place, "a group")
        heading = optional_field(group, "heading", str, place, "")
        pairs = read_setting(files.find(group.get("setting", ""), place))
        pairs += read_pairs(group.get("set", {}), place)
        for index, row in enumerate(field(group, "rows", list, place), 1):
            spot = f"{place}: row {index}"
            _check_names(row, _ROW, spot, "a row")
            config = files.find(field(row, "config", str, spot), spot)
            if config is None:
                raise PlanError(f"{spot}: config is empty; name a config file.")
            found_rows.append((row, config, pairs, heading, spot))
    if not found_rows:
        raise PlanError(f"{where}: there are no rows. Add rows: [{{config: agw/sysu.yml}}, ...].")
    return [_row(*one, name) for one, name in zip(found_rows, _default_names(found_rows))]


def _default_names(found_rows: Sequence[Any]) -> List[str]:
    paths = list(dict.fromkeys(config for _, config, *_ in found_rows))
    names = dict(zip(paths, unique_names(paths)))
    return [names[config] for _, config, *_ in found_rows]


def _row(
    row: Dict[str, Any], config: Path, pairs: Pairs, heading: str, spot: str, default: str
) -> PlanRow:
    name = str(row.get("name", default)).strip()
    if not name:
        raise PlanError(f"{spot}: name is empty; leave it out or write one.")
    named = row.get("against", [])
    against = tuple(
        str(expect(one, (str, int, float), f"{spot}: against"))
        for one in (named if isinstance(named, list) else [named])
    )
    claim = read_claim(row["claim"], against, f"{spot}: claim") if "claim" in row else None
    own = read_pairs(row.get("set", {}), f"{spot}: {name}")
    added = optional_field(row, "add_to_seed", int, spot, 0)
    if added < 0:
        raise PlanError(f"{spot}: {name}: add_to_seed is {added}; expected 0 or more.")
    return PlanRow(name, config, pairs + own, heading, against, claim, added)


def _choose(rows: List[PlanRow], names: Optional[List[Any]], where: str) -> List[PlanRow]:
    if names is None:
        return rows
    wanted = [str(name) for name in names]
    known = [row.name for row in rows]
    for name in wanted:
        if name not in known:
            raise PlanError(f"{where}: only: there is no row {name!r}. {suggest(name, known)}")
    return [_without(row, wanted, where) for row in rows if row.name in wanted]


def _without(row: PlanRow, wanted: Sequence[str], where: str) -> PlanRow:
    """Return a row that is compared with ``wanted`` rows alone."""
    against = tuple(name for name in row.against if name in wanted)
    if row.against and not against:
        raise PlanError(
            f"{where}: only: {row.name} is compared with {', '.join(row.against)}; name one of "
            "them too."
        )
    claim = row.claim if row.claim and row.claim.over in against else None
    return replace(row, against=against, claim=claim)


def _check_rows(rows: Sequence[PlanRow], where: str) -> None:
    """Raise ``PlanError`` if rows are named alike, or compared with what is not there."""
    folders: Dict[str, str] = {}
    for row in rows:
        folder = row_folder(row.name)
        if folder in folders:
            alike = "" if folders[folder] == row.name else f" (or {folders[folder]!r})"
            raise PlanError(
                f"{where}: two rows are named {row.name!r}{alike}, and would have one folder of "
                "runs. Give each a name of its own."
            )
        folders[folder] = row.name
    names = [row.name for row in rows]
    for row in rows:
        for other in row.against:
            if other == row.name:
                raise PlanError(f"{where}: {row.name} is compared with itself; see its against.")
            if other not in names:
                raise PlanError(
                    f"{where}: {row.name} is compared with {other!r}, which is no row of this "
                    f"plan. {suggest(other, names)}"
                )
        if len(set(row.against)) < len(row.against):
            raise PlanError(f"{where}: {row.name}: against names one row twice.")


def row_folder(name: str) -> str:
    """Return the folder of a row's runs: its name in lower case, other signs as hyphens."""
    kept = "".join(sign if sign.isalnum() or sign in "._+" else "-" for sign in name.lower())
    return "-".join(part for part in kept.split("-") if part).strip(".") or "row"


def _seeds(values: Sequence[Any], where: str, needed: bool = True) -> Tuple[int, ...]:
    seeds = tuple(expect(value, int, where) for value in values)
    if (needed and not seeds) or (seeds and min(seeds) < 0) or len(set(seeds)) < len(seeds):
        raise PlanError(f"{where} is {list(seeds)}; expected different numbers from 0 on.")
    return seeds


def _points(values: Optional[Mapping[str, Any]], where: str) -> Tuple[str, Tuple[DataPoint, ...]]:
    """Return the title of the axis, and the folders of datasets."""
    if values is None:
        return "", ()
    place = f"{where}: datasets"
    _check_names(values, _DATASETS, place, "datasets")
    axis = field(values, "axis", str, place)
    points = []
    for number, one in enumerate(field(values, "points", list, place), 1):
        spot = f"{place}: point {number}"
        _check_names(one, _POINT, spot, "a point")
        folder = Path(os.path.expanduser(field(one, "folder", str, spot)))
        points.append(DataPoint(field(one, "value", float, spot), folder))
        if not folder.is_dir():
            raise PlanError(
                f"{spot}: there is no folder {folder}. Name a folder of datasets, as "
                "FASTREID_DATASETS does, as seen from where the command is given."
            )
    names = [point.name for point in points]
    if not points or len(set(names)) < len(names):
        raise PlanError(f"{place}: expected points with different values, found {found(names)}.")
    return axis, tuple(points)
