"""A simulated shop as a log would hold it: what an A/A of every metric is made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.tables import Tables, tables_of
from features.catalogue import Offer, Treatment

SEED = 20_260_302
START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 45  # after the first exposure


def shop(n: int) -> Tables:
    """Customers who differ in how often they come, click, buy and answer; two weeks before and 45 days after.

    All are exposed under experiment `aa` within the first day.
    """
    rng = np.random.default_rng(SEED)
    who = np.array([f"c{i}" for i in range(n)])
    exposed = rng.uniform(0, 1, n)
    rate, taste, patience = rng.gamma(1.5, 0.1, n), rng.beta(2, 12, n), rng.beta(1, 15, n)
    visits = _at_random(rng, rate * 59, -14.0, 45.0)
    seen = np.repeat(np.arange(len(visits)), rng.integers(1, 4, len(visits)))
    person, when = visits["i"].to_numpy()[seen], visits["day"].to_numpy()[seen] + rng.uniform(1e-4, 1e-3, len(seen))
    decision = np.array([f"d{i}" for i in range(len(seen))])
    clicked = rng.random(len(seen)) < taste[person]
    accepted = clicked & (rng.random(len(seen)) < 0.4)
    dismissed = ~clicked & (rng.random(len(seen)) < patience[person])
    bought = _at_random(rng, rate * 59 * 0.3, -14.0, 45.0)
    answers = _at_random(rng, rng.binomial(1, 0.3, n), 0.0, 45.0)
    gone = np.flatnonzero(rng.random(n) < 0.05)
    left = np.flatnonzero(rng.random(n) < 0.03)

    def events(kind: str, i: NDArray[np.int64], day: Any, **more: Any) -> pd.DataFrame:
        return pd.DataFrame(
            {"event_type": kind, "customer_id": who[i], "occurred_at": _times(day + exposed[i]), **more}
        )

    def of_offer(kind: str, mask: NDArray[np.bool_], later: float) -> pd.DataFrame:
        return events(kind, person[mask], when[mask] + later, decision_id=decision[mask], offer_id="o")

    value = np.exp(rng.normal(3, 0.8, len(bought))).round(2)
    scores = [
        {"nps": int(a), "csat": int(b), "ces": int(c)}
        for a, b, c in zip(*(rng.integers(lo, hi, len(answers)) for lo, hi in ((0, 11), (1, 6), (1, 8))), strict=True)
    ]
    table = pd.concat(
        [
            events("visit", visits["i"].to_numpy(), visits["day"].to_numpy()),
            of_offer("impression", np.ones(len(seen), dtype=bool), 0.0),
            of_offer("click", clicked, 1e-4),
            of_offer("accept", accepted, 2e-4),
            of_offer("dismiss", dismissed, 1e-4),
            events("purchase", bought["i"].to_numpy(), bought["day"].to_numpy(), value=value, currency="EUR"),
            events("feedback", answers["i"].to_numpy(), answers["day"].to_numpy(), properties=_json(scores)),
            events("cancel", gone, rng.uniform(0, 25, len(gone))),
            events("opt_out", left, rng.uniform(0, 40, len(left))),
        ],
        ignore_index=True,
    )
    exposures = pd.DataFrame(
        {"experiment_id": "aa", "unit_id": who, "customer_id": who, "variant": "a", "exposed_at": _times(exposed)}
    )
    offer = Offer(
        offer_id="o",
        name="o",
        value=10.0,
        currency="EUR",
        treatments=(Treatment(treatment_id="o/a"),),
        status="approved",
    )
    return tables_of(events=table, exposures=exposures, offers=(offer,))


def _at_random(rng: np.random.Generator, mean: Any, since: float, until: float) -> pd.DataFrame:
    """So many moments per customer: a Poisson count (or exactly the count, of zeros and ones)."""
    counts = np.asarray(mean) if np.asarray(mean).dtype.kind == "i" else rng.poisson(mean)
    i = np.repeat(np.arange(len(counts)), counts)
    return pd.DataFrame({"i": i, "day": rng.uniform(since, until, len(i))})


def _json(rows: Sequence[object]) -> list[str]:
    return [json.dumps(row) for row in rows]


def _times(days: Any) -> Any:
    return pd.to_datetime(START) + pd.to_timedelta(np.asarray(days) * 86_400_000_000, unit="us").round("us")
