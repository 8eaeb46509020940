"""Small made-up data with known truth, for tests of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from features.catalogue import Offer, Treatment
from features.events import US_PER_DAY
from training.encoder import Column, Encoder
from training.interactions import Interactions
from training.models.lightfm import without_factors
from training.models.side_information import like_offers
from training.scorers import (
    AcceptanceScorer,
    BlendScorer,
    Calibration,
    ChurnScorer,
    Classifier,
    FactorScorer,
    ItemItemScorer,
    PopularityScorer,
)
from training.tokens import Field, Tokens
from training.trees import flatten

START_US = 1_700_006_400_000_000  # 2023-11-15T00:00:00Z, a midnight


def offer(name: str, category: str | None = None, **attributes: Any) -> Offer:
    treatment = Treatment(treatment_id=f"{name}/a")
    return Offer(
        offer_id=name, name=name, value=1.0, currency="EUR", treatments=(treatment,), category=category,
        attributes=attributes,
    )  # fmt: skip


def interactions(n_customers: int = 60, n_offers: int = 12, n_days: int = 60, seed: int = 0) -> Interactions:
    """Two tastes: even customers take even offers, odd ones odd offers, at random times."""
    rng = np.random.default_rng(seed)
    n = n_customers * 15
    customer = rng.integers(0, n_customers, n)
    taken = rng.integers(0, n_offers // 2, n) * 2 + customer % 2
    us = np.sort(START_US + rng.integers(0, n_days * US_PER_DAY, n))
    return Interactions(
        customers=tuple(f"c{i:03}" for i in range(n_customers)),
        offers=tuple(offer(f"o{i:02}", "even" if i % 2 == 0 else "odd") for i in range(n_offers)),
        profiles=[{"taste": "even" if i % 2 == 0 else "odd"} for i in range(n_customers)],
        customer=customer.astype(np.int32),
        offer=taken.astype(np.int32),
        weight=np.ones(n, np.float32),
        occurred_us=us.astype(np.int64),
    )


def factor_scorer(repeats: bool = False) -> FactorScorer:
    """Two customers, three offers, one factor that a token of the customer, or of the offer, turns up."""
    past = interactions(2, 3 + 1, 10).part(np.zeros(30, bool))
    past = replace(past, offers=tuple(offer(f"o{i}", "red" if i == 0 else "blue") for i in range(3)))
    base = without_factors(past, np.arange(2), repeats=repeats)
    return replace(
        base,
        version="3",
        customer_tokens=Tokens((Field("taste", values=("blue", "red")),)),
        offer_tokens=Tokens((Field("category", values=("blue", "red")),)),
        customer_factors=np.array([[0.5], [-0.5]], np.float32),
        offer_factors=np.array([[1.0], [2.0], [3.0]], np.float32),
        offer_biases=np.array([0.1, 0.2, 0.3], np.float32),
        customer_token_factors=np.array([[-1.0], [1.0]], np.float32),
        offer_token_factors=np.array([[-1.0], [1.0]], np.float32),
        offer_token_biases=np.zeros(2, np.float32),
        new_offer_bias=0.25,
        new_customer_factors=np.zeros(1, np.float32),
        new_offer_factors=np.zeros(1, np.float32),
        taken_start=np.array([0, 1, 1], np.int64),
        taken=np.array([2], np.int32),
        taken_boost=np.array([7.0], np.float32),
    )


def item_item_scorer(repeats: bool = False, prior: float = 0.5) -> ItemItemScorer:
    """c000 took o2, which speaks for o0 by 3; nobody took o1. Everybody takes o2 twice as much as o0; reds only o0."""
    offers = tuple(offer(f"o{i}", "red" if i == 0 else "blue") for i in range(3))
    was_taken = np.array([True, False, True])
    return ItemItemScorer(
        version="3",
        offer_map=("o0", "o1", "o2"),
        customers={"c000": 0, "c001": 1},
        customer_tokens=Tokens((Field("taste", values=("blue", "red")),)),
        repeats=repeats,
        prior=prior,
        unseen=0.5,
        taken_start=np.array([0, 1, 1], np.int64),
        taken=np.array([2], np.int32),
        taken_weight=np.array([1.0], np.float32),
        weight_start=np.array([0, 0, 0, 1], np.int64),
        weight_to=np.array([0], np.int32),
        weight=np.array([3.0], np.float32),
        was_taken=was_taken,
        popular=np.array([1.0, 0.0, 2.0], np.float32),
        token_popular=np.array([[0.0, 0.0, 1.0], [1.0, 0.0, -2.0]], np.float32),
        like_offers=like_offers(offers, was_taken, 2),
    )


def blend_scorer(repeats: bool = False) -> BlendScorer:
    """Item–item and popularity; c000 took o2. For strangers popularity counts twice and item–item not at all."""
    return BlendScorer(
        version="3",
        offer_map=("o0", "o1", "o2"),
        names=("item_item", "popularity"),
        scorers=(item_item_scorer(repeats=True), popularity_scorer()),
        linear=np.array([[1.0, 0.5], [0.0, 1.0]], np.float32),
        root=np.array([[0.5, 0.0], [0.0, 0.0]], np.float32),
        offer_scores=np.array([[0.1, 0.2, 0.3], [3.0, 2.0, 1.0]], np.float32),
        category_scores={"blue": (0.25, 1.5)},
        new_offer_score=(0.2, 2.0),
        repeats=repeats,
        customers={"c000": 0, "c001": 1},
        taken_start=np.array([0, 1, 1], np.int64),
        taken=np.array([2], np.int32),
        taken_boost=np.array([7.0], np.float32),
        learned={"known": {"item_item": 1.0}, "unknown": {"item_item": 0.0}},
        learned_from=100,
    )


def popularity_scorer(names: tuple[str, ...] = ("o0", "o1", "o2")) -> PopularityScorer:
    return PopularityScorer("3", names, np.arange(len(names), dtype=np.float32), {"blue": 1.5}, 0.5)


def encoder() -> Encoder:
    return Encoder(
        (
            Column("customer", "age"),
            Column("customer", "gender", ("F", "M")),
            Column("by_category", "seen_by_category"),
            Column("by_offer", "seen_by_offer"),
            Column("by_channel", "engaged_by_channel"),
            Column("offer", "attributes.reward"),
            Column("offer", "offer_id", ("o0", "o1", "o2")),
            Column("offer_feature", "rate"),
            Column("context", "channel", ("app", "web")),
            Column("context", "hour"),
            Column("affinity", ""),
            Column("rate", "spent_ever", since_us=START_US),
        )
    )


def fitted_trees(columns: Encoder, n: int = 1500, seed: int = 0) -> HistGradientBoostingClassifier:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, len(columns.columns)))
    for at in columns.categorical:
        rows[:, at] = rng.integers(0, len(columns.columns[at].values or ()), n)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    y = np.nan_to_num(rows[:, 0]) + (rows[:, 6] == 1) + rng.normal(size=n) > 0.3
    model = HistGradientBoostingClassifier(max_iter=20, categorical_features=columns.categorical, random_state=seed)
    return model.fit(rows, y)


def acceptance_scorer() -> AcceptanceScorer:
    return AcceptanceScorer("5", Classifier("trees", encoder(), flatten(fitted_trees(encoder())), Calibration()))


def churn_scorer() -> ChurnScorer:
    columns = Encoder((Column("customer", "age"), Column("customer", "gender", ("F", "M"))))
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=400), rng.integers(0, 2, 400)])
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features=[1]).fit(rows, rows[:, 0] > 0)
    return ChurnScorer("2", Classifier("trees", columns, flatten(model), Calibration("sigmoid", 0.9, 0.1)))
