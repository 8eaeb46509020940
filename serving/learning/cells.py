"""What the changes come to: per release and offer the evidence of each segment, fading, and beliefs made from it.

Per offer, A is what was accepted and E what was expected, both as far as they have not faded. With s the strength of
the prior, the factor of the offer is believed to be Gamma(s + A, s + E): the conjugate posterior of a Poisson count
whose mean is the factor times E, with a prior of mean 1. A segment's own evidence A_g, E_g is added to what the other
segments say, as strong as the prior: f = (s + A - A_g) / (s + E - E_g), and the belief is Gamma(s f + A_g, s + E_g).
Nothing is counted twice, and an offer with one segment gets the first formula.
Source: Gelman et al., Bayesian Data Analysis, 3rd ed., 2.6 (Poisson with exposure) and 5 (hierarchies).

Evidence fades with a half-life of two weeks, by the log's clock, so that a factor can move.
Source: West & Harrison, Bayesian Forecasting and Dynamic Models, 2nd ed., 6.3 (discounting).
An offer that breaks must not wait for that: Page's test sums the log likelihood ratio of "half as many are accepted as
were", from zero whenever it falls below; above `SURE`, the evidence from before that zero is dropped.
Source: Page, Continuous inspection schemes, Biometrika 41 (1954).

A rise must be earned: what makes an offer rise suddenly is more often a flood of clicks than a better offer. Of an
offer that is `KNOWN`, acceptances beyond what chance explains on one day (`CHANCE` standard deviation, and a few) are
held back, and let in on the days that follow: late, but all of
them. What rises to where it was before it fell is not held back: it has recovered, or had not been answered yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from features.events import US_PER_DAY
from serving.learning.beliefs import Beliefs
from serving.learning.evidence import HALF_LIFE_US, MOST_SEGMENTS, Change, faded

SURE = 8.0  # by chance once in e^8 = 3,000 times that the sum rises from zero
FALL = 0.5  # of the factor, that Page's test looks for
KNOWN = 50.0  # acceptances remembered; below, an offer may rise as quickly as its evidence says
CHANCE, A_FEW = 0.5, 2.0
TODAY_US = US_PER_DAY // 2  # half-life of what counts as today's
MOST_RELEASES = 8  # the newest in use; a rollback finds its evidence again


class Sums(msgspec.Struct, array_like=True):
    """Evidence that has not faded."""

    expected: float = 0.0
    accepted: float = 0.0

    def add(self, expected: float, accepted: float) -> None:
        self.expected += expected
        self.accepted += accepted

    def fade(self, keep: float) -> None:
        self.expected *= keep
        self.accepted *= keep


class Cell(msgspec.Struct, array_like=True):
    """One offer under one release."""

    segments: dict[str, Sums] = {}
    held: dict[str, float] = {}  # acceptances held back, by segment
    today: Sums = msgspec.field(default_factory=Sums)
    falling: Sums = msgspec.field(default_factory=Sums)  # since Page's sum was last zero
    page: float = 0.0
    at_us: int = 0  # of the last change
    once: float = 0.0  # accepted / expected before the last fall: to come back to it is no sudden rise

    def all(self) -> tuple[float, float]:
        """(expected, accepted) over the segments."""
        expected = accepted = 0.0
        for one in self.segments.values():
            expected += one.expected
            accepted += one.accepted
        return expected, accepted

    def pass_time(self, at_us: int) -> None:
        """Let evidence fade until then."""
        keep, keep_today = faded(self.at_us, at_us, HALF_LIFE_US), faded(self.at_us, at_us, TODAY_US)
        self.at_us = max(self.at_us, at_us)
        for one in self.segments.values():
            one.fade(keep)
        self.today.fade(keep_today)
        for segment in self.held:
            self.held[segment] *= keep

    def add(self, segment: str, expected: float, accepted: float, strength: float) -> None:
        """Evidence that came, of which acceptances may be held back."""
        self._look_for_a_fall(expected, accepted, strength)
        self.segments.setdefault(segment, Sums()).add(expected, 0.0)
        self.today.add(expected, 0.0)
        if accepted > 0:
            self.held[segment] = self.held.get(segment, 0.0) + accepted
        if self.held:
            self._let_in(strength)

    def _let_in(self, strength: float) -> None:
        expected, accepted = self.all()
        waiting = sum(self.held.values())
        share = 1.0
        if accepted >= KNOWN:
            seen = accepted / expected if expected > 0.0 else 0.0
            rate = max(seen, (strength + accepted) / (strength + expected), self.once)
            usual = self.today.expected * rate
            room = usual + CHANCE * math.sqrt(usual) + A_FEW - self.today.accepted
            if room < waiting:
                share = max(0.0, room) / waiting
        for segment, held in list(self.held.items()):
            self.segments.setdefault(segment, Sums()).add(0.0, held * share)
            self.today.add(0.0, held * share)
            if share < 1.0:
                self.held[segment] = held * (1.0 - share)
            else:
                del self.held[segment]

    def _look_for_a_fall(self, expected: float, accepted: float, strength: float) -> None:
        """Compare what comes with what was before Page's sum left zero; the prior has no say."""
        all_expected, all_accepted = self.all()
        before = all_expected - self.falling.expected
        if before < strength:
            self.page, self.falling = 0.0, Sums()
            return
        usual = max(0.0, all_accepted - self.falling.accepted) / before
        self.page += (1.0 - FALL) * usual * expected + math.log(FALL) * accepted
        if self.page <= 0.0:
            self.page, self.falling = 0.0, Sums()
            return
        self.falling.add(expected, accepted)
        if self.page > SURE:
            self.once = usual if usual * before >= KNOWN else 0.0
            of_expected = min(1.0, self.falling.expected / all_expected)
            of_accepted = min(1.0, self.falling.accepted / all_accepted) if all_accepted else 0.0
            for one in self.segments.values():
                one.expected *= of_expected
                one.accepted *= of_accepted
            self.page, self.falling = 0.0, Sums()


class Cells(msgspec.Struct):
    """All of them. The same changes in the same order give the same bits."""

    strength: float
    seq: int = 0  # of the last change
    position: int = 0  # of the log, of the last change
    releases: dict[str, dict[str, Cell]] = {}  # the one that changed last is the last
    n_seen: dict[str, int] = {}  # impressions that counted, by offer
    segments: dict[str, list[str]] = {}  # by release, those that have evidence

    def take(self, seq: int, change: Change) -> None:
        """One change more."""
        self.seq, self.position = seq, change.position
        self.n_seen[change.offer_id] = self.n_seen.get(change.offer_id, 0) + change.n
        cell = self._release(change.release).setdefault(change.offer_id, Cell())
        if change.segment not in (heard := self.segments.setdefault(change.release, [])):
            heard.append(change.segment)
        cell.pass_time(change.at_us)
        cell.add(change.segment, change.expected, change.accepted, self.strength)

    def _release(self, release: str) -> dict[str, Cell]:
        cells = self.releases.pop(release, None)
        self.releases[release] = cells = {} if cells is None else cells
        while len(self.releases) > MOST_RELEASES:
            oldest = next(iter(self.releases))
            del self.releases[oldest]
            self.segments.pop(oldest, None)
        return cells

    def heard_as(self, release: str, segment: str) -> str | None:
        """The segment if there is evidence on it, else what stands for it: those beyond the most share one."""
        heard = self.segments.get(release, [])
        if segment in heard:
            return segment
        return "" if len(heard) >= MOST_SEGMENTS else None

    def belief(self, release: str, offer_id: str, segment: str | None) -> tuple[float, float]:
        """Shape and rate of one offer's factor, among one segment."""
        s = self.strength
        cell = self.releases.get(release, {}).get(offer_id)
        if cell is None:
            return s, s
        expected, accepted = cell.all()
        own = None if segment is None else cell.segments.get(segment)
        if own is None:
            return s * (s + accepted) / (s + expected), s
        others = max(0.0, accepted - own.accepted), max(0.0, expected - own.expected)
        return s * (s + others[0]) / (s + others[1]) + own.accepted, s + own.expected

    def beliefs(self, rows: Mapping[str, int], release: str, segment: str | None, position: int) -> Beliefs:
        """On an axis of offers; `rows` says where each is."""
        fresh = Beliefs.none(len(rows), self.strength)
        return self.renewed(fresh, {*self.releases.get(release, ()), *self.n_seen}, rows, release, segment, position)

    def renewed(
        self,
        old: Beliefs,
        changed: Iterable[str],
        rows: Mapping[str, int],
        release: str,
        segment: str | None,
        position: int,
    ) -> Beliefs:
        """The old ones with what changed about some offers; the old arrays stay as they are."""
        shape, rate, n_seen = old.shape.copy(), old.rate.copy(), old.n_seen.copy()
        for offer_id in changed:
            row = rows.get(offer_id)
            if row is not None:
                shape[row], rate[row] = self.belief(release, offer_id, segment)
                n_seen[row] = self.n_seen.get(offer_id, 0)
        for array in (shape, rate, n_seen):
            array.flags.writeable = False
        return Beliefs(shape, rate, n_seen, position)


def packed(cells: Cells) -> bytes:
    return msgspec.msgpack.encode(cells)


def unpacked(body: bytes) -> Cells:
    """`msgspec.ValidationError` for what was not packed here."""
    return msgspec.msgpack.decode(body, type=Cells)
