"""Why each offer was shown, and why each other one was not."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.catalogue import Lever
from serving import explain
from serving.reasons import WORDS, Code
from serving.rules import RULES
from serving.state.contacts import ContactHistory, Stock
from tests.conftest import NOW, ROOT
from tests.serving.conftest import an_offer

KEPT_OUT = (explain.ALREADY_OFFERED, explain.LOST_RACE, explain.STANDS_BY, explain.SHORTLIST)


class LosesRaces:
    """The last unit of `gone` went to somebody else."""

    def __init__(self, *gone):
        self.gone = gone

    def histories(self, customer_ids):
        return [ContactHistory() for _ in customer_ids]

    def stock(self, now_us):
        return Stock()

    def claim(self, claims, limits):
        return [tuple(pick for pick in claim.picks if pick.offer_id in self.gone) for claim in claims]


@pytest.fixture
def explained(decider_with, ask):
    """Per placement: (offers shown, factors by offer id, what is said of each other offer)."""

    def make(offers, *placements, limit=1, request=None, **world):
        decision = ask(decider_with(offers, **world), *placements, limit=limit, explain=True, **(request or {}))
        found = []
        for answer, why in zip(decision.placements, decision.explanation, strict=True):
            shown = [offer.offer_id for offer in answer.offers]
            factors = {offer: one.factors for offer, one in zip(shown, why.offers, strict=True)}
            found.append((shown, factors, {one["offer_id"]: one for one in why.not_offered}))
        return found

    return make


def test_nothing_is_explained_unless_it_was_asked_for(decider_with, ask):
    assert ask(decider_with({"a": 1.0})).explanation is None


def test_the_factors_of_an_offer_multiply_to_its_score(explained):
    lever = Lever(lever_id="push", name="push", factor=1.5, reason="spring")
    ((shown, factors, _),) = explained({"a": 10.0}, rates={"a": 0.2}, levers=[lever])
    why = factors["a"]
    assert shown == ["a"]
    # By hand: 0.2 × 10 × 1.5 = 3.
    assert (why["p_model"], why["learned"], why["p_accept"], why["value"]) == (0.2, 1.0, 0.2, 10.0)
    assert why["lever"] == 1.5
    assert [one["lever_id"] for one in why["levers"]] == ["push"]
    assert why["score"] == pytest.approx(3.0)


def test_an_offer_that_was_dropped_names_the_first_rule_and_what_it_saw(explained):
    offers = [an_offer("a"), an_offer("b", status="draft"), an_offer("c", channels=("email",))]
    ((_, _, others),) = explained([*offers, an_offer("d", ends_at=NOW)], request={"exclude_offer_ids": frozenset("bd")})
    assert {name: one["rule"] for name, one in others.items()} == {"b": "status", "c": "channel", "d": "schedule"}
    assert others["b"]["seen"] == {"status": "draft"}


def test_an_offer_that_only_lost_the_draw_has_its_rank_by_priority_then_score(explained):
    offers = [an_offer("a", 1.0), an_offer("b", 9.0), an_offer("c", 5.0), an_offer("d", 0.1, priority=1)]
    ((shown, _, others),) = explained(offers)
    assert shown == ["d"]
    assert {name: one["rank"] for name, one in others.items()} == {"b": 2, "c": 3, "a": 4}


def test_an_offer_of_an_earlier_placement_says_which(explained):
    (first, _, _), (second, _, others) = explained({"a": 2.0, "b": 1.0}, "hero", "strip")
    assert (first, second) == (["a"], ["b"])
    assert others["a"] == {"offer_id": "a", "rule": "already_offered", "seen": {"placement_id": "hero"}}


def test_a_unit_that_was_lost_in_a_race_says_in_which_draw(explained):
    offers = [an_offer("a", 9.0, inventory=1), an_offer("b")]
    ((shown, _, others),) = explained(offers, contacts=LosesRaces("a"))
    assert shown == ["b"]
    assert others["a"] == {"offer_id": "a", "rule": "lost_race", "seen": {"draws": [1]}}


def test_a_fallback_that_was_not_needed_stood_by(explained):
    ((shown, _, others),) = explained({"a": 1.0, "b": 9.0}, placement={"fallback_offer_id": "b"})
    assert shown == ["a"]
    assert others["b"]["rule"] == "fallback"


def test_what_a_full_room_kept_out_names_its_rule_and_what_was_in_it(explained):
    offers = [an_offer(name, value, category="shoes") for name, value in (("a", 3.0), ("b", 2.0))]
    ((shown, _, others),) = explained([*offers, an_offer("c", 1.0)], limit=2, placement={"max_per_category": 1})
    assert shown == ["a", "c"]
    assert others["b"]["rule"] == "diversity"
    assert others["b"]["seen"]["of_category"] == 1


def test_a_room_that_the_last_rank_filled_kept_nobody_out(explained):
    offers = [an_offer(name, value, category="shoes") for name, value in (("a", 3.0), ("b", 2.0))]
    ((shown, _, others),) = explained(offers, limit=1, placement={"max_per_category": 1})
    assert (shown, others["b"]) == (["a"], {"offer_id": "b", "rank": 2})


def test_an_offer_outside_the_shortlist_says_so(decider_with, ask):
    decider = decider_with({"a": 1.0, "b": 5.0, "c": 4.0})
    decider.settings = replace(decider.settings, shortlist=2, new_offer_share=0.0)
    (why,) = ask(decider, explain=True).explanation
    outside = {"score": pytest.approx(0.02), "n_eligible": 3, "n_in_draw": 2}
    assert why.not_offered == ({"offer_id": "c", "rank": 2}, {"offer_id": "a", "rule": "shortlist", "seen": outside})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), n=st.integers(0, 12))
def test_every_live_offer_is_either_shown_or_explained_exactly_once(explained, data, n):
    some = {
        "status": st.sampled_from(["approved", "approved", "draft", "archived"]),
        "category": st.sampled_from([None, "x", "y"]),
        "priority": st.integers(0, 1),
        "channels": st.sampled_from([(), (), ("email",)]),
        "inventory": st.sampled_from([None, 0, 1]),
    }
    offers = [
        an_offer(f"o{i}", data.draw(st.sampled_from([0.0, 1.0, 2.0])), **{k: data.draw(v) for k, v in some.items()})
        for i in range(n)
    ]
    live = sorted(offer.offer_id for offer in offers if offer.status != "archived")
    placement = {
        "max_per_category": data.draw(st.sampled_from([None, 1])),
        "fallback_offer_id": data.draw(st.sampled_from([None, "o0", "o1"])),
        "guaranteed_offer_ids": data.draw(st.sampled_from([(), ("o2",)])),
    }
    limit = data.draw(st.integers(1, 4))
    for shown, factors, others in explained(offers, "hero", "strip", limit=limit, placement=placement, epsilon=0.3):
        assert sorted([*shown, *others]) == live
        assert list(factors) == shown
        for one in others.values():
            assert set(one) in ({"offer_id", "rank"}, {"offer_id", "rule", "seen"})
        ranks = [one["rank"] for one in others.values() if "rank" in one]
        assert len(set(ranks)) == len(ranks)
        msgspec.json.encode(list(others.values()))  # plain values


def test_every_reason_code_has_words_for_customers():
    assert set(WORDS) == set(get_args(Code))
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in WORDS.values())


def test_the_reasons_are_said_in_words(decider_with, ask):
    decision = ask(decider_with({"a": 1.0}), explain=True)
    ((answer,), (why,)) = decision.placements[0].offers, decision.explanation[0].offers
    assert why.reasons == tuple(WORDS[code] for code in answer.reason_codes)


def test_the_page_of_reason_codes_lists_every_code_with_its_words_and_every_rule():
    page = (ROOT / "docs/reference/reason-codes.md").read_text()
    for code, words in WORDS.items():
        assert f"| `{code}` |" in page, code
        assert f"| {words} |" in page, code
    for rule in (*(rule.name for rule in RULES), *KEPT_OUT):
        assert f"| `{rule}` |" in page, rule


def test_what_keeps_an_offer_out_beside_the_rules_has_a_name_of_its_own():
    assert not set(KEPT_OUT) & {rule.name for rule in RULES}
