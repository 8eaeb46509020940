"""From the log to who was contacted and who was kept free of it: moments of decisions, and who stayed afterwards.

A moment is a customer's first decision in a span as long as the outcome takes, so that nobody's outcomes overlap.
Whether somebody is served or held out was decided by chance; whether somebody served was shown a retention offer was
decided by the policy, from the features. Both stand before the outcome begins, at the end of the moment's day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.data_settings import Churn
from features.events import US_PER_DAY, to_us
from features.experiment import HELD_OUT, HOLDOUT, SERVED, Phase
from features.facts import Facts
from features.home import Home
from training.dataset import Log

FOREVER_US = np.iinfo(np.int64).max
COLUMNS = ("customer_id", "who", "us", "phase", "served", "shown", "stayed")


@dataclass(frozen=True)
class Moments:
    """`rows`, by time, of `COLUMNS`; `customer_id` is the key that features are read under, `who` the person."""

    rows: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    def count(self, served: bool, shown: bool) -> int:
        return int(((self.rows["served"] == served) & (self.rows["shown"] == shown)).sum())


def read_moments(
    home: Home, facts: Facts, log: Log, phases: Sequence[Phase], retention: Sequence[str], rules: Churn, since_us: int
) -> Moments:
    """Moments since `since_us` whose outcome is known; whoever met both variants in a phase is left out of it.

    `retention` are ids of offers. Stayed: some activity in (t + gap, t + gap + horizon], t the end of the day.
    """
    met = [str(home.lake / file.path) for file in facts.lake_files("exposures")]
    if not (met and log.has_decisions):
        return Moments(pd.DataFrame(columns=list(COLUMNS)))
    log.db.read_parquet(met, hive_partitioning=False).create_view("exposures", replace=True)
    spans = pd.DataFrame(
        [(p.number, to_us(p.starts_at), FOREVER_US if p.stops_at is None else to_us(p.stops_at)) for p in phases],
        columns=["phase", "starts_us", "stops_us"],
    )
    log.db.register("phases", spans)
    ahead = rules.gap_days + rules.horizon_days
    frame = log.frame(
        _SQL,
        HOLDOUT,
        log.as_of_us,
        SERVED,
        [SERVED, HELD_OUT],
        since_us,
        ahead * US_PER_DAY,
        list(retention),
        list(rules.activity),
        rules.gap_days * US_PER_DAY,
    )
    log.db.unregister("phases")
    return Moments(frame.astype({"served": bool, "shown": bool, "stayed": bool}))


_SQL = f"""
WITH met AS (
    SELECT coalesce(known, customer_id) AS who, phase, min(variant) AS variant
    FROM exposures LEFT JOIN identities ON customer_id = alias
    WHERE experiment_id = $1 AND epoch_us(exposed_at) <= $2
    GROUP BY ALL HAVING count(DISTINCT variant) = 1 AND list_contains($4, min(variant))
), decided AS (
    SELECT decision_id, coalesce(known, customer_id) AS who, epoch_us(decided_at) AS us,
        CASE WHEN known IS NOT NULL AND epoch_us(decided_at) > alias_until_us THEN known ELSE customer_id END AS key
    FROM decisions LEFT JOIN identities ON customer_id = alias
), moments AS (
    SELECT decision_id, key AS customer_id, decided.who, us, phase, variant = $3 AS served,
        (us // {US_PER_DAY} + 1) * {US_PER_DAY} AS day_end_us
    FROM decided JOIN phases ON us >= starts_us AND us < stops_us JOIN met USING (who, phase)
    WHERE us >= $5 AND day_end_us + $6 <= $2
    QUALIFY row_number() OVER (PARTITION BY who, ($2 - $6 - us) // $6 ORDER BY us, decision_id) = 1
), shown AS (
    SELECT DISTINCT decision_id FROM events JOIN moments USING (decision_id)
    WHERE event_type = 'impression' AND list_contains($7, offer_id) AND events.us < day_end_us
), active AS (
    SELECT DISTINCT moments.decision_id FROM moments JOIN events USING (who)
    WHERE list_contains($8, event_type) AND events.us > day_end_us + $9 AND events.us <= day_end_us + $6
)
SELECT customer_id, who, us, phase, served, decision_id IN (FROM shown) AS shown, decision_id IN (FROM active) AS stayed
FROM moments ORDER BY us, decision_id
"""


def arms(moments: Moments) -> Moments:
    """Those that are compared: served and shown, held out and not shown; a column `treated` more."""
    rows: Any = moments.rows
    return Moments(rows[rows["served"] == rows["shown"]].assign(treated=rows["served"]).reset_index(drop=True))


def designed(moments: Moments, phases: Sequence[Phase]) -> pd.Series | None:
    """P(treated) of each moment of the arms, where chance alone decided it: everybody served was shown a retention
    offer, and nobody held out was. None where the policy had a hand in it.
    """
    if moments.count(True, False) or moments.count(False, True) or not moments.count(True, True):
        return None
    weights = {phase.number: phase.weights[SERVED] for phase in phases}
    return arms(moments).rows["phase"].map(weights)
