"""From the lake to training tables: interactions, impressions with outcomes, customers at risk; all as of an instant.

Only files that the lake lists are read, and nothing that happened after `as_of`. Features are not read here: the
tables say for whom and when, and `features.history` answers what was known then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.attribution import Touches, labels, match, watched_us, windows_us
from features.catalogue import Offer
from features.data_settings import Churn, DataSettings
from features.definitions import FeatureSet
from features.definitions.dsl import Attribute
from features.definitions.profile import attribute_value
from features.duck import hush
from features.errors import NotTrainable
from features.events import US_PER_DAY
from features.facts import Facts
from features.home import Home
from features.live import Instant, feature_table
from training.choices import joined as with_choices
from training.choices import read_choices
from training.interactions import Interactions

CONTEXT = ("channel", "placement_id", "hour", "weekday")


@dataclass(frozen=True)
class Log:
    """The lake's events up to an instant, as one DuckDB view named `events`.

    `customer_id` is the key an event was sent with, `who` the customer whom an anonymous visitor turned out to be by
    the instant; `alias_until_us` is when that became known, after which the key itself is nobody.
    """

    db: duckdb.DuckDBPyConnection
    as_of_us: int
    digest: str  # SHA-256 over the files that were read and the instant
    has_decisions: bool = False  # a view `decisions` beside it: decision_id, payload

    def frame(self, sql: str, *values: Any) -> pd.DataFrame:
        return self.db.execute(sql, values).df()

    def table(self, sql: str, *values: Any) -> pa.Table:
        return self.db.sql(sql, params=values).to_arrow_table()


def open_log(home: Home, facts: Facts, as_of_us: int, n_threads: int = 2) -> Log:
    """`NotTrainable` if the lake is empty."""
    files = facts.lake_files("events")
    if not files:
        raise NotTrainable("every model", "the lake holds no events; run `nbo ingest` first")
    made = facts.lake_files("decisions")
    joined = [
        (alias, customer_id, joined_us)
        for customer_id, aliases in facts.identities().items()
        for alias, joined_us in aliases
        if joined_us <= as_of_us
    ]
    text = "".join(f"{file.path}\t{file.sha256}\n" for file in [*files, *made]) + str(as_of_us)
    if joined:
        text += msgspec.json.encode(joined).decode()
    db = duckdb.connect(config={"threads": n_threads})
    db.execute("SET TimeZone = 'UTC'")
    hush(db)
    paths = [str(home.lake / file.path) for file in files]
    read = db.read_parquet(paths, hive_partitioning=False)
    read.create_view("lake")
    if made:
        decisions = db.read_parquet([str(home.lake / file.path) for file in made], hive_partitioning=False)
        decisions.create_view("decisions")
    columns = zip(*joined, strict=True) if joined else ((), (), ())
    db.register(
        "joined", pd.DataFrame(dict(zip(("alias", "known", "alias_until_us"), columns, strict=True)), dtype=object)
    )
    db.execute(
        "CREATE TABLE identities AS SELECT alias::VARCHAR AS alias, known::VARCHAR AS known, "
        "alias_until_us::BIGINT AS alias_until_us FROM joined"
    )
    db.execute(
        "CREATE VIEW events AS SELECT lake.*, epoch_us(occurred_at) AS us, coalesce(known, customer_id) AS who, "
        "alias_until_us FROM lake LEFT JOIN identities ON customer_id = alias "
        f"WHERE epoch_us(occurred_at) <= {as_of_us:d}"
        if joined
        else "CREATE VIEW events AS SELECT *, epoch_us(occurred_at) AS us, customer_id AS who, "
        f"NULL::BIGINT AS alias_until_us FROM lake WHERE epoch_us(occurred_at) <= {as_of_us:d}"
    )
    return Log(db, as_of_us, hashlib.sha256(text.encode()).hexdigest(), bool(made))


# Interactions


def read_interactions(log: Log, offers: Sequence[Offer], settings: DataSettings) -> Interactions:
    """Positive events with an offer of the catalogue, in time order; events of other offers are left out."""
    weights = settings.recommender.weights
    frame = log.frame(
        "SELECT who AS customer_id, offer_id, event_type, us FROM events "
        "WHERE offer_id IS NOT NULL AND list_contains($1, event_type) ORDER BY us, event_id",
        sorted(weights),
    )
    ordered = tuple(sorted(offers, key=lambda offer: offer.offer_id))
    offer_row = {offer.offer_id: row for row, offer in enumerate(ordered)}
    offer = frame["offer_id"].map(offer_row)
    frame, offer = frame[offer.notna()], offer[offer.notna()]
    customers = sorted(frame["customer_id"].unique())
    customer_row = {customer: row for row, customer in enumerate(customers)}
    return Interactions(
        customers=tuple(customers),
        offers=ordered,
        profiles=[{}] * len(customers),
        customer=frame["customer_id"].map(customer_row).to_numpy(np.int32),
        offer=offer.to_numpy(np.int32),
        weight=frame["event_type"].map(weights).to_numpy(np.float32),
        occurred_us=frame["us"].to_numpy(np.int64),
    )


class ProfilesAt:
    """What the profile features of customers were, at any instant; read as serving reads them."""

    def __init__(self, facts: Facts, feature_set: FeatureSet) -> None:
        families = tuple(family for family in feature_set.families if family.name == "profile")
        self._features = FeatureSet(families, feature_set.currency)
        kinds = [f.value for f in self._features.customer if isinstance(f.value, Attribute)]
        self._versions: dict[str, list[tuple[int, list[float | str | None]]]] = {}
        for customer_id, since_us, body in facts.profile_history():
            known = msgspec.json.decode(body)
            values = [attribute_value(kind.of, known.get(kind.name)) for kind in kinds]
            self._versions.setdefault(customer_id, []).append((since_us, values))
        self._nothing: list[float | str | None] = [None] * len(kinds)

    def __call__(self, customers: Sequence[str], us: int) -> list[dict[str, Any]]:
        """One mapping per customer, from the version strictly before `us`."""
        names = [feature.name for feature in self._features.customer]
        if not names:
            return [{} for _ in customers]
        instants = (Instant(None, (), self._known(customer, us), us) for customer in customers)
        table = feature_table(self._features, "customer", instants)
        return [dict(zip(names, row, strict=True)) for row in zip(*(list(table[name]) for name in names), strict=True)]

    def _known(self, customer: str, us: int) -> list[float | str | None]:
        found = self._nothing
        for since_us, values in self._versions.get(customer, ()):
            if since_us < us:
                found = values
        return found


# Impressions with outcomes


@dataclass(frozen=True)
class Impressions:
    """Mature impressions in time order.

    `rows` has customer_id, offer_id, us, channel, placement_id, is_new, and of `choices` position, chance, at_random.
    """

    rows: pd.DataFrame
    accepted: NDArray[np.bool_]
    known_us: NDArray[np.int64]  # when the window of each had ended, and with it the outcome was known
    n_immature: int
    n_unknown_offer: int
    n_repeated: int = 0  # impressions of a decision's offer after its first, which are left out
    n_mature: int = 0  # of which `rows` are those that were asked for


def read_impressions(
    log: Log, offers: Sequence[Offer], settings: DataSettings, since_us: int, at_most: int | None = None
) -> Impressions:
    """Impressions since `since_us` with their outcomes; those not yet watched to their window's end are left out.

    An offer of a decision that was reported as seen several times counts once. Every impression takes part in finding
    out whose an outcome is; of more than `at_most`, rows come evenly spread over them. Texts stay in Arrow's columns
    until then: as Python's objects those of ten million events would fill gigabytes.
    """
    rules = settings.attribution
    shown = log.table(
        "WITH first AS (SELECT customer_id, min(us) AS first_us FROM events GROUP BY 1) "
        "SELECT customer_id, who, offer_id, decision_id, us, channel, placement_id, us = first_us AS is_new "
        "FROM events JOIN first USING (customer_id) WHERE event_type = 'impression' ORDER BY us, event_id"
    )
    taken = log.table(
        "SELECT who, offer_id, decision_id, us FROM events "
        "WHERE offer_id IS NOT NULL AND list_contains($1, event_type) ORDER BY us, event_id",
        list(rules.outcomes),
    )
    codes, outcomes = _touches(shown, taken, offers)
    known = codes.offer >= 0
    n_unknown = int((~known).sum())
    named = pd.DataFrame({"who": codes.customer, "decision": codes.decision, "offer": codes.offer})[known]
    repeated = np.zeros(len(known), np.bool_)
    repeated[known] = ((named["decision"] >= 0) & named.duplicated()).to_numpy()
    at = np.flatnonzero(known & ~repeated)
    impressions, outcomes = _part(codes, at), _part(outcomes, np.flatnonzero(outcomes.offer >= 0))
    windows = windows_us(list(offers), rules)
    watched = watched_us(windows, rules)
    accepted, mature = labels(impressions, match(impressions, outcomes, windows, rules), watched, log.as_of_us)
    known_us = impressions.occurred_us + watched[impressions.offer]
    recent = impressions.occurred_us >= since_us
    keep = np.flatnonzero(mature & recent)
    n_mature, n_immature = len(keep), int((~mature & recent).sum())
    if at_most is not None:
        keep = keep[thinned(n_mature, at_most)]
    found = shown.drop(["who"]).take(pa.array(at[keep])).to_pandas()
    rows = with_choices(found, read_choices(log))
    return Impressions(rows, accepted[keep], known_us[keep], n_immature, n_unknown, int(repeated.sum()), n_mature)


def thinned(n: int, at_most: int) -> NDArray[np.int64]:
    """Positions of `at_most` of n rows, evenly spread; all if there are no more."""
    return np.arange(n) if n <= at_most else (np.arange(at_most) * n) // at_most


def _touches(shown: pa.Table, taken: pa.Table, offers: Sequence[Offer]) -> tuple[Touches, Touches]:
    """Both with the same numbers for the same customers and decisions; -1 is an offer that is not among these."""
    ids = pa.array([offer.offer_id for offer in offers], pa.string())
    customer, decision = (_numbered(shown[name], taken[name]) for name in ("who", "decision_id"))
    impressions, outcomes = (
        Touches(customer[n], _whole(pc.index_in(table["offer_id"], value_set=ids)), decision[n], _whole(table["us"]))
        for n, table in enumerate((shown, taken))
    )
    return impressions, outcomes


def _numbered(*columns: Any) -> list[NDArray[np.int64]]:
    """Of columns of texts, equal numbers for equal texts; -1 where there is none."""
    together = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    chunks = [_whole(chunk.indices) for chunk in together.dictionary_encode().chunks]
    codes = np.concatenate([np.zeros(0, np.int64), *chunks])
    return np.split(codes, np.cumsum([len(column) for column in columns])[:-1])


def _whole(values: Any) -> NDArray[np.int64]:
    """-1 where there is none."""
    found: NDArray[np.int64] = pc.fill_null(values, -1).to_numpy().astype(np.int64, copy=False)
    return found


def _part(of: Touches, at: NDArray[np.intp]) -> Touches:
    return Touches(of.customer[at], of.offer[at], of.decision[at], of.occurred_us[at])


def context_of(rows: pd.DataFrame) -> dict[str, Any]:
    """The context of impressions: hour and weekday in UTC, Monday is 0, and the instant itself."""
    us = rows["us"].to_numpy(np.int64)
    return {
        "channel": rows["channel"].to_numpy(object),
        "placement_id": rows["placement_id"].to_numpy(object),
        "hour": (us // 3_600_000_000 % 24).astype(np.float64),
        "weekday": ((us // US_PER_DAY + 3) % 7).astype(np.float64),  # 1970-01-01 was a Thursday
        "us": us,
    }


# Customers at risk


@dataclass(frozen=True)
class Risks:
    """Customers at snapshot instants. `rows` has customer_id and us, by time and customer."""

    rows: pd.DataFrame
    churned: NDArray[np.bool_]  # at the horizon that serves
    silent_days: NDArray[np.int64]  # whole days without activity after the gap, counted up to the longest horizon


def snapshot_instants(first_us: int, as_of_us: int, rules: Churn) -> list[int]:
    """Midnights UTC, ascending, `every_days` apart, back from the last whose label is known at `as_of_us`."""
    ahead = (rules.gap_days + rules.horizon_days) * US_PER_DAY
    last = (as_of_us - ahead) // US_PER_DAY * US_PER_DAY
    return sorted(range(last, first_us - 1, -rules.every_days * US_PER_DAY))


def read_risks(log: Log, instants: Sequence[int], rules: Churn) -> Risks:
    """Everybody active in the days before each instant; churned without activity in (t + gap, t + gap + horizon].

    A visitor who became a known customer has not churned while the customer goes on, and is nobody after the join.
    `began` is the day for "before t", `ended` the day for "after t": they differ at midnight itself. Silence is known
    only as far as the log goes: a horizon that ends after it must not be asked of the instant.
    """
    longest = max(rules.horizon_days, *rules.horizons, 0)
    frame = log.frame(
        f"WITH instants AS (SELECT unnest($1) AS t), activity AS MATERIALIZED (SELECT DISTINCT customer_id, who, "
        f"alias_until_us, us // {US_PER_DAY} AS began, (us - 1) // {US_PER_DAY} AS ended FROM events "
        f"WHERE list_contains($2, event_type)), "
        f"at_risk AS (SELECT DISTINCT customer_id, who, t FROM activity JOIN instants ON began >= t - $5 AND began < t "
        f"WHERE alias_until_us IS NULL OR alias_until_us > t * {US_PER_DAY}), "
        f"back AS (SELECT who, t, min(ended) - t - $3 AS days FROM activity JOIN instants "
        f"ON ended >= t + $3 AND ended < t + $3 + $4 GROUP BY who, t) "
        f"SELECT customer_id, t * {US_PER_DAY} AS us, coalesce(back.days, $4) AS silent_days "
        f"FROM at_risk LEFT JOIN back USING (who, t) ORDER BY t, customer_id",
        [int(t // US_PER_DAY) for t in instants],
        list(rules.activity),
        rules.gap_days,
        longest,
        rules.active_within_days,
    )
    silent = frame["silent_days"].to_numpy(np.int64)
    return Risks(frame[["customer_id", "us"]], silent >= rules.horizon_days, silent)
