"""The deadline while stores are slow, fail, or are locked: an open loop at a fixed rate, one fault after the other.

For each fault: a second of peace, three seconds of the fault, five of peace. Counted are answers later than 50 ms (the
deadline that is asked for), answers more than 100 ms beyond it, answers that are no 200, offers with limits that were
shown while nobody could count them, and the seconds from the end of the fault to the last degraded answer; answers with
nothing for lack of processor time are no degrading of stores, and counted apart. Budget: at most 1 answer in 1,000
later, none above 100 ms beyond, no 5xx, no forbidden offer, recovery within 5 s, without the fault at most 1 in 100 for
which no time was left; exit 1 if not.
Latency counts from the instant a request was due, in the client: the way over the loopback is in it. `cpu_ms` is the
processor time of the service per question, over all of its threads.
`.venv/bin/python -m bench.deadline [--rate 200] [--only NAME …] [--thief 0.2]` prints one line of JSON per fault; with
a thief (`bench/thief.py`) that share of every processor is taken away meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.load import Connection, Load, loop_factory, post
from bench.servers import BIN, Running, running
from bench.synthetic import Made, customer_name, make_customers, with_offers
from bench.thief import thieves
from features.catalogue import ContactPolicy, Offer
from features.facts import Facts
from serving.answering import OVER

DEADLINE_MS = 50
QUIET_S, FAULT_S, AFTER_S = 1.0, 3.0, 5.0
RECOVERS_S = 5.0
FAULTS = (
    "none", "features slow", "features fails", "recent slow", "profiles slow", "profiles fails", "contacts slow",
    "contacts fails", "claims slow", "claims fails", "log fails", "contacts.db locked", "facts.db locked",
    "log.db locked",
)  # fmt: skip
SAID_OVER = OVER[1].encode()
COUNTERS = ("contacts", "claims")  # faults during which nobody can count


class Watched(Load):
    """Keeps every answer with the instant it was due."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.answers: list[tuple[float, float, bytes]] = []  # due, latency, answer

    def answered(self, connection: Connection, answer: bytes) -> None:
        self.answers.append((connection.due, time.perf_counter() - connection.due, answer))
        super().answered(connection, answer)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rate", type=float, default=200.0)
    options.add_argument("--offers", type=int, default=1_000)
    options.add_argument("--customers", type=int, default=2_000)
    options.add_argument("--thief", type=float, default=0.0, help="share of every processor that is taken away")
    options.add_argument("--only", nargs="+", choices=FAULTS, default=FAULTS)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_customers(root / "customers", given.customers)
        made = with_offers(root / "customers", root / "home", given.offers, given.customers)
        counted = half_limited(made)
        switch = root / "fault"
        os.mkfifo(switch)
        command = [str(BIN / "uvicorn"), "bench.faulty_app:create_app", "--factory", "--port", "{port}",
                   "--http", "serving.arrival:Arriving", "--log-level", "critical", "--no-access-log"]  # fmt: skip
        environment = {**made.environment(), "BENCH_FAULT": str(switch)}
        found = []
        with running(command, environment, root / "server.log", "/livez") as server:
            wire = requests(made, given.customers)
            ask(server.port, wire, given.rate, 3.0)  # warm-up
            with thieves(given.thief):
                for fault in given.only:
                    found.append(one(server, wire, given.rate, fault, switch, made, counted))
                    found[-1]["thief"] = given.thief
                    print(json.dumps(found[-1]), flush=True)
    failed = [one["fault"] for one in found if not one["holds"]]
    if failed:
        print(f"the deadline does not hold with: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def half_limited(made: Made) -> frozenset[str]:
    """Takes every limit off the even offers and the policy away; the ids of those that are limited still."""
    facts = Facts(made.home.facts_db)
    limited = []
    with closing(facts), facts.transaction():
        facts.remove(ContactPolicy, "calm", facts.get(ContactPolicy, "calm").updated_at)
        for n, stored in enumerate(facts.objects(Offer, -1)):
            if n % 2:
                limited.append(stored.body.offer_id)
            else:
                free = msgspec.structs.replace(stored.body, caps=(), inventory=None, budget=None, cost=None)
                facts.put(free, stored.updated_at)
    return frozenset(limited)


def requests(made: Made, n_customers: int) -> list[bytes]:
    headers = [("authorization", f"Bearer {made.key}")]
    rng = np.random.default_rng(1)
    bodies = (
        {
            "customer_id": customer_name(n),
            "placements": [{"placement_id": "home-hero", "limit": 3}],
            "context": {"device": "mobile"},
            "deadline_ms": DEADLINE_MS,
        }
        for n in rng.integers(0, n_customers, 5_000).tolist()
    )
    return [post("/v1/decisions", json.dumps(body).encode(), headers) for body in bodies]


def ask(port: int, wire: list[bytes], rate: float, seconds: float) -> Watched:
    load = Watched("127.0.0.1", port, wire)
    gc.collect()
    gc.disable()  # a pause of this process would count as the service's
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(load.open(rate, 0.0, seconds))
    gc.enable()
    return load


def one(
    server: Running, wire: list[bytes], rate: float, fault: str, switch: Path, made: Made, limited: frozenset[str]
) -> dict[str, Any]:
    """What was seen before, during and after one fault."""
    moments: list[float] = []
    by = threading.Thread(target=_cause, args=(fault, switch, made, moments))
    by.start()
    stolen, used, began = stolen_s(), used_s(server.process.pid), time.perf_counter()
    load = ask(server.port, wire, rate, QUIET_S + FAULT_S + AFTER_S)
    by.join()
    used = used_s(server.process.pid) - used
    stolen = (stolen_s() - stolen) / (time.perf_counter() - began) / (os.cpu_count() or 1)
    begins, ends = moments
    latencies = np.array([latency for _, latency, _ in load.answers]) * 1000.0
    over = [due for due, _, answer in load.answers if SAID_OVER in answer]
    degraded_at = [
        due for due, _, answer in load.answers if b'"degraded":[{' in answer and SAID_OVER not in answer and due > ends
    ]
    during = [answer for due, _, answer in load.answers if begins + 0.1 < due < ends - 0.1]
    n_over_in_peace = sum(not begins <= due <= ends + 0.1 for due in over)
    n_late = int((latencies > DEADLINE_MS).sum())
    found: dict[str, Any] = {
        "fault": fault,
        "load": f"open_{rate:.0f}",
        "n": len(latencies),
        "p50_ms": round(float(np.percentile(latencies, 50)), 2),
        "p99_ms": round(float(np.percentile(latencies, 99)), 2),
        "p999_ms": round(float(np.percentile(latencies, 99.9)), 2),
        "max_ms": round(float(latencies.max()), 2),
        "late": n_late,
        "errors": load.n_errors + load.n_lost,
        "forbidden": _forbidden(during, limited) if fault.split()[0] in COUNTERS else 0,
        "degraded_during": round(sum(b'"degraded":[{' in answer for answer in during) / max(len(during), 1), 3),
        "empty_during": round(sum(b'"offers":[]' in answer for answer in during) / max(len(during), 1), 3),
        "out_of_time": len(over),
        "recovery_s": round(max(degraded_at) - ends, 2) if degraded_at else 0.0,
        "cpu_ms": round(1000.0 * used / len(latencies), 2),
        "stolen": round(stolen, 3),
    }
    in_time = n_late <= len(latencies) / 1000 and found["max_ms"] <= DEADLINE_MS + 100
    decided = n_over_in_peace <= len(latencies) / 100 and found["recovery_s"] <= RECOVERS_S
    found["holds"] = in_time and decided and not found["errors"] and not found["forbidden"]
    return found


def stolen_s() -> float:
    """Seconds of processor time that the host of this machine gave to others since it began; 0.0 if nobody says."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return int(first[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def used_s(pid: int) -> float:
    """Seconds of processor time that a process has used; 0.0 if nobody says."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def _forbidden(answers: list[bytes], limited: frozenset[str]) -> int:
    shown = 0
    for answer in answers:
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        shown += sum(offer["offer_id"] in limited for one in body["placements"] for offer in one["offers"])
    return shown


def _cause(fault: str, switch: Path, made: Made, moments: list[float]) -> None:
    time.sleep(QUIET_S)
    name, _, how = fault.partition(" ")
    with _locked(made.home.root / name) if how == "locked" else _switched(switch, fault):
        moments.append(time.perf_counter())
        time.sleep(FAULT_S)
    moments.append(time.perf_counter())


@contextmanager
def _switched(switch: Path, fault: str) -> Iterator[None]:
    switch.write_text("" if fault == "none" else fault)
    yield
    switch.write_text("")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another process could hold the file's write lock just so."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10.0)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


if __name__ == "__main__":
    sys.exit(main())
