"""Features made again from nothing but the events before each instant, which no snapshot has a part in.

The way that training and serving read features adds what happened today to stored whole days. This one reads the log
alone, and cuts it first: what it says differently was not known then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.definitions import FeatureSet
from features.live import Instant, feature_table
from features.log import LogEvent

MOST_EVENTS = 500_000  # that are read; rows beyond are not made again
COLUMNS = "event_type, offer_id, placement_id, channel, category, value, currency"
ProfilesAt = Callable[[Sequence[str], int], list[dict[str, Any]]]


def sampled(n: int, at_most: int, seed: int) -> NDArray[np.int64]:
    """Positions of `at_most` of n rows by lot, ascending."""
    return np.sort(np.random.default_rng(seed).choice(n, min(n, at_most), replace=False)).astype(np.int64)


def customers_as_of(
    db: duckdb.DuckDBPyConnection,
    features: FeatureSet,
    profiles_at: ProfilesAt,
    customers: Sequence[str],
    us: NDArray[np.int64],
) -> dict[str, list[Any]]:
    """One list per customer feature, a value per row; rows whose events are too many to read are cut off the end.

    `db` has the views `lake` and `identities` of `training.dataset.open_log`. A visitor counts as the customer from the
    instant of the join on, and not a moment before.
    """
    asked = pd.DataFrame({"row": np.arange(len(us)), "customer_id": np.asarray(customers, object), "until_us": us})
    db.register("asked", asked)
    # fmt: off
    sql = (
        "WITH keys AS (SELECT row, customer_id AS key, until_us FROM asked UNION ALL "
        "SELECT row, alias AS key, until_us FROM asked JOIN identities ON known = customer_id "
        "AND alias_until_us <= until_us) "
        f"SELECT row, epoch_us(occurred_at) AS at_us, {COLUMNS} FROM lake JOIN keys ON lake.customer_id = key "
        f"WHERE epoch_us(occurred_at) < until_us ORDER BY row, at_us, event_id LIMIT {MOST_EVENTS + 1}"
    )
    # fmt: on
    table = db.sql(sql).to_arrow_table()
    db.unregister("asked")
    columns = [table[name].to_pylist() for name in table.column_names]
    by_row: list[list[LogEvent]] = [[] for _ in range(len(us))]
    for row, at, kind, offer, placement, channel, category, value, currency in zip(*columns, strict=True):
        by_row[row].append(
            LogEvent(0, "", kind, "", at, None, offer, placement, None, channel, category, value, currency, "{}")
        )
    n = len(us) if len(columns[0]) <= MOST_EVENTS else int(columns[0][-1])  # the last row's may be incomplete
    profile = [family for family in features.families if family.name == "profile"]
    told = [feature.name for family in profile for feature in family.features]
    instants = [Instant(None, by_row[row], (None,) * len(told), int(us[row])) for row in range(n)]
    found = {name: list(values) for name, values in feature_table(features, "customer", instants).items()}
    if told:
        known: list[Mapping[str, Any]] = [profiles_at([customers[row]], int(us[row]))[0] for row in range(n)]
        found |= {name: [of[name] for of in known] for name in told}
    return found
