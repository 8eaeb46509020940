"""How fast the log takes events, and gives one customer's recent ones back.

`python -m bench.log`. Budget, on 2 shared cores: 3,000 events/s acknowledged to 16 callers of one event each, p99
under 20 ms; `recent` of a customer with 20 events among a million under 0.2 ms. Leaves out HTTP and checks of events.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from features.events import Event, to_us
from features.facts import Facts
from features.group_commit import GroupCommit
from features.home import Home
from features.log_export import export
from features.sqlite_log import SqliteLog

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
N_CALLERS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    n_events = parser.parse_args().events
    with tempfile.TemporaryDirectory(prefix="nbo-bench-") as folder:
        home = Home(Path(folder))
        log, facts = SqliteLog(home.log_db), Facts(home.facts_db)
        n_customers = max(n_events // 20, 1)
        seconds = _timed(lambda: _fill(log, n_events, n_customers))
        print(f"append, 1,000 per call   {n_events / seconds:>10,.0f} events/s")
        _group_commit(log)
        _recent(log, n_customers)
        seconds = _timed(lambda: export(home, facts, log, NOW))
        print(f"export to the lake       {n_events / seconds:>10,.0f} events/s")
        log.close()
        facts.close()


def _event(name: str, customer: int, n: int) -> Event:
    return Event(
        event_id=f"{name}-{n:09d}", event_type="view", customer_id=f"c-{customer:07d}", category="shoes", channel="web",
        occurred_at=NOW - timedelta(seconds=n % 600_000), properties={"page": "/"},
    )  # fmt: skip


def _fill(log: SqliteLog, n_events: int, n_customers: int) -> None:
    for start in range(0, n_events, 1_000):
        log.append([_event("fill", n % n_customers, n) for n in range(start, min(start + 1_000, n_events))], NOW)


def _group_commit(log: SqliteLog, seconds: float = 5.0) -> None:
    """16 callers, each waiting for its one event to be on disk before it sends the next."""
    writer = GroupCommit(log)
    took: list[float] = []
    until = time.perf_counter() + seconds

    def call(caller: int) -> None:
        n = 0
        while (began := time.perf_counter()) < until:
            writer.submit([_event(f"caller-{caller}", n % 1_000, n)], NOW).result()
            took.append(time.perf_counter() - began)
            n += 1

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(N_CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    writer.close()
    p50, p99 = np.quantile(took, (0.5, 0.99)) * 1e3
    rate = len(took) / seconds
    print(f"group commit, 16 callers {rate:>10,.0f} events/s acknowledged, p50 {p50:.2f} ms, p99 {p99:.2f} ms")


def _recent(log: SqliteLog, n_customers: int, n_reads: int = 5_000) -> None:
    since_us, after = to_us(NOW - timedelta(days=7)), log.last_position()
    took = []
    for customer in np.random.default_rng(0).integers(n_customers, size=n_reads):
        began = time.perf_counter()
        log.recent(f"c-{customer:07d}", since_us, after)
        took.append(time.perf_counter() - began)
    p50, p99 = np.quantile(took, (0.5, 0.99)) * 1e6
    print(f"recent, 20 events        {p50:>10,.0f} µs p50, {p99:,.0f} µs p99")


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
