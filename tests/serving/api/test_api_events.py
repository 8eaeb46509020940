"""POST /v1/events: each event for itself, and on disk before the answer."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from itertools import permutations

import pytest

from features.catalogue import Offer, Treatment
from features.errors import StoreUnavailable
from features.events import to_us
from tests.serving.api.fakes import NOW

JSON = {"Content-Type": "application/json"}


def an_event(event_id="e-1", **changes):
    given = {
        "event_id": event_id,
        "event_type": "click",
        "customer_id": "c-1",
        "occurred_at": "2026-03-01T11:59:00Z",
        "offer_id": "o-1",
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture
def send(client):
    return lambda *events: client.post("/v1/events", json={"events": list(events)})


def kept(service):
    return service.log_store.events_after(0, 10_000)


def test_an_accepted_event_is_on_disk_when_the_answer_comes(send, service):
    answer = send(an_event(value=25.2, currency="EUR", properties={"a": [1]}, decision_id="01J", session_id="s"))
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "duplicates": 0, "rejected": []})
    (event,) = kept(service)
    assert (event.event_id, event.customer_id, float(event.value)) == ("e-1", "c-1", 25.2)
    assert (event.decision_id, event.session_id, event.properties_json) == ("01J", "s", '{"a":[1]}')


def test_a_retry_is_harmless_and_never_overwrites(send, service):
    send(an_event())
    assert send(an_event(event_type="dismiss")).json() == {"accepted": 0, "duplicates": 1, "rejected": []}
    assert [event.event_type for event in kept(service)] == ["click"]


def test_the_same_id_twice_in_one_batch_is_accepted_once(send, service):
    assert send(an_event(), an_event(), an_event("e-2")).json() == {"accepted": 2, "duplicates": 1, "rejected": []}
    assert len(kept(service)) == 2


def test_a_rejected_twin_does_not_make_the_good_one_a_duplicate(send):
    answer = send(an_event(event_type="nope"), an_event()).json()
    assert (answer["accepted"], answer["duplicates"], len(answer["rejected"])) == (1, 0, 1)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"event_type": "nope"}, "unknown_event_type"),
        ({"event_type": None}, "unknown_event_type"),
        ({"event_type": "x" * 100_000}, "unknown_event_type"),
        ({"event_type": ["click"]}, "unknown_event_type"),
        ({"event_id": ""}, "invalid_field"),
        ({"event_id": None}, "invalid_field"),
        ({"event_id": 5}, "invalid_field"),
        ({"event_id": "\x00"}, "invalid_field"),
        ({"customer_id": None}, "missing_field"),
        ({"anonymous_id": "a"}, "missing_field"),
        ({"occurred_at": None}, "invalid_time"),
        ({"occurred_at": "2026-03-01T11:59:00"}, "invalid_time"),
        ({"occurred_at": "yesterday"}, "invalid_time"),
        ({"occurred_at": "2026-03-01T12:05:01Z"}, "in_the_future"),
        ({"offer_id": None}, "missing_field"),
        ({"event_type": "purchase"}, "missing_field"),
        ({"value": 1}, "missing_field"),
        ({"value": "1", "currency": "EUR"}, "invalid_field"),
        ({"value": 10**300, "currency": "EUR"}, "invalid_field"),
        ({"value": 1, "currency": "euro"}, "invalid_field"),
        ({"colour": "red"}, "unknown_field"),
        ({"properties": [1]}, "invalid_field"),
        ({"properties": {"a": "\x00"}}, "invalid_field"),
        ({"properties": {"a": 2**64}}, "invalid_field"),
        ({"event_type": "feedback"}, "missing_field"),
        ({"event_type": "feedback", "properties": {"nps": 11}}, "invalid_field"),
        ({"event_type": "opt_out"}, "missing_field"),
    ],
)
def test_a_fault_inside_one_event_rejects_that_event_only(send, service, fault, code):
    answer = send(an_event("good-1"), an_event(**fault), an_event("good-2"))
    assert answer.status_code == 202
    (rejected,) = answer.json()["rejected"]
    assert (rejected["index"], rejected["code"]) == (1, code)
    assert 0 < len(rejected["detail"]) <= 600
    assert [event.event_id for event in kept(service)] == ["good-1", "good-2"]


@pytest.mark.parametrize("value", ["1e999", "-1e999", "1" * 5000])
def test_an_amount_that_overflows_rejects_its_event(client, value):
    body = json.dumps({"events": [an_event(currency="EUR", value=7)]}).replace("7}", f"{value}}}")
    body = body.replace('"value": 7', f'"value": {value}')
    answer = client.post("/v1/events", content=body, headers=JSON)
    assert answer.json()["rejected"][0]["code"] == "invalid_field"


@pytest.mark.parametrize("place", ["event_id", "customer_id", "channel", "properties"])
def test_half_a_surrogate_pair_rejects_its_event(client, place):
    event = an_event(**{place: {"a": "HALF"} if place == "properties" else "HALF"})
    body = json.dumps({"events": [event, an_event("e-2")]}).replace("HALF", "\\ud800")
    answer = client.post("/v1/events", content=body, headers=JSON).json()
    assert (answer["accepted"], answer["rejected"][0]["index"]) == (1, 0)


@pytest.mark.parametrize("thing", [None, 1, "x", [], True, {}])
def test_something_that_is_no_event_is_rejected(send, thing):
    assert send(thing, an_event()).json()["accepted"] == 1


@pytest.mark.parametrize(
    "body", [{}, {"events": []}, {"events": {}}, {"events": None}, {"event": []}, {"events": [1], "x": 1}]
)
def test_a_malformed_envelope_is_a_4xx(client, service, body):
    answer = client.post("/v1/events", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert kept(service) == []


def test_a_thousand_events_are_taken_and_one_more_is_not(send, service):
    assert send(*[an_event(f"e-{i}") for i in range(1001)]).status_code == 422
    assert kept(service) == []
    assert send(*[an_event(f"e-{i}") for i in range(1000)]).json()["accepted"] == 1000


def test_the_category_comes_from_the_catalogue_unless_the_event_has_one(send, service):
    new = Offer(
        offer_id="o-new",
        name="new",
        value=1,
        currency="EUR",
        treatments=(Treatment(treatment_id="t"),),
        category="hats",
    )
    service.facts.put(new, NOW)  # younger than the decider's view of the catalogue
    ids = ("o-1", "o-new", "o-nobody-knows")
    send(*[an_event(offer, offer_id=offer) for offer in ids], an_event("own", category="mine"))
    assert {event.event_id: event.category for event in kept(service)} == {
        "o-1": "shoes",
        "o-new": "hats",
        "o-nobody-knows": None,
        "own": "mine",
    }


def test_money_in_another_currency_and_unknown_decisions_are_kept(send, service):
    answer = send(
        an_event(event_type="purchase", value=5, currency="USD", decision_id="unknown", placement_id="unknown")
    )
    assert answer.json()["accepted"] == 1
    assert kept(service)[0].currency == "USD"


def test_an_anonymous_visitor_cannot_be_a_customer_of_the_same_name(send, service):
    send(an_event("1"), an_event("2", customer_id=None, anonymous_id="c-1"))
    assert {event.customer_id for event in kept(service)} == {"c-1", "\x1fc-1"}


def test_many_callers_at_once_lose_nothing_and_double_nothing(send, service):
    batches = [[an_event(f"e-{i}") for i in range(start, start + 20)] for start in range(0, 200, 10)]
    with ThreadPoolExecutor(8) as pool:
        answers = [answer.json() for answer in pool.map(lambda batch: send(*batch), batches)]
    assert sum(answer["accepted"] for answer in answers) == len(kept(service)) == 210
    assert sum(answer["duplicates"] for answer in answers) == 190


def test_a_log_that_cannot_write_is_a_503_and_nothing_was_acknowledged(send, service, monkeypatch, caplog):
    failed = Future()
    failed.set_exception(StoreUnavailable("/srv/nbo/log.db: disk full"))
    monkeypatch.setattr(service.log, "submit", lambda events, now: failed)
    answer = send(an_event())
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "/srv" not in answer.text
    assert "/srv/nbo/log.db: disk full" in caplog.text
    assert answer.headers["retry-after"]


# Consent


def consent_event(event_type, at, **changes):
    return an_event(
        f"{event_type}{at}", event_type=event_type, occurred_at=at, properties={"channel": "web"}, **changes
    )


IN, OUT = consent_event("opt_in", "2026-03-01T11:00:00Z"), consent_event("opt_out", "2026-03-01T11:30:00Z")


def test_a_retried_opt_in_does_not_undo_a_later_refusal(send, service):
    send(IN)
    send(OUT)
    assert send(IN).json()["duplicates"] == 1
    assert service.facts.profile("c-1").consent == {"web": False}


@pytest.mark.parametrize(
    "again",
    [
        {"event_type": "opt_in", "occurred_at": "2026-03-01T11:59:30Z"},
        {"event_type": "opt_out", "occurred_at": "2026-03-01T11:59:30Z", "properties": {"channel": "email"}},
        {"event_type": "opt_out", "customer_id": "c-2"},
    ],
)
def test_a_known_id_sent_again_with_something_else_changes_no_consent(send, service, again):
    refusal = an_event(event_type="opt_out", properties={"channel": "web"})
    send(refusal)
    assert send({**refusal, **again}).json() == {"accepted": 0, "duplicates": 1, "rejected": []}
    assert service.facts.profile("c-1").said_us == {"web": to_us(NOW - timedelta(minutes=1))}
    assert service.facts.profile("c-1").consent == {"web": False}
    assert service.facts.profile("c-2") is None


def test_a_word_that_is_one_too_many_rejects_its_event_only(client, send, service):
    client.put("/v1/customers/c-1", json={"consent": {f"channel-{n}": True for n in range(255)}})

    def word(channel):
        later = "2026-03-01T12:01:00Z"
        return an_event(channel, event_type="opt_out", occurred_at=later, properties={"channel": channel})

    answer = send(word("web"), word("email"), an_event("click"), word("channel-7"), word("post")).json()
    assert answer["accepted"] == 3
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [(1, "consent_full"), (4, "consent_full")]
    assert "257 entries" in answer["rejected"][0]["detail"]
    consent = service.facts.profile("c-1").consent
    assert (len(consent), consent["web"], consent["channel-7"]) == (256, False, False)
    assert [event.event_id for event in kept(service)] == ["web", "click", "channel-7"]
    client.put("/v1/customers/c-1", json={"consent": {"channel-0": None}})
    assert send(word("email")).json()["accepted"] == 1  # what was rejected is not known, so it can come again


def test_a_late_word_on_consent_does_not_beat_a_newer_one(client, send, service):
    client.put("/v1/customers/c-1", json={"consent": {"web": False, "email": True}})
    send(IN, consent_event("opt_in", "2020-01-01T00:00:00Z"))
    assert service.facts.profile("c-1").consent == {"web": False, "email": True}
    client.put("/v1/customers/c-1", json={"consent": {"email": None}})
    send(an_event(event_type="opt_in", properties={"channel": "email"}))  # of before it was taken back
    assert service.facts.profile("c-1").consent == {"web": False}


@pytest.mark.parametrize("order", list(permutations((IN, OUT, consent_event("opt_in", OUT["occurred_at"])))))
@pytest.mark.parametrize("at_once", [True, False])
def test_consent_does_not_depend_on_the_order_in_which_words_come(send, service, order, at_once):
    send(*order) if at_once else [send(event) for event in order]
    assert service.facts.profile("c-1").consent == {"web": False}


def test_a_word_on_a_channel_says_nothing_of_the_offers_category(send, service):
    offer = Offer(offer_id="o-1", name="o", value=1.0, currency="EUR", category="toys", treatments=())
    service.facts.put(offer, NOW)
    send(OUT)
    assert service.facts.profile("c-1").consent == {"web": False}
