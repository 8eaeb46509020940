"""Our read of one customer beside Feast's `get_online_features`, call by call in one run: p50, p99 and their ratio.

Budget: at most a third of Feast's latency; read and features together under 150 µs with no live events. The store is
made from a generated lake of 2,000 customers over 60 days; `--home DIR` takes one that is there (materialized). Both
read every stored column of one customer from the same SQLite file, which is in the page cache. Left out: the log and
the profile. Run it with `.venv/bin/python -m bench.online [--home DIR] [--reads N]`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.features import FIRST, generate

DAYS = 60


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--home", type=Path)
    options.add_argument("--reads", type=int, default=2000)
    given = options.parse_args()
    if given.home is not None:
        print(json.dumps(measure(given.home, given.reads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        print(json.dumps(measure(Path(folder), given.reads)))


def prepare(root: Path) -> None:
    from features.compute import build
    from features.facts import Facts
    from features.feast_repo import apply, materialize
    from features.home import Home

    generate(root, 200_000, 2_000, DAYS + 1)
    home, facts = Home(root), Facts(root / "facts.db")
    as_of = datetime.combine(FIRST + timedelta(days=DAYS), datetime.min.time(), UTC) + timedelta(hours=12)
    build(home, facts, until=as_of.date())
    apply(home, facts)
    materialize(home, facts, as_of)
    facts.close()


def measure(root: Path, reads: int) -> dict[str, Any]:
    from features.check import sample
    from features.facts import Facts
    from features.feast_repo import open_feast
    from features.home import Home
    from features.live import features_of
    from features.online import VIEWS, open_online

    home, facts = Home(root), Facts(root / "facts.db")
    online = open_online(home, facts)
    if online is None or online.snapshot is None:
        raise SystemExit(f"nothing is materialized in {root}")
    features, now_us = online.feature_set, online.snapshot.until_us
    names = [f"{VIEWS['customer']}:{column.name}" for column in features.stored("customer")]
    feast = open_feast(home, facts)
    customers = sample(home, facts, online, reads, seed=0)
    rng = np.random.default_rng(0)
    ours, theirs, derived = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for n, at in enumerate(rng.integers(0, len(customers), reads + 50)):
            customer = customers[at]
            one = _us(lambda customer=customer: online.customer(customer))
            other = _us(lambda customer=customer: feast.get_online_features(names, [{"customer_id": customer}]))
            row = online.customer(customer)
            both = one + _us(lambda row=row: features_of(features, row, (), None, now_us))
            if n >= 50:  # the first ones fill caches
                ours.append(one)
                theirs.append(other)
                derived.append(both)
    facts.close()
    found: dict[str, Any] = {"reads": reads, "stored_columns": len(names), "features": len(features.customer)}
    for name, times in (("our_read_us", ours), ("get_online_features_us", theirs), ("read_and_features_us", derived)):
        found[name] = {"p50": _rank(times, 50), "p99": _rank(times, 99)}
    found["ratio_p50"] = round(_rank(ours, 50) / _rank(theirs, 50), 3)
    found["ratio_p99"] = round(_rank(ours, 99) / _rank(theirs, 99), 3)
    return {**found, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}


def _us(call: Callable[[], object]) -> float:
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / 1000


def _rank(times: list[float], percent: float) -> float:
    return round(float(np.percentile(times, percent)), 1)


if __name__ == "__main__":
    main()
