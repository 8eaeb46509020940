"""Do caps, inventory and budgets hold exactly, when several processes decide for hot customers about scarce offers?

`python -m bench.caps [--decisions 1000000] [--processes 2]`. Time passes with the decisions, so that claims lapse,
days end and attribution windows close within the run; impressions, acceptances, dismissals and cancellations come at
random, some too late, and one process after the other is killed with -9 and replaced. Every tenth decision does not
look at the rules before it claims. Afterwards what was granted is gone through again, from journals that the store
knows nothing of, and from every state that the stock was ever committed in: exit 1 if a limit was exceeded at any
instant or anything stayed held. Prints JSON. Leaves out: HTTP, scoring.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.caps_audit import (
    check_contacts,
    check_pauses,
    check_stock,
    check_unlinked,
    confirmations,
    journals,
)
from bench.caps_world import (
    ATTRIBUTION,
    AUDIT,
    BATCH,
    BLIND,
    EVENTS_EVERY,
    HOT,
    HOUR_US,
    KILL_EVERY,
    LAPSE_US,
    LIMITING,
    LONGEST_US,
    MINUTE_US,
    PER_DECISION_US,
    SHORTEST_US,
    START_US,
    TAIL,
    WINDOW_US,
    Report,
    catalogue,
)
from features.errors import StoreUnavailable
from features.events import Event, from_us
from features.sqlite_log import SqliteLog
from serving.catalogue_view import CatalogueView
from serving.rules import Rules
from serving.rules.asked import Asked
from serving.rules.limits import Limits
from serving.state.contacts import Claim, Claimed
from serving.state.sqlite_contacts import SqliteContacts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nbo-caps-") as folder:
        report = run(asked.decisions, asked.processes, Path(folder))
    text = json.dumps({**asdict(report), "good": report.good}, indent=1)
    print(text)
    if asked.out is not None:
        asked.out.write_text(text)
    return 0 if report.good else 1


def run(decisions: int, processes: int, folder: Path) -> Report:
    """Decide, kill, settle, and check."""
    report = Report(processes=processes)
    offers = catalogue(decisions).offers
    hand = [from_us(START_US)]
    contacts = SqliteContacts(folder / "state.db", lambda: hand[0], attribution=ATTRIBUTION)
    with sqlite3.connect(folder / "state.db") as db:
        db.executescript(AUDIT)
    db.close()
    SqliteLog(folder / "log.db").close()
    began = time.perf_counter()
    _decide(decisions, processes, folder, report)
    report.seconds = round(time.perf_counter() - began, 2)
    granted, cancelled, logged = journals(folder, report)
    report.per_s = round(report.decisions / report.seconds, 1)
    log = SqliteLog(folder / "log.db")
    last_us = max(one.decided_us for one in granted.values())
    for more_us in (0, LAPSE_US, WINDOW_US, 2 * WINDOW_US, 10 * WINDOW_US):  # let everything be over
        hand[0] = from_us(last_us + 2 * HOUR_US + more_us)
        while contacts.catch_up(log):
            pass
    confirmed = confirmations(log, logged, granted)
    check_contacts(granted, cancelled, confirmed, catalogue(decisions), report)
    check_pauses(log, granted, cancelled, logged, report)
    check_stock(folder, offers, granted, cancelled, confirmed, report)
    check_unlinked(contacts, log, report)
    contacts.close()
    log.close()
    return report


def _decide(decisions: int, processes: int, folder: Path, report: Report) -> None:
    """Keeps the workers running until all decisions are made; kills one now and then."""
    context = multiprocessing.get_context("spawn")
    done = context.Array("q", 256, lock=False)
    quota, rng = decisions, random.Random(7)
    work = partial(_work, folder=folder, decisions=decisions, done=done)
    running = {n: context.Process(target=work, args=(n, quota // processes)) for n in range(processes)}
    for process in running.values():
        process.start()
    next_kill, started = decisions // (3 * processes + 1), processes
    while any(process.is_alive() for process in running.values()):
        time.sleep(0.02)
        if sum(done) >= next_kill and started < 200:
            next_kill += max(decisions // 8, KILL_EVERY)
            n = rng.choice([n for n, process in running.items() if process.is_alive()] or [-1])
            left = quota // processes - sum(done[n::processes]) if n >= 0 else 0
            if left <= 0:
                continue
            os.kill(running[n].pid or 0, signal.SIGKILL)
            running[n].join()
            report.killed += 1
            heir = n + processes  # journals of the dead stay as they are
            while heir in running:
                heir += processes
            started += 1
            left = quota // processes - sum(done[heir % processes :: processes])
            running[heir] = context.Process(target=work, args=(heir, left))
            running[heir].start()
    failed = [n for n, process in running.items() if process.exitcode not in (0, -signal.SIGKILL)]
    for n in failed:
        report.found("leaked", f"worker {n} ended with {running[n].exitcode}")


class _Time:
    """Simulated microseconds, the same in every process: they pass with the decisions of all."""

    def __init__(self, done: Any, decisions: int) -> None:
        self._done, self._began_ns = done, time.monotonic_ns()
        self._each_us = min(max(PER_DECISION_US * decisions, SHORTEST_US), LONGEST_US) / decisions

    def us(self) -> int:
        real_us = (time.monotonic_ns() - self._began_ns) // 1_000_000  # a little, so that time never stands still
        return START_US + int(sum(self._done) * self._each_us) + real_us

    def __call__(self) -> datetime:
        return from_us(self.us())


def _work(n: int, quota: int, *, folder: Path, decisions: int, done: Any) -> None:
    """One process: decides for batches of customers, and lets happen what happens to what it showed."""
    rng, clock = random.Random(n), _Time(done, decisions)
    view = CatalogueView(catalogue(decisions))
    rules, limits = Rules(view, LIMITING), Limits(view)
    contacts = SqliteContacts(folder / "state.db", clock, attribution=ATTRIBUTION, wait_s=20.0)
    log = SqliteLog(folder / "log.db")
    coming: list[tuple[int, int, str, str, str, str | None]] = []
    n_made = n_events = 0
    stats = {"empty": 0, "lost": 0, "blind": 0}
    times: list[float] = []
    with open(folder / f"journal-{n}", "ab", buffering=0) as journal:
        while n_made < quota:
            if n_made % (EVENTS_EVERY * BATCH) == 0:
                n_events += _happen(coming, clock, log, journal, f"{n}-{n_events}")
            began_us = clock.us()
            contacts.catch_up(log)
            customers = [_customer(rng) for _ in range(min(BATCH, quota - n_made))]
            histories, stock = contacts.histories(customers), contacts.stock(clock.us())
            claims, blind = [], []
            for at, (customer, history) in enumerate(zip(customers, histories, strict=True)):
                now_us, placement = clock.us(), rng.choice(("hero", "strip"))
                asked = Asked(placement_id=placement, channel="web", now_us=now_us, history=history, stock=stock)
                blind.append(rng.random() < BLIND)
                free = np.ones(len(view), dtype=bool) if blind[-1] else rules.eligible(asked)[0]
                rows = np.flatnonzero(free).tolist()
                rows = rng.sample(rows, min(len(rows), rng.choice((1, 1, 2, 3))))
                picks = tuple(
                    Claimed(row, view.offers[row].offer_id, view.offers[row].category, placement, "web") for row in rows
                )
                claims.append(Claim(f"{n}-{n_made + at}", customer, now_us, now_us + LAPSE_US, picks))
            began = time.perf_counter()
            results = contacts.claim(claims, limits)
            times.append(time.perf_counter() - began)
            ended_us = clock.us()
            lines = []
            for claim, lost, was_blind in zip(claims, results, blind, strict=True):
                if lost:
                    stats["blind" if was_blind else "lost"] += 1
                elif not claim.picks:
                    stats["empty"] += 1
                else:
                    offer_ids = [pick.offer_id for pick in claim.picks]
                    placement_id = claim.picks[0].placement_id
                    lines.append(["granted", *claim[:3], placement_id, offer_ids, began_us, ended_us])
                    _fate(rng, coming, claim, n)
            cancelled = [line[1] for line in lines if rng.random() < 0.05]
            _note(journal, lines)
            if cancelled:
                _note(journal, [["cancelled", one] for one in cancelled])  # before it is: killed in between is fine
                contacts.cancel(cancelled)
                gone = set(cancelled)
                coming = [one for one in coming if one[2] not in gone]
                heapq.heapify(coming)
            n_made += len(customers)
            done[n] = n_made
        _note(journal, [["stats", stats, times]])
    contacts.close()
    log.close()


def _customer(rng: random.Random) -> str:
    return f"hot-{rng.randrange(HOT)}" if rng.random() < 0.5 else f"c-{rng.randrange(TAIL)}"


def _fate(rng: random.Random, coming: list[Any], claim: Claim, n: int) -> None:
    """What will happen to a decision that was handed out: seen, at times too late, and answered, or nothing."""
    for pick in claim.picks:
        if rng.random() < 0.45:
            continue
        at_us = claim.decided_us + int(rng.expovariate(1 / (8 * MINUTE_US)))
        if rng.random() < 0.1:
            at_us = claim.decided_us + LAPSE_US - MINUTE_US + rng.randrange(2 * MINUTE_US)  # at the very edge
        decision_id: str | None = claim.decision_id
        kinds = [(at_us, "impression")]
        if rng.random() < 0.3:
            kinds.append((at_us + int(rng.expovariate(1 / (3 * HOUR_US))), rng.choice(("accept", "accept", "dismiss"))))
        for when_us, kind in kinds:
            heapq.heappush(coming, (when_us, rng.randrange(10**9), decision_id, claim.customer_id, pick.offer_id, kind))
    if rng.random() < 0.02:
        visitor = f"u-{n}-{rng.randrange(10**6)}"
        heapq.heappush(
            coming, (claim.decided_us, rng.randrange(10**9), "", visitor, claim.picks[0].offer_id, "impression")
        )


def _happen(coming: list[Any], clock: _Time, log: SqliteLog, journal: Any, name: str) -> int:
    """Log what is due, and note by when it was certainly in the log."""
    due = []
    now_us = clock.us()
    while coming and coming[0][0] <= now_us:
        due.append(heapq.heappop(coming))
    if not due:
        return 0
    events = [
        Event(
            event_id=f"{name}-{at}", event_type=kind, customer_id=customer_id, occurred_at=from_us(when_us),
            decision_id=decision_id or None, offer_id=offer_id,
        )
        for at, (when_us, _, decision_id, customer_id, offer_id, kind) in enumerate(due)
    ]  # fmt: skip
    received_us = clock.us()
    log.append(events, from_us(received_us))
    _note(journal, [["logged", f"{name}-", len(events), received_us, clock.us()]])
    return len(events)


def _note(journal: Any, lines: list[Any]) -> None:
    journal.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StoreUnavailable as error:
        sys.exit(f"the store did not answer: {error}")
