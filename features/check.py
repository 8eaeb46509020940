"""Whether what serving reads is what training would be told, feature by feature, for a sample of customers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from features.compute import current_features
from features.compute.files import files_of
from features.duck import hush
from features.errors import NboError
from features.events import US_PER_DAY, from_us, to_us
from features.facts import Facts
from features.feast_repo import open_feast
from features.history import customer_features_at
from features.home import Home
from features.identities import joined_row
from features.live import features_of
from features.log import Log, LogEvent
from features.log_export import exported
from features.online import VIEWS, Snapshot, SqliteOnlineStore, open_online
from features.sqlite_log import SqliteLog

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One feature of one customer on which two reads disagree."""

    customer_id: str
    feature: str
    online: Any
    offline: Any


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was compared, what differed, and how old the features are."""

    n_customers: int
    n_features: int
    n_mismatches: int
    mismatches: tuple[Mismatch, ...]  # the first few
    n_parity: int  # customers whose stored columns were compared with Feast's own read
    day: str  # of the snapshot
    age_days: float  # since the snapshot, as of the instant asked about
    expired: tuple[str, ...]  # features past their time to live by then

    @property
    def ok(self) -> bool:
        return self.n_mismatches == 0 and self.n_customers > 0 and not self.expired


def check(home: Home, facts: Facts, n: int = 1000, *, now_us: int | None = None, seed: int = 0) -> CheckReport:
    """Compare online with offline right after the instant of the last materialization; ages are as of `now_us`."""
    online = open_online(home, facts)
    if online is None or online.snapshot is None:
        raise NboError("nothing is online yet: run `nbo features materialize`")
    snapshot = online.snapshot
    if snapshot.feature_set != current_features(facts).digest:
        raise NboError("the features were built anew with another definition: run `nbo features apply` and materialize")
    customers = sample(home, facts, online, n, seed)
    log = SqliteLog(home.log_db)
    try:
        served = [_served(facts, log, online, snapshot, customer) for customer in customers]
    finally:
        log.close()
    told = _told(home, facts, customers, snapshot.until_us + 1)
    mismatches = [
        Mismatch(customer, name, one[name], other[name])
        for customer, one, other in zip(customers, served, told, strict=True)
        for name in other
        if name in one and not same(one[name], other[name])
    ]
    parity = customers[:100]
    mismatches += _parity(home, facts, online, parity)
    online.close()
    age_us = (snapshot.until_us if now_us is None else now_us) - snapshot.as_of_us
    expired = [f.name for f in online.feature_set.features if f.ttl_days and age_us > f.ttl_days * US_PER_DAY]
    return CheckReport(
        len(customers), len(online.feature_set.customer), len(mismatches), tuple(mismatches[:MOST_SHOWN]), len(parity),
        snapshot.day, age_us / US_PER_DAY, tuple(expired),
    )  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal, where NaN equals NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def sample(home: Home, facts: Facts, online: SqliteOnlineStore, n: int, seed: int = 0) -> list[str]:
    """Up to `n` of the customers in the snapshot or with a profile, ordered by id."""
    assert online.snapshot is not None
    files = files_of(home, online.feature_set)
    path = files.snapshot("customer", online.snapshot.day)
    with duckdb.connect() as db:
        hush(db)
        rows = db.execute("SELECT customer_id FROM read_parquet(?)", [str(path)]).fetchall()
    known = sorted({row[0] for row in rows} | {row[0] for row in facts.profile_history()})
    if len(known) <= n:
        return known
    chosen = np.random.default_rng(seed).choice(len(known), n, replace=False)
    return [known[at] for at in sorted(chosen.tolist())]


def _served(facts: Facts, log: Log, online: SqliteOnlineStore, snapshot: Snapshot, customer: str) -> dict[str, Any]:
    """As serving reads it, of what the lake also holds."""
    joined = facts.identities().get(customer, ())
    keys = [customer, *(alias for alias, joined_us in joined if joined_us <= snapshot.until_us + 1)]
    stored = joined_row(online.feature_set, [online.customer(key) for key in keys])
    since_us = stored.as_of_us if stored is not None else snapshot.as_of_us
    held = exported(facts).position
    happened = [event for key in keys for event in log.recent(key, since_us, snapshot.log_position)]
    recent = [event for event in happened if _is_held(event, snapshot, held)]
    profile = facts.profile(customer)
    found = features_of(online.feature_set, stored, recent, profile, snapshot.until_us + 1)
    if profile is not None and profile.updated_at is not None and to_us(profile.updated_at) > snapshot.until_us:
        return {f.name: found[f.name] for f in online.feature_set.customer if f.family != "profile"}  # told since then
    return found


def _is_held(event: LogEvent, snapshot: Snapshot, held: int) -> bool:
    return snapshot.as_of_us <= event.occurred_us <= snapshot.until_us and event.position <= held


def _told(home: Home, facts: Facts, customers: Sequence[str], at_us: int) -> list[dict[str, Any]]:
    """As training reads it."""
    rows = pd.DataFrame({"customer_id": list(customers), "event_timestamp": pd.Timestamp(from_us(at_us))})
    return [dict(row) for row in customer_features_at(home, facts, rows).to_dict("records")]


def _parity(home: Home, facts: Facts, online: SqliteOnlineStore, customers: Sequence[str]) -> list[Mismatch]:
    """Where our read of the stored columns differs from `get_online_features`."""
    columns = [column.name for column in online.feature_set.stored("customer")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        answer = open_feast(home, facts).get_online_features(
            features=[f"{VIEWS['customer']}:{name}" for name in columns],
            entity_rows=[{"customer_id": customer} for customer in customers],
        )
    feast = answer.to_dict()
    differing = []
    for at, customer in enumerate(customers):
        stored = online.customer(customer)
        ours = stored.columns if stored is not None else [None] * len(columns)
        for name, value in zip(columns, ours, strict=True):
            theirs = feast[name][at]
            if not same(value, None if theirs == [] else theirs):
                differing.append(Mismatch(customer, name, value, theirs))
    return differing
