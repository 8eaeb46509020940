"""Eligibility rules of many offers decided for one customer: time per decision, and to compile them after a change.

Budget: 10,000 offers with 3 conditions each in under 1 ms. `varied` draws the numbers and lists of every offer anew, so
that next to nothing is shared; `shared` has a few dozen of each, as a shop has. Parsing and compiling are CPU seconds;
rules that an earlier edition had are not parsed again. Left out: the customer's read. Run it with
`.venv/bin/python -m bench.rules [--offers N …] [--seconds S]`; it exits 1 above the budget.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from features.catalogue import Offer
from features.language import Names, Program, parse
from features.language.names import Kind

BUDGET_US = 1_000.0  # at 10,000 offers
COUNTRIES = [f"C{n}" for n in range(60)]
NUMBERS = ("age", "spent_90d", "visits_30d", "days_since_purchase", "acceptance_rate_90d")
CONDITIONS = 3  # of each rule


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--offers", type=int, nargs="*", default=[100, 1_000, 10_000, 100_000])
    options.add_argument("--seconds", type=float, default=1.0)
    given = options.parse_args()
    rows = [measure(n, kind, given.seconds) for n in given.offers for kind in ("shared", "varied")]
    print(json.dumps({"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "rules": rows}, indent=1))
    sys.exit(any(row["offers"] == 10_000 and row["p50_us"] > BUDGET_US for row in rows))


def measure(n_offers: int, kind: str, seconds: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    texts = [_rule(rng, kind) for _ in range(n_offers)]
    offers = [Offer(offer_id=f"o{n}", name="", value=1.0, currency="EUR", treatments=()) for n in range(n_offers)]
    kinds: dict[str, Kind] = {"country": "category", **dict.fromkeys(NUMBERS, "number")}
    names = Names(kinds)
    parsing = time.process_time()
    rules = [parse(text) for text in texts]
    compiling = time.process_time()
    program = Program(rules, offers, names)
    compiled = time.process_time()
    asking = [_asked(rng) for _ in range(50)]
    holds = [float((program.evaluate(asked) == 1).mean()) for asked in asking]
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter_ns()
        program.evaluate(asking[len(times) % len(asking)])
        times.append((time.perf_counter_ns() - started) / 1000)
    return {
        "offers": n_offers,
        "conditions": CONDITIONS,
        "kind": kind,
        "p50_us": round(float(np.percentile(times, 50)), 1),
        "p99_us": round(float(np.percentile(times, 99)), 1),
        "parse_cpu_s": round(compiling - parsing, 2),
        "compile_cpu_s": round(compiled - compiling, 2),
        "share_eligible": round(float(np.mean(holds)), 3),
    }


def _rule(rng: np.random.Generator, kind: str) -> str:
    """Two comparisons of numbers and one condition on country or context."""
    first, second = rng.choice(NUMBERS, 2, replace=False)
    if kind == "shared":
        low, high = rng.integers(1, 20, 2) * 2
        among = COUNTRIES[rng.integers(0, 20) :][:20]
    else:
        low, high = np.round(rng.uniform(0, 40, 2), 6)
        among = list(rng.choice(COUNTRIES, 12, replace=False))
    listed = ", ".join(f'"{name}"' for name in among)
    third = f"country in ({listed})" if rng.random() < 0.7 else 'context.device != "tv"'
    return f"{first} >= {low} and {second} < {high} and {third}"


def _asked(rng: np.random.Generator) -> Any:
    return SimpleNamespace(
        now_us=1_785_000_000_000_000,
        features={name: float(rng.uniform(0, 40)) for name in NUMBERS} | {"country": str(rng.choice(COUNTRIES))},
        attributes={},
        consent={},
        context={"device": "mobile"},
    )


if __name__ == "__main__":
    main()
