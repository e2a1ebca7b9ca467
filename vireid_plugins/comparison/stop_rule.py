"""Decide which rows get more seeds: the executable part of a plan's stop rule."""

from typing import Dict, List, Mapping, Sequence

from .claims import Claim
from .contrasts import Contrasts
from .summary import Row


def rows_that_need_more(
    contrasts: Contrasts, claims: Mapping[str, Claim], protocols: Sequence[str]
) -> List[str]:
    """Return the rows that get more seeds: claimed ones within the noise, and their baselines.

    A row counts if its paper claims a gain over a row that it is compared with, and the difference
    here is within the noise in one of the claimed metrics. Both rows then get more seeds.

    Args:
        contrasts: the rows with the plan's first seeds alone, so that a finished run with a later
            seed never changes the decision.
        claims: of the rows that have one.
        protocols: the protocol lines that are shown.
    """
    needed: Dict[str, None] = {}
    for row in contrasts.rows:
        claim = claims.get(row.name)
        for other in contrasts.of(row):
            if claim is None or claim.over != other.name:
                continue
            if _undecided(contrasts, row, other, claim, protocols):
                needed.update({row.name: None, other.name: None})
    return [row.name for row in contrasts.rows if row.name in needed]


def _undecided(
    contrasts: Contrasts, row: Row, other: Row, claim: Claim, protocols: Sequence[str]
) -> bool:
    """Return whether a claimed difference is known and within the noise."""
    found = [
        contrasts.difference(row, other, protocol, metric)
        for protocol in protocols
        for metric in claim.metrics
    ]
    return any(one is not None and not one.beyond_noise for one in found)
