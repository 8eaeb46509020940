"""Figures as people read them: shares in percent, money with its currency, changes with their sign."""

from __future__ import annotations

import math
from datetime import datetime

NOT_KNOWN = "not known"
DASH = "–"  # where a figure does not apply


def amount(value: float | None, unit: str, currency: str = "") -> str:
    """Of a metric's unit; `not known` for None, which is not 0."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    if unit in ("share", "customers"):
        return minus(f"{_digits(100 * value)}%")
    told = _digits(value)
    return minus({"currency": f"{told} {currency}".rstrip(), "ms": f"{told} ms"}.get(unit, told))


def change(value: float | None) -> str:
    """A relative change with its sign."""
    return NOT_KNOWN if value is None or not math.isfinite(value) else minus(f"{100 * value:+.{_places(value)}f}%")


def difference(value: float | None, unit: str, currency: str = "") -> str:
    """An absolute change with its sign; of shares in percentage points."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    sign = "+" if value > 0 else "−" if value < 0 else ""
    if unit in ("share", "customers"):
        return f"{sign}{_digits(abs(100 * value))} points"
    return f"{sign}{amount(abs(value), unit, currency)}"


def between(low: str, high: str) -> str:
    """An interval of two figures that are told already."""
    return NOT_KNOWN if NOT_KNOWN in (low, high) else f"{low} … {high}"


def tick(value: float, percent: bool = False) -> str:
    """Of an axis of changes: a sign, and no more digits than it takes."""
    if not value:
        return "0"
    return minus(f"{100 * value:+.4g}%" if percent else f"{value:+,.4g}")


def chance(p: float | None) -> str:
    """A p-value."""
    if p is None or math.isnan(p):
        return NOT_KNOWN
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def whole(n: float | None) -> str:
    return NOT_KNOWN if n is None else f"{n:,.0f}"


def moment(at: datetime | None) -> str:
    return DASH if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def minus(text: str) -> str:
    """Hyphens that stand for a minus as one."""
    return text.replace("-", "−")


def _digits(value: float) -> str:
    """Three or four significant digits, and no exponent where people would not use one."""
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1_000:
        return f"{value:,.0f}"
    if size < 0.0001:
        return f"{value:.2g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(size))) if size < 100 else 1}f}"


def _places(relative: float) -> int:
    return 1 if abs(relative) >= 0.01 else 2
