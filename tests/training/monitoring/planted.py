"""A window of the log as watching sees it, with planted truths."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd

from features.catalogue import Budget, Offer
from features.definitions import FeatureSet
from features.definitions.dsl import Attribute, Family, Feature
from features.events import US_PER_DAY
from features.facts import Catalogue
from training.monitoring.seen import Seen

NOW_US = 1_780_000_000_000_000
SINCE_US = NOW_US - 7 * US_PER_DAY
FEATURES = FeatureSet(
    (
        Family(
            name="profile",
            description="planted",
            features=(
                Feature(name="age", value=Attribute("age", "number"), unit="years", description="planted"),
                Feature(name="tier", value=Attribute("tier", "category"), unit="", description="planted"),
            ),
        ),
    ),
    "EUR",
)


def offers(n: int = 5) -> tuple[Offer, ...]:
    return tuple(
        Offer(offer_id=f"o-{i}", name=f"offer {i}", value=1.0, currency="EUR", treatments=(), status="approved",
              inventory=100 if i == 0 else None, budget=Budget(amount=50.0, per="day") if i == 1 else None)
        for i in range(n)
    )  # fmt: skip


def decisions(
    n: int, release: str = "2", *, seed: int = 0, from_us: int = SINCE_US, to_us: int = NOW_US
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    us = np.sort(rng.integers(from_us, to_us, n))
    return pd.DataFrame(
        {
            "decision_id": [f"d-{release}-{seed}-{i}" for i in range(n)],
            "customer_id": [f"c-{i}" for i in range(n)],
            "us": us,
            "release": release,
            "policy": np.where(np.arange(n) % 2 == 0, "greedy", "thompson"),
            "holdout": False,
            "redrawn": False,
            "degraded": [[] for _ in range(n)],
            "latency_us": np.full(n, 4_000.0),
            "deadline_us": np.full(n, 50_000.0),
            "p_churn": rng.beta(2, 8, n),
            "snapshot_us": us - 12.0 * 3_600_000_000,
            "support": [[{"n_eligible": 4, "dropped": {"schedule": 1, "caps": 1}}] for _ in range(n)],
        }
    )


def shown(made: pd.DataFrame, p: np.ndarray, n_offers: int = 5) -> pd.DataFrame:
    n = len(made)
    kept = made[["decision_id", "customer_id", "us", "release", "policy", "holdout", "redrawn"]]
    return kept.assign(
        placement_id="hero", rank=1, offer_id=[f"o-{i % n_offers}" for i in range(n)], p_model=p, p_accept=p,
        chance=0.5, is_fallback=False, random=False,
    )  # fmt: skip


def outcomes(of: pd.DataFrame, truth: np.ndarray, seed: int = 1) -> pd.DataFrame:
    accepted = np.random.default_rng(seed).random(len(of)) < truth
    found = of.rename(columns={"p_model": "p"}).assign(accepted=accepted, at_random=False)
    return found[["customer_id", "offer_id", "us", "release", "policy", "at_random", "rank", "p", "accepted"]]


def customers(n: int, *, age: float = 40.0, tiers: tuple[str, ...] = ("gold", "silver"), seed: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"age": rng.normal(age, 10.0, n).astype(object), "tier": rng.choice(np.array(tiers, object), n)}
    )


def champion(number: str = "2", auc: float = 0.75, as_of: str = "2026-05-20T00:00:00+00:00", acceptance=None):
    metrics = {"acceptance": {"auc": auc}}
    return SimpleNamespace(
        number=number, calibrated=True, acceptance=acceptance, manifest={"as_of": as_of, "metrics": metrics}
    )


def seen(n: int = 4_000, **changes) -> Seen:
    """Nothing wrong: the champion's P(accept) is the truth, and customers are those of the training."""
    rng = np.random.default_rng(3)
    made, p = decisions(n), np.clip(rng.beta(2, 10, n), 0.001, 0.999)
    early = decisions(n, seed=5, from_us=SINCE_US - 7 * US_PER_DAY, to_us=SINCE_US)
    showed = shown(made, p)
    found = Seen(
        since_us=SINCE_US, until_us=NOW_US, decisions=made, shown=showed, features=customers(1_000, seed=8),
        outcomes=outcomes(showed, p), catalogue=Catalogue(1, offers(), ()), feature_set=FEATURES,
        champion=champion(), first_us=SINCE_US - 7 * US_PER_DAY, first=early,
        first_shown=shown(early, np.clip(rng.beta(2, 10, n), 0.001, 0.999)), reference=customers(2_000), levels=(),
    )  # fmt: skip
    return replace(found, **changes)
