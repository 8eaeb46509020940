"""What side information adds for customers and offers that nobody knows yet, held out of real data.

Held-out offers: Online Retail's products, known by the words of their names and their first price; a fifth of them is
taken out of the past, and ranked for the customers who bought one of them in the next month. Held-out customers:
Starbucks' members, known by age, income, gender and how long they are members; a fifth is taken out, and the ten offers
are ranked for what each completed. Nothing here reads the test part of the ranking proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from bench.proof import ROOT, Proof, shared_data
from bench.ranking_data import interactions, online_retail
from features.catalogue import Offer
from features.events import to_us
from training.evaluation import accuracy, mean_interval
from training.interactions import Interactions
from training.models import RECOMMENDERS
from training.scorers import FittedRecommender

CUTOFF, END = (to_us(datetime(2011, month, 1, tzinfo=UTC)) for month in (10, 11))
MODELS: dict[str, dict[str, Any]] = {
    "lightfm": {},
    "als": {},
    "ease": {},
    "item_knn": {},
    "rp3beta": {},
}
N_PARTS = 5  # each is held out once
Values = NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Cold:
    """What may be learned from, and what was taken by whom that is to be ranked."""

    past: Interactions
    rows: NDArray[np.int64]  # (n,) customers who are asked about
    start: NDArray[np.int64]  # (n + 1,)
    wanted: NDArray[np.int32]  # rows of `ranked`
    ranked: NDArray[np.int64]  # rows of the offers that are ranked

    def ndcg(self, scorer: FittedRecommender, profiles: Sequence[Mapping[str, Any]], k: int) -> Values:
        """(n,) by the ranked offers alone, ties in random order."""
        side = scorer.prepare(self.past.offers)
        customers = [self.past.customers[row] for row in self.rows.tolist()]
        scores = scorer.many(customers, [profiles[row] for row in self.rows.tolist()], side)[:, self.ranked]
        return self.ndcg_of(scores, k)

    def ndcg_of(self, scores: NDArray[Any], k: int) -> Values:
        rng = np.random.default_rng(0)
        shuffled = np.array([rng.permutation(scores.shape[1]) for _ in scores])
        best = np.argsort(-np.take_along_axis(scores, shuffled, axis=1), axis=1, kind="stable")[:, :k]
        lists = np.take_along_axis(shuffled, best, axis=1).astype(np.int32)
        found: Values = accuracy(lists, self.start, self.wanted, np.array([k]), len(self.ranked))[0][:, 0]
        return found


def cold(proof: Proof) -> None:
    """Held-out offers and held-out customers, for each recommender that learns from attributes."""
    held_out_offers(proof)
    held_out_customers(proof)


def held_out_offers(proof: Proof) -> None:
    folds = [retail_without_offers(CUTOFF, END, fold) for fold in range(1 if proof.quick else 3)]
    random = _per_customer(folds, [_at_random(fold, 10) for fold in folds])
    rows, gains = [], {}
    for name, params in MODELS.items():
        proof.progress(f"held-out offers: {name}")
        found = [fold.ndcg(_fit(name, fold.past, CUTOFF, params), fold.past.profiles, 10) for fold in folds]
        with_ = _per_customer(folds, found)
        gains[name] = gain = _interval(with_ - random)
        rows.append((name, _figure(_interval(with_)), f"{random.mean():.4f}", _figure(gain)))
    proof.table((f"held-out products ({len(random):,} customers)", "NDCG@10", "at random", "difference"), rows)
    for name, gain in gains.items():
        proof.line(gain.low > 0, f"{name} ranks products that it never saw better than chance")


def held_out_customers(proof: Proof) -> None:
    folds = [starbucks_without_customers(fold) for fold in range(1 if proof.quick else N_PARTS)]
    rows, gains = [], {}
    for name, params in MODELS.items():
        proof.progress(f"held-out customers: {name}")
        known, unknown = [], []
        for fold in folds:
            scorer = _fit(name, fold.past, END_OF_STARBUCKS, params)
            known.append(fold.ndcg(scorer, fold.past.profiles, 3))
            unknown.append(fold.ndcg(scorer, [{}] * len(fold.past.customers), 3))
        with_, without = _per_customer(folds, known), _per_customer(folds, unknown)
        gains[name] = gain = _interval(with_ - without)
        rows.append((name, _figure(_interval(with_)), _figure(_interval(without)), _figure(gain)))
    n = sum(len(fold.rows) for fold in folds)
    header = (f"held-out members ({n:,})", "NDCG@3 with attributes", "without", "difference")
    proof.table(header, rows)
    for name, gain in gains.items():
        proof.line(gain.high >= 0, f"{name} does not lose by the attributes of members whom it never saw")


def _parts(n: int, n_parts: int) -> NDArray[np.int64]:
    """(n,) a part of 0 … n_parts - 1 for each, drawn once."""
    found: NDArray[np.int64] = np.random.default_rng(0).permutation(n) % n_parts
    return found


def _per_customer(folds: Sequence[Cold], values: Sequence[Values]) -> Values:
    """The mean of each customer's values, who may be asked about in several folds."""
    rows, at = np.unique(np.concatenate([fold.rows for fold in folds]), return_inverse=True)
    found: Values = np.bincount(at, np.concatenate(values)) / np.bincount(at, minlength=len(rows))
    return found


def _fit(name: str, past: Interactions, until_us: int, params: Mapping[str, Any]) -> FittedRecommender:
    return RECOMMENDERS[name].fit(past, until_us, {**params, "repeats": True}, 0)


def _at_random(fold: Cold, k: int) -> Values:
    return fold.ndcg_of(np.zeros((len(fold.rows), len(fold.ranked))), k)


def _interval(values: Values) -> Any:
    return mean_interval(values, np.random.default_rng(0))


def _figure(interval: Any) -> str:
    return f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


# Online Retail


def retail_without_offers(cutoff_us: int, end_us: int, fold: int) -> Cold:
    """A fifth of the products is not in the past; who had taken one before is not asked about that one."""
    everything = online_retail().everything
    everything = replace(everything, offers=_priced(everything.offers))
    held = _parts(len(everything.offers), N_PARTS) == fold
    before, after = everything.before(cutoff_us), everything.between(cutoff_us, end_us)
    past = before.part(~held[before.offer])
    n = len(everything.offers)
    pairs = np.setdiff1d(
        after.customer.astype(np.int64) * n + after.offer, before.customer.astype(np.int64) * n + before.offer
    )
    customer, offer = np.divmod(pairs, n)
    wanted = held[offer] & np.isin(customer, past.customer)
    return _cold(past, customer[wanted], offer[wanted], np.flatnonzero(held))


def _priced(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """With the price of each product's first line."""
    source = str(shared_data() / "online_retail" / "online_retail.parquet")
    first = duckdb.execute(
        "SELECT upper(StockCode), arg_min(UnitPrice, (InvoiceDate, InvoiceNo, UnitPrice)) FROM read_parquet($1) "
        "WHERE UnitPrice > 0 AND Quantity > 0 GROUP BY 1", [source]
    ).fetchall()  # fmt: skip
    price = dict(first)
    return tuple(
        Offer(
            offer_id=offer.offer_id, name=offer.name, value=0.0, currency="GBP", treatments=(),
            attributes={"unit_price": float(price[offer.offer_id])} if offer.offer_id in price else {},
        )
        for offer in offers
    )  # fmt: skip


# Starbucks

END_OF_STARBUCKS = to_us(datetime(2018, 9, 1, tzinfo=UTC))


def starbucks_without_customers(fold: int) -> Cold:
    """Completions of all members; those of a fifth are not in the past."""
    everything = starbucks_completions()
    held = _parts(len(everything.customers), N_PARTS) == fold
    past = everything.part(~held[everything.customer])
    after = everything.part(held[everything.customer])
    n = len(everything.offers)
    customer, offer = np.divmod(np.unique(after.customer.astype(np.int64) * n + after.offer), n)
    return _cold(past, customer, offer, np.arange(n))


def starbucks_completions() -> Interactions:
    """As the recipe of the project reads them."""
    db = duckdb.connect(config={"threads": 1})
    db.execute("SET TimeZone = 'UTC'")
    db.execute("SET enable_progress_bar = false")
    source = shared_data() / "starbucks_offers"
    for name, value in (("source", source), ("epoch", "2018-07-26T00:00:00Z"), ("currency", "USD")):
        db.execute(f"SET VARIABLE {name} = $1", [str(value)])
    folder = ROOT / "features" / "recipes" / "starbucks_offers"
    read = {name: (folder / f"{name}.sql").read_text() for name in ("offers", "customers", "events")}
    offers = db.execute(
        f"SELECT offer_id, name, category, value, difficulty, reward, duration_days FROM ({read['offers']})"
    ).fetchall()
    events = db.execute(
        f"SELECT customer_id, offer_id, epoch_us(occurred_at) AS us FROM ({read['events']}) "
        "WHERE event_type = 'accept' ORDER BY us, event_id"
    ).df()
    members = db.execute(
        f"SELECT customer_id, age, income, gender, date_diff('day', became_member_on, DATE '2018-07-26') "
        f"FROM ({read['customers']})"
    ).fetchall()
    catalogue = [
        Offer(
            offer_id=offer_id, name=name, category=category, value=float(value), currency="USD", treatments=(),
            attributes={"difficulty": difficulty, "reward": reward, "duration_days": duration},
        )
        for offer_id, name, category, value, difficulty, reward, duration in offers
    ]  # fmt: skip
    found = interactions(
        events["customer_id"].tolist(), events["offer_id"].tolist(), events["us"].to_numpy(np.int64), catalogue
    )
    names = ("age", "income", "gender", "member_days")
    of = {member: dict(zip(names, map(_plain, values), strict=True)) for member, *values in members}
    return replace(found, profiles=[of[customer] for customer in found.customers])


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int) else value


def _cold(past: Interactions, customer: NDArray[Any], offer: NDArray[Any], ranked: NDArray[np.int64]) -> Cold:
    """From pairs in order of customer and offer."""
    rows = np.unique(customer)
    start = np.searchsorted(customer, np.append(rows, rows[-1] + 1)).astype(np.int64)
    return Cold(past, rows, start, np.searchsorted(ranked, offer).astype(np.int32), ranked)


if __name__ == "__main__":
    cold(Proof())
