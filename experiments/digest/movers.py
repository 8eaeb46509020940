"""Offers that earned much more, or much less, than the week before, and whether they are liked any differently."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from experiments.digest.week import Week
from experiments.statistics.corrections import benjamini_hochberg
from experiments.statistics.proportions import exact
from experiments.tables import Tables
from features.events import to_us

ALPHA = 0.05
TOP = 5  # each way


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one offer in one week."""

    shown: int  # impressions
    accepted: int  # acceptances that came in this week, whenever the offer was shown
    value: float | None  # of these, as the catalogue has it now; None: the catalogue does not know the offer
    judged: int  # impressions whose attribution window ended in this week
    judged_accepted: int
    dismissed: int  # of the week's impressions, up to its end


class Mover(msgspec.Struct, frozen=True, kw_only=True):
    """One offer. `rate` is accepted among judged impressions; None without any."""

    offer_id: str
    now: Counts
    before: Counts
    gained: float | None  # value
    rate: float | None = None
    rate_before: float | None = None
    rate_low: float | None = None  # of the difference, at 95 %
    rate_high: float | None = None
    p_value: float | None = None  # of the rate; impressions are taken as independent
    p_adjusted: float | None = None  # Benjamini-Hochberg over all offers


class Movers(msgspec.Struct, frozen=True, kw_only=True):
    up: tuple[Mover, ...]  # the largest gain first
    down: tuple[Mover, ...]
    changed: tuple[Mover, ...]  # whose rate changed for sure, whatever they earned
    n_offers: int  # shown or accepted in either week


def movers(tables: Tables, week: Week, top: int = TOP) -> Movers:
    """Over what `impressions` made."""
    counted = _counted(tables, week)
    found = _adjusted([_mover(offer_id, now, before) for offer_id, now, before in counted])
    ranked = sorted((one for one in found if one.gained), key=lambda one: (-(one.gained or 0.0), one.offer_id))
    return Movers(
        up=tuple(one for one in ranked[:top] if (one.gained or 0) > 0),
        down=tuple(one for one in ranked[::-1][:top] if (one.gained or 0) < 0),
        changed=tuple(one for one in found if one.p_adjusted is not None and one.p_adjusted <= ALPHA),
        n_offers=len(found),
    )


def _counted(tables: Tables, week: Week) -> list[tuple[str, Counts, Counts]]:
    parts = []
    for one in (week, week.before):
        since, until = to_us(one.since), to_us(one.until)
        here, ended = f"us >= {since} AND us < {until}", f"ends_us >= {since} AND ends_us < {until}"
        parts += [
            f"count(*) FILTER ({here})",
            f"count(*) FILTER (accepted_us >= {since} AND accepted_us < {until})",
            f"count(*) FILTER ({ended})",
            f"count(accepted_us) FILTER ({ended})",
            f"count(*) FILTER ({here} AND dismissed_us < {until})",
        ]
    rows = tables.db.execute(
        f"SELECT s.offer_id, any_value(o.offer_value), {', '.join(parts)} FROM shown s "
        "LEFT JOIN offers o ON s.offer_id = o.offer_id GROUP BY 1 ORDER BY 1"
    ).fetchall()
    made = [
        (str(offer_id), _counts(numbers[:5], value), _counts(numbers[5:], value)) for offer_id, value, *numbers in rows
    ]
    return [one for one in made if any(each.shown or each.accepted for each in one[1:])]


def _counts(numbers: Sequence[int], value: float | None) -> Counts:
    shown, accepted, judged, judged_accepted, dismissed = numbers
    return Counts(
        shown=shown,
        accepted=accepted,
        value=None if value is None else accepted * value,
        judged=judged,
        judged_accepted=judged_accepted,
        dismissed=dismissed,
    )


def _mover(offer_id: str, now: Counts, before: Counts) -> Mover:
    gained = None if now.value is None or before.value is None else now.value - before.value
    found = Mover(offer_id=offer_id, now=now, before=before, gained=gained, rate=_rate(now), rate_before=_rate(before))
    if found.rate is None or found.rate_before is None:
        return found
    tested = exact(before.judged, found.rate_before, now.judged, found.rate, ALPHA)
    return msgspec.structs.replace(found, rate_low=tested.low, rate_high=tested.high, p_value=tested.p_value)


def _rate(one: Counts) -> float | None:
    return one.judged_accepted / one.judged if one.judged else None


def _adjusted(found: Sequence[Mover]) -> list[Mover]:
    p_values = [None if one.p_value is None or math.isnan(one.p_value) else one.p_value for one in found]
    return [
        msgspec.structs.replace(one, p_adjusted=p) for one, p in zip(found, benjamini_hochberg(p_values), strict=True)
    ]
