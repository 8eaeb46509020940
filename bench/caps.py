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
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from features.catalogue import Budget, Cap, ContactPolicy, Cooldown, Cost, Offer, Pause, Placement, Treatment
from features.data_settings import Attribution
from features.errors import StoreUnavailable
from features.events import Event, from_us, to_us
from features.facts import Catalogue
from features.log import SqliteLog
from serving.catalogue_view import CatalogueView
from serving.rules import Rules
from serving.rules.asked import Asked
from serving.rules.budget import BudgetRule
from serving.rules.caps import CapsRule
from serving.rules.cooldown import CooldownRule
from serving.rules.inventory import InventoryRule
from serving.rules.limits import Limits, take_of
from serving.rules.pacing import PacingRule
from serving.rules.pause import PauseRule
from serving.state.contacts import Claim, Claimed
from serving.state.sqlite_contacts import SqliteContacts

START_US = to_us(datetime(2026, 3, 4, 18, tzinfo=UTC))
MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
LAPSE_US = 30 * MINUTE_US
WINDOW_US = 6 * HOUR_US
ATTRIBUTION = Attribution(window_days=0.25)
SHORTEST_US, LONGEST_US = 12 * HOUR_US, 60 * HOUR_US  # simulated: at least one midnight and many lapses
PER_DECISION_US = 2_000_000  # simulated time goes on with every decision, however fast the machine is
RESTS_US, RESTS_DISMISSED_US = 5 * MINUTE_US, 24 * HOUR_US
IGNORED, PAUSED_US = 5, HOUR_US
CLOCKS_US = 1_000_000  # by which processes that started at different moments differ, at most
CHANGEABLE = 25  # contacts after which an answer may come too late to change a run that is over
BATCH = 16
HOT, TAIL = 60, 20_000
BLIND = 0.1
EVENTS_EVERY = 4  # batches of decisions per durable write of events
KILL_EVERY = 20_000  # decisions, at least: a new process takes a while to start
N_OFFERS = 60
LIMITING = (CooldownRule, PauseRule, CapsRule, InventoryRule, BudgetRule, PacingRule)
AUDIT = """
CREATE TABLE IF NOT EXISTS audit (
    seq INTEGER PRIMARY KEY, offer_id TEXT, units INTEGER, spent INTEGER, day TEXT, today INTEGER
);
CREATE TRIGGER IF NOT EXISTS audit_new AFTER INSERT ON stock BEGIN
    INSERT INTO audit VALUES (NULL, new.offer_id, new.units, new.spent, new.day, new.today); END;
CREATE TRIGGER IF NOT EXISTS audit_more AFTER UPDATE ON stock BEGIN
    INSERT INTO audit VALUES (NULL, new.offer_id, new.units, new.spent, new.day, new.today); END;
"""


class Granted(NamedTuple):
    """One decision as its worker noted it, after the claim had returned."""

    decision_id: str
    customer_id: str
    decided_us: int
    placement_id: str
    offer_ids: list[str]
    began_us: int = 0
    ended_us: int = 0

    @property
    def read_us(self) -> int:
        """All that was certainly in the log by then was known."""
        return self.began_us - CLOCKS_US

    @property
    def until_us(self) -> int:
        """Nothing that came into the log from then on was known."""
        return self.ended_us + CLOCKS_US


@dataclass
class Report:
    """What was done, and what was found wrong with it."""

    decisions: int = 0
    granted: int = 0
    contacts: int = 0
    empty: int = 0  # decisions for which nothing was left
    lost_races: int = 0  # claims refused by the transaction after the rules had let them pass
    refused_blind: int = 0
    cancelled: int = 0
    events: int = 0
    killed: int = 0
    processes: int = 0
    seconds: float = 0.0
    per_s: float = 0.0
    claim_p50_us: float = 0.0  # of a batch of 16
    claim_p99_us: float = 0.0
    stock_states: int = 0  # committed states of the stock that were checked
    instants: int = 0  # at which caps were counted
    exhausted: int = 0  # offers that were once used up to their limit
    cap_violations: int = 0
    cooldown_violations: int = 0
    pauses: int = 0  # that came to an end in the run, or would have
    pauses_checked: int = 0  # decisions of which it is certain what was known
    pause_violations: int = 0
    stock_violations: int = 0
    leaked: int = 0  # holds that nobody would ever give back, and units that nobody can account for
    uncounted_events: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        contacts = self.cap_violations, self.cooldown_violations, self.pause_violations
        wrong = *contacts, self.stock_violations, self.leaked, self.uncounted_events
        return not any(wrong) and self.granted > 0

    def found(self, what: str, example: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
        if len(self.examples) < 10:
            self.examples.append(f"{what}: {example}")


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
    granted, cancelled, logged = _journals(folder, report)
    report.per_s = round(report.decisions / report.seconds, 1)
    log = SqliteLog(folder / "log.db")
    last_us = max(one.decided_us for one in granted.values())
    for more_us in (0, LAPSE_US, WINDOW_US, 2 * WINDOW_US, 10 * WINDOW_US):  # let everything be over
        hand[0] = from_us(last_us + 2 * HOUR_US + more_us)
        while contacts.catch_up(log):
            pass
    confirmed = _confirmed(log, logged, granted)
    _check_contacts(granted, cancelled, confirmed, catalogue(decisions), report)
    _check_pauses(log, granted, cancelled, logged, report)
    _check_stock(folder, offers, granted, cancelled, confirmed, report)
    _check_unlinked(contacts, log, report)
    contacts.close()
    log.close()
    return report


def catalogue(decisions: int) -> Catalogue:
    """A third each: scarce units, money per impression (in total, or per day and paced), money per acceptance."""
    scarce = max(decisions // 200, 5)
    offers = []
    for n in range(N_OFFERS):
        more: dict[str, Any] = {"caps": (Cap(limit=2 + n % 3, window=("6h", "1d", "calendar_day")[n % 3]),)}
        if n % 6 == 0:
            more["inventory"] = scarce + n // 6
        elif n % 6 == 1:
            more |= {"cost": Cost(amount=0.1, per="impression"), "budget": Budget(amount=scarce * 0.1, per="total")}
        elif n % 6 == 2:
            more |= {"cost": Cost(amount=0.3, per="impression"), "budget": Budget(amount=scarce * 0.1, per="day")}
            more["pacing"] = n % 12 == 2
        elif n % 6 == 3:
            more |= {"cost": Cost(amount=1.7, per="accept"), "budget": Budget(amount=scarce * 1.0, per="total")}
            more["inventory"] = scarce
        offers.append(
            Offer(
                offer_id=f"o-{n:02d}", name="x", value=1.0, currency="EUR", category=f"k-{n % 5}", status="approved",
                treatments=(Treatment(treatment_id="t"),), **more,
            )
        )  # fmt: skip
    calm = ContactPolicy(
        policy_id="calm",
        name="calm",
        caps=(
            Cap(limit=12, window="6h", of="all"),
            Cap(limit=6, window="12h", of="category"),
            Cap(limit=20, window="calendar_day", of="placement"),
        ),
        cooldown=Cooldown(impression="5m", dismiss="1d"),
        pause_after=Pause(ignored=IGNORED, for_="1h"),
    )
    placements = (
        Placement(placement_id="hero", name="hero", channel="web"),
        Placement(placement_id="strip", name="strip", channel="web"),
    )
    return Catalogue(1, tuple(offers), placements, contact_policies=(calm,))


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


def _journals(folder: Path, report: Report) -> tuple[dict[str, Granted], set[str], dict[str, int]]:
    """What the workers noted: granted decisions, cancelled ones, and by when each event was in the log."""
    granted: dict[str, Granted] = {}
    cancelled: set[str] = set()
    logged: dict[str, int] = {}
    times: list[float] = []
    for path in sorted(folder.glob("journal-*")):
        for line in path.read_bytes().splitlines():
            try:
                kind, *rest = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue  # half a line of a killed process
            if kind == "granted":
                granted[rest[0]] = Granted(*rest)
            elif kind == "cancelled":
                cancelled.add(rest[0])
            elif kind == "logged":
                logged.update({f"{rest[0]}{at}": rest[3] for at in range(rest[1])})
            else:
                stats, some = rest
                report.empty += stats["empty"]
                report.lost_races += stats["lost"]
                report.refused_blind += stats["blind"]
                times += some
    report.granted, report.cancelled = len(granted), len(cancelled)
    report.contacts = sum(len(one.offer_ids) for one in granted.values())
    numbers = [int(one.partition("-")[0]) for one in granted]
    most = {n: max(int(one.partition("-")[2]) for one in granted if one.startswith(f"{n}-")) for n in set(numbers)}
    report.decisions = sum(most.values()) + len(most)
    if times:
        report.claim_p50_us, report.claim_p99_us = (round(float(np.quantile(times, q)) * 1e6, 1) for q in (0.5, 0.99))
    return granted, cancelled, logged


class Confirmed(NamedTuple):
    """What the log says of a decision's offer."""

    first_us: int  # received, of the first event that keeps it
    logged_us: int  # when it was certainly in the log; far ahead if nobody can say
    accepts: tuple[int, ...]
    dismissed: tuple[int, int] | None  # when, and by when it was certainly in the log


class Shown(NamedTuple):
    """One contact, as the journals and the log tell it."""

    decided_us: int
    offer_id: str
    until_us: int  # it counts until then
    placement_id: str
    dismissed: tuple[int, int] | None
    read_us: int = 0


def _confirmed(log: SqliteLog, logged: dict[str, int], granted: dict[str, Granted]) -> dict[tuple[str, str], Confirmed]:
    found: dict[tuple[str, str], Confirmed] = {}
    for event in _events(log):
        if event.decision_id is None or event.decision_id not in granted:
            continue
        key = event.decision_id, event.offer_id or ""
        known = found.get(key, Confirmed(0, 0, (), None))
        if event.event_type == "dismiss":
            known = known._replace(dismissed=(event.occurred_us, logged.get(event.event_id, sys.maxsize)))
        else:
            if not known.first_us:
                certain_us = logged.get(event.event_id, sys.maxsize)
                known = known._replace(first_us=event.received_us, logged_us=certain_us)
            if event.event_type == "accept":
                known = known._replace(accepts=(*known.accepts, event.received_us))
        found[key] = known
    return found


def _events(log: SqliteLog) -> Iterator[Any]:
    position = 0
    while some := log.events_after(position, 5_000):
        yield from some
        position = some[-1].position


def _in_time(one: Granted, confirmed: Confirmed | None) -> bool:
    """Whether its impression was certainly in the log before the claim lapsed."""
    return confirmed is not None and confirmed.first_us > 0 and confirmed.logged_us < one.decided_us + LAPSE_US


def _check_contacts(
    granted: dict[str, Granted],
    cancelled: set[str],
    confirmed: dict[tuple[str, str], Confirmed],
    catalogue: Catalogue,
    report: Report,
) -> None:
    """Every cap of every customer at every instant at which a decision was granted."""
    offers = {offer.offer_id: offer for offer in catalogue.offers}
    shown: dict[str, list[Shown]] = defaultdict(list)
    for one in granted.values():
        if one.decision_id in cancelled:
            continue
        for offer_id in one.offer_ids:
            said = confirmed.get((one.decision_id, offer_id))
            until_us = sys.maxsize if _in_time(one, said) else one.decided_us + LAPSE_US
            dismissed = said.dismissed if said is not None else None
            shown[one.customer_id].append(
                Shown(one.decided_us, offer_id, until_us, one.placement_id, dismissed, one.read_us)
            )
    over_all, of_category, of_placement = catalogue.contact_policies[0].caps
    for customer_id, contacts in shown.items():
        contacts.sort(key=attrgetter("decided_us"))
        report.instants += len(contacts)
        _check_cap(contacts, over_all, customer_id, report)
        for placement_id in ("hero", "strip"):
            some = [one for one in contacts if one.placement_id == placement_id]
            _check_cap(some, of_placement, f"{customer_id} {placement_id}", report)
        for category in {offers[one.offer_id].category for one in contacts}:
            some = [one for one in contacts if offers[one.offer_id].category == category]
            _check_cap(some, of_category, f"{customer_id} {category}", report)
        for offer_id in {one.offer_id for one in contacts}:
            some = [one for one in contacts if one.offer_id == offer_id]
            for cap in offers[offer_id].caps:
                _check_cap(some, cap, f"{customer_id} {offer_id}", report)
            _check_rest(some, f"{customer_id} {offer_id}", report)


def _check_rest(contacts: list[Shown], what: str, report: Report) -> None:
    """Contacts with one offer: none within the cool-down after another, nor after a dismissal that was known."""
    for before, after in pairwise(contacts):
        if after.decided_us - before.decided_us < RESTS_US and before.until_us > after.decided_us:
            report.found("cooldown_violations", f"{what}: {before} {after}")
    for one in contacts:
        if one.dismissed is not None:
            at_us, known_us = one.dismissed
            if any(known_us < after.read_us and after.decided_us < at_us + RESTS_DISMISSED_US for after in contacts):
                report.found("cooldown_violations", f"{what}: again after it was dismissed at {from_us(at_us)}")


class Said(NamedTuple):
    """One event of a decision's offer."""

    received_us: int
    certain_us: int  # when it was certainly in the log
    at_us: int
    kind: str


def _check_pauses(
    log: SqliteLog, granted: dict[str, Granted], cancelled: set[str], logged: dict[str, int], report: Report
) -> None:
    """No decision within a pause, counted from the first contact on, wherever it is certain what was known."""
    said: dict[tuple[str, str], list[Said]] = defaultdict(list)
    for event in _events(log):
        if event.decision_id in granted:
            certain_us = logged.get(event.event_id, sys.maxsize)
            at_us = min(event.occurred_us, event.received_us)
            said[event.decision_id, event.offer_id or ""].append(
                Said(event.received_us, certain_us, at_us, event.event_type)
            )
    decisions: dict[str, list[Granted]] = defaultdict(list)
    for decision in sorted(granted.values(), key=attrgetter("decided_us")):
        if decision.decision_id not in cancelled:
            decisions[decision.customer_id].append(decision)
    for customer_id, made in decisions.items():
        shown = [(one.decided_us, said.get((one.decision_id, name), [])) for one in made for name in one.offer_ids]
        times = [decided_us for decided_us, _ in shown]
        ends: set[int] = set()
        for one in made:
            before = shown[: bisect_right(times, one.decided_us - 1)]
            known = [event for _, events in before for event in events if event.received_us < one.until_us]
            if any(event.certain_us > one.read_us for event in known) or _came_too_late(before, times, one):
                continue
            report.pauses_checked += 1
            until_us = _paused_until_us(before, one)
            ends.add(until_us)
            if until_us > one.decided_us:
                report.found("pause_violations", f"{customer_id}: {one} although paused until {from_us(until_us)}")
        report.pauses += len(ends - {0})


def _came_too_late(shown: list[tuple[int, list[Said]]], times: list[int], now: Granted) -> bool:
    """Whether an event came to a contact that may have been forgotten by then."""
    return any(
        event.received_us < now.until_us and bisect_right(times, event.received_us) - at > CHANGEABLE
        for at, (_, events) in enumerate(shown)
        for event in events
    )


def _paused_until_us(shown: list[tuple[int, list[Said]]], now: Granted) -> int:
    ignored = until_us = 0
    for decided_us, events in shown:
        known = [event for event in events if event.received_us < now.until_us]
        if not known:
            continue
        first, lapses_us = known[0], decided_us + LAPSE_US
        seen_us = first.received_us if first.received_us >= lapses_us else max(decided_us, first.at_us)
        answers = [event for event in known if event.kind != "impression"]
        last = max(answers, key=attrgetter("at_us")) if answers else None
        if last is not None and last.kind != "dismiss":
            ignored = 0
            continue
        at_us = max(lapses_us, seen_us) if last is None else max(decided_us, last.at_us)
        if last is None and at_us > now.decided_us:
            continue  # there was time left to answer
        ignored += 1
        if ignored == IGNORED:
            until_us, ignored = max(until_us, at_us + PAUSED_US), 0
    return until_us


def _check_cap(contacts: list[Shown], cap: Cap, what: str, report: Report) -> None:
    """`contacts` of one cap, by time: at each of them, those that count then, itself included, are within the limit."""
    times = [one.decided_us for one in contacts]
    for at, now_us in enumerate(times):
        inside = contacts[bisect_right(times, _before(cap, now_us)) : at + 1]
        counted = sum(1 for one in inside if one.until_us > now_us)
        if counted > cap.limit:
            report.found("cap_violations", f"{what} {cap}: {counted} at {from_us(now_us).isoformat()}")


def _before(cap: Cap, now_us: int) -> int:
    """The last instant that is outside the window."""
    if cap.window == "calendar_day":
        return to_us(datetime.combine(from_us(now_us).date(), datetime.min.time(), UTC)) - 1
    return now_us - timedelta(hours=int(cap.window[:-1]) * (24 if cap.window[-1] == "d" else 1)) // timedelta(
        microseconds=1
    )


def _check_stock(
    folder: Path,
    offers: tuple[Offer, ...],
    granted: dict[str, Granted],
    cancelled: set[str],
    confirmed: dict[tuple[str, str], Confirmed],
    report: Report,
) -> None:
    """Every committed state of every offer, and what was used in the end against what the journals explain."""
    takes = {offer.offer_id: take for offer in offers if (take := take_of(offer)) is not None}
    certain: Counter[str] = Counter()
    possible: Counter[str] = Counter()
    for one in granted.values():
        for offer_id in one.offer_ids:
            event = confirmed.get((one.decision_id, offer_id))
            if event is not None and event.first_us:
                if one.decision_id not in cancelled and _in_time(one, event):
                    certain[offer_id] += 1
                else:
                    possible[offer_id] += 1  # late, or at the very edge: takes stock only if some was left
    last: dict[str, tuple[int, int, int]] = {}
    with sqlite3.connect(folder / "state.db") as db:
        for offer_id, units, spent, day, today in db.execute("SELECT offer_id, units, spent, day, today FROM audit"):
            report.stock_states += 1
            take = takes[offer_id]
            last[offer_id] = (units, spent, today)
            over = (
                (take.inventory is not None and units > take.inventory)
                or (take.budget is not None and (today if take.daily else spent) > take.budget)
                or min(units, spent, today) < 0
            )
            if over:
                report.found("stock_violations", f"{offer_id} on {day}: {units} units, {spent} spent, {today} today")
        for hold in db.execute("SELECT decision_id, offer_id, state FROM holds"):
            report.found("leaked", f"a hold is left: {hold}")
        peaks = "SELECT offer_id, max(units), max(spent), max(today) FROM audit GROUP BY 1"
        most_used = {offer_id: used for offer_id, *used in db.execute(peaks)}
    db.close()
    for offer_id, take in takes.items():
        units, spent, _ = last.get(offer_id, (0, 0, 0))
        most_units, most_spent, most_today = most_used.get(offer_id, (0, 0, 0))
        report.exhausted += (take.inventory is not None and most_units >= take.inventory) or (
            take.budget is not None and (most_today if take.daily else most_spent) + take.micros > take.budget
        )
        least, most = certain[offer_id], certain[offer_id] + possible[offer_id]
        if take.units and not least <= units <= most:
            report.found("leaked", f"{offer_id}: {units} units used, {least} to {most} were seen")
        if take.micros and not take.per_accept and not least * take.micros <= spent <= most * take.micros:
            report.found("leaked", f"{offer_id}: {spent} spent, {least} to {most} were seen at {take.micros}")
        if take.micros and take.per_accept and spent % take.micros:
            report.found("leaked", f"{offer_id}: {spent} spent is no whole number of acceptances")
        if take.per_accept and spent > most * take.micros:
            report.found("leaked", f"{offer_id}: {spent} spent on acceptances, only {most} were seen")


def _check_unlinked(contacts: SqliteContacts, log: SqliteLog, report: Report) -> None:
    """Impressions that name no decision: each is one contact, exactly once."""
    expected: Counter[str] = Counter()
    for event in _events(log):
        report.events += 1
        if event.decision_id is None:
            expected[event.customer_id] += 1
    names = list(expected)
    for name, history in zip(names, contacts.histories(names), strict=True):
        if len(history.contacts) != expected[name]:
            report.found(
                "uncounted_events", f"{name}: {len(history.contacts)} contacts of {expected[name]} impressions"
            )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StoreUnavailable as error:
        sys.exit(f"the store did not answer: {error}")
