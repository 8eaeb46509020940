"""Funnel, movers and likings of a little world; expected values by hand unless said."""

from __future__ import annotations

import math
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from experiments.digest.funnel import funnel
from experiments.digest.likings import binomial, likings
from experiments.digest.measures import data_until
from experiments.digest.movers import movers
from experiments.digest.shown import impressions
from experiments.digest.week import Week
from features.log_export import DECISION_SCHEMA
from tests.experiments.worlds import START, day, event, offer, world

WEEK = Week(START.date(), ZoneInfo("UTC"))


def decision(decision_id, customer, at, *offers):
    """`offers` as (offer_id, p_accept), or (offer_id, p_accept, is_fallback)."""
    rows = [dict(zip(("offer_id", "p_accept", "is_fallback"), (*one, False), strict=False)) for one in offers]
    payload = msgspec.json.encode({"placements": [{"placement_id": "hero", "offers": rows}]}).decode()
    return {"decision_id": decision_id, "customer_id": customer, "decided_at": day(at), "payload": payload}


def decisions(*rows):
    return pa.Table.from_pylist(list(rows), DECISION_SCHEMA)


def seen(customer, at, offer_id="o", decision_id=None, **outcomes):
    """An impression and what came of it, as kind = days later."""
    shown = {"offer_id": offer_id, "decision_id": decision_id}
    return [event(customer, "impression", at, **shown)] + [
        event(customer, kind, at + later, **shown) for kind, later in outcomes.items()
    ]


def steps_of(events, **others):
    with world(events, offers=[offer("o"), offer("p")], **others) as tables, impressions(tables, WEEK):
        return {one.step: one for one in funnel(tables, WEEK, data_until(tables, WEEK.until))}


def test_the_funnel_narrows_from_decisions_to_acceptances():
    made = decisions(
        decision("d1", "a", 1, ("o", 0.1), ("p", 0.1)), decision("d2", "b", 2, ("o", 0.1)), decision("d3", "c", 3),
        decision("old", "a", -2, ("o", 0.1)),
    )  # fmt: skip
    events = [*seen("a", 1, "o", "d1", click=0.1, accept=0.2), *seen("a", 1, "p", "d1", dismiss=0.1),
              *seen("b", 2, "o", "d2", click=0.1), *seen("a", -2, "o", "old", accept=3)]  # fmt: skip
    found = steps_of(events, decisions=made)
    counts = {step: (one.now.n, one.now.customers, one.before.n) for step, one in found.items()}
    assert counts == {
        "decisions": (3, 3, 1), "offers": (3, 2, 1), "impressions": (3, 2, 1), "clicks": (2, 2, 0),
        "acceptances": (1, 1, 0), "dismissals": (1, 1, 0),
    }  # fmt: skip  # what was shown the week before was accepted after its end: at its end it was not
    assert [one.share for one in found.values()] == [None, 1, None, 2 / 3, 1 / 3, 1 / 3]


def test_steps_that_nobody_recorded_are_not_zero():
    found = steps_of(seen("a", 1))
    assert found["decisions"].now is None
    assert found["decisions"].why.startswith("no decision is in the log")
    assert found["clicks"].why == "no click was ever recorded"
    assert found["impressions"].now.n == 1


def test_a_joined_visitor_is_one_customer():
    events = [*seen("\x1fv", 1, "o"), *seen("a", 2, "o")]
    assert steps_of(events, identities=[("\x1fv", "a", 0)])["impressions"].now.customers == 1


def moved(events, offers):
    with world(events, offers=offers) as tables, impressions(tables, WEEK):
        return movers(tables, WEEK)


def test_movers_are_ranked_by_the_value_they_gained():
    """o: 1 acceptance the week before, 3 now, worth 10 each; p: 2, then 1, worth 30; q is not moved."""
    events = [
        *seen("a", -6, accept=1), *(one for n in range(3) for one in seen(f"b{n}", 1, accept=1)),
        *(one for n in range(2) for one in seen(f"c{n}", -5, "p", accept=1)), *seen("d", 2, "p", accept=1),
        *seen("e", -3, "q"), *seen("e", 3, "q"), *seen("f", 1, "gone from the catalogue", accept=0.5),
    ]  # fmt: skip
    found = moved(events, [offer("o"), offer("p", 30), offer("q")])
    assert [(one.offer_id, one.gained) for one in found.up] == [("o", 20)]
    assert [(one.offer_id, one.gained, one.now.accepted) for one in found.down] == [("p", -30, 1)]
    assert found.n_offers == 4
    assert found.changed == ()


def test_a_rate_is_judged_on_impressions_whose_window_ended():
    """Windows of 7 days: of this week's judged 40 (shown the week before) 30 were accepted, of those before 4 of 40."""
    events = [one for at, taken in ((-13, 4), (-6, 30)) for n in range(40)
              for one in seen(f"c{at}{n}", at, **({"accept": 1} if n < taken else {}))]  # fmt: skip
    found = moved([*events, event("z", "visit", -40)], [offer("o")])
    (changed,) = found.changed
    assert (changed.rate, changed.rate_before) == (0.75, 0.1)
    assert changed.p_adjusted < 1e-8
    assert changed.rate_low < 0.65 < changed.rate_high


def liked(events, made=None, **others):
    offers = [offer("o"), offer("p")]
    with world(events, offers=offers, decisions=made, **others) as tables, impressions(tables, WEEK):
        return likings(tables, WEEK)


def crowd(rates, p_accept, n=60):
    """n customers of each city are shown o the week before; the rest of their rate is declined."""
    rows, made, cities = [], [], []
    for city, rate in rates.items():
        for i in range(n):
            customer, name = f"{city}{i}", f"d-{city}{i}"
            made.append(decision(name, customer, -5, ("o", p_accept)))
            rows += seen(customer, -5, "o", name, **({"accept": 1} if i < rate * n else {}))
            cities.append({"customer_id": customer, "city": city})
    return rows, decisions(*made), pa.Table.from_pylist(cities)


def test_a_segment_that_takes_more_than_the_model_expected_is_found_and_the_others_are_not():
    """p_accept 0.2 for all: 12 of 60 expected in each city. Rome takes 36, Oslo 12, Bern 0."""
    events, made, customers = crowd({"Rome": 0.6, "Oslo": 0.2, "Bern": 0.0}, 0.2)
    found = liked(events, made, customers=customers)
    assert (found.basis, found.n_looks, found.n_impressions) == ("p_accept", 4, 180)  # and `known`, which is everybody
    (likes,) = (one for one in found.likes if one.segment == "city")
    (rejects,) = found.rejects
    assert (likes.value, likes.accepted, likes.expected) == ("Rome", 36, pytest.approx(12))
    assert (rejects.value, rejects.accepted) == ("Bern", 0)
    assert rejects.p_value == pytest.approx(2 * 0.8**60)  # by hand: nobody of 60 at 0.2
    assert likes.low < 0.4 < likes.high
    assert (found.accepted, found.expected) == (48, pytest.approx(36))


def test_looks_are_chosen_by_what_was_expected_never_by_what_came():
    events, made, customers = crowd({"Rome": 0.5, "Oslo": 0.5}, 0.02)  # 1.2 expected in each: too few
    found = liked(events, made, customers=customers)
    assert (found.n_looks, found.n_small, found.likes) == (0, 3, ())
    assert (found.accepted, found.expected) == (60, pytest.approx(2.4))


def test_without_logged_decisions_a_segment_is_expected_to_take_what_its_readiness_and_the_offers_appeal_make():
    """Rome takes 45 of 60 o and 15 of 60 p, Oslo the other way round: without tastes each would take 30 of each.

    All four are 15 away; a quarter of the variance is left, so z = 15 / √(60 · ¼ · ¼) = 7.75 (by hand).
    """
    rows, cities = [], []
    for city, offer_id, n_taken in (("Rome", "o", 45), ("Rome", "p", 15), ("Oslo", "o", 15), ("Oslo", "p", 45)):
        for i in range(60):
            customer = f"{city}{offer_id}{i}"
            cities.append({"customer_id": customer, "city": city})
            rows += seen(customer, -5, offer_id, **({"accept": 1} if i < n_taken else {}))
    found = liked(rows, customers=pa.Table.from_pylist(cities))
    assert (found.basis, found.expected) == ("main_effects", None)
    assert {(one.value, one.offer_id) for one in found.likes} == {("Rome", "o"), ("Oslo", "p")}
    assert {(one.value, one.offer_id) for one in found.rejects} == {("Rome", "p"), ("Oslo", "o")}
    assert [one.expected for one in found.likes] == pytest.approx([30, 30])
    assert found.likes[0].p_value == pytest.approx(2 * norm.sf(15 / math.sqrt(60 / 16)))


def test_a_segment_that_takes_everything_more_often_has_no_taste():
    events, _, customers = crowd({"Rome": 0.75, "Oslo": 0.25}, 0.5)
    found = liked(events, customers=customers)
    assert (found.basis, found.likes, found.rejects) == ("main_effects", (), ())
    assert found.n_looks == 0  # of one offer nothing is left once both cities' readiness is known


def test_numbers_are_cut_into_quarters_and_texts_of_many_values_left_out():
    events, made, _ = crowd({"x": 0.2}, 0.2, n=120)
    customers = pa.Table.from_pylist(
        [{"customer_id": f"x{i}", "age": i, "street": f"street {i}"} for i in range(120)]
    )  # fmt: skip
    found = liked(events, made, customers=customers)
    assert found.segments == ("known", "age")
    assert found.skipped == ("street",)
    assert [(one.value, one.accepted) for one in found.likes] == [("up to 29", 24)]  # quarter_disc of 0 … 119


def test_a_customer_counts_with_what_was_known_when_the_offer_was_shown():
    events, made, customers = crowd({"Rome": 0.9, "Oslo": 0.2}, 0.2)
    late = [{"customer_id": f"Rome{i}", "city": "Oslo", "known_from": day(2)} for i in range(60)]
    known = [{**one, "known_from": day(-30)} for one in customers.to_pylist()]
    found = liked(events, made, customers=pa.Table.from_pylist(known + late))
    assert [one.value for one in found.likes if one.segment == "city"] == ["Rome"]


def test_offers_that_nobody_estimated_have_no_expectation():
    made = decisions(*(decision(f"d{i}", f"c{i}", -5, ("o", 0.0, True)) for i in range(40)))
    events = [one for i in range(40) for one in seen(f"c{i}", -5, "o", f"d{i}", accept=1)]
    assert liked(events, made).basis == "main_effects"


def test_nothing_to_look_at_is_said():
    found = liked(seen("a", 1))
    assert (found.basis, found.why) == (None, "no impression's attribution window ended in this week")


def test_chances_that_differ_are_tested_with_caution():
    """Planted: 10,000 sums of 80 coins with chances of 0.01 to 0.6, all as they were said to be; at most 5 % found."""
    rng = np.random.default_rng(11)
    chances = rng.uniform(0.01, 0.6, 80)
    sums = (rng.random((10_000, 80)) < chances).sum(1)
    p = {int(k): binomial(80, int(k), float(chances.sum()))[0] for k in np.unique(sums)}
    assert np.mean([p[int(k)] < 0.05 for k in sums]) < 0.05


def test_the_interval_of_a_share_is_clopper_and_pearsons():
    """5 of 20 at 95 %: 0.0866 to 0.4910 (the usual tables)."""
    _, low, high = binomial(20, 5, 5.0)
    assert (round(low, 4), round(high, 4)) == (0.0866, 0.4910)
    assert binomial(20, 0, 0.0) == (1.0, 0.0, pytest.approx(0.1684, abs=1e-4))
