"""What a report of an experiment costs those who are waiting for a decision: p99 with one being computed, and without.

One worker under an open loop; in every round the load is measured alone, and then while reports are asked for one after
the other, each by other segments, so that none is given again. Budget: p99 beside reports at most 2 times p99 alone, as
the median over the rounds. On two cores server, load and report share what there is. Left out: the network, TLS.

Run it with `.venv/bin/python -m bench.report_beside [--units N] [--rounds N]`; it takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.serving import Asked, Bench, Plan, home_with, ours
from bench.synthetic import AT, Made, customer_name, make_customers
from features.events import to_us
from features.experiment import Experiment, Phase, Variant
from features.facts import Facts
from features.log import DecisionRow, Exposure
from features.sqlite_log import SqliteLog

OFFERS, CUSTOMERS, DAYS = 100, 5_000, 7
BUDGET = 2.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--units", type=int, default=50_000, help="exposed to the experiment")
    options.add_argument("--rate", type=float, default=200.0, help="decisions per second")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=8.0)
    given = options.parse_args()
    plan = Plan(offers=(OFFERS,), customers=CUSTOMERS, rounds=given.rounds, seconds=given.seconds)
    with tempfile.TemporaryDirectory(prefix="nbo-bench-") as folder:
        bench = Bench(Path(folder), plan)
        make_customers(bench.folder / "customers", CUSTOMERS)
        made = home_with(bench, OFFERS)
        expose(made, given.units)
        with ours(bench, made) as asked:
            found = [round_of(bench, asked, made.key, n, given.rate) for n in range(given.rounds)]
    ratio = median(one["p99_beside_ms"] / one["p99_alone_ms"] for one in found)
    print(json.dumps({"p99_ratio": round(ratio, 2), "budget": BUDGET, "units": given.units, "rate": given.rate}))
    raise SystemExit(ratio > BUDGET)


def round_of(bench: Bench, asked: Asked, key: str, n: int, rate: float) -> dict[str, Any]:
    alone = bench.load(asked, n, rate)
    with reports(asked.server.port, key, n) as took:
        beside = bench.load(asked, n, rate)
    row = {f"{name}_{where}_ms": round(one[f"{name}_ms"], 2) for where, one in (("alone", alone), ("beside", beside))
           for name in ("p50", "p99")}  # fmt: skip
    row |= {"errors": beside["errors"], "degraded": beside["degraded"], "reports_s": [round(one, 1) for one in took]}
    print(json.dumps(row), flush=True)
    return row


@contextmanager
def reports(port: int, key: str, n: int) -> Iterator[list[float]]:
    """One after the other until the block is over; what each took, in seconds."""
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        segments = product(("known", ""), ("tier", ""), ("country", ""))
        for some in segments:
            if over.is_set():
                return
            query = "&".join(f"segment={one}" for one in some if one)
            began = time.perf_counter()
            address = f"http://127.0.0.1:{port}/v1/experiments/beside-{n}/report?{query}"
            asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {key}"})
            with urllib.request.urlopen(asked, timeout=300) as answer:
                assert json.loads(answer.read())["n_units"]
            took.append(time.perf_counter() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def expose(made: Made, n_units: int) -> None:
    """An experiment for each round that ran for a week, the same units in each."""
    start = AT - timedelta(days=DAYS)
    weights = {"control": 0.5, "on": 0.5}
    with closing(Facts(made.home.facts_db)) as facts:
        for n in range(10):
            experiment = Experiment(
                experiment_id=f"beside-{n}",
                hypothesis="None",
                variants=(Variant(name="control", weight=0.5, is_control=True), Variant(name="on", weight=0.5)),
                primary_metric="visit_frequency",
                secondary_metrics=("acceptance_rate", "revenue_per_customer"),
                status="stopped",
                started_at=start,
                stopped_at=AT,
                phases=(Phase(number=1, starts_at=start, traffic=1.0, weights=weights, stops_at=AT),),
            )
            facts.put(experiment, start)
    rng = np.random.default_rng(0)
    at = to_us(start) + np.sort(rng.integers(0, DAYS * 86_400 * 10**6, n_units))
    on = rng.random(n_units) < 0.5
    rows = [
        DecisionRow(
            f"beside-{i}",
            customer_name(i),
            int(at[i]),
            b"{}",
            exposures=[Exposure(f"beside-{n}", 1, customer_name(i), "on" if on[i] else "control") for n in range(10)],
        )
        for i in range(n_units)
    ]
    with closing(SqliteLog(made.home.log_db)) as log:
        for first in range(0, n_units, 10_000):
            log.append_decisions(rows[first : first + 10_000])


if __name__ == "__main__":
    main()
