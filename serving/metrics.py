"""What a worker counts while it decides: plain numbers and one array, so that counting costs next to nothing."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.counting import Counted, counted
from serving.decision import Decision, DecisionRequest

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.decide import Attempt
    from serving.drafting import Drafted

MOST_OFFERS = 2_000  # that have series of their own; those behind them, by id, share one
OTHERS = "others"  # its label
BUCKETS_S = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip


class Metric(NamedTuple):
    """One metric as Prometheus sees it; the name of a counter goes without `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    of_workers: Literal["sum", "max", "min"] = "sum"  # how the values of several workers become one


METRICS: tuple[Metric, ...] = (
    Metric("nbo_decisions", "counter", "Decisions that were answered and logged.", ("policy",)),
    Metric("nbo_decisions_degraded", "counter", "Decisions that something was missing for.", ("code",)),
    Metric("nbo_decisions_late", "counter", "Decisions answered after their deadline."),
    Metric("nbo_decisions_redrawn", "counter", "Decisions drawn again after a lost race for a last unit."),
    Metric("nbo_decision_seconds", "histogram", "From the body read to the answer handed over."),
    Metric("nbo_empty_placements", "counter", "Placements for which there was no offer.", ("placement_id",)),
    Metric("nbo_offers_shown", "counter", "How often an offer was in an answer.", ("offer_id",)),
    Metric("nbo_offer_drops", "counter", "How often a rule kept an offer out of a placement.", ("offer_id", "rule")),
    Metric("nbo_offer_units_left", "gauge", "What is left of an offer's inventory.", ("offer_id",), "min"),
    Metric("nbo_offer_budget_left", "gauge", "What is left of an offer's budget.", ("offer_id",), "min"),
    Metric("nbo_events", "counter", "Events that were accepted, by whether they were new.", ("outcome",)),
    Metric("nbo_events_rejected", "counter", "Events that were rejected.", ("code",)),
    Metric("nbo_log_delay_seconds", "gauge", "For how long decisions have waited for the log.", (), "max"),
    Metric("nbo_log_lost", "counter", "Decisions that the log never took."),
    Metric("nbo_learning_delay_seconds", "gauge", "For how long learning has not reached the log's end.", (), "max"),
    Metric("nbo_lane_stuck_seconds", "gauge", "For how long a store has kept its lane waiting.", ("lane",), "max"),
    Metric("nbo_lane_failures", "counter", "Questions that a store did not answer.", ("lane",)),
    Metric("nbo_catalogue_version", "gauge", "The oldest catalogue that a worker serves.", (), "min"),
    Metric("nbo_offers", "gauge", "Offers in the live catalogue.", (), "max"),
    Metric("nbo_shadow_decisions", "counter", "Decisions that a shadow release was asked about.", ("outcome",)),
    Metric("nbo_release", "gauge", "Workers that serve a release.", ("release",)),
    Metric("nbo_not_ready", "gauge", "Workers that miss a dependency.", ("check",)),
    Metric("nbo_workers", "gauge", "Workers that are alive."),
    Metric("nbo_resident_bytes", "gauge", "Memory of all workers."),
)


class Sample(NamedTuple):
    """One value of one metric."""

    name: str
    labels: tuple[str, ...]
    value: float


class Table(msgspec.Struct, array_like=True):
    """How often, per rule and offer: an int64 array of shape (n_rules + 1, n_offers) as bytes; the last row: shown."""

    rules: tuple[str, ...]
    offers: tuple[str, ...]
    counts: bytes


class Meter:
    """One worker's counts since it began. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()  # (metric, label or "")
        self._seconds = [0] * (len(BUCKETS_S) + 1)
        self._total_s = 0.0
        self._drops = _Drops()
        self._done: list[_Drops] = []  # of earlier catalogues

    def answered(self, decision: Decision, request: DecisionRequest, seconds: float) -> None:
        """One answer was handed over, so many seconds after its question had been read."""
        if request.dry_run:
            return
        with self._lock:
            self._counts["nbo_decisions", decision.policy] += 1
            for one in decision.degraded:
                self._counts["nbo_decisions_degraded", one.code] += 1
            for placement in decision.placements:
                if not placement.offers:
                    self._counts["nbo_empty_placements", placement.placement_id] += 1
            if seconds * 1000.0 > request.deadline_ms:
                self._counts["nbo_decisions_late", ""] += 1
            self._seconds[bisect_left(BUCKETS_S, seconds)] += 1
            self._total_s += seconds

    def decided(self, attempt: Attempt) -> list[Counted]:
        """One decision was made: what its rules dropped, and what it shows; per placement, nothing of a dry run."""
        edition, placements = attempt.edition, attempt.draft.placements
        if attempt.question.request.dry_run:
            return []
        with self._lock:
            if attempt.lost:
                self._counts["nbo_decisions_redrawn", ""] += 1
            if self._drops.view is not edition.view:
                self._done.append(self._drops)
                self._drops = _Drops(edition.view, edition.rules.names)
            return [self._drops.take(drafted) for drafted in placements]

    def degraded(self, code: str) -> None:
        """An answer was degraded after its decision was made."""
        with self._lock:
            self._counts["nbo_decisions_degraded", code] += 1

    def shadowed(self, n_scored: int, n_left_out: int) -> None:
        """Decisions were scored by the shadow release too, or were not, as it did not keep up or failed."""
        with self._lock:
            self._counts["nbo_shadow_decisions", "scored"] += n_scored
            self._counts["nbo_shadow_decisions", "left_out"] += n_left_out

    def received(self, n_new: int, n_known: int, rejected: Iterable[str]) -> None:
        """Events came in; of the rejected ones the codes."""
        with self._lock:
            self._counts["nbo_events", "new"] += n_new
            self._counts["nbo_events", "duplicate"] += n_known
            for code in rejected:
                self._counts["nbo_events_rejected", code] += 1

    def samples(self) -> list[Sample]:
        """All but the tables and the histogram."""
        with self._lock:
            counts = list(self._counts.items())
        return [Sample(name, (label,) if label else (), float(n)) for (name, label), n in counts]

    def seconds(self) -> tuple[list[int], float]:
        """Answers per bucket of `BUCKETS_S` and above, not added up, and the sum of seconds."""
        with self._lock:
            return list(self._seconds), self._total_s

    def tables(self) -> list[Table]:
        """Drops and showings of the present catalogue, then those of all earlier ones."""
        with self._lock:
            present, done = self._drops, self._done
            self._done = []
            counts = present.with_shown()
        if done:
            earlier = _together(done)
            with self._lock:
                self._done.append(earlier)
        with self._lock:
            tables = [one.table(one.with_shown()) for one in self._done]
        return [present.table(counts), *tables]


class _Drops:
    """Counts on the axes of one catalogue."""

    __slots__ = ("_shown", "counts", "offers", "rules", "view")

    def __init__(
        self,
        view: CatalogueView | None = None,
        rules: tuple[str, ...] = (),
        offers: tuple[str, ...] | None = None,
        counts: NDArray[np.int64] | None = None,
    ) -> None:
        self.view, self.rules, self.offers = view, rules, offers
        n = 0 if view is None else min(len(view), MOST_OFFERS) + (len(view) > MOST_OFFERS)
        self.counts = np.zeros((len(rules) + 1, n), np.int64) if counts is None else counts
        self._shown: Counter[int] = Counter()  # by column, beside the last row of `counts`

    def take(self, drafted: Drafted) -> Counted:
        """One placement more."""
        for pick in drafted.picks:
            self._shown[min(pick.row, MOST_OFFERS)] += 1
        return counted(self.rules, drafted, self.counts)

    def with_shown(self) -> NDArray[np.int64]:
        counts = self.counts.copy()
        for column, n in self._shown.items():
            counts[-1, column] += n
        return counts

    def table(self, counts: NDArray[np.int64]) -> Table:
        return Table(self.rules, self.named(), counts.tobytes())

    def named(self) -> tuple[str, ...]:
        """One name per column."""
        if self.offers is None:
            offers = () if self.view is None else self.view.offers
            names = tuple(offer.offer_id for offer in offers[:MOST_OFFERS])
            self.offers = (*names, OTHERS) if len(offers) > MOST_OFFERS else names
        return self.offers


def _together(some: list[_Drops]) -> _Drops:
    """One with the sums of all."""
    rules = tuple(dict.fromkeys(rule for one in some for rule in one.rules))
    offers = tuple(dict.fromkeys(name for one in some for name in one.named()))
    column = {name: at for at, name in enumerate(offers)}
    counts = np.zeros((len(rules) + 1, len(offers)), np.int64)
    for one in some:
        columns = [column[name] for name in one.named()]
        rows = [*(rules.index(rule) for rule in one.rules), len(rules)]
        counts[np.ix_(rows, columns)] += one.with_shown()
    return _Drops(None, rules, offers, counts)
