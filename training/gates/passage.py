"""What a gate says: passed, refused or no verdict, with the figure, its bound, and a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

Word = Literal["passed", "refused", "no verdict", "not asked"]


class Passage(msgspec.Struct, frozen=True):
    """What one gate said of a release. Only `refused` stops a promotion."""

    gate: str
    passage: Word
    said: str
    figure: float | None = None  # of the check that decided
    bound: float | None = None  # that it was held against


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every gate of `gates.toml` has."""

    enabled: bool = True
    no_verdict: Literal["passes", "refuses"] = "passes"


class Check(msgspec.Struct, frozen=True):
    """One figure against one bound; `ok` is None where the figure says nothing either way."""

    ok: bool | None
    said: str
    figure: float | None = None
    bound: float | None = None


def at_most(figure: float, bound: float, said: str, shown: float | None = None) -> Check:
    """`shown` stands in the table in place of the figure, such as an estimate in place of the end of its interval."""
    if not math.isfinite(figure):
        return silent(said)
    return Check(figure <= bound, said, figure if shown is None else shown, bound)


def at_least(figure: float, bound: float, said: str, shown: float | None = None) -> Check:
    if not math.isfinite(figure):
        return silent(said)
    return Check(figure >= bound, said, figure if shown is None else shown, bound)


def silent(said: str) -> Check:
    """Nothing to hold against a bound."""
    return Check(None, said)


def passage_of(gate: str, checks: Sequence[Check], bounds: Bounds) -> Passage:
    """Refused if any check is, passed if one is and none refuses, else no verdict, which may be told to refuse."""
    refused, passed = ([one for one in checks if one.ok is ok] for ok in (False, True))
    deciding = refused or passed or list(checks)
    words = [one.said for one in deciding]
    said = "; ".join(one for one in words if not any(one in other and one != other for other in words))
    said = said or "there is nothing to judge"
    figure, bound = (deciding[0].figure, deciding[0].bound) if deciding else (None, None)
    if refused:
        return Passage(gate, "refused", said, figure, bound)
    if passed:
        return Passage(gate, "passed", said, figure, bound)
    if bounds.no_verdict == "refuses":
        return Passage(gate, "refused", f"no verdict, which {gate}.no_verdict lets refuse: {said}")
    return Passage(gate, "no verdict", said)


def table(passages: Sequence[Passage]) -> list[str]:
    """Lines for a terminal, the columns below each other."""
    rows = [("gate", "verdict", "figure", "bound", "")]
    rows += [(one.gate, one.passage, _number(one.figure), _number(one.bound), one.said) for one in passages]
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
