"""What experiments and the holdout change about decisions, through a whole service; and that all of it replays."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from experiments.assignment import bucket
from features.catalogue import Cap, Lever, Placement, Treatment
from features.events import visitor_key
from features.experiment import HELD_OUT, HOLDOUT, SERVED, Experiment, Variant
from features.facts import Facts
from features.home import Home
from features.identities import join
from features.log import DecisionRow
from serving.api.answers import submit
from serving.customer import CustomerNow
from serving.decision import DecisionRequest, PlacementRequest
from serving.drafting import Known
from serving.experiment_lifecycle import started, stopped
from serving.settings import Settings
from serving.wiring import build
from tests.conftest import NOW
from tests.serving.conftest import an_offer
from tests.serving.releases import write_release

PEOPLE = [f"c-{n}" for n in range(200)]
CONTROL = Variant(name="as it is", weight=0.5, is_control=True)
ONLY_HERE = (
    Treatment(treatment_id="o1/plain", payload={"title": "plain"}),
    Treatment(treatment_id="o1/loud", payload={"title": "loud"}),
    Treatment(treatment_id="o1/mail", payload={"title": "mail"}, channels=("email",)),
)


def an_experiment(name="x", changed=None, **rest):
    """Half of the units meet the variant "new"."""
    variants = (CONTROL, Variant(name="new", weight=0.5, **(changed or {})))
    given = {"hypothesis": "h", "variants": variants, "primary_metric": "acceptance_rate", **rest}
    return Experiment(experiment_id=name, **given)


@pytest.fixture
def service_with(tmp_path):
    made = []

    def start(*experiments, items=(), **settings):
        home = Home(tmp_path / "home")
        facts = Facts(home.facts_db)
        running = []
        for one in experiments:
            running.append(started(one, running, NOW))
        for item in (
            Placement(placement_id="hero", name="hero", channel="web"),
            an_offer("o1", 3.0, treatments=ONLY_HERE),
            an_offer("o2", 2.0),
            an_offer("o3", 2.9, category="hats"),
            *items,
            *running,
        ):
            facts.put(item, NOW)
        facts.close()
        if not home.releases.exists():
            write_release(home.releases, "1", {"o1": 1.0, "o2": 1.0, "o3": 1.0})
            write_release(home.releases, "2", {"o1": 0.0, "o2": 0.0, "o3": 50.0}, champion=False)
        given = {"policy": "greedy", "refresh_s": 60.0, **settings}
        service = build(Settings(home=home, as_of=NOW, **given))
        service.start()
        made.append(service)
        return service

    yield start
    for service in made:
        service.close()


def decided(service, who, limit=1, **rest):
    request = DecisionRequest(customer_id=who, placements=(PlacementRequest("hero", limit),), **rest)
    decision = service.decider.decide(request)
    submit(service, decision)
    return decision


def flushed(service):
    """All that was handed over is on disk."""
    service.log.submit_decisions([DecisionRow("flush", "nobody", 0, b"{}")]).result()


def first(decision):
    offers = decision.placements[0].offers
    return offers[0] if offers else None


def variant_of(decision):
    return decision.experiments[0].variant if decision.experiments else None


def assert_replays(service, decisions):
    flushed(service)
    for decision in decisions:
        again = service.replayer.replay(decision.decision_id)
        assert again.equal, again.diff
        assert again.decision.log_payload == decision.log_payload


def test_an_answer_says_which_variant_was_met_and_the_same_customer_always_meets_the_same(service_with):
    service = service_with(an_experiment())
    decisions = [decided(service, who) for who in PEOPLE for _ in range(2)]
    met = {(one.customer_id, variant_of(one)) for one in decisions}
    assert len(met) == len(PEOPLE)
    for who, variant in met:  # the documented rule: the variant's buckets come first, control has the rest
        assert variant == ("new" if bucket("experiment:x", who) < 5_000 else "as it is")
    one = decisions[0].experiments[0]
    assert (one.experiment_id, one.phase, one.is_control) == ("x", 1, one.variant == "as it is")
    row = msgspec.json.decode(decisions[0].log_payload)
    assert row["experiments"] == [{**msgspec.structs.asdict(one), "unit_id": decisions[0].customer_id}]


def test_a_variants_policy_draws_its_units_offers(service_with):
    service = service_with(an_experiment(changed={"policy": "softmax"}), temperature=1e6)
    decisions = [decided(service, who) for who in PEOPLE]
    for one in decisions:
        new = variant_of(one) == "new"
        assert one.policy == ("softmax" if new else "greedy")
        assert new or first(one).offer_id == "o1"
        # So hot a softmax is uniform over three offers, up to a millionth of their scores.
        assert first(one).selection_probability == pytest.approx(1 / 3 if new else 1.0, abs=1e-4)
    assert {first(one).offer_id for one in decisions if variant_of(one) == "new"} == {"o1", "o2", "o3"}
    assert_replays(service, decisions[:40])


def test_a_variant_can_be_another_release(service_with):
    service = service_with(an_experiment(changed={"release": "2"}))
    decisions = [decided(service, who) for who in PEOPLE]
    for one in decisions:
        new = variant_of(one) == "new"
        assert one.model_versions["release"] == ("2" if new else "1")
        assert first(one).offer_id == ("o3" if new else "o1")  # release 2 thinks far more of o3
    assert_replays(service, decisions[:40])


def test_a_release_that_cannot_be_loaded_is_said_and_the_champion_decides_for_its_units(service_with):
    service = service_with(an_experiment(changed={"release": "2"}))
    manifest = service.settings.home.releases / "2" / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-9])
    service._others.clear()
    service.decider.edition = service._next_edition(service._look())
    decisions = [decided(service, who) for who in PEOPLE[:60]]
    new = [one for one in decisions if variant_of(one) == "new"]
    assert new
    assert all(one.model_versions["release"] == "1" for one in decisions)
    assert {degraded.code for one in new for degraded in one.degraded} == {"model_unavailable"}
    assert not any(one.degraded for one in decisions if variant_of(one) != "new")
    (unwell,) = [check for check in service.readiness() if check.name == "experiments"]
    assert not unwell.ok
    assert "release 2" in unwell.detail
    assert_replays(service, decisions)
    manifest.write_bytes(whole)
    service._retry_at = 0.0
    service.refresh()
    assert {decided(service, who).model_versions["release"] for who in PEOPLE[:60]} == {"1", "2"}


def test_a_lever_that_an_experiment_names_weighs_only_where_its_variant_is_met(service_with):
    push = Lever(lever_id="push", name="push", factor=10.0, reason="r", where='offer.category == "hats"')
    late = Lever(lever_id="late", name="late", factor=0.1, reason="r", where='context.page == "late"')
    service = service_with(an_experiment(changed={"levers": ("push",)}), items=(push, late))
    decisions = [decided(service, who, explain=True) for who in PEOPLE]
    for one in decisions:
        assert first(one).offer_id == ("o3" if variant_of(one) == "new" else "o1")
    assert_replays(service, decisions[:40])


def test_a_variants_treatment_is_shown_where_it_fits(service_with):
    loud = an_experiment(changed={"treatments": {"o1": "o1/loud"}})
    service = service_with(loud)
    decisions = [decided(service, who) for who in PEOPLE]
    for one in decisions:
        assert first(one).treatment_id == ("o1/loud" if variant_of(one) == "new" else "o1/plain")
    assert_replays(service, decisions[:40])


def test_a_treatment_of_another_channel_is_not_forced_on_this_one(service_with):
    service = service_with(an_experiment(changed={"treatments": {"o1": "o1/mail"}}))
    assert {first(decided(service, who)).treatment_id for who in PEOPLE[:50]} == {"o1/plain"}
    in_mail = {first(decided(service, who, channel="email")).treatment_id for who in PEOPLE[:50]}
    assert in_mail == {"o1/plain", "o1/mail"}


def test_only_the_audience_takes_part_and_unknown_is_no(service_with):
    service = service_with(an_experiment(audience='tier > 1 and context.page == "home"'))
    for n, who in enumerate(PEOPLE[:60]):
        if n % 3:
            service.facts.merge_profile(who, NOW, attributes={"tier": n % 3})
    for n, who in enumerate(PEOPLE[:60]):
        at_home, elsewhere = decided(service, who, context={"page": "home"}), decided(service, who)
        assert bool(at_home.experiments) == (n % 3 == 2)
        assert not elsewhere.experiments


def test_the_holdout_draws_evenly_among_the_eligible_without_models_levers_or_priorities(service_with):
    push = Lever(lever_id="push", name="push", factor=100.0, reason="r")
    hero = Placement(placement_id="hero", name="hero", channel="web", guaranteed_offer_ids=("o2",))
    items = (
        hero,
        push,
        an_offer("o1", 3.0, priority=5),
        an_offer("o4", 9.0, status="draft"),
        an_offer("o5", 9.0, caps=(Cap(limit=1, window="1d"),)),
    )
    service = service_with(an_experiment(), items=items, holdout=0.5)
    held, served = [], []
    for who in PEOPLE * 4:
        one = decided(service, who)
        (held if one.holdout else served).append(one)
    assert {one.customer_id for one in held} == {who for who in PEOPLE if bucket("holdout", who) < 5_000}
    assert {one.policy for one in held} == {"holdout"}
    assert {one.policy for one in served} == {"greedy"}
    assert not any(one.experiments or one.degraded for one in held)
    assert all(one.experiments for one in served)
    assert {one.model_versions["release"] for one in held} == {None}
    shown = Counter(first(one).offer_id for one in held)
    assert set(shown) == {"o1", "o2", "o3", "o5"}
    for one in held:  # o5 is capped: after it was shown once a day, three are left
        assert first(one).selection_probability in (1 / 4, 1 / 3)
    capped = Counter(one.customer_id for one in held if first(one).offer_id == "o5")
    assert max(capped.values()) == 1
    # Of 4 draws with chance about 1/4 to 1/3 each: beyond five standard deviations it would not be even.
    n = len(held)
    for offer_id in ("o1", "o2", "o3"):
        assert abs(shown[offer_id] / n - (n - shown["o5"]) / 3 / n) < 5 * (0.22 / n) ** 0.5
    assert all(first(one).offer_id == "o2" for one in served)  # the guaranteed slot
    assert_replays(service, [*held[:40], *served[:10]])


def test_exposures_are_logged_once_per_unit_and_phase(service_with):
    service = service_with(an_experiment(traffic=0.5), holdout=0.1)
    decisions = [decided(service, who) for _ in range(3) for who in PEOPLE]
    decided(service, "dry", dry_run=True)
    flushed(service)
    exposures = service.log_store.exposures_after(0, 10_000)
    of = {name: [one for one in exposures if one.experiment_id == name] for name in ("x", HOLDOUT)}
    assert len(of["x"]) + len(of[HOLDOUT]) == len(exposures)
    met = {(one.customer_id, variant_of(one)) for one in decisions if one.experiments}
    assert Counter((one.unit_id, one.variant) for one in of["x"]) == Counter(dict.fromkeys(met, 1))
    held = {one.customer_id: HELD_OUT if one.holdout else SERVED for one in decisions}
    assert Counter((one.unit_id, one.variant) for one in of[HOLDOUT]) == Counter(dict.fromkeys(held.items(), 1))
    first_of = {one.customer_id: one.decision_id for one in reversed(decisions)}
    assert all(one.decision_id == first_of[one.unit_id] for one in exposures)


def test_somebody_who_becomes_known_keeps_the_variant_that_was_met_before(service_with):
    service = service_with(an_experiment(), holdout=0.2)
    for n in range(40):
        browser, customer = visitor_key(None, f"b-{n}"), f"known-{n}"
        before = decided(service, browser)
        flushed(service)
        join(service.facts, browser, customer, NOW, service.log_store.exposed)
        after = decided(service, customer)
        assert (after.holdout, after.experiments) == (before.holdout, before.experiments)
    flushed(service)
    assert len({one.unit_id for one in service.log_store.exposures_after(0, 1_000)}) == 40


def test_a_session_is_a_unit_of_its_own(service_with):
    service = service_with(an_experiment(unit="session"))
    one = [decided(service, "c-1", context={"session_id": f"s-{n}"}) for n in range(60)]
    assert {variant_of(decision) for decision in one} == {"new", "as it is"}
    for n, decision in enumerate(one):
        assert variant_of(decision) == ("new" if bucket("experiment:x", f"s-{n}") < 5_000 else "as it is")
    same = {variant_of(decided(service, who, context={"session_id": "s-1"})) for who in PEOPLE[:20]}
    assert len(same) == 1
    assert_replays(service, one[:10])


def test_of_somebody_erased_no_exposure_is_kept_and_no_experiment_met(service_with):
    service = service_with(an_experiment(), holdout=0.2)
    edition, request = (
        service.decider.edition,
        DecisionRequest(customer_id="c-1", placements=(PlacementRequest("hero", 1),)),
    )
    gone = Known(CustomerNow("c-1", {}, False, None, erased=True))
    decision = service.decider.finish(service.decider.begin(edition, request, gone))
    assert decision.exposures == ()
    assert decision.experiments == ()


def test_when_a_model_fails_its_units_stay_in_their_variant(service_with):
    service = service_with(an_experiment(changed={"policy": "softmax"}))
    edition = service.decider.edition
    request = DecisionRequest(customer_id="c-1", placements=(PlacementRequest("hero", 1),))
    known = service.decider.read(edition, "c-1")
    whole = service.decider.finish(service.decider.begin(edition, request, known))
    bare = service.decider.finish(service.decider.begin(edition, request, known, models=False))
    assert bare.experiments == whole.experiments
    assert bare.policy == whole.policy
    assert bare.model_versions["release"] is None


def test_a_stopped_experiment_changes_nothing_any_more(service_with):
    service = service_with(an_experiment(changed={"policy": "softmax"}))
    running = service.facts.catalogue().experiments[0]
    service.facts.put(stopped(running, "enough", NOW), NOW)
    service.refresh()
    decisions = [decided(service, who) for who in PEOPLE[:20]]
    assert {one.policy for one in decisions} == {"greedy"}
    assert not any(one.experiments for one in decisions)
