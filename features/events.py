"""The one vocabulary of events: what may happen, what each kind needs, and what it counts as."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from features.errors import BadEvent

ANONYMOUS = "\x1f"  # customer ids hold no control characters, so no customer can collide with a visitor
MAX_AHEAD = timedelta(minutes=5)
US_PER_DAY = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_VALUE = 1e12  # above this an amount is a unit mistake, and DECIMAL(18, 4) would overflow


@dataclass(frozen=True, slots=True)
class EventType:
    """What one kind of event needs, and what it counts as."""

    name: str
    needs: tuple[str, ...] = ()
    activity: bool = False  # the customer was there
    exposure: bool = False  # an offer was seen
    positive: bool = False  # the offer was taken (with an offer_id)
    weak: bool = False  # interest short of taking
    negative: bool = False  # the offer was refused
    churned: bool = False  # the relation ended


EVENT_TYPES: tuple[EventType, ...] = (
    EventType("visit", activity=True),
    EventType("view", activity=True),
    EventType("impression", needs=("offer_id",), exposure=True),
    EventType("click", needs=("offer_id",), positive=True, weak=True),
    EventType("accept", needs=("offer_id",), positive=True),
    EventType("reject", needs=("offer_id",), negative=True),
    EventType("dismiss", needs=("offer_id",), negative=True),
    EventType("purchase", needs=("value", "currency"), activity=True, positive=True),
    EventType("cancel", churned=True),
    EventType("feedback"),
    EventType("opt_out"),
    EventType("opt_in"),
)
BY_NAME = {kind.name: kind for kind in EVENT_TYPES}
ACTIVITY = tuple(kind.name for kind in EVENT_TYPES if kind.activity)
FEEDBACK_SCALES = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7)}  # inclusive, whole numbers


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. `customer_id` is a visitor key (see `visitor_key`)."""

    event_id: str
    event_type: str
    customer_id: str
    occurred_at: datetime  # UTC
    decision_id: str | None = None
    offer_id: str | None = None
    placement_id: str | None = None
    session_id: str | None = None
    channel: str | None = None
    category: str | None = None
    value: Decimal | None = None  # in `currency`, 4 decimals
    currency: str | None = None
    properties: dict[str, Any] = msgspec.field(default_factory=dict)


def visitor_key(customer_id: str | None, anonymous_id: str | None) -> str:
    """The key under which a visitor's facts are kept; anonymous ones cannot collide with customers."""
    if customer_id is not None:
        return customer_id
    return f"{ANONYMOUS}{anonymous_id}"


def is_anonymous(key: str) -> bool:
    return key.startswith(ANONYMOUS)


def has_control_characters(text: str) -> bool:
    return not text.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)


def check_id(text: Any, field: str, longest: int = 256) -> str:
    """The id itself, if it is 1 to `longest` characters without control characters; else `BadEvent`."""
    if not isinstance(text, str) or not 1 <= len(text) <= longest or has_control_characters(text):
        raise BadEvent("invalid_field", f"{field} must be 1 to {longest} characters without control characters", field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadEvent("invalid_field", f"{field} must be valid Unicode (a lone surrogate is not)", field) from None
    return text


def shown(value: Any) -> str:
    """A value as an error message may show it: short, whatever it is."""
    if isinstance(value, int) and abs(value) > 10**15:
        return "a huge number"  # Python refuses to print integers of thousands of digits
    if isinstance(value, int | float | None):
        return repr(value)
    return repr(value[:40]) if isinstance(value, str) else f"of type {type(value).__name__}"


def parse_time(text: Any, field: str = "occurred_at") -> datetime:
    """An RFC 3339 time with an offset as UTC, microseconds kept; `BadEvent` otherwise."""
    if not isinstance(text, str):
        raise BadEvent("invalid_time", f"{field} must be an RFC 3339 time with an offset", field)
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise BadEvent("invalid_time", f"{field} is {text[:40]!r}, expected an RFC 3339 time", field) from None
    if moment.tzinfo is None:
        raise BadEvent("invalid_time", f"{field} is {text[:40]!r}, which has no offset (Z or +hh:mm)", field)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise BadEvent("invalid_time", f"{field} is {text[:40]!r}, which is outside the calendar", field) from None


def to_us(moment: datetime) -> int:
    """Whole microseconds since 1970-01-01 UTC; exact, unlike `timestamp()`."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_us(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


FIELDS = (
    "event_id", "event_type", "customer_id", "anonymous_id", "occurred_at", "decision_id", "offer_id", "placement_id",
    "session_id", "channel", "category", "value", "currency", "properties",
)  # fmt: skip


def check_event(raw: Any, now: datetime) -> Event:
    """One event as sent, checked; `BadEvent` says which check failed and names the field.

    The same checks are written as SQL for whole tables in `features/ingest.py`; a test holds the two together.
    """
    if not isinstance(raw, dict):
        raise BadEvent("invalid_event", f"an event must be an object, this is {type(raw).__name__}")
    for name in raw:
        if name not in FIELDS:
            raise BadEvent("unknown_field", f"{name[:64]!r} is not a field of an event", name)
    event_id = check_id(raw.get("event_id"), "event_id")
    kind = BY_NAME.get(raw["event_type"]) if isinstance(raw.get("event_type"), str) else None
    if kind is None:
        known = ", ".join(BY_NAME)
        raise BadEvent(
            "unknown_event_type", f"event_type is {shown(raw.get('event_type'))}, expected one of {known}", "event_type"
        )
    key = _check_visitor(raw)
    occurred_at = parse_time(raw.get("occurred_at"))
    if occurred_at > now + MAX_AHEAD:
        raise BadEvent(
            "in_the_future",
            f"occurred_at is {raw['occurred_at']}, more than 5 minutes ahead of {now.isoformat()}",
            "occurred_at",
        )
    text: dict[str, str | None] = {}
    for name in ("decision_id", "offer_id", "placement_id", "session_id", "channel", "category"):
        text[name] = None if raw.get(name) is None else check_id(raw[name], name)
    value, currency = _check_money(raw)
    properties = raw.get("properties")
    if properties is None:
        properties = {}
    if not isinstance(properties, dict):
        raise BadEvent("invalid_field", "properties must be an object", "properties")
    for name in kind.needs:
        if raw.get(name) is None:
            raise BadEvent("missing_field", f"{kind.name} needs {name}", name)
    if kind.name == "feedback":
        _check_feedback(properties)
    if kind.name in ("opt_out", "opt_in"):
        _check_consent(kind.name, properties, text["category"])
    return Event(
        event_id=event_id, event_type=kind.name, customer_id=key, occurred_at=occurred_at,
        decision_id=text["decision_id"], offer_id=text["offer_id"], placement_id=text["placement_id"],
        session_id=text["session_id"], channel=text["channel"], category=text["category"],
        value=value, currency=currency, properties=properties,
    )  # fmt: skip


def _check_visitor(raw: dict[str, Any]) -> str:
    customer_id, anonymous_id = raw.get("customer_id"), raw.get("anonymous_id")
    if (customer_id is None) == (anonymous_id is None):
        raise BadEvent("missing_field", "exactly one of customer_id and anonymous_id is needed", "customer_id")
    name = "customer_id" if customer_id is not None else "anonymous_id"
    check_id(raw[name], name)
    return visitor_key(customer_id, anonymous_id)


def _check_consent(kind: str, properties: dict[str, Any], category: str | None) -> None:
    """What is meant must be certain: an event that is taken and then changes nothing is a refusal that got lost."""
    said = [name for name in ("channel", "category") if properties.get(name) is not None]
    for name in said:
        try:
            check_id(properties[name], f"properties.{name}")
        except BadEvent as error:
            raise BadEvent(error.code, error.detail, "properties") from None
    if not said and category is None:
        raise BadEvent("missing_field", f"{kind} needs properties.channel or category", "properties")


def _check_money(raw: dict[str, Any]) -> tuple[Decimal | None, str | None]:
    value, currency = raw.get("value"), raw.get("currency")
    if currency is not None and not (
        isinstance(currency, str)
        and len(currency) == 3
        and currency.isascii()
        and currency.isupper()
        and currency.isalpha()
    ):
        raise BadEvent(
            "invalid_field", f"currency is {shown(currency)}, expected an ISO 4217 code such as EUR", "currency"
        )
    if value is None:
        return None, currency
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise BadEvent("invalid_field", f"value must be a number, this is {type(value).__name__}", "value")
    magnitude: Any = abs(value)
    if not magnitude <= MAX_VALUE:  # false for NaN, and true arithmetic for integers too large for a float
        raise BadEvent("invalid_field", f"value must be finite and at most {MAX_VALUE:.0e} either way", "value")
    if currency is None:
        raise BadEvent("missing_field", "value needs currency", "currency")
    return Decimal(str(value)).quantize(Decimal("0.0001"), ROUND_HALF_UP), currency


def _check_feedback(properties: dict[str, Any]) -> None:
    for name, (lowest, highest) in FEEDBACK_SCALES.items():
        score = properties.get(name)
        if score is not None and (
            isinstance(score, bool) or not isinstance(score, int) or not lowest <= score <= highest
        ):
            raise BadEvent(
                "invalid_field",
                f"properties.{name} is {shown(score)}, expected a whole number from {lowest} to {highest}",
                "properties",
            )
    if not any(properties.get(name) is not None for name in (*FEEDBACK_SCALES, "text", "reason")):
        raise BadEvent(
            "missing_field", "feedback needs one of nps, csat, ces, text, reason in properties", "properties"
        )
