"""Retention offers where a holdout measured what they do: the measured share is kept, and nobody is driven away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from features.catalogue import Placement
from features.events import to_us
from features.facts import Catalogue, Facts
from features.home import Home
from features.log import DecisionRow
from serving.catalogue_view import CatalogueView
from serving.decision import DecisionRequest, PlacementRequest
from serving.retention import measured_gain, measured_save_rate
from serving.rules.asked import Asked
from serving.rules.masks import lets
from serving.rules.retention import RetentionRule
from serving.settings import Settings
from serving.wiring import build
from tests.conftest import NOW
from tests.serving.conftest import an_offer
from tests.serving.releases import write_release
from tests.training.builders import churn_scorer
from training.encoder import Encoder
from training.scorers import Effect, UpliftScorer

OFFERS = (an_offer("a", 10.0), an_offer("b", 10.0, retention=True, attributes={"save_rate": 0.9}))


def view():
    return CatalogueView(Catalogue(1, OFFERS, (), (), ()))


def test_the_measured_share_is_of_those_who_would_leave():
    assert measured_save_rate(0.05, 0.5) == pytest.approx(0.1)  # of 50 in a hundred who would leave, 5 stay
    assert measured_save_rate(0.6, 0.5) == 1.0  # nobody is kept who would not have left
    assert measured_save_rate(-0.1, 0.5) == 0.0


def test_what_is_kept_is_the_uplift_times_the_customers_value_whatever_the_offer_says_of_itself():
    # By hand: P(churn) 0.5, value 200, so 100 at risk; uplift 0.05 keeps 0.05 × 200 = 10.
    assert measured_gain(view(), 100.0, 0.05, 0.5).tolist() == pytest.approx([0.0, 10.0])
    assert measured_gain(view(), 100.0, -0.05, 0.5).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("uplift", "allowed"), [(-0.01, False), (0.0, True), (0.01, True), (None, True)])
def test_a_retention_offer_is_withheld_below_zero_and_other_offers_never(uplift, allowed):
    rule = RetentionRule(view())
    asked = Asked(placement_id="hero", channel="web", now_us=0, uplift=uplift)
    assert [lets(rule.allows(asked), row) for row in (0, 1)] == [True, allowed]
    assert rule.seen(asked, 1) == {"uplift": uplift}


@pytest.fixture
def service_with(tmp_path):
    """A service whose release has this uplift for everybody; None: it has none."""
    made = []

    def start(uplift, *, if_staying=None, **settings):
        home = Home(tmp_path / f"home{len(made)}")
        facts = Facts(home.facts_db)
        for item in (Placement(placement_id="hero", name="hero", channel="web"), *OFFERS):
            facts.put(item, NOW)
        facts.close()
        more = {"churn": replace(churn_scorer(), if_staying=if_staying or {})}
        if uplift is not None:
            more["uplift"] = UpliftScorer("2", Encoder(()), Effect("constant"), 0.0, uplift)
        write_release(home.releases, "1", {"a": 1.0, "b": 1.0}, more=more)
        given = {"customer_value": "200", "save_rate": 0.1, "policy": "epsilon_greedy", "epsilon": 0.0, **settings}
        service = build(Settings(home=home, as_of=NOW, refresh_s=60.0, **given))
        service.start()
        made.append(service)
        return service

    yield start
    for service in made:
        service.close()


def decided(service, **more):
    request = DecisionRequest(customer_id="c1", placements=(PlacementRequest("hero", 1),), explain=True, **more)
    return service.decider.decide(request, seed=1)


def test_a_customer_who_is_moved_gets_the_offer_and_the_explanation_says_by_how_much(service_with):
    decision = decided(service_with(0.05))
    ((offer,), (why,)) = decision.placements[0].offers, decision.explanation[0].offers
    assert offer.offer_id == "b"
    assert why.factors["uplift"] == 0.05
    assert why.factors["retention_gain"] == pytest.approx(0.05 * 200)


def test_a_customer_who_would_be_driven_away_does_not_and_is_told_why(service_with):
    decision = decided(service_with(-0.05))
    assert [offer.offer_id for offer in decision.placements[0].offers] == ["a"]
    (other,) = decision.explanation[0].not_offered
    assert other == {"offer_id": "b", "rule": "retention", "seen": {"uplift": -0.05}}


def test_without_a_measured_uplift_the_set_rate_and_the_offers_own_count_as_ever(service_with):
    decision = decided(service_with(None))
    (why,) = decision.explanation[0].offers
    p_churn = service_with(None).decider.edition.p_churn({})
    assert "uplift" not in why.factors
    assert why.factors["retention_gain"] == pytest.approx(p_churn * 200 * 0.9)


@pytest.mark.parametrize(("if_staying", "worth"), [({"c1": 120.0, "c2": 7.0}, 120.0), ({"c2": 7.0}, 0.0), ({}, 0.0)])
def test_a_customer_is_worth_what_the_release_expects_and_the_unknown_nothing(service_with, if_staying, worth):
    decision = decided(service_with(None, if_staying=if_staying, customer_value="predicted"), dry_run=True)
    offered, told = decision.placements[0].offers, decision.explanation[0].offers
    shown = {offer.offer_id: why.factors for offer, why in zip(offered, told, strict=True)}
    p_churn = service_with(None).decider.edition.p_churn({})
    if worth:  # by hand: offer b saves nine in ten of those who would leave
        assert shown["b"]["customer_value"] == worth
        assert shown["b"]["p_churn"] == p_churn
        assert shown["b"]["retention_gain"] == pytest.approx(p_churn * worth * 0.9)
    else:
        assert all(factors["retention_gain"] == 0.0 for factors in shown.values())


@pytest.mark.parametrize("uplift", [0.05, -0.05, None])
def test_such_decisions_replay_to_the_last_bit(service_with, uplift):
    service = service_with(uplift)
    decision = decided(service)
    at_us = to_us(decision.decided_at)
    service.log_store.append_decisions(
        [DecisionRow(decision.decision_id, decision.customer_id, at_us, decision.log_payload)]
    )
    again = service.replayer.replay(decision.decision_id)
    assert again.equal, again.diff
    assert again.decision.log_payload == decision.log_payload


def test_the_holdout_knows_no_uplift_so_that_it_goes_on_to_tell(service_with):
    service = service_with(-0.05, holdout=0.999)
    shown = {
        offer.offer_id
        for seed in range(20)
        for offer in service.decider.decide(
            DecisionRequest(customer_id=f"c{seed}", placements=(PlacementRequest("hero", 1),)), seed=seed
        )
        .placements[0]
        .offers
    }
    assert shown == {"a", "b"}
