"""What a customer has told us or is known by: attributes, consent, time zone; and whose word on consent counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from features.events import to_us

CATEGORY = "category:"  # begins the key of consent for a category of offers; the other keys are channels
MOST_REMOVED = 256  # keys of consent that were removed, of which it is remembered when


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One customer as known now. Attribute values are numbers, strings, booleans or RFC 3339 times."""

    customer_id: str
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    consent: dict[str, bool] = msgspec.field(default_factory=dict)  # channel or `category_consent`; absent: not asked
    said_us: dict[str, int] = msgspec.field(default_factory=dict)  # when each of these was last said; removed ones too
    time_zone: str | None = None  # IANA name
    less_like: tuple[str, ...] = ()  # offers of which the customer wants to see less
    updated_at: datetime | None = None  # UTC

    @property
    def refused(self) -> frozenset[str]:
        """The keys of consent that this customer refused."""
        return frozenset(key for key, given in self.consent.items() if not given)

    @property
    def muted_categories(self) -> tuple[str, ...]:
        """Never to be shown, by the customer's wish: the categories that consent refuses."""
        refused = (key for key, given in self.consent.items() if not given and key.startswith(CATEGORY))
        return tuple(sorted(key.removeprefix(CATEGORY) for key in refused))


class Word(NamedTuple):
    """What a customer said of one key of consent, and when. None takes back what was said."""

    key: str
    given: bool | None
    at_us: int


def category_consent(category: str) -> str:
    """The key of consent for a category of offers; channels share the same map."""
    return f"{CATEGORY}{category}"


def with_words(profile: Profile, words: Iterable[Word]) -> Profile:
    """The profile after these words, in whatever order they come: the newest counts, and of two at once the refusal."""
    consent, said_us = dict(profile.consent), dict(profile.said_us)
    for word in words:
        last_us = said_us.get(word.key)
        if last_us is None and word.key in consent:  # nobody noted when
            last_us = _unsaid_us(profile)
        if last_us is not None and (word.at_us < last_us or (word.at_us == last_us and word.given is not False)):
            continue
        said_us[word.key] = word.at_us
        if word.given is None:
            consent.pop(word.key, None)
        else:
            consent[word.key] = word.given
    return msgspec.structs.replace(profile, consent=consent, said_us=_bounded(said_us, consent))


def words_now(profile: Profile, consent: Mapping[str, bool | None], now: datetime) -> list[Word]:
    """What is said by a request: newer than all that was said before it, whatever the clocks of devices show."""
    now_us, unsaid_us = to_us(now), _unsaid_us(profile)
    return [
        Word(key, given, max(now_us, profile.said_us.get(key, unsaid_us if key in profile.consent else 0) + 1))
        for key, given in consent.items()
    ]


def _unsaid_us(profile: Profile) -> int:
    return to_us(profile.updated_at) if profile.updated_at is not None else 0


def _bounded(said_us: Mapping[str, int], consent: Mapping[str, bool]) -> dict[str, int]:
    """All that stands, and the newest of what was removed."""
    removed = sorted((at_us, key) for key, at_us in said_us.items() if key not in consent)
    dropped = {key for _, key in removed[:-MOST_REMOVED]}
    return {key: at_us for key, at_us in said_us.items() if key not in dropped}
