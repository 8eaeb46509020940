"""The words of learning: what was decided, what was seen and taken, and what that adds to the evidence on an offer."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from features.data_settings import Attribution
from features.events import US_PER_DAY
from features.log import DecisionRow

NO_RELEASE = "none"  # decisions made without a model
HALF_LIFE_US = 14 * US_PER_DAY  # of evidence
MOST_SEGMENTS = 64  # per release; later ones share the segment ""


class Change(NamedTuple):
    """What one thing that happened adds to the evidence on one offer."""

    position: int  # of the log
    at_us: int  # when the log received it
    release: str
    segment: str
    offer_id: str
    n: int  # impressions
    expected: float  # acceptances, by the release's estimates, each with the weight of its impression
    accepted: float


class Shown(NamedTuple):
    """One offer of one decision, as far as learning needs it."""

    customer_id: str
    decided_us: int
    release: str
    segment: str
    p_model: float


class Sighting(NamedTuple):
    """One impression of a decision, kept for as long as its outcome may come."""

    pair: int  # of decision and offer
    customer: int
    release: str
    segment: str
    offer_id: str
    decided_us: int
    seen_us: int
    weight: float  # as evidence; 0: it is none
    taken_us: int | None = None  # when its outcome happened


class Tally(NamedTuple):
    """Impressions of one customer, of one offer or of all, that became evidence."""

    span: int = -1
    n: int = 0  # in that span of days
    day: int = -1  # since 1970, by the decision's clock
    today: int = 0  # on that day


class Waiting(NamedTuple):
    """An impression whose decision, or an outcome whose impression, has not come yet."""

    customer: int
    offer_id: str
    occurred_us: int
    received_us: int
    n: int = 0  # of its row


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """How much one customer can say about an offer. It depends on how often the offer was shown, never on what came of
    that: customers differ, and who stops counting once they accept leaves those who refuse to be counted.

    A customer's answers are alike, so many of them say little more than a few: n impressions in a span weigh
    n / (1 + (n - 1) x alike) together, never more than 1 / alike. `alike` is the correlation of two answers of one
    customer. Source: Kish, Survey Sampling (1965), 5.4 (design effect of clusters).
    """

    per_offer_and_day: int = 3  # impressions of one offer; what is beyond is no evidence
    per_day: int = 50  # impressions of all offers
    alike: float = 0.2
    span_days: int = 14  # after which a customer is heard anew

    def weight(self, of_offer: Tally, of_all: Tally) -> float:
        """Of one more impression of this customer and offer, as evidence: what it adds to those before."""
        if of_offer.today >= self.per_offer_and_day or of_all.today >= self.per_day:
            return 0.0
        return self._together(of_offer.n + 1) - self._together(of_offer.n)

    def _together(self, n: int) -> float:
        return n / (1.0 + (n - 1) * self.alike) if n else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What counts as evidence."""

    attribution: Attribution = field(default_factory=Attribution)
    caution: Caution = field(default_factory=Caution)
    own_windows: Mapping[str, float] = field(default_factory=dict)  # days, of offers that have their own

    def window_us(self, offer_id: str) -> int:
        """For how long after its impression an outcome counts."""
        days = self.own_windows.get(offer_id, self.attribution.window_days)
        if self.attribution.at_most_days is not None:
            days = min(days, self.attribution.at_most_days)
        return int(days * US_PER_DAY)

    @property
    def keep_us(self) -> int:
        """For how long an impression is kept: its window, and two days for what comes late."""
        longest = max(self.own_windows.values(), default=0.0)
        return int((max(longest, self.attribution.window_days) + 2) * US_PER_DAY)


class _Offer(msgspec.Struct):
    offer_id: str
    p_accept: float | None = None
    p_model: float | None = None


class _Placement(msgspec.Struct):
    offers: list[_Offer]
    segment: str = ""


class _Row(msgspec.Struct):
    """Of a decision's row in the log, what learning needs."""

    placements: list[_Placement]
    model_versions: dict[str, str | None]
    holdout: bool = False


def shown_by(row: DecisionRow) -> dict[str, Shown]:
    """Offer id -> what was said of it; empty for a row that cannot be read. Without a probability, no evidence."""
    try:
        said = msgspec.json.decode(row.payload, type=_Row)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    release = said.model_versions.get("release") or NO_RELEASE
    found = {}
    for placement in said.placements:
        for offer in placement.offers:
            p = offer.p_model if offer.p_model is not None or said.holdout else offer.p_accept
            if p is not None and math.isfinite(p) and 0 < p <= 1:
                found[offer.offer_id] = Shown(row.customer_id, row.decided_us, release, placement.segment, p)
    return found


def faded(since_us: int, now_us: int, half_life_us: int = HALF_LIFE_US) -> float:
    """How much evidence still weighs; 1 when it is new."""
    return float(0.5 ** (max(0, now_us - since_us) / half_life_us))


def key_of(*parts: str) -> int:
    """64 bits that stand for an id: small to keep, and no name of anybody."""
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
