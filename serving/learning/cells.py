"""What the changes come to: per release and offer the evidence of each segment, fading, and beliefs made from it.

Per offer, A is what was accepted and E what was expected, both as far as they have not faded. With s the strength of
the prior, the factor of the offer is believed to be Gamma(s + A, s + E): the conjugate posterior of a Poisson count
whose mean is the factor times E, with a prior of mean 1. A segment's own evidence A_g, E_g is added to what the other
segments say, as strong as the prior: f = (s + A - A_g) / (s + E - E_g), and the belief is Gamma(s f + A_g, s + E_g).
Nothing is counted twice, and an offer with one segment gets the first formula.
Source: Gelman et al., Bayesian Data Analysis, 3rd ed., 2.6 (Poisson with exposure) and 5 (hierarchies).

Evidence fades with a half-life of two weeks, by the log's clock, so that a factor can move.
Source: West & Harrison, Bayesian Forecasting and Dynamic Models, 2nd ed., 6.3 (discounting).
An offer that breaks must not wait for that: what is newest, a sum that fades by exp(-x / QUICK) while x more is
expected and accepted, is compared with all, and when the log likelihood ratio of "the factor has fallen" exceeds
`SURE`, the older evidence is dropped. A rise must be earned: what makes an offer rise suddenly is more often a flood of
clicks than a better offer.
Source: Willsky & Jones, A generalized likelihood ratio approach to detection of jumps, IEEE TAC 21 (1976).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from serving.learning.beliefs import Beliefs
from serving.learning.evidence import MOST_SEGMENTS, Change, faded

QUICK = 40.0  # expected and accepted together
SURE = 8.0  # 2 x 8 is exceeded by chi-square with 1 degree of freedom once in 16,000 independent looks
MOST_RELEASES = 8  # the newest in use; a rollback finds its evidence again


class Sums(msgspec.Struct, array_like=True):
    """Evidence that has not faded."""

    expected: float = 0.0
    accepted: float = 0.0


class Cell(msgspec.Struct, array_like=True):
    """One offer under one release."""

    segments: dict[str, Sums] = {}
    quick: Sums = msgspec.field(default_factory=Sums)
    at_us: int = 0  # of the last change

    def all(self) -> tuple[float, float]:
        """(expected, accepted) over the segments."""
        expected = accepted = 0.0
        for one in self.segments.values():
            expected += one.expected
            accepted += one.accepted
        return expected, accepted


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
        self.n_seen[change.offer_id] = max(0, self.n_seen.get(change.offer_id, 0) + change.n)
        cell = self._release(change.release).setdefault(change.offer_id, Cell())
        keep = faded(cell.at_us, change.at_us)
        cell.at_us = max(cell.at_us, change.at_us)
        for one in cell.segments.values():
            one.expected *= keep
            one.accepted *= keep
        mine = cell.segments.setdefault(change.segment, Sums())
        if change.segment not in (heard := self.segments.setdefault(change.release, [])):
            heard.append(change.segment)
        _add(mine, change.expected, change.accepted)
        if change.n >= 0:  # what is withdrawn says nothing of the present
            keep = math.exp(-(change.expected + change.accepted) / QUICK)
            cell.quick.expected = cell.quick.expected * keep + change.expected
            cell.quick.accepted = cell.quick.accepted * keep + change.accepted
            self._drop_what_no_longer_holds(cell)

    def _release(self, release: str) -> dict[str, Cell]:
        cells = self.releases.pop(release, None)
        self.releases[release] = cells = {} if cells is None else cells
        while len(self.releases) > MOST_RELEASES:
            oldest = next(iter(self.releases))
            del self.releases[oldest]
            self.segments.pop(oldest, None)
        return cells

    def _drop_what_no_longer_holds(self, cell: Cell) -> None:
        expected, accepted = cell.all()
        quick = cell.quick
        if expected < 2 * quick.expected or not quick.expected > 0:
            return
        believed = (self.strength + accepted) / (self.strength + expected)
        ratio = quick.expected * believed - quick.accepted
        if ratio <= 0:
            return
        if quick.accepted > 0:
            ratio += quick.accepted * math.log(quick.accepted / (quick.expected * believed))
        if ratio > SURE:
            of_expected, of_accepted = quick.expected / expected, quick.accepted / accepted if accepted else 0.0
            for one in cell.segments.values():
                one.expected *= of_expected
                one.accepted *= of_accepted

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


def _add(sums: Sums, expected: float, accepted: float) -> None:
    sums.expected = max(0.0, sums.expected + expected)
    sums.accepted = max(0.0, sums.accepted + accepted)


def packed(cells: Cells) -> bytes:
    return msgspec.msgpack.encode(cells)


def unpacked(body: bytes) -> Cells:
    """`msgspec.ValidationError` for what was not packed here."""
    return msgspec.msgpack.decode(body, type=Cells)
