"""One finding of watching: a figure, what it is held against, and a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import msgspec

Verdict = Literal["ok", "crossed", "unknown"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """`unknown` has no figure, and its sentence says what is missing."""

    check: str  # of CHECKS
    of: str  # what of it: a feature, a policy, a release; "" where there is one
    verdict: Verdict
    said: str
    figure: float | None = None
    bound: float | None = None  # None: shown, not judged
    low: float | None = None  # 95 % interval, where there is one
    high: float | None = None


def above(
    check: str, of: str, figure: float, bound: float, said: str, *, low: float | None = None, high: float | None = None
) -> Line:
    """Crossed when the figure is above its bound; with an interval, when all of the interval is."""
    if not math.isfinite(figure):
        return unknown(check, of, f"{said}: it cannot be computed of what there is")
    held = low if low is not None else figure
    verdict: Verdict = "crossed" if held > bound else "ok"
    return Line(check=check, of=of, verdict=verdict, said=said, figure=figure, bound=bound, low=low, high=high)


def below(check: str, of: str, figure: float, bound: float, said: str) -> Line:
    """Crossed when the figure is below its bound."""
    verdict: Verdict = "crossed" if figure < bound else "ok"
    return Line(check=check, of=of, verdict=verdict, said=said, figure=figure, bound=bound)


def shown(
    check: str, of: str, figure: float, said: str, *, low: float | None = None, high: float | None = None
) -> Line:
    """A figure that nothing is held against."""
    return Line(check=check, of=of, verdict="ok", said=said, figure=figure, low=low, high=high)


def unknown(check: str, of: str, missing: str) -> Line:
    return Line(check=check, of=of, verdict="unknown", said=missing)


def crossed(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.verdict == "crossed"]
