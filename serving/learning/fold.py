"""From the log to changes of the evidence: which impression counts, how much, and which outcome belongs to it.

`fold` reads the log in the order of its positions and keeps what it must remember in a `Memory`. What it finds depends
on the log up to the position it reached and on nothing else: not on a clock, on who folds, or in how many steps.

An impression counts when it names a decision that showed the offer; the estimate that the decision logged is what was
expected of it. Its first outcome inside the attribution window counts, whichever of the three comes to us first.
However often, nobody's word counts for much: see `Caution`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from features.events import BY_NAME, US_PER_DAY
from features.log import Decided, Log, LogEvent
from serving.learning.delays import Arrived, one_more, parts_of
from serving.learning.evidence import Change, Rules, Shown, Sighting, Tally, Waiting, key_of, shown_by

ALL = ""  # the tally over all offers


class Memory(Protocol):
    """What the fold remembers between two steps; see `memory.py`. `pair` and `customer` are from `key_of`."""

    position: int
    clock_us: int  # of the newest thing folded
    arrived: Arrived  # how long outcomes took, see delays.py

    def sighting(self, pair: int) -> Sighting | None: ...

    def sightings_of(self, customer: int, offer_id: str) -> list[Sighting]:
        """By the time they were seen."""
        ...

    def keep_sighting(self, sighting: Sighting) -> None: ...

    def tally(self, customer: int, offer_id: str) -> Tally: ...

    def keep_tally(self, customer: int, offer_id: str, tally: Tally) -> None: ...

    def wait_for_decision(self, decision: int, pair: int, impression: Waiting) -> None: ...

    def waiting_for_decision(self, decision: int) -> list[Waiting]:
        """In the order they came; they no longer wait."""
        ...

    def wait_for_impression(self, pair: int, outcome: Waiting) -> None:
        """`pair` 0: the outcome names no decision."""
        ...

    def waiting_for_impression(self, pair: int, customer: int, offer_id: str) -> list[Waiting]:
        """Outcomes of this pair, and those of this customer and offer that name no decision, by time."""
        ...

    def no_longer_waits(self, outcome: Waiting) -> None:
        """It has found its impression."""
        ...

    def keep_due(self, due_us: int, pair: int, expected: float) -> None:
        """Part of what an impression was expected to bring, which counts later."""
        ...

    def due(self, until_us: int) -> list[tuple[int, float]]:
        """(pair, expected) of what has become due, in the order it did; it is no longer kept."""
        ...

    def segment(self, release: str, segment: str) -> str:
        """The segment itself, or "" once there are too many."""
        ...

    def note(self, change: Change) -> None: ...


def fold(memory: Memory, log: Log, rules: Rules, limit: int) -> int:
    """Take in the next part of the log, at most `limit` events; how many rows there were."""
    last = log.last_position()  # read first: what arrives meanwhile is left for the next time
    events = [one for one in log.events_after(memory.position, limit) if one.position <= last]
    decisions = [one for one in log.decided_after(memory.position, limit) if one.position <= last]
    for full in (events, decisions):
        if len(full) == limit:
            last = min(last, full[-1].position)
    step = Step(memory, log, rules)
    n = 0
    for row in _in_order(events, decisions, last):
        n += 1
        if isinstance(row, Decided):
            step.decided(row)
        else:
            step.happened(row)
    memory.position = max(memory.position, last)
    return n


def _in_order(events: Sequence[LogEvent], decisions: Sequence[Decided], last: int) -> Iterator[LogEvent | Decided]:
    rows: list[LogEvent | Decided] = [*events, *decisions]
    rows.sort(key=lambda row: row.position)
    return (row for row in rows if row.position <= last)


class Step:
    """One pass over a part of the log."""

    def __init__(self, memory: Memory, log: Log, rules: Rules) -> None:
        self.memory, self.log, self.rules = memory, log, rules
        self._position = 0
        self._shown: dict[str, dict[str, Shown]] = {}

    def decided(self, row: Decided) -> None:
        """A decision is on record: impressions that came before it can be judged now."""
        self._at(row.position, row.decided_us)
        waiting = self.memory.waiting_for_decision(key_of(row.decision_id))
        shown = self._shown_by(row.decision_id) if waiting else None
        if shown is not None:  # else its customer was erased meanwhile
            for impression in waiting:
                self._seen(row.decision_id, impression, shown)

    def happened(self, event: LogEvent) -> None:
        """An event: an impression or an outcome of an offer, or nothing to learn from."""
        self._at(event.position, event.received_us)
        kind = BY_NAME.get(event.event_type)
        if event.offer_id is None or kind is None:
            return
        when = Waiting(key_of(event.customer_id), event.offer_id, event.occurred_us, event.received_us)
        if kind.exposure and event.decision_id is not None:
            shown = self._shown_by(event.decision_id)
            if shown is None:
                pair = key_of(event.decision_id, event.offer_id)
                self.memory.wait_for_decision(key_of(event.decision_id), pair, when)
            else:
                self._seen(event.decision_id, when, shown)
        elif event.event_type in self.rules.attribution.outcomes:
            self._taken(event.decision_id, when)

    def _at(self, position: int, us: int) -> None:
        self._position = position
        self.memory.clock_us = max(self.memory.clock_us, us)
        for pair, expected in self.memory.due(self.memory.clock_us):
            sighting = self.memory.sighting(pair)
            if sighting is not None:  # else its customer was erased meanwhile
                self._note(sighting, 0, expected, 0.0)

    def _remembered(self, us: int) -> bool:
        """Said here, and not left to when a memory really forgets, so that the result does not depend on that."""
        return self.memory.clock_us - us <= self.rules.keep_us

    def _shown_by(self, decision_id: str) -> dict[str, Shown] | None:
        """What a decision showed; None if the log did not hold it yet at the present position."""
        if decision_id not in self._shown:
            row = self.log.decision(decision_id)
            if row is None or row.position > self._position:
                return None
            self._shown[decision_id] = shown_by(row)
        return self._shown[decision_id]

    def _seen(self, decision_id: str, impression: Waiting, shown: dict[str, Shown]) -> None:
        offer_id = impression.offer_id
        said, pair = shown.get(offer_id), key_of(decision_id, offer_id)
        if said is None or self.memory.sighting(pair) is not None:
            return
        if not self._remembered(said.decided_us):
            return
        customer = key_of(said.customer_id)
        segment = self.memory.segment(said.release, said.segment)
        weight = self._weight(customer, offer_id, said)
        where = (said.release, segment, offer_id)
        sighting = Sighting(pair, customer, *where, said.decided_us, impression.occurred_us, weight)
        if weight > 0.0:
            now, later = parts_of(weight * said.p_model, self.memory.arrived, self.rules.window_us(offer_id))
            self._note(sighting, 1, now, 0.0)
            for delay_us, part in later:
                self.memory.keep_due(self.memory.clock_us + delay_us, pair, part)
        self.memory.keep_sighting(sighting)
        for outcome in self.memory.waiting_for_impression(pair, customer, offer_id):
            if self._remembered(outcome.received_us) and self._joined(sighting, outcome.occurred_us):
                self.memory.no_longer_waits(outcome)
                return

    def _weight(self, customer: int, offer_id: str, said: Shown) -> float:
        """Of an impression, as evidence; the customer's tallies take it in."""
        caution, day = self.rules.caution, said.decided_us // US_PER_DAY
        of_offer = _on(self.memory.tally(customer, offer_id), day, caution.span_days)
        of_all = _on(self.memory.tally(customer, ALL), day, caution.span_days)
        weight = caution.weight(of_offer, of_all)
        if weight > 0.0:
            for name, tally in ((offer_id, of_offer), (ALL, of_all)):
                self.memory.keep_tally(customer, name, tally._replace(n=tally.n + 1, today=tally.today + 1))
        return weight

    def _taken(self, decision_id: str | None, outcome: Waiting) -> None:
        pair = key_of(decision_id, outcome.offer_id) if decision_id is not None else 0
        if decision_id is not None:
            sighting = self.memory.sighting(pair)
            if sighting is None:
                self.memory.wait_for_impression(pair, outcome)
            else:
                self._joined(sighting, outcome.occurred_us)
            return
        sightings = self.memory.sightings_of(outcome.customer, outcome.offer_id)
        oldest_first = self.rules.attribution.matching == "fifo"
        for sighting in sightings if oldest_first else reversed(sightings):
            if self._joined(sighting, outcome.occurred_us):
                return
        self.memory.wait_for_impression(0, outcome)

    def _joined(self, sighting: Sighting, occurred_us: int) -> bool:
        """Give an impression its outcome, if it has none and this one may be it."""
        after_us = occurred_us - sighting.seen_us
        if sighting.taken_us is not None or not self._remembered(sighting.decided_us):
            return False
        if not 0 <= after_us <= self.rules.window_us(sighting.offer_id):
            return False
        self.memory.arrived = one_more(self.memory.arrived, after_us)
        self.memory.keep_sighting(sighting._replace(taken_us=occurred_us))
        if sighting.weight > 0.0:
            self._note(sighting, 0, 0.0, sighting.weight)
        return True

    def _note(self, sighting: Sighting, n: int, expected: float, accepted: float) -> None:
        where = (sighting.release, sighting.segment, sighting.offer_id)
        self.memory.note(Change(self._position, self.memory.clock_us, *where, n, expected, accepted))


def _on(tally: Tally, day: int, span_days: int) -> Tally:
    """The tally as of a day: another span begins at nothing, another day with nothing counted. What comes late counts
    as of the newest day, so that going back and forth begins nothing anew."""
    day = max(day, tally.day)
    span = day // span_days
    if tally.span != span:
        return Tally(span=span, day=day)
    return tally if tally.day == day else tally._replace(day=day, today=0)
