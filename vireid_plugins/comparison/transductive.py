"""Give a run that was tested both ways two rows: one transductive, one image by image.

A transductive result (``evaluation/relation.py``) is never in a row that does not say so: the row
of the config has it, its remark says what saw all images at once, and a second row, of the same
weights, has the features image by image.
"""

from typing import Any, Dict, List, Optional, Tuple

from ..evaluation.relation import TRANSDUCTIVE

PLAIN = ", image by image"  # end of the name of the second row

Result = Dict[str, Any]


def both_ways(result: Optional[Result]) -> Tuple[Optional[Result], Optional[Result]]:
    """Return a result with its transductive lines alone, under the protocols' own names, and plain.

    The first is the result itself, and the second None, if it has no transductive line.
    """
    lines: List[Dict[str, Any]] = result["protocols"] if result else []
    if result is None or not any(line.get("transductive") for line in lines):
        return result, None
    plain = [line for line in lines if not line.get("transductive")]
    end = f"/{TRANSDUCTIVE}"
    related = [
        {**line, "key": line["key"][: -len(end)]} for line in lines if line.get("transductive")
    ]
    metrics = {
        name.replace(f"{end}/", "/"): value
        for name, value in result["metrics"].items()
        if f"{end}/" in name
    }
    second = {**result, "name": f"{result['name']}{PLAIN}", "protocols": plain}
    return {**result, "protocols": related, "metrics": metrics}, second


def transductive_words(result: Result) -> str:
    """Return a remark on a result of :func:`both_ways`; empty if it is not transductive."""
    return "".join(
        f"transductive: {words}"
        for words in dict.fromkeys(line.get("transductive", "") for line in result["protocols"])
        if words
    )
