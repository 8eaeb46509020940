"""Stores that are slow, fail or hang while decisions are made: an answer in time, and nothing that a rule forbids."""

from __future__ import annotations

import asyncio
import threading
import time

import msgspec
import pytest

from features.catalogue import Cap
from features.errors import StoreUnavailable
from serving import lanes, stores
from serving.answering import OVER, Answering
from serving.customer import Happened, Told
from serving.decision import DecisionRequest, PlacementRequest
from serving.state.contacts import Claim, Claimed, ContactHistory, Stock
from serving.stores import Claiming, History
from serving.together import Asks, Whole, decide_all
from tests.serving.conftest import an_offer

DEADLINE_S = 1.0
GRACE_S = 1.0  # beyond the deadline: this machine may be busy with other tests
TOO_SLOW_S = 3.0
AMPLE_S = 5.0  # where nothing is slow: the processor may be


class Fault:
    """What a store does when it is asked; changed while the test runs."""

    def __init__(self):
        self.sleep_s, self.fails = 0.0, False
        self.n_asked = 0
        self.asked_by: list[str] = []  # threads

    def __call__(self):
        self.n_asked += 1
        self.asked_by.append(threading.current_thread().name)
        time.sleep(self.sleep_s)
        if self.fails:
            raise StoreUnavailable("injected")


class FaultyContacts:
    """Nothing was ever shown; the last unit of what is in `gone` is lost in every race."""

    def __init__(self):
        self.reads, self.claims = Fault(), Fault()
        self.gone, self.claimed, self.cancelled = set(), [], []

    def histories(self, customer_ids):
        self.reads()
        return [ContactHistory() for _ in customer_ids]

    def stock(self, now_us):
        return Stock()

    def claim(self, claims, limits):
        self.claims()
        self.claimed.extend(claim.decision_id for claim in claims)
        return [tuple(pick for pick in claim.picks if pick.offer_id in self.gone) for claim in claims]

    def cancel(self, decision_ids):
        self.cancelled.extend(decision_ids)


@pytest.fixture
def contacts():
    return FaultyContacts()


@pytest.fixture
def service(decider_with, contacts):
    """Two offers, of which the better one has a cap; each store can be made slow or failing."""
    decider = decider_with(
        [an_offer("capped", 9.0, caps=(Cap(limit=3, window="1d"),)), an_offer("free", 1.0)], contacts=contacts
    )
    one = DecisionRequest(customer_id="c", placements=(PlacementRequest("hero", 1),), dry_run=True)
    decider.decide(one)  # loads what is compiled, which a deadline has no time for
    reader = decider.edition.customers
    reader.features_fault, reader.profile_fault = Fault(), Fault()

    def happened(asked):
        reader.features_fault()
        return [Happened(None, ()) for _ in asked]

    def told(customer_ids):
        reader.profile_fault()
        return [Told(customer_id, None) for customer_id in customer_ids]

    def assembled(customer_id, happened, told, now_us):
        customer = type(reader).read(reader, customer_id, now_us)
        missing = [("features_unavailable", "")] if happened is None else []
        missing += [("state_unavailable", "no consent")] if told is None else []
        for one in missing:
            customer = customer.but(one)
        return customer if told is not None else _unknown_consent(customer)

    reader.happened, reader.told, reader.assembled = happened, told, assembled
    return Answering(decider)


def _unknown_consent(customer):
    return msgspec.structs.replace(customer, refused=None)


def ask(service, n=1, deadline_s=DEADLINE_S, before=lambda: None):
    """(decisions, seconds each took), of n questions at once."""

    async def one():
        loop = asyncio.get_running_loop()
        request = DecisionRequest(
            customer_id="c", placements=(PlacementRequest("hero", 1),), deadline_ms=int(deadline_s * 1000)
        )
        began = loop.time()
        decision = await service.decide(request, began)
        return decision, loop.time() - began

    async def all_of_them():
        service.start()
        before()
        answers = await asyncio.gather(*(one() for _ in range(n)))
        await asyncio.sleep(0)
        return answers

    try:
        return asyncio.run(all_of_them())
    finally:
        threading.Thread(target=service.close, daemon=True).start()


def shown(decision):
    return [offer.offer_id for placement in decision.placements for offer in placement.offers]


def codes(decision):
    return {one.code for one in decision.degraded} - {"model_unavailable"}


def test_with_every_store_well_the_best_offer_is_reserved_and_shown(service, contacts):
    ((decision, _),) = ask(service, deadline_s=5.0)
    assert shown(decision) == ["capped"]
    assert contacts.claimed == [decision.decision_id]
    assert codes(decision) == set()


@pytest.mark.parametrize("fault", ["sleep", "fail"])
def test_without_counters_capped_offers_are_withheld_and_the_others_go_on(service, contacts, fault):
    contacts.reads.sleep_s, contacts.reads.fails = (TOO_SLOW_S, False) if fault == "sleep" else (0.0, True)
    for decision, took_s in ask(service, n=10, deadline_s=DEADLINE_S if fault == "sleep" else AMPLE_S):
        assert shown(decision) == ["free"]
        assert codes(decision) == {"state_unavailable"} | ({"deadline"} if fault == "sleep" else set())
        assert took_s < DEADLINE_S + GRACE_S
    assert contacts.claimed == []


@pytest.mark.parametrize("fault", ["sleep", "fail"])
def test_a_reservation_that_does_not_come_is_given_up_and_nothing_capped_is_shown(service, contacts, fault, logged):
    contacts.claims.sleep_s, contacts.claims.fails = (TOO_SLOW_S, False) if fault == "sleep" else (0.0, True)
    for decision, took_s in ask(service, n=5, deadline_s=DEADLINE_S if fault == "sleep" else AMPLE_S):
        assert shown(decision) == ["free"]
        assert codes(decision) == {"state_unavailable"}
        assert logged(decision)["redrawn"]  # chosen by what the first draw gave: its chances are no weights
        assert took_s < DEADLINE_S + GRACE_S


def test_a_reservation_that_comes_too_late_is_given_back(service, contacts):
    contacts.claims.sleep_s = 0.9

    async def scenario():
        service.start()
        loop = asyncio.get_running_loop()
        asked = DecisionRequest(customer_id="c", placements=(PlacementRequest("hero", 1),), deadline_ms=500)
        decision = await service.decide(asked, loop.time())
        for _ in range(500):
            if len(contacts.cancelled) == 2:
                break
            await asyncio.sleep(0.01)
        return decision

    decision = asyncio.run(scenario())
    service.close()
    assert shown(decision) == ["free"]
    assert len(contacts.claimed) == 2  # by the thread that does all of it, then by the lane of reservations
    assert sorted(contacts.claimed) == sorted(contacts.cancelled)
    assert decision.decision_id in contacts.cancelled


@pytest.mark.parametrize("fault", ["sleep", "fail"])
def test_without_features_a_customer_is_scored_from_priors(service, fault):
    reader = service.decider.edition.customers
    reader.features_fault.sleep_s, reader.features_fault.fails = (
        (TOO_SLOW_S, False) if fault == "sleep" else (0.0, True)
    )
    for decision, took_s in ask(service, n=10):
        assert shown(decision) == ["capped"]
        assert codes(decision) == {"features_unavailable"} | ({"deadline"} if fault == "sleep" else set())
        assert took_s < DEADLINE_S + GRACE_S


def test_before_a_slow_store_counts_as_stuck_the_others_decide_without_it_already(service, contacts, monkeypatch):
    """Else everybody who asks in that first moment would be offered nothing."""
    monkeypatch.setattr(lanes, "STUCK_S", 10.0)
    contacts.reads.sleep_s = 0.9 * DEADLINE_S
    ((decision, took_s),) = ask(service)
    assert shown(decision) == ["free"]
    assert "deadline" in codes(decision)
    assert took_s < DEADLINE_S + GRACE_S


def test_without_consent_nothing_is_shown(service):
    service.decider.edition.customers.profile_fault.fails = True
    ((decision, _),) = ask(service, deadline_s=5.0)
    assert shown(decision) == []
    assert codes(decision) == {"state_unavailable"}


def test_a_stuck_store_is_not_waited_for_by_newcomers_and_is_asked_again_once_it_answers(service, contacts):
    contacts.reads.sleep_s = 0.9

    async def scenario():
        service.start()
        loop = asyncio.get_running_loop()

        async def one(deadline_ms=500):
            placements = (PlacementRequest("hero", 1),)
            asked = DecisionRequest(customer_id="c", placements=placements, deadline_ms=deadline_ms)
            return await service.decide(asked, loop.time())

        first = await one()
        contacts.reads.sleep_s = 0.0
        while not service.stores.counted.is_stuck:
            await asyncio.sleep(0.01)
        n_asked = contacts.reads.n_asked
        second = await one(5000)
        assert contacts.reads.n_asked == n_asked
        while service.stores.counted.stuck_s:
            await asyncio.sleep(0.01)
        third = await one(5000)
        return first, second, third

    first, second, third = asyncio.run(scenario())
    service.close()
    assert [shown(d) for d in (first, second, third)] == [["free"], ["free"], ["capped"]]


def test_one_thread_asks_every_store_until_one_is_late_and_again_when_all_were_in_time(service, contacts, monkeypatch):
    monkeypatch.setattr(stores, "APART_S", 0.2)
    reader = service.decider.edition.customers
    faults = (contacts.reads, contacts.claims, reader.features_fault, reader.profile_fault)

    async def asked_by():
        loop = asyncio.get_running_loop()
        for fault in faults:
            fault.asked_by.clear()
        asked = DecisionRequest(customer_id="c", placements=(PlacementRequest("hero", 1),), deadline_ms=500)
        decision = await service.decide(asked, loop.time())
        return shown(decision), {name for fault in faults for name in fault.asked_by}

    async def scenario():
        service.start()
        well = await asked_by()
        reader.features_fault.sleep_s = 0.9
        late = await asked_by()
        reader.features_fault.sleep_s = 0.0
        after = await asked_by()
        while service.stores.happened.stuck_s or not service.stores.are_well:
            await asyncio.sleep(0.01)
        return well, late, after, await asked_by()

    well, late, after, again = asyncio.run(scenario())
    service.close()
    assert well == again == (["capped"], {"lane-together"})
    assert late == (["capped"], {"lane-together", "lane-features", "lane-reservations"})
    assert after == (["capped"], {"lane-profiles", "lane-contacts", "lane-reservations"})


def test_an_offer_lost_in_a_race_is_drawn_again_without_and_the_row_says_so(service, contacts, logged):
    contacts.gone = {"capped"}
    ((decision, _),) = ask(service, deadline_s=5.0)
    assert shown(decision) == ["free"]
    row = logged(decision)
    assert (row["redrawn"], row["lost"]) == (True, [["capped"]])


def test_a_model_that_fails_gives_way_to_popularity(service):
    def broken(*_):
        raise RuntimeError("a model fails")

    edition = service.decider.edition
    edition.without_models()  # before the sabotage: it is an edition of its own
    edition.score = broken
    ((decision, _),) = ask(service, deadline_s=5.0)
    assert shown(decision) == ["capped"]


def test_when_nothing_is_left_the_answer_is_an_empty_list(service):
    def broken(*_):
        raise RuntimeError("rules fail")

    edition = service.decider.edition
    edition.rules.eligible = broken
    edition.without_models().rules.eligible = broken
    ((decision, _),) = ask(service, deadline_s=5.0)
    assert shown(decision) == []
    assert [one.code for one in decision.degraded] == ["model_unavailable"]


def test_without_time_for_a_decision_none_is_made_and_nothing_is_reserved(service, contacts, logged):
    service.pace.turned(480.0)  # an eighth of it counts: as if each took a minute
    for decision, took_s in ask(service, n=5):
        assert shown(decision) == []
        assert codes(decision) == {"deadline"}
        assert took_s < DEADLINE_S
        assert logged(decision)["degraded"] == [{"code": OVER[0], "action": OVER[1]}]
    assert contacts.claimed == []


def test_who_would_have_to_wait_too_long_for_a_turn_is_answered_with_nothing_at_once(service, contacts):
    for _ in range(100):
        service.pace.turned(0.1)  # each takes a tenth of a second: six have their turn within 60 % of one
    answers = ask(service, n=30)
    spared = [decision for decision, _ in answers if OVER[0] in codes(decision)]
    assert 24 <= len(spared) < 30  # a machine that is busy with other tests makes it more
    assert len(contacts.claimed) <= len(answers) - len(spared)
    assert all(took_s < DEADLINE_S for decision, took_s in answers if decision in spared)


def test_a_reservation_lane_that_was_stuck_is_not_waited_for_until_an_empty_reservation_was_quick(service, contacts):
    contacts.claims.sleep_s = 0.3

    async def scenario():
        service.start()

        async def one():
            asked = DecisionRequest(customer_id="c", placements=(PlacementRequest("hero", 1),), deadline_ms=500)
            began = time.monotonic()
            decision = await service.decide(asked, began)
            return shown(decision), time.monotonic() - began

        await one()
        while not service.stores.claims.is_shut:
            await one()
        n_claimed = len(contacts.claimed)
        during = [await one() for _ in range(5)]
        assert len(contacts.claimed) == n_claimed  # the probes reserve nothing
        contacts.claims.sleep_s = 0.0
        for _ in range(500):
            after, _ = await one()
            if after == ["capped"]:
                break
            await asyncio.sleep(0.01)
        return during, after

    during, after = asyncio.run(scenario())
    service.close()
    assert [offers for offers, _ in during] == [["free"]] * 5
    assert sorted(took_s for _, took_s in during)[2] < 0.2  # at most the reads were waited for
    assert after == ["capped"]


def test_what_a_batch_has_claimed_stands_when_its_reads_fail(service, contacts):
    contacts.reads.fails = True
    edition = service.decider.edition
    claim = Claim("d", "c", 0, 1, (Claimed(0, "capped", None, "hero", "web"),))
    answers = service.stores.work([History("c", 0), Claiming(claim, edition.limits)])
    assert answers == [None, ()]
    assert contacts.claimed == ["d"]


def test_a_second_draw_that_fails_leaves_one_with_nothing_and_the_others_of_the_batch_with_their_offers(
    service, contacts, monkeypatch
):
    """Two at once, of whom the first loses the race and meets a broken model."""
    monkeypatch.setattr(contacts, "claim", lambda claims, limits: [claims[0].picks, *([()] * (len(claims) - 1))])

    def broken(*_):
        raise RuntimeError("a model fails")

    monkeypatch.setattr(type(service.decider), "again", broken)
    edition = service.decider.edition
    request = DecisionRequest(customer_id="c", placements=(PlacementRequest("hero", 1),))
    both = [Whole(Asks(edition.customers, "c", 0), True, edition, request) for _ in range(2)]
    decide_all(service.stores, both)
    assert [one.attempt is None for one in both] == [True, False]
    assert [one.claimed for one in both] == [False, True]
    assert all(one.ready for one in both)


def test_what_nobody_waits_for_is_neither_read_nor_reserved(service, contacts):
    edition = service.decider.edition
    request = DecisionRequest(customer_id="c", placements=(PlacementRequest("hero", 1),))
    one = Whole(Asks(edition.customers, "c", 0), True, edition, request)
    one.given_up = True
    n_asked = contacts.reads.n_asked
    decide_all(service.stores, [one])
    assert (contacts.claimed, contacts.reads.n_asked, one.ready) == ([], n_asked, False)


def test_the_thread_that_decides_also_writes_answer_and_row_but_for_one_that_explains_itself(service):
    edition = service.decider.edition
    asked = [
        DecisionRequest(customer_id="c", placements=(PlacementRequest("hero", 1),), explain=explain)
        for explain in (False, True)
    ]
    both = [Whole(Asks(edition.customers, "c", 0), True, edition, one) for one in asked]
    decide_all(service.stores, both)
    plain, explained = both
    assert plain.decision.placements[0].offers
    assert msgspec.json.decode(plain.decision.log_payload)["decision_id"] == plain.decision.decision_id
    assert (explained.decision, explained.ready) == (None, True)


def test_an_answer_that_cannot_be_written_spoils_no_other_one_of_the_batch(service, monkeypatch):
    decided = type(service.decider).written
    asked = [DecisionRequest(customer_id=who, placements=(PlacementRequest("hero", 1),)) for who in ("a", "b")]

    def written(decider, attempt, received):
        if attempt.question.request.customer_id == "a":
            raise RuntimeError("no answer can be written")
        return decided(decider, attempt, received)

    monkeypatch.setattr(type(service.decider), "written", written)
    edition = service.decider.edition
    both = [Whole(Asks(edition.customers, one.customer_id, 0), True, edition, one) for one in asked]
    decide_all(service.stores, both)
    assert [one.decision is None for one in both] == [True, False]
    assert all(one.ready for one in both)


def test_a_decision_whose_answer_cannot_be_written_is_answered_with_nothing(service, monkeypatch):
    def broken(*_):
        raise RuntimeError("no answer can be written")

    monkeypatch.setattr(type(service.decider), "written", broken)
    ((decision, _),) = ask(service)
    assert [placement.offers for placement in decision.placements] == [()]
    assert [one.code for one in decision.degraded] == ["model_unavailable"]
