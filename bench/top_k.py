"""The top 10 of 10,000 offers for 100,000 customers, by factors and by item–item weights.

Budget: under 10 s on two cores by factors. Customers, offers and factors are made up, as their values do not matter to
the time; item–item weights have EASE's shape: 100 a column, 30 offers a customer. What is left out: reading the
customers' features. Processor time stands beside, as seconds mean little while something else runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import replace

import numpy as np

from features.catalogue import Offer
from features.events import US_PER_DAY
from training.batch import top_k
from training.interactions import Interactions
from training.models.item_item import ItemItemSettings, item_item_scorer
from training.models.lightfm import without_factors
from training.models.matrix import matrix
from training.scorers import FactorScorer, FittedRecommender, ItemItemScorer

N_CUSTOMERS, N_OFFERS, N_FACTORS, N_TAKEN, N_NEIGHBOURS, K = 100_000, 10_000, 64, 30, 100, 10
BUDGET_S = 10.0
NOW_US = 1_000 * US_PER_DAY


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=N_CUSTOMERS)
    parser.add_argument("--offers", type=int, default=N_OFFERS)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    past = made_up(args.customers, args.offers)
    found = {}
    for name, scorer in (("factors", factors(past)), ("item_item", item_item(past))):
        top_k(scorer, past.customers[:100], past.profiles[:100], past.offers, K)  # compiled
        seconds, processor = [], []
        for _ in range(args.repeats):
            began, used = time.perf_counter(), time.process_time()
            top_k(scorer, past.customers, past.profiles, past.offers, K)
            seconds.append(time.perf_counter() - began)
            processor.append(time.process_time() - used)
        found[name] = {"median_s": float(np.median(seconds)), "processor_s": float(np.median(processor))}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name}: {np.median(seconds):.1f} s, of both processors {np.median(processor):.1f} s "
            f"(medians of {args.repeats}); at most {memory:,.0f} MB in all", flush=True,
        )  # fmt: skip
    print(json.dumps({"n_customers": args.customers, "n_offers": args.offers, **found}))
    return int(found["factors"]["median_s"] > BUDGET_S)


def made_up(n_customers: int, n_offers: int) -> Interactions:
    """Everybody takes some offers, the first ones oftener."""
    rng = np.random.default_rng(0)
    n = n_customers * N_TAKEN
    offers = tuple(
        Offer(offer_id=f"o{i:05}", name="", value=1.0, currency="EUR", treatments=()) for i in range(n_offers)
    )
    return Interactions(
        customers=tuple(f"c{i}" for i in range(n_customers)),
        offers=offers,
        profiles=[{}] * n_customers,
        customer=np.repeat(np.arange(n_customers, dtype=np.int32), N_TAKEN),
        offer=(n_offers * rng.random(n) ** 2).astype(np.int32),
        weight=np.ones(n, np.float32),
        occurred_us=np.full(n, NOW_US - 1),
    )


def factors(past: Interactions) -> FittedRecommender:
    rng = np.random.default_rng(1)
    draw = lambda n: rng.normal(size=(n, N_FACTORS)).astype(np.float32)  # noqa: E731
    base: FactorScorer = without_factors(past, np.arange(len(past.customers)), repeats=False)
    return replace(
        base, customer_factors=draw(len(past.customers)), offer_factors=draw(len(past.offers)),
        offer_token_factors=draw(0), customer_token_factors=draw(0), new_customer_factors=draw(1)[0],
        new_offer_factors=draw(1)[0],
    )  # fmt: skip


def item_item(past: Interactions) -> FittedRecommender:
    from scipy import sparse

    rng = np.random.default_rng(2)
    n = len(past.offers)
    near = min(N_NEIGHBOURS, n)
    to = np.repeat(np.arange(n), near)
    from_ = (n * rng.random(len(to)) ** 2).astype(np.int64)
    values = rng.normal(size=len(to)).astype(np.float32)
    weights = sparse.csr_matrix((values, (from_, to)), shape=(n, n))
    scorer: ItemItemScorer = item_item_scorer(
        past, NOW_US, matrix(past, NOW_US, "binary", None), weights, ItemItemSettings()
    )
    return scorer


if __name__ == "__main__":
    raise SystemExit(main())
