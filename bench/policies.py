"""A rank of a slate, from scores to the pick: time per policy and number of eligible offers.

Budget at 1,000 offers, per rank: greedy and epsilon-greedy 12 µs, softmax 25, Thompson sampling 80 (100 draws). Scores
are lognormal, beliefs as sure as after 20 to some hundred acceptances, one offer in twenty is new. `alike` are offers
that all have the same score and the prior's belief: the worst case of Thompson sampling, without a budget. Best of
blocks, as other processes disturb. Run it with `.venv/bin/python -m bench.policies [--offers N …]`; it exits 1 above
the budget.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from random import Random
from typing import Any

import numpy as np

from serving.learning.beliefs import Beliefs
from serving.policies import POLICIES, policy_for
from serving.policies.outlook import Outlook, Tuning
from serving.slate import fill, warm

BUDGET_US = {"greedy": 12.0, "epsilon_greedy": 12.0, "softmax": 25.0, "thompson": 80.0}  # at 1,000 offers
RANKS = 4  # of each slate
BLOCKS, SLATES = 15, 40


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--offers", type=int, nargs="*", default=[10, 100, 1_000, 10_000])
    given = options.parse_args()
    warm()
    rows = [
        {"policy": policy, "offers": n, "scores": kind, "rank_us": round(measure(policy, outlook(n, kind)), 1)}
        for n in given.offers
        for policy in POLICIES
        for kind in ("lognormal", "alike")
    ]
    print(json.dumps({"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "policies": rows}, indent=1))
    sys.exit(any(over(row) for row in rows))


def over(row: dict[str, Any]) -> bool:
    """Whether a case with a budget is above it."""
    judged = row["offers"] == 1_000 and row["scores"] == "lognormal"
    return judged and row["rank_us"] > BUDGET_US[row["policy"]]


def outlook(n: int, kind: str) -> Outlook:
    rng = np.random.default_rng(0)
    if kind == "alike":
        return Outlook(np.ones(n), np.ones(n), Beliefs.none(n, 20.0))
    scores, shape = np.exp(rng.normal(size=n)), 20.0 + rng.exponential(50.0, n)
    return Outlook(scores, 0.9 * scores, Beliefs(shape, shape, np.zeros(n)), rng.random(n) < 0.05)


def measure(policy: str, seen: Outlook) -> float:
    """Microseconds per rank, the best block."""
    rng, tuning, n = Random(0), Tuning(), len(seen.scores)
    everyone, priority = np.ones(n, bool), np.zeros(n, np.int64)
    took = []
    for _ in range(BLOCKS):
        started = time.perf_counter()
        for _ in range(SLATES):
            fill(policy_for(policy, seen, everyone, tuning, rng), everyone, RANKS, rng, priority=priority)
        took.append((time.perf_counter() - started) / SLATES / min(RANKS, n))
    return min(took) * 1e6


if __name__ == "__main__":
    main()
