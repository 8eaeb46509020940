"""Segments that take an offer more, or less, often than expected, corrected for having looked at all of them.

Expected is what the model said when it decided: the sum of the logged p_accept. If p_accept is right, outcomes are
independent coins with these chances; their sum has lighter tails than as many coins with the mean chance, so the
binomial test holds and is a little cautious. Where no decision was logged, expected is what the offer's appeal and the
segment's readiness make together (`main_effects.py`), and a residual is tested by the normal law.

Source: Hoeffding 1956, "On the distribution of the number of successes in independent trials", theorem 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from experiments.digest.main_effects import fit
from experiments.digest.week import Week
from experiments.statistics.corrections import benjamini_hochberg
from experiments.tables import Tables
from experiments.units import BUILT_IN, UNKNOWN, quoted
from features.events import to_us

ALPHA = 0.05
FEWEST = 30  # impressions of a look
FEWEST_EXPECTED = 3.0  # acceptances of a look; what was observed must not choose the looks
FEWEST_NORMAL = 5.0  # acceptances and refusals that a normal law needs; Cochran 1954
MOST_LEVERAGE = 0.99  # of a look; beyond it the fit has followed the count
MOST_VALUES = 20  # of a segment; numbers with more are cut into quarters, others left out
Basis = Literal["p_accept", "main_effects"]


class Liking(msgspec.Struct, frozen=True, kw_only=True):
    """How one segment took one offer."""

    segment: str
    value: str
    offer_id: str
    n: int  # impressions whose attribution window ended in the week
    accepted: int
    expected: float  # acceptances
    difference: float  # accepted / n − expected / n
    low: float  # of the difference, at 95 %, of this look alone
    high: float
    p_value: float
    p_adjusted: float  # Benjamini-Hochberg over all looks


class Likings(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; `basis` None: there was nothing to look at, and `why` says so."""

    basis: Basis | None
    why: str | None = None
    segments: tuple[str, ...] = ()  # looked at
    skipped: tuple[str, ...] = ()  # with too many values
    n_looks: int = 0
    n_small: int = 0  # combinations with too few impressions or expected acceptances, or nothing left to test
    n_impressions: int = 0  # with a p_accept
    accepted: int = 0
    expected: float | None = None  # of all; far from `accepted`, the model is wrong for everybody
    p_overall: float | None = None
    likes: tuple[Liking, ...] = ()  # the surest first
    rejects: tuple[Liking, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """One segment, or everybody, and one offer, or all."""

    segment: str
    value: str
    offer_id: str
    n: int
    accepted: int
    expected: float
    leverage: float = 0.0  # of `expected`, where it was fitted


def likings(tables: Tables, week: Week) -> Likings:
    """Over what `impressions` made."""
    chosen, skipped = _segments(tables)
    basis: Basis = "p_accept" if _n(tables, week, "p_accept IS NOT NULL") else "main_effects"
    if basis == "main_effects" and not _n(tables, week, "TRUE"):
        return Likings(basis=None, why="no impression's attribution window ended in this week", skipped=skipped)
    rows: list[Seen] = []
    for name, (value, join) in chosen.items():
        seen = _seen(tables, week, basis, name, value, join)
        rows += seen if basis == "p_accept" else _fitted(seen)
    looks = [one for one in rows if _is_enough(one, basis)]
    tested = _tested(looks, basis)
    ((n, accepted, expected),) = tables.db.execute(
        f"SELECT count(*), count(accepted_us), sum(p_accept) FROM shown WHERE {_judged(week, basis)}"
    ).fetchall()
    sure = sorted((one for one in tested if one.p_adjusted <= ALPHA), key=lambda one: (one.p_value, one.offer_id))
    return Likings(
        basis=basis,
        segments=tuple(chosen),
        skipped=skipped,
        n_looks=len(looks),
        n_small=len(rows) - len(looks),
        n_impressions=n,
        accepted=accepted,
        expected=expected if basis == "p_accept" else None,
        p_overall=binomial(n, accepted, expected)[0] if basis == "p_accept" else None,
        likes=tuple(one for one in sure if one.difference > 0),
        rejects=tuple(one for one in sure if one.difference < 0),
    )


def binomial(n: int, accepted: int, expected: float) -> tuple[float, float, float]:
    """(p-value, low, high): two-sided, of `accepted` among n when `expected` were, and Clopper-Pearson's interval."""
    from scipy.stats import beta, binom

    mean = min(max(expected / n, 0.0), 1.0)
    tail = min(float(binom.cdf(accepted, n, mean)), float(binom.sf(accepted - 1, n, mean)))
    low = float(beta.ppf(ALPHA / 2, accepted, n - accepted + 1)) if accepted else 0.0
    high = float(beta.ppf(1 - ALPHA / 2, accepted + 1, n - accepted)) if accepted < n else 1.0
    return min(1.0, 2 * tail), low, high


def _is_enough(one: Seen, basis: Basis) -> bool:
    if basis == "p_accept":
        return one.n >= FEWEST and one.expected >= FEWEST_EXPECTED
    return (
        one.n >= FEWEST and min(one.expected, one.n - one.expected) >= FEWEST_NORMAL and one.leverage <= MOST_LEVERAGE
    )


def _tested(looks: Sequence[Seen], basis: Basis) -> list[Liking]:
    tests = [_exactly(one) if basis == "p_accept" else _normally(one) for one in looks]
    adjusted = benjamini_hochberg([p for p, _, _ in tests])
    return [
        Liking(
            segment=one.segment,
            value=one.value,
            offer_id=one.offer_id,
            n=one.n,
            accepted=one.accepted,
            expected=one.expected,
            difference=(one.accepted - one.expected) / one.n,
            low=low,
            high=high,
            p_value=p,
            p_adjusted=1.0 if q is None else q,
        )
        for one, (p, low, high), q in zip(looks, tests, adjusted, strict=True)
    ]


def _exactly(one: Seen) -> tuple[float, float, float]:
    """(p-value, and the interval of the difference of rates)."""
    p, low, high = binomial(one.n, one.accepted, one.expected)
    return p, low - one.expected / one.n, high - one.expected / one.n


def _normally(one: Seen) -> tuple[float, float, float]:
    """The same of a residual."""
    from scipy.stats import norm

    rate = one.expected / one.n
    difference = one.accepted / one.n - rate
    error = math.sqrt(rate * (1 - rate) * (1 - one.leverage) / one.n)
    reach = float(norm.isf(ALPHA / 2)) * error
    return float(2 * norm.sf(abs(difference) / error)), difference - reach, difference + reach


def _fitted(rows: Sequence[Seen]) -> list[Seen]:
    """With what is expected of segments without tastes."""
    if not rows:
        return []
    values, offers = [one.value for one in rows], [one.offer_id for one in rows]
    found = fit(values, offers, [one.n for one in rows], [one.accepted for one in rows])
    return [
        replace(one, expected=one.n * chance, leverage=leverage)
        for one, chance, leverage in zip(rows, found.chance.tolist(), found.leverage.tolist(), strict=True)
    ]


def _judged(week: Week, basis: Basis) -> str:
    ended = f"ends_us >= {to_us(week.since)} AND ends_us < {to_us(week.until)}"
    return f"{ended} AND p_accept IS NOT NULL" if basis == "p_accept" else ended


def _n(tables: Tables, week: Week, condition: str) -> int:
    ((n,),) = tables.db.execute(
        f"SELECT count(*) FROM shown WHERE {_judged(week, 'main_effects')} AND {condition}"
    ).fetchall()
    return int(n)


def _seen(tables: Tables, week: Week, basis: Basis, name: str, value: str, join: str) -> list[Seen]:
    rows = tables.db.execute(
        f"SELECT {value} AS value, s.offer_id, count(*), count(s.accepted_us), sum(s.p_accept) FROM "
        f"(SELECT * FROM shown WHERE {_judged(week, basis)}) s {join} GROUP BY 1, 2 ORDER BY 1, 2"
    ).fetchall()
    return [
        Seen(name, str(one), str(offer), n, accepted, expected or 0.0) for one, offer, n, accepted, expected in rows
    ]


def _segments(tables: Tables) -> tuple[dict[str, tuple[str, str]], tuple[str, ...]]:
    """SQL of each segment's value and of what to join for it; and the names of those with too many values.

    A customer counts with what was known at the impression.
    """
    found = {name: (sql.replace("person", "s.person"), "") for name, sql in BUILT_IN.items()}
    skipped = []
    names = [name for name, view in tables.segments.items() if view == "customers"]
    if names:
        tables.need("customers")
    for name in names:
        value = _value(tables, name)
        if value is None:
            skipped.append(name)
        else:
            known = f"(SELECT customer_id, us, {quoted(name)} AS known FROM customers WHERE {quoted(name)} IS NOT NULL)"
            join = f"ASOF LEFT JOIN {known} c ON s.person = c.customer_id AND s.us >= c.us"
            found[name] = f"coalesce({value}, '{UNKNOWN}')", join
    return found, tuple(skipped)


def _value(tables: Tables, name: str) -> str | None:
    """The value itself, or the quarter of the customers that a number is in; None if there are too many values."""
    column = quoted(name)
    number = f"TRY_CAST({column} AS DOUBLE)"
    ((n, n_known, n_numbers),) = tables.db.execute(
        f"SELECT count(DISTINCT {column}), count({column}), count({number}) FROM customers"
    ).fetchall()
    if n <= MOST_VALUES:
        return "c.known"
    if n_numbers < n_known:
        return None
    quarters = ", ".join(f"quantile_disc({number}, {share})" for share in (0.25, 0.5, 0.75))
    ((*edges,),) = tables.db.execute(f"SELECT {quarters} FROM customers WHERE isfinite({number})").fetchall()
    cuts = sorted(set(edges))
    cases = "".join(
        f" WHEN CAST(c.known AS DOUBLE) <= {edge!r} THEN '{_range(low, edge)}'"
        for low, edge in zip([None, *cuts], cuts, strict=False)
    )
    return f"CASE WHEN c.known IS NULL THEN NULL{cases} ELSE 'above {cuts[-1]:g}' END"


def _range(low: float | None, high: float) -> str:
    return f"up to {high:g}" if low is None else f"above {low:g} to {high:g}"
