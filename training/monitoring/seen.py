"""What watching looks at: the decisions of a window, what they showed, and what came of it, read from the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from features.catalogue import Offer
from features.data_settings import DataSettings
from features.definitions import FeatureSet
from features.events import US_PER_DAY
from features.facts import Catalogue
from training.dataset import Log, read_impressions
from training.scorers import Release

MOST_CUSTOMERS = 5_000  # whose features are compared
OFFERS = (
    '[{"placement_id": "VARCHAR", "offers": [{"rank": "INTEGER", "offer_id": "VARCHAR", "p_accept": "DOUBLE", '
    '"p_model": "DOUBLE", "selection_probability": "DOUBLE", "is_fallback": "BOOLEAN", "random": "BOOLEAN"}]}]'
)
PATHS = (
    "model_versions.release", "policy", "holdout", "redrawn", "degraded", "latency_us", "request.deadline_ms",
    "p_churn", "snapshot_us", "support",
)  # fmt: skip
OUTCOME_COLUMNS = ("customer_id", "offer_id", "us", "release", "policy", "at_random", "rank", "p", "accepted")


@dataclass(frozen=True)
class Seen:
    """A window of the log, and the models and offers that it is judged by. Frames may be empty.

    `decisions`: one row each with customer_id, us, release, policy, holdout, degraded (codes), latency_us, deadline_us,
    p_churn, snapshot_us, support (per placement). `shown`: one row per offer with its decision's columns. `first`: the
    same of `champion` in its first days. `features`: one row per customer, of the newest decision. `outcomes`: matured
    impressions of decisions.
    """

    since_us: int
    until_us: int
    decisions: pd.DataFrame
    shown: pd.DataFrame
    features: pd.DataFrame
    outcomes: pd.DataFrame
    catalogue: Catalogue
    feature_set: FeatureSet
    champion: Release | None
    first_us: int | None  # when the champion decided first
    first: pd.DataFrame  # decisions of the champion's first days, before the window
    first_shown: pd.DataFrame
    reference: pd.DataFrame | str  # features of customers before the training, or why there are none
    log_age_days: tuple[float, float] = (365.0, 365.0)  # where the reference is from, and now
    levels: Sequence[Any] = field(default_factory=tuple)  # of inventory and budgets, as the state has them

    @property
    def on_sale(self) -> tuple[Offer, ...]:
        """The offers that marketing has approved."""
        return tuple(offer for offer in self.catalogue.offers if offer.status == "approved")


def read_decisions(log: Log, since_us: int, until_us: int, release: str | None = None) -> pd.DataFrame:
    """The decisions in [since, until), in time order, of one release or of all."""
    if not log.has_decisions:
        return _decisions(pd.DataFrame({"decision_id": [], "customer_id": [], "us": [], "placements": [], "said": []}))
    found = log.frame(
        "SELECT decision_id, customer_id, epoch_us(decided_at) AS us, payload -> '$.placements' AS placements, "
        f"json_extract_string(payload, {[f'$.{path}' for path in PATHS]!r}) AS said FROM decisions "
        "WHERE epoch_us(decided_at) >= $1 AND epoch_us(decided_at) < $2 "
        "AND ($3 IS NULL OR payload ->> '$.model_versions.release' = $3) ORDER BY us, decision_id",
        since_us,
        until_us,
        release,
    )
    return _decisions(found)


def _decisions(found: pd.DataFrame) -> pd.DataFrame:
    said = pd.DataFrame(found["said"].tolist(), columns=PATHS, index=found.index)
    return pd.DataFrame(
        {
            "decision_id": found["decision_id"].astype(object),
            "customer_id": found["customer_id"].astype(object),
            "us": found["us"].astype(np.int64),
            "release": said["model_versions.release"].fillna("none").astype(object),
            "policy": said["policy"].fillna("none").astype(object),
            "holdout": said["holdout"].eq("true"),
            "redrawn": said["redrawn"].eq("true"),
            "degraded": [_codes(text) for text in said["degraded"]],
            "latency_us": pd.to_numeric(said["latency_us"]).astype(np.float64),
            "deadline_us": pd.to_numeric(said["request.deadline_ms"]).astype(np.float64) * 1_000,
            "p_churn": pd.to_numeric(said["p_churn"]).astype(np.float64),
            "snapshot_us": pd.to_numeric(said["snapshot_us"]).astype(np.float64),
            "support": [[] if text is None else msgspec.json.decode(text) for text in said["support"]],
            "placements": found["placements"].astype(object),
        }
    )


def _codes(text: str | None) -> list[str]:
    found = [] if text is None else msgspec.json.decode(text)
    return [one if isinstance(one, str) else str(one.get("code", one)) for one in found]


class _Offer(msgspec.Struct):
    rank: int
    offer_id: str
    p_accept: float
    p_model: float
    selection_probability: float
    is_fallback: bool = False
    random: bool = False


class _Placement(msgspec.Struct):
    placement_id: str
    offers: list[_Offer]


def shown_of(decisions: pd.DataFrame) -> pd.DataFrame:
    """One row per offer that a decision showed; an empty placement has one with `offer_id` None."""
    decode = msgspec.json.Decoder(list[_Placement]).decode
    rows: list[tuple[Any, ...]] = []
    for at, text in enumerate(decisions["placements"]):
        for placement in decode(text):
            rows.extend(
                (at, placement.placement_id, o.rank, o.offer_id, o.p_model, o.p_accept, o.selection_probability,
                 o.is_fallback, o.random)
                for o in placement.offers
            )  # fmt: skip
            if not placement.offers:
                rows.append((at, placement.placement_id, 0, None, np.nan, np.nan, np.nan, False, False))
    names = ["at", "placement_id", "rank", "offer_id", "p_model", "p_accept", "chance", "is_fallback", "random"]
    found = pd.DataFrame(rows, columns=names)
    of = decisions.iloc[found["at"].to_numpy(np.int64)].reset_index(drop=True)
    kept = of[["decision_id", "customer_id", "us", "release", "policy", "holdout", "redrawn"]]
    return pd.concat([kept, found.drop(columns="at")], axis=1)


def read_features(log: Log, decisions: pd.DataFrame, feature_set: FeatureSet) -> pd.DataFrame:
    """What each of at most `MOST_CUSTOMERS` customers looked like at the newest decision about them: a column per
    feature that has one value, a row per customer, chosen by the hash of the id.
    """
    names = [f.name for f in feature_set.customer if f.kind != "keyed"]
    if not len(decisions):
        return pd.DataFrame({name: [] for name in names})
    newest = decisions.drop_duplicates("customer_id", keep="last")
    if len(newest) > MOST_CUSTOMERS:
        order = pd.util.hash_pandas_object(newest["customer_id"], index=False).to_numpy()
        newest = newest.iloc[np.sort(np.argsort(order, kind="stable")[:MOST_CUSTOMERS])]
    wanted = pd.DataFrame({"decision_id": newest["decision_id"].astype(str).to_numpy(object)})
    log.db.register("wanted_decisions", wanted)
    texts = log.frame(
        "SELECT json_extract(payload, '$.features') AS features FROM decisions "
        "SEMI JOIN wanted_decisions USING (decision_id) WHERE epoch_us(decided_at) >= $1 "
        "ORDER BY decided_at, decision_id",
        int(newest["us"].min()),
    )["features"]
    log.db.unregister("wanted_decisions")
    rows: list[Mapping[str, Any]] = [msgspec.json.decode(text) for text in texts if text not in (None, "null")]
    return pd.DataFrame({name: [row.get(name) for row in rows] for name in names}, dtype=object)


def read_outcomes(log: Log, offers: Sequence[Offer], settings: DataSettings, shown: pd.DataFrame) -> pd.DataFrame:
    """Matured impressions of these shown offers with whether they were accepted; `OUTCOME_COLUMNS`."""
    if not len(shown):
        return pd.DataFrame({name: [] for name in OUTCOME_COLUMNS})
    found = read_impressions(log, offers, settings, int(shown["us"].min()))
    rows = found.rows[["decision_id", "offer_id", "us"]].assign(accepted=found.accepted)
    rows = rows[rows["decision_id"].notna()]
    made = shown[shown["offer_id"].notna() & ~shown["is_fallback"]].drop(columns="us")
    both = rows.merge(made, on=["decision_id", "offer_id"], how="inner").rename(columns={"p_model": "p"})
    both["at_random"] = both["random"] | both["holdout"]
    return both[list(OUTCOME_COLUMNS)]


def longest_window_us(settings: DataSettings) -> int:
    """How long an outcome may be waited for."""
    rules = settings.attribution
    days = rules.window_days if rules.at_most_days is None else min(rules.window_days, rules.at_most_days)
    return int(days * US_PER_DAY)
