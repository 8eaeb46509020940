"""Why nothing could be computed, as whoever reads a report should hear it: the reason itself, not what is beside it."""

from __future__ import annotations

import msgspec

from experiments.statistics.effect import Effect

BESIDE = ("not adjusted for the pre-period", "a share with values other than 0 and 1")  # how, not why not
NOTHING = "nothing to divide by: the denominator is 0"
NO_WINDOW = "no attribution window of an impression has ended yet"


def why_unknown(effect: Effect) -> str:
    """The flags that say why; `no data` if none does."""
    return "; ".join(flag for flag in effect.flags if not flag.startswith(BESIDE)) or "no data"


def of_windows(effect: Effect) -> Effect:
    """Of a metric that counts impressions once their attribution window has ended: what a denominator of 0 means."""
    flags = tuple(flag.replace(NOTHING, NO_WINDOW) for flag in effect.flags)
    return effect if flags == effect.flags else msgspec.structs.replace(effect, flags=flags)
