"""Which impression an outcome belongs to, and which impressions were watched for long enough to be judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from features.catalogue import Offer
from features.data_settings import Attribution
from features.events import US_PER_DAY

Us = NDArray[np.int64]
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Touches:
    """Impressions, or outcomes, in time order. All shapes (n,)."""

    customer: NDArray[np.int64]
    offer: NDArray[np.int64]
    decision: NDArray[np.int64]  # -1: none
    occurred_us: Us


def windows_us(offers: list[Offer], rules: Attribution) -> Us:
    """How long an outcome of each offer may follow its impression; (n_offers,)."""
    days = [rules.window_days] * len(offers)
    if rules.window_attribute is not None:
        own = [offer.attributes.get(rules.window_attribute) for offer in offers]
        days = [float(o) if isinstance(o, int | float) else rules.window_days for o in own]
    return (np.array(days, dtype=np.float64) * US_PER_DAY).astype(np.int64)


def watched_us(windows: Us, rules: Attribution) -> Us:
    """How long each offer's impressions are watched: the window, cut at `at_most_days`."""
    if rules.at_most_days is None:
        return windows
    return np.minimum(windows, int(rules.at_most_days * US_PER_DAY))


def match(impressions: Touches, outcomes: Touches, windows: Us, rules: Attribution) -> Us:
    """The instant of each impression's outcome, `NEVER` if it has none; (n_impressions,).

    Windows are not cut here: an outcome belongs to the impression that earned it even when it came too late to count.
    Each outcome is used once, each impression has at most one. An outcome may share its impression's instant.
    """
    found = np.full(len(impressions.customer), NEVER, dtype=np.int64)
    ends = impressions.occurred_us + windows[impressions.offer]
    used = np.zeros(len(outcomes.customer), dtype=np.bool_)
    oldest = rules.matching == "fifo"
    if rules.matching == "decision":
        linked = outcomes.decision >= 0
        _match_groups(impressions, outcomes, linked, ("decision", "offer"), ends, found, oldest=True)
        used |= linked
    _match_groups(impressions, outcomes, ~used, ("customer", "offer"), ends, found, oldest=oldest)
    return found


def _match_groups(
    impressions: Touches,
    outcomes: Touches,
    takes_part: NDArray[np.bool_],
    key: tuple[str, str],
    ends: Us,
    found: Us,
    *,
    oldest: bool,
) -> None:
    first, second = (getattr(impressions, name) for name in key)
    size = np.int64(max(int(second.max(initial=0)), int(getattr(outcomes, key[1]).max(initial=0))) + 1)
    group = np.where(first >= 0, first * size + second, -1)
    of_outcome = getattr(outcomes, key[0]) * size + getattr(outcomes, key[1])
    order = np.argsort(group, kind="stable")  # time order stays within a group
    sorted_groups = group[order]
    mine = np.flatnonzero(takes_part)
    starts = np.searchsorted(sorted_groups, of_outcome[mine], "left")
    stops = np.searchsorted(sorted_groups, of_outcome[mine], "right")
    _match(order, starts, stops, outcomes.occurred_us[mine], impressions.occurred_us, ends, found, oldest)


@njit(nogil=True, cache=True)
def _match(  # type: ignore[no-untyped-def]
    order, starts, stops, outcome_us, impression_us, ends, found, oldest
):
    for o in range(len(outcome_us)):
        n = stops[o] - starts[o]
        for step in range(n):
            i = order[starts[o] + step] if oldest else order[stops[o] - 1 - step]
            if impression_us[i] <= outcome_us[o] <= ends[i] and found[i] == NEVER:
                found[i] = outcome_us[o]
                break


def labels(impressions: Touches, outcome_us: Us, watched: Us, as_of_us: int) -> tuple[Any, Any]:
    """(accepted within the watched time, watched to its end by `as_of_us`), both bool (n_impressions,)."""
    ends = impressions.occurred_us + watched[impressions.offer]
    return outcome_us <= ends, ends <= as_of_us
