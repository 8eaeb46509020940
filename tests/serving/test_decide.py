"""The decision: which offers, with which chance, and what the log keeps of it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.catalogue import Treatment
from features.errors import BadInput
from tests.conftest import NOW
from tests.serving.conftest import an_offer


def offers(answer):
    return [offer.offer_id for offer in answer.offers]


def test_the_offer_worth_most_wins(decider_with, ask):
    decision = ask(decider_with({"a": 1.0, "b": 3.0, "c": 2.0}), limit=2)
    assert offers(decision.placements[0]) == ["b", "c"]


def test_the_score_is_the_chance_of_acceptance_times_the_value(decider_with, ask):
    decision = ask(decider_with({"a": 100.0, "b": 10.0}, rates={"a": 0.01, "b": 0.2}))
    (answer,) = decision.placements[0].offers
    # By hand: 0.01 × 100 = 1 against 0.2 × 10 = 2.
    assert (answer.offer_id, answer.p_accept, answer.value, answer.score) == ("b", 0.2, 10.0, 2.0)


def test_no_offer_appears_twice_in_one_decision(decider_with, ask):
    decision = ask(decider_with({"a": 1.0, "b": 3.0, "c": 2.0}), "hero", "strip", limit=2)
    assert [offers(p) for p in decision.placements] == [["b", "c"], ["a"]]


def test_a_placement_never_shows_more_than_it_allows(decider_with, ask):
    decider = decider_with({"a": 1.0, "b": 3.0, "c": 2.0}, placement={"max_offers": 2})
    assert len(ask(decider, limit=10).placements[0].offers) == 2


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"status": "draft"}, False),
        ({"status": "archived"}, False),
        ({"starts_at": NOW + timedelta(microseconds=1)}, False),
        ({"starts_at": NOW}, True),
        ({"ends_at": NOW}, False),
        ({"ends_at": NOW + timedelta(microseconds=1)}, True),
        ({"channels": ("email",)}, False),
        ({"channels": ("email", "web")}, True),
        ({"placements": ("strip",)}, False),
        ({"placements": ("hero",)}, True),
        ({"treatments": (Treatment(treatment_id="t", channels=("email",)),)}, False),
        ({"treatments": (Treatment(treatment_id="t", placements=("strip",)),)}, False),
    ],
)
def test_an_offer_that_may_not_be_shown_is_not(decider_with, ask, changes, shown):
    decision = ask(decider_with([an_offer("a", **changes)]))
    assert bool(decision.placements[0].offers) == shown


def test_excluded_offers_are_not_shown_and_unknown_exclusions_are_harmless(decider_with, ask):
    decision = ask(decider_with({"a": 1.0, "b": 3.0}), exclude_offer_ids=frozenset({"b", "never-heard-of"}))
    assert offers(decision.placements[0]) == ["a"]


def test_the_first_treatment_that_fits_is_shown(decider_with, ask):
    treatments = (
        Treatment(treatment_id="mail", channels=("email",)),
        Treatment(treatment_id="any", payload={"title": "hello"}),
        Treatment(treatment_id="web", channels=("web",)),
    )
    (answer,) = ask(decider_with([an_offer("a", treatments=treatments)])).placements[0].offers
    assert (answer.treatment_id, answer.payload) == ("any", {"title": "hello"})


def test_the_channel_of_the_request_replaces_that_of_the_placement(decider_with, ask):
    decider = decider_with([an_offer("a", channels=("email",))])
    assert not ask(decider).placements[0].offers
    assert ask(decider, channel="email").placements[0].offers


def test_the_fallback_stands_in_when_nothing_else_may_be_shown(decider_with, ask):
    decider = decider_with({"a": 1.0, "b": 9.0}, placement={"fallback_offer_id": "b"})
    assert offers(ask(decider).placements[0]) == ["a"]
    (answer,) = ask(decider, exclude_offer_ids=frozenset("a")).placements[0].offers
    assert (answer.offer_id, answer.is_fallback, answer.selection_probability) == ("b", True, 1.0)
    assert answer.reason_codes == ("fallback",)


@pytest.mark.parametrize("changes", [{"ends_at": NOW}, {"status": "draft"}, {"channels": ("email",)}])
def test_a_fallback_that_may_not_be_shown_gives_an_empty_list(decider_with, ask, changes):
    decider = decider_with([an_offer("b", **changes)], placement={"fallback_offer_id": "b"})
    assert ask(decider).placements[0].offers == ()


def test_an_excluded_fallback_is_not_shown(decider_with, ask):
    decider = decider_with({"b": 1.0}, placement={"fallback_offer_id": "b"})
    assert ask(decider, exclude_offer_ids=frozenset("b")).placements[0].offers == ()


def test_a_fallback_that_does_not_exist_is_no_error(decider_with, ask):
    assert ask(decider_with({}, placement={"fallback_offer_id": "gone"})).placements[0].offers == ()


def test_a_guaranteed_offer_leads_with_probability_one(decider_with, ask):
    decider = decider_with({"a": 1.0, "b": 9.0}, placement={"guaranteed_offer_ids": ("gone", "a")})
    first, second = ask(decider, limit=2).placements[0].offers
    assert (first.offer_id, first.selection_probability, first.reason_codes) == ("a", 1.0, ("guaranteed",))
    assert second.offer_id == "b"


def test_an_unknown_placement_is_named(decider_with, ask):
    with pytest.raises(BadInput) as caught:
        ask(decider_with({"a": 1.0}), "hero", "nowhere")
    assert caught.value.field == "/placements/1/placement_id"


def test_without_a_release_the_answer_says_so(decider_with, ask):
    decision = ask(decider_with({"a": 1.0}))
    assert [d.code for d in decision.degraded] == ["model_unavailable"]
    assert decision.model_versions["release"] is None


def test_what_the_stores_could_not_say_is_passed_on(decider_with, ask):
    decision = ask(decider_with({"a": 1.0}, degraded=[("features_unavailable", "defaults")]))
    assert "features_unavailable" in [d.code for d in decision.degraded]


def test_a_dry_run_logs_nothing(decider_with, ask):
    assert ask(decider_with({"a": 1.0}), dry_run=True).log_payload == b""


def test_the_same_seed_gives_the_same_offers(decider_with, ask):
    decider = decider_with(dict.fromkeys("abcdefgh", 1.0), epsilon=1.0)
    assert ask(decider, limit=5).placements == ask(decider, limit=5).placements


def test_the_log_keeps_what_the_answer_said_and_what_it_was_made_from(decider_with, ask, logged):
    decision = ask(
        decider_with({"a": 1.0, "b": 3.0}, epsilon=0.5), exclude_offer_ids=frozenset("z"), context={"page": "/"}
    )
    row = logged(decision)
    for offer in (offer for placement in row["placements"] for offer in placement["offers"]):
        assert offer.pop("p_model") == offer["p_accept"]  # nothing was learned since
        assert offer.pop("random") in (True, False)
    assert [placement.pop("segment") for placement in row["placements"]] == ["web"]
    assert row["placements"] == msgspec.json.decode(msgspec.json.encode(decision.placements))
    assert row["seed"] == "1"
    assert row["catalogue_version"] == 1
    assert row["policy_parameters"]["epsilon"] == 0.5
    assert row["support"] == [{"n_eligible": 2, "n_in_draw": 2, "dropped": {}, "learned_position": 0}]
    assert row["request"]["context"] == {"page": "/"}
    assert row["redrawn"] is False


def test_the_log_counts_what_each_rule_dropped(decider_with, ask, logged):
    made = [an_offer("a"), an_offer("b", status="draft"), an_offer("c", ends_at=NOW), an_offer("d", channels=("sms",))]
    decision = ask(decider_with(made), exclude_offer_ids=frozenset("a"))
    dropped = {"status": 1, "schedule": 1, "channel": 1, "exclusion": 1}
    assert logged(decision)["support"] == [{"n_eligible": 0, "n_in_draw": 0, "dropped": dropped, "learned_position": 0}]


def test_an_answer_expires_after_half_an_hour(decider_with, ask):
    decision = ask(decider_with({"a": 1.0}))
    assert decision.expires_at - decision.decided_at == timedelta(minutes=30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.dictionaries(st.sampled_from("abcdefg"), st.sampled_from([0.0, 1.0, 1.0, -5.0, 1e12]), min_size=1),
    limit=st.integers(1, 9),
    excluded=st.frozensets(st.sampled_from("abcdefg")),
    fallback=st.none() | st.sampled_from("abcdefg"),
    epsilon=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_whatever_is_asked_only_allowed_offers_come_back_each_once(
    decider_with, ask, values, limit, excluded, fallback, epsilon
):
    decider = decider_with(values, placement={"fallback_offer_id": fallback}, epsilon=epsilon)
    decision = ask(decider, "hero", "strip", limit=limit, exclude_offer_ids=excluded)
    shown = [offer for p in decision.placements for offer in p.offers]
    names = [offer.offer_id for offer in shown]
    assert len(names) == len(set(names))
    assert set(names) <= set(values) - excluded
    assert all(0 < offer.selection_probability <= 1 for offer in shown)
    if set(values) - excluded:
        assert names


@pytest.mark.parametrize(
    ("refused", "shown"),
    [
        (frozenset(), ["a", "b"]),
        ({"email"}, ["a", "b"]),
        ({"web"}, []),
        ({"category:shoes"}, ["b"]),
        ({"shoes"}, ["a", "b"]),
        (None, []),  # could not be read: it may be anything
    ],
)
def test_what_a_customer_refused_is_not_shown(decider_with, ask, refused, shown):
    decider = decider_with([an_offer("a", 2.0, category="shoes"), an_offer("b", 1.0)], refused=refused)
    assert offers(ask(decider, limit=5).placements[0]) == shown


def test_a_fallback_needs_consent_too(decider_with, ask):
    decider = decider_with({"b": 1.0}, placement={"fallback_offer_id": "b"}, refused={"web"})
    assert ask(decider).placements[0].offers == ()


def test_a_guaranteed_offer_leads_even_if_it_is_the_fallback(decider_with, ask):
    decider = decider_with({"a": 9.0, "b": 1.0}, placement={"fallback_offer_id": "b", "guaranteed_offer_ids": ("b",)})
    (answer,) = ask(decider).placements[0].offers
    assert (answer.offer_id, answer.reason_codes, answer.is_fallback) == ("b", ("guaranteed",), False)


def test_of_a_large_catalogue_a_shortlist_takes_part_and_the_log_says_how_many(decider_with, ask, logged):
    decider = decider_with({f"o{i:02}": float(i) for i in range(50)}, epsilon=1.0)
    decider.settings = dataclasses.replace(decider.settings, shortlist=10, new_offer_share=0.0)
    decisions = [ask(decider, seed=seed) for seed in range(200)]
    seen = {offer.offer_id for one in decisions for offer in one.placements[0].offers}
    assert seen == {f"o{i:02}" for i in range(40, 50)}
    assert {offer.selection_probability for one in decisions for offer in one.placements[0].offers} == {0.1}
    support = logged(decisions[0])["support"][0]
    assert (support["n_eligible"], support["n_in_draw"]) == (50, 10)
