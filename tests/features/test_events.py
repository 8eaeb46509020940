"""One event, checked."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import BadEvent
from features.events import EVENT_TYPES, check_event, from_us, parse_time, to_us, visitor_key
from tests.conftest import NOW


@pytest.fixture
def event():
    def make(**changes):
        raw = {"event_id": "e-1", "event_type": "visit", "customer_id": "c-1", "occurred_at": "2026-03-04T11:00:00Z"}
        return {k: v for k, v in {**raw, **changes}.items() if v is not ...}

    return make


def test_a_time_with_an_offset_becomes_utc(event):
    checked = check_event(event(occurred_at="2026-03-04T12:00:00.123456+01:00"), NOW)
    assert checked.occurred_at == datetime(2026, 3, 4, 11, 0, 0, 123456, tzinfo=UTC)


def test_money_is_kept_exactly_to_four_decimals(event):
    checked = check_event(event(event_type="purchase", value=0.1, currency="EUR"), NOW)
    assert checked.value == Decimal("0.1000")


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"event_id": ...}, "invalid_field", "event_id"),
        ({"event_id": ""}, "invalid_field", "event_id"),
        ({"event_id": 7}, "invalid_field", "event_id"),
        ({"event_type": "clik"}, "unknown_event_type", "event_type"),
        ({"event_type": None}, "unknown_event_type", "event_type"),
        ({"customer_id": "a\x1fb"}, "invalid_field", "customer_id"),
        ({"customer_id": "x" * 257}, "invalid_field", "customer_id"),
        ({"customer_id": "\ud800"}, "invalid_field", "customer_id"),
        ({"customer_id": ...}, "missing_field", "customer_id"),
        ({"anonymous_id": "a"}, "missing_field", "customer_id"),
        ({"occurred_at": "2026-03-04T11:00:00"}, "invalid_time", "occurred_at"),
        ({"occurred_at": "yesterday"}, "invalid_time", "occurred_at"),
        ({"occurred_at": 1772622000}, "invalid_time", "occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "invalid_time", "occurred_at"),
        ({"occurred_at": "2026-03-04T12:05:01Z"}, "in_the_future", "occurred_at"),
        ({"event_type": "impression"}, "missing_field", "offer_id"),
        ({"event_type": "purchase", "currency": "EUR"}, "missing_field", "value"),
        ({"value": 5.0}, "missing_field", "currency"),
        ({"value": float("nan"), "currency": "EUR"}, "invalid_field", "value"),
        ({"value": float("inf"), "currency": "EUR"}, "invalid_field", "value"),
        ({"value": 10**5000, "currency": "EUR"}, "invalid_field", "value"),
        ({"value": True, "currency": "EUR"}, "invalid_field", "value"),
        ({"value": "5", "currency": "EUR"}, "invalid_field", "value"),
        ({"value": 5, "currency": "eur"}, "invalid_field", "currency"),
        ({"properties": []}, "invalid_field", "properties"),
        ({"event_type": "feedback"}, "missing_field", "properties"),
        ({"event_type": "feedback", "properties": {"nps": 11}}, "invalid_field", "properties"),
        ({"event_type": "feedback", "properties": {"csat": 0}}, "invalid_field", "properties"),
        ({"event_type": "feedback", "properties": {"nps": True}}, "invalid_field", "properties"),
        ({"event_type": "opt_out"}, "missing_field", "properties"),
        ({"event_type": "opt_out", "properties": {"channel": ["web"]}}, "invalid_field", "properties"),
        ({"event_type": "opt_out", "properties": {"channel": True}}, "invalid_field", "properties"),
        ({"event_type": "opt_out", "properties": {"channel": "web\x01"}}, "invalid_field", "properties"),
        ({"event_type": "opt_out", "properties": {"channel": "web", "category": 5}}, "invalid_field", "properties"),
        ({"event_type": "opt_in", "properties": {"category": "x" * 257}}, "invalid_field", "properties"),
        ({"offer": "o-1"}, "unknown_field", "offer"),
    ],
)
def test_a_fault_is_refused_by_code_and_field(event, changes, code, field):
    with pytest.raises(BadEvent) as caught:
        check_event(event(**changes), NOW)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_five_minutes_ahead_is_still_accepted(event):
    assert check_event(event(occurred_at="2026-03-04T12:05:00Z"), NOW)


def test_an_anonymous_visitor_can_never_be_taken_for_a_customer(event):
    checked = check_event(event(customer_id=..., anonymous_id="c-1"), NOW)
    assert checked.customer_id == visitor_key(None, "c-1") != "c-1"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_value_breaks_the_check(raw):
    with pytest.raises(BadEvent):
        check_event(raw, NOW)


@given(
    st.sampled_from([t.name for t in EVENT_TYPES]),
    st.dictionaries(
        st.sampled_from(["offer_id", "value", "currency", "properties", "category"]),
        st.none() | st.integers() | st.floats() | st.text() | st.dictionaries(st.text(), st.integers()),
    ),
)
def test_an_event_is_accepted_or_refused_by_name_whatever_its_fields_hold(kind, fields):
    raw = {"event_id": "e", "customer_id": "c", "occurred_at": "2026-03-04T11:00:00Z", **fields, "event_type": kind}
    try:
        outcome = check_event(raw, NOW).event_type
    except BadEvent as error:
        outcome = error.code
    assert outcome in {kind, "missing_field", "invalid_field"}


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_microseconds_survive_the_round_trip(moment):
    moment = moment.replace(tzinfo=UTC)
    assert from_us(to_us(moment)) == moment
    assert parse_time(moment.isoformat()) == moment
