"""Judging a recommender: 100,000 customers, 10,000 offers, full catalogue; seconds by step, wall and processor.

Budget: ranking and every figure in under 20 s on 2 free cores. The recommender is drawn at random, 64 factors; each
customer took 20 offers before and 5 after. Left out: fitting, and reading the log. Run it with
`.venv/bin/python -m bench.ranking_protocol [--customers N] [--offers N]`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from features.catalogue import Offer, Treatment
from training.evaluation import evaluate, intervals, judged_by, segment_table
from training.interactions import Interactions
from training.models.lightfm import without_factors
from training.scorers import FactorScorer

FACTORS = 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--customers", type=int, default=100_000)
    options.add_argument("--offers", type=int, default=10_000)
    given = options.parse_args()
    past, future = world(given.customers, given.offers, 20, 0), world(given.customers, given.offers, 5, 1)
    scorer = drawn(past)
    evaluate(scorer, judged_by(past, future, exclude_seen=True).at_most(100))  # compiled
    took: dict[str, dict[str, float]] = {}
    with timed(took, "who is judged"):
        judged = judged_by(past, future, exclude_seen=True)
    with timed(took, "accuracy alone"):
        evaluate(scorer, judged, describe=False)
    with timed(took, "every figure"):
        report = evaluate(scorer, judged)
    with timed(took, "intervals"):
        intervals(report, [("ndcg", 10), ("recall", 10), ("map", 10), ("mrr", 10)])
    with timed(took, "segments"):
        segment_table(report)
    print(json.dumps({"customers": len(report), "offers": report.n_offers, "steps": took}, indent=1))


@contextmanager
def timed(took: dict[str, dict[str, float]], name: str) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    took[name] = {
        "wall_s": round(time.perf_counter() - wall, 2),
        "processor_s": round(time.process_time() - processor, 2),
    }


def world(n_customers: int, n_offers: int, n_each: int, seed: int) -> Interactions:
    rng = np.random.default_rng(seed)
    n = n_customers * n_each
    treatment = (Treatment(treatment_id="t"),)
    return Interactions(
        customers=tuple(f"c{i}" for i in range(n_customers)),
        offers=tuple(
            Offer(offer_id=f"o{i:06}", name="", value=1.0, currency="EUR", treatments=treatment, category=f"c{i % 20}")
            for i in range(n_offers)
        ),
        profiles=[{}] * n_customers,
        customer=np.repeat(np.arange(n_customers, dtype=np.int32), n_each),
        offer=(rng.random(n) ** 2 * n_offers).astype(np.int32),
        weight=np.ones(n, np.float32),
        occurred_us=np.full(n, seed + 1, np.int64),
    )


def drawn(past: Interactions) -> FactorScorer:
    rng = np.random.default_rng(2)
    n_customers, n_offers = len(past.customers), len(past.offers)
    nothing = np.zeros((0, FACTORS), np.float32)
    return replace(
        without_factors(past, np.arange(n_customers), repeats=False),
        customer_factors=rng.normal(size=(n_customers, FACTORS)).astype(np.float32),
        offer_factors=rng.normal(size=(n_offers, FACTORS)).astype(np.float32),
        new_customer_factors=np.zeros(FACTORS, np.float32),
        new_offer_factors=np.zeros(FACTORS, np.float32),
        customer_token_factors=nothing,
        offer_token_factors=nothing,
    )


if __name__ == "__main__":
    main()
