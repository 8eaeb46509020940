"""What was granted, gone through again: caps, pauses, rests and stock, from journals the store knows nothing of."""

from __future__ import annotations

import sqlite3
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bench.caps_world import (
    CHANGEABLE,
    IGNORED,
    LAPSE_US,
    PAUSED_US,
    RESTS_DISMISSED_US,
    RESTS_US,
    Granted,
    Report,
)
from features.catalogue import Cap, Offer
from features.events import from_us, to_us
from features.facts import Catalogue
from features.sqlite_log import SqliteLog
from serving.rules.limits import take_of
from serving.state.sqlite_contacts import SqliteContacts


def journals(folder: Path, report: Report) -> tuple[dict[str, Granted], set[str], dict[str, int]]:
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


def confirmations(
    log: SqliteLog, logged: dict[str, int], granted: dict[str, Granted]
) -> dict[tuple[str, str], Confirmed]:
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


def check_contacts(
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
        check_cap(contacts, over_all, customer_id, report)
        for placement_id in ("hero", "strip"):
            some = [one for one in contacts if one.placement_id == placement_id]
            check_cap(some, of_placement, f"{customer_id} {placement_id}", report)
        for category in {offers[one.offer_id].category for one in contacts}:
            some = [one for one in contacts if offers[one.offer_id].category == category]
            check_cap(some, of_category, f"{customer_id} {category}", report)
        for offer_id in {one.offer_id for one in contacts}:
            some = [one for one in contacts if one.offer_id == offer_id]
            for cap in offers[offer_id].caps:
                check_cap(some, cap, f"{customer_id} {offer_id}", report)
            check_rest(some, f"{customer_id} {offer_id}", report)


def check_rest(contacts: list[Shown], what: str, report: Report) -> None:
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


def check_pauses(
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


def check_cap(contacts: list[Shown], cap: Cap, what: str, report: Report) -> None:
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


def check_stock(
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


def check_unlinked(contacts: SqliteContacts, log: SqliteLog, report: Report) -> None:
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
