"""Read CSV files whose first line names the columns."""

import csv
import io
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from ..errors import FileContentError
from .text import AnyPath, read_text, shown

_SHOWN = 80  # characters of a header that a message shows


class Row(NamedTuple):
    """A row of a CSV file."""

    line: int  # number of its first line in the file, from 1
    cells: Dict[str, str]  # column -> text without the spaces around it


def read_csv(path: AnyPath, columns: Sequence[str]) -> List[Row]:
    """Return the rows of a CSV file in UTF-8; blank rows are left out.

    Cells may stand in quotes and then hold commas and line ends. Further columns are ignored.

    Args:
        path: a file whose first row names the columns, in any order.
        columns: the columns that it must have; each row has a value for each of them.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: it is not a CSV file in UTF-8, or a column or a value is missing.
        UserError: it cannot be read.
    """
    where = shown(path)
    rows = _rows(read_text(path), where)
    line, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    _check_header(names, columns, f"{where}, line {line}")
    return [
        Row(line, _cells(cells, names, columns, f"{where}, line {line}")) for line, cells in rows
    ]


def read_table(path: AnyPath, width: int, remedy: str = "") -> List[Tuple[int, List[str]]]:
    """Return the rows of a CSV file without a header, each with the number of its first line.

    Args:
        path: a file in UTF-8.
        width: number of cells of each row.
        remedy: how to fix a damaged file, a sentence.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: it is not a CSV file in UTF-8, or a row has another number of cells.
        UserError: it cannot be read.
    """
    where = shown(path)
    rows = list(_rows(read_text(path, remedy), f"{where}, line"))
    for line, cells in rows:
        if len(cells) != width:
            told = f"{where}, line {line}: expected {width} cells, found {len(cells)}."
            raise FileContentError(f"{told} {remedy}".rstrip())
    return rows


def _rows(text: str, where: str) -> Iterator[Tuple[int, List[str]]]:
    """Yield the rows that hold anything, each with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise FileContentError(
                f'{where}, line {line}: not a row of a CSV file in UTF-8: {error}. Is a quote (") '
                "without its partner?"
            ) from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _check_header(names: Sequence[str], columns: Sequence[str], place: str) -> None:
    told = ",".join(names)
    told = told if len(told) <= _SHOWN else f"{told[:_SHOWN]} ..."
    missing = [column for column in columns if column not in names]
    if missing:
        other = next((mark for mark in ";\t|" if mark in told), None)
        hint = f" Separate the columns by commas instead of {other!r}." if other else ""
        raise FileContentError(
            f"{place}: lacks the column(s) {', '.join(missing)}; the header must be "
            f"{','.join(columns)}; got {told!r}.{hint}"
        )
    twice = [column for column in columns if names.count(column) > 1]
    if twice:
        raise FileContentError(f"{place}: the column {twice[0]} appears twice in {told!r}.")


def _cells(
    cells: Sequence[str], names: Sequence[str], columns: Sequence[str], place: str
) -> Dict[str, str]:
    if any(cell.strip() for cell in cells[len(names) :]):
        raise FileContentError(
            f"{place}: {len(cells)} cells; the header has {len(names)}. Put a cell that holds a "
            'comma in quotes (").'
        )
    found = {name: cell.strip() for name, cell in zip(names, cells) if name in columns}
    empty = [column for column in columns if not found.get(column)]
    if empty:
        raise FileContentError(f"{place}: no value for {', '.join(empty)}.")
    return found
