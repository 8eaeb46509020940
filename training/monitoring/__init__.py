"""Watching what serves: drift, calibration on matured outcomes, coverage, headroom, ages; from the log alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.home import Home
from training.monitoring.kept import last_watched

if TYPE_CHECKING:
    from training.needed import Drift

MOST_NAMED = 3


def drift_verdict(home: Home) -> Drift | None:
    """What the last `nbo monitor` says of drift; None where nobody watched, or it could not tell."""
    from training.monitoring.checks import DRIFT
    from training.needed import Drift

    seen = last_watched(home)
    if seen is None:
        return None
    lines = [line for line in seen.lines if line.check in DRIFT and line.verdict != "unknown"]
    if not lines:
        return None
    moved = [line for line in lines if line.verdict == "crossed"]
    names = ", ".join(f"{line.check} of {line.of or 'all'}" for line in moved[:MOST_NAMED])
    more = f" and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
    said = f"{names}{more} crossed" if moved else f"none of {len(lines)} figures crossed"
    return Drift(bool(moved), said, seen.at)
