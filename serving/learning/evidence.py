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
    """What one thing that happened adds to the evidence on one offer; negative where evidence is withdrawn."""

    position: int  # of the log
    at_us: int  # when the log received it
    release: str
    segment: str
    offer_id: str
    n: int  # impressions
    expected: float  # acceptances, by the release's estimates
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
    expected: float
    counted_us: int | None  # when it became evidence, by the log's clock; None: it is none
    taken_us: int | None = None  # when its outcome happened
    credited_us: int | None = None  # when that became evidence


class Tally(NamedTuple):
    """What one customer did with one offer, or with all, in one span of days; capped or not."""

    span: int = -1
    n: int = 0
    expected: float = 0.0
    accepted: int = 0
    day: int = -1  # since 1970, by the decision's clock
    counted: int = 0  # impressions that became evidence on that day


class Waiting(NamedTuple):
    """An impression whose decision, or an outcome whose impression, has not come yet."""

    customer: int
    offer_id: str
    occurred_us: int
    received_us: int
    n: int = 0  # of its row


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """How much one customer can say. What is beyond it is not evidence, neither for nor against.

    An offer that a customer has taken says no more about it for the rest of the span, whether it is shown or taken
    again. Counting until the first acceptance leaves the ratio of accepted to expected unbiased (optional stopping),
    and many clicks of one account are one.
    """

    per_offer_and_day: int = 3  # impressions of one offer
    per_day: int = 50  # impressions of all offers
    once_taken_is_enough: bool = True  # an offer that was taken says no more
    accepted_anyway: float = 2.0  # acceptances of one offer that nobody is doubted for
    accepted_at_most: float = 2.0  # beyond these: times what the model expected
    accepted_anyway_in_all: float = 10.0  # the same over all offers
    span_days: int = 14  # over which both are counted

    def hears(self, of_offer: Tally, of_all: Tally) -> bool:
        """Whether one more impression of this customer and offer is evidence."""
        within = of_offer.counted < self.per_offer_and_day and of_all.counted < self.per_day
        over = self.once_taken_is_enough and of_offer.accepted > 0
        return within and not over and not any(self.doubts(of_offer, of_all))

    def doubts(self, of_offer: Tally, of_all: Tally) -> tuple[bool, bool]:
        """Whether this customer takes one offer, or offers altogether, more often than can be believed."""
        return (
            of_offer.accepted > self.accepted_anyway + self.accepted_at_most * of_offer.expected,
            of_all.accepted > self.accepted_anyway_in_all + self.accepted_at_most * of_all.expected,
        )


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
    segment: str | None = None  # where it is not that of the decision


class _Row(msgspec.Struct):
    """Of a decision's row in the log, what learning needs."""

    placements: list[_Placement]
    model_versions: dict[str, str | None]
    segment: str | None = None
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
        segment = placement.segment if placement.segment is not None else said.segment or ""
        for offer in placement.offers:
            p = offer.p_model if offer.p_model is not None or said.holdout else offer.p_accept
            if p is not None and math.isfinite(p) and 0 < p <= 1:
                found[offer.offer_id] = Shown(row.customer_id, row.decided_us, release, segment, p)
    return found


def faded(since_us: int, now_us: int, half_life_us: int = HALF_LIFE_US) -> float:
    """How much evidence still weighs; 1 when it is new."""
    return float(0.5 ** (max(0, now_us - since_us) / half_life_us))


def key_of(*parts: str) -> int:
    """64 bits that stand for an id: small to keep, and no name of anybody."""
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
