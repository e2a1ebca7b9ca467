"""Write the cells of a CSV file so that a spreadsheet shows them and runs none as a formula."""

from typing import Any, Iterable, List

# What makes Excel, LibreOffice or Google Sheets take the rest of a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def safe_cells(row: Iterable[Any]) -> List[Any]:
    """Return the cells of ``row``; a text that a spreadsheet would run gets a ``'`` before it.

    Numbers stay as they are, negative ones too, also as text.
    """
    return [_safe(cell) for cell in row]


def _safe(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(_FORMULA) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
