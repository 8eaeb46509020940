"""Off-policy evaluation of our own log: what another policy or release would have shown, and what that would earn."""

from __future__ import annotations

import json
import random
import re
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import msgspec
import numpy as np
import pytest

from experiments.offpolicy.evaluation import evaluate
from features.catalogue import Placement
from features.errors import BadInput, BadSettings, InputsExpired, NotFound, PromotionRefused
from features.events import check_event, to_us
from features.facts import Facts
from features.home import Home
from features.log import DecisionRow
from features.sqlite_log import SqliteLog
from serving.commands import evaluate as command
from serving.commands.evaluate import promotion_gate
from serving.decision import DecisionRequest, PlacementRequest
from serving.evaluation.candidates import Candidate
from serving.evaluation.choices import Wanted, read_choices
from serving.evaluation.learned import LearnedInOrder
from serving.evaluation.outcomes import REWARDS
from serving.learning.learner import Learner
from serving.policies import POLICIES
from serving.settings import Settings
from serving.wiring import build
from tests.conftest import NOW
from tests.serving.conftest import an_offer
from tests.serving.releases import write_release

TRUTH = {"o0": 0.1, "o1": 0.3, "o2": 0.6}  # P(accept), planted; every offer is worth 2
LATER = NOW + timedelta(days=9)  # when every outcome is known
N = 800


def decide_and_answer(service, n, seed, *, placements=("hero",), customers=400, limit=1):
    """Decisions for many customers, each shown, and accepted as `TRUTH` says."""
    rng, rows, events = random.Random(seed), [], []
    for i in range(n):
        asked = tuple(PlacementRequest(name, limit) for name in placements)
        request = DecisionRequest(customer_id=f"c{rng.randrange(customers)}", placements=asked)
        made = service.decider.decide(request, seed=rng.getrandbits(60))
        rows.append(DecisionRow(made.decision_id, made.customer_id, to_us(made.decided_at), made.log_payload))
        for offer in (one for placement in made.placements for one in placement.offers):
            for event_type in ("impression", *(["accept"] if rng.random() < TRUTH[offer.offer_id] else [])):
                raw = {
                    "event_id": f"{seed}-{i}-{offer.offer_id}-{event_type}", "event_type": event_type,
                    "customer_id": made.customer_id, "offer_id": offer.offer_id, "decision_id": made.decision_id,
                    "occurred_at": made.decided_at.isoformat(),
                }  # fmt: skip
                events.append(check_event(raw, service.clock()))
    service.log_store.append_decisions(rows)
    if events:
        service.log_store.append(events, service.clock())


def new_home(folder, *, policy="epsilon_greedy", epsilon=0.9, offers=None, placements=None, **settings):
    """A served home: release 1 likes o0 best, release 2 likes o2 best."""
    home = Home(folder)
    facts = Facts(home.facts_db)
    for item in offers or [an_offer(name, 2.0) for name in TRUTH]:
        facts.put(item, NOW)
    for item in placements or [Placement(placement_id="hero", name="hero", channel="web")]:
        facts.put(item, NOW)
    facts.close()
    write_release(home.releases, "1", {"o0": 2.0, "o1": 1.0, "o2": 0.0})
    write_release(home.releases, "2", {"o0": 0.0, "o1": 1.0, "o2": 2.0}, champion=False)
    return Settings(home=home, as_of=NOW, policy=policy, epsilon=epsilon, refresh_s=60.0, **settings)


def served(settings, n=N, seed=1, **asked):
    service = build(settings)
    service.start()
    try:
        decide_and_answer(service, n, seed, **asked)
    finally:
        service.close()
    return replace(settings, as_of=LATER)


def read(settings, *candidates, reward="accept", **wanted):
    facts, log = Facts(settings.home.facts_db), SqliteLog(settings.home.log_db)
    try:
        return read_choices(settings, facts, log, Wanted(tuple(candidates), REWARDS[reward], **wanted))
    finally:
        log.close()
        facts.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return served(new_home(tmp_path_factory.mktemp("shop")))


def test_another_release_is_worth_what_was_planted(shop):
    """Greedy over release 2 shows o2, which 0.6 accept; over release 1 it shows o0, which 0.1 accept."""
    found = read(shop, Candidate("greedy", "2"), Candidate("greedy", "1"))
    assert found.logged.offers == ("o0", "o1", "o2")
    assert (found.tables[0] == [0.0, 0.0, 1.0]).all()
    assert (found.tables[1] == [1.0, 0.0, 0.0]).all()
    best, worst = (evaluate(found.logged.of(table), n_samples=100) for table in found.tables)
    assert best.verdict == "higher"
    assert best.named("DR").low < 0.6 < best.named("DR").high
    assert worst.verdict == "lower"
    assert worst.named("DR").low < 0.1 < worst.named("DR").high


def test_value_is_the_acceptance_times_what_the_offer_is_worth(shop):
    accepted, valued = (read(shop, Candidate("greedy", "2"), reward=name, most=100) for name in ("accept", "value"))
    assert (valued.logged.reward == 2.0 * accepted.logged.reward).all()
    assert valued.currency == "EUR"


@pytest.mark.parametrize("policy", POLICIES)
def test_of_the_policy_that_decided_every_weight_is_one(tmp_path, policy):
    """Also in the second placement of a decision, whose draw went on from the first."""
    two = [Placement(placement_id=name, name=name, channel="web") for name in ("hero", "strip")]
    settings = new_home(tmp_path, policy=policy, epsilon=0.3, draws=30, placements=two)
    settings = served(settings, n=60, placements=("hero", "strip"), limit=2)
    tuning = {"epsilon": 0.3, "draws": 30}
    found = read(settings, Candidate(policy, tuning=tuning))
    assert len(found.logged) == 120
    assert not found.left_out
    assert (found.logged.weights == 1.0).all()
    assert np.allclose(found.logged.propensity, found.logged.chances, rtol=0, atol=0)
    assert len(set(found.logged.chances[:, 0])) > 1


@pytest.mark.parametrize("candidate", POLICIES)
def test_any_policy_states_its_chances_over_the_same_offers(shop, candidate):
    found = read(shop, Candidate(candidate, tuning={"epsilon": 0.2}), most=100)
    assert found.n_decisions == 100
    assert found.n_older == N - 100
    assert found.tables[0].sum(axis=1) == pytest.approx(1.0)
    if candidate == "epsilon_greedy":  # of three offers, one is best
        assert np.unique(found.tables[0].round(9)).tolist() == pytest.approx([0.2 / 3, 0.8 + 0.2 / 3])


def test_estimates_of_thompson_do_not_depend_on_what_was_drawn(shop):
    """Of another policy than was logged, the mean weight is 1 within its error: nothing of the draw leaks into it."""
    found = evaluate(
        read(shop, Candidate("thompson", tuning={"epsilon": 0.0, "draws": 20}), most=400).logged, n_samples=10
    )
    assert abs(found.overlap.mean_weight - 1.0) < 4 * found.overlap.mean_weight_se + 1e-9


def test_overridden_choices_redrawn_ones_and_empty_ones_are_left_out_and_counted(tmp_path):
    offers = [
        an_offer("o0", 2.0),
        an_offer("o1", 2.0, placements=("top", "last")),
        an_offer("o2", placements=("last",)),
    ]
    placements = [
        Placement(placement_id="top", name="top", channel="web", guaranteed_offer_ids=("o1",)),
        Placement(placement_id="none", name="none", channel="email"),
        Placement(placement_id="last", name="last", channel="web", fallback_offer_id="o2"),
    ]
    offers[0] = an_offer("o0", 2.0, placements=("hero",))
    hero = Placement(placement_id="hero", name="hero", channel="web")
    settings = new_home(tmp_path, offers=offers, placements=[*placements, hero])
    service = build(settings)
    service.start()
    decide_and_answer(service, 20, 1, placements=("top", "none", "last", "hero"))
    log = service.log_store
    rows = log.decisions_after(0, 100)
    forged = msgspec.json.decode(rows[0].payload)
    forged.update(decision_id="again", redrawn=True, n_draws=2)
    log.append_decisions([rows[0]._replace(decision_id="again", payload=msgspec.json.encode(forged))])
    service.close()
    found = read(replace(settings, as_of=LATER), Candidate("greedy"))
    assert found.left_out == {"guaranteed": 20, "empty": 20, "fallback": 20, "redrawn": 4}
    assert len(found.logged) == 20


def test_rows_of_a_policy_that_does_not_exist_any_more_are_left_out_and_counted(tmp_path):
    settings = new_home(tmp_path)
    service = build(settings)
    service.start()
    decide_and_answer(service, 20, 1)
    log = service.log_store
    for i, row in enumerate(log.decisions_after(0, 100)[:7]):
        forged = {**msgspec.json.decode(row.payload), "decision_id": f"f{i}", "policy": "linucb"}
        log.append_decisions([row._replace(decision_id=f"f{i}", payload=msgspec.json.encode(forged))])
    with pytest.raises(InputsExpired, match="the policy 'linucb' of this decision does not exist any more"):
        service.replayer.replay("f0")
    service.close()
    found = read(replace(settings, as_of=LATER), Candidate("greedy"))
    assert (len(found.logged), found.left_out) == (20, {"policy_gone": 7})


def test_the_holdout_is_evaluated_over_a_named_release_only(tmp_path):
    """Of customers kept free of personalisation every offer has the same chance; no release decided about them."""
    settings = served(new_home(tmp_path, holdout=0.5), n=120)
    as_logged, over_two = read(settings, Candidate("greedy")), read(settings, Candidate("greedy", "2"))
    assert len(over_two.logged) == 120
    held = (over_two.logged.propensity == 1 / 3).all(axis=1)
    assert held.sum() == as_logged.left_out["holdout"] == 120 - len(as_logged.logged)
    assert 30 < held.sum() < 90
    assert (over_two.logged.weights[held] == 3.0 * (over_two.logged.action[held] == 2)).all()


def test_a_row_that_comes_out_otherwise_is_not_trusted(tmp_path):
    settings = new_home(tmp_path)
    service = build(settings)
    service.start()
    decide_and_answer(service, 20, 1)
    log = service.log_store
    for i, row in enumerate(log.decisions_after(0, 100)):
        forged = msgspec.json.decode(row.payload)
        forged["decision_id"] = f"f{i}"
        forged["placements"][0]["offers"][0]["selection_probability"] = 0.5
        log.append_decisions([row._replace(decision_id=f"f{i}", payload=msgspec.json.encode(forged))])
    service.close()
    with pytest.raises(BadInput, match="20 of 40 choices come out otherwise"):
        read(replace(settings, as_of=LATER), Candidate("greedy"))


def test_open_outcomes_and_what_a_release_learned_from_are_left_out(shop):
    early = replace(shop, as_of=NOW + timedelta(days=7))
    with pytest.raises(BadInput, match=f"no decision to evaluate; left out: {N:,} whose outcome may still come"):
        read(early, Candidate("greedy"))
    with pytest.raises(BadInput, match="that the candidate's release may have learned from"):
        read(shop, Candidate("greedy", "2"), not_before_us=to_us(NOW + timedelta(days=1)))
    with pytest.raises(BadInput, match="no decision to evaluate"):
        read(shop, Candidate("greedy"), since=NOW + timedelta(days=1))


def test_after_30_days_the_inputs_are_expired_and_said_so(shop):
    with pytest.raises(BadInput, match=f"left out: {N:,} whose inputs are no longer kept"):
        read(replace(shop, as_of=NOW + timedelta(days=40)), Candidate("greedy"))


def test_currencies_that_are_mixed_are_refused(shop, tmp_path):
    settings = served(new_home(tmp_path), n=5)
    facts = Facts(settings.home.facts_db)
    facts.set_data_settings(msgspec.structs.replace(facts.data_settings(), currency="USD"))
    facts.close()
    with pytest.raises(BadInput, match="currencies are mixed: decisions of this time were made in EUR"):
        read(settings, Candidate("greedy"), reward="value")
    assert len(read(settings, Candidate("greedy"), reward="accept").logged) == 5


def test_revenue_is_what_was_spent_in_the_name_of_the_choice(tmp_path):
    settings = new_home(tmp_path)
    service = build(settings)
    service.start()
    decide_and_answer(service, 3, 1)
    rows = service.log_store.decisions_after(0, 10)
    offers = [msgspec.json.decode(row.payload)["placements"][0]["offers"][0]["offer_id"] for row in rows]
    spent = [
        {"event_id": f"p{i}", "event_type": "purchase", "customer_id": rows[at].customer_id, "offer_id": offer,
         "decision_id": rows[at].decision_id, "occurred_at": (NOW + after).isoformat(), "value": value,
         "currency": "EUR"}
        for i, (at, offer, after, value) in enumerate([
            (0, offers[0], timedelta(hours=1), 10.5), (0, offers[0], timedelta(days=2), 4.5),
            (1, offers[1], timedelta(days=8), 99.0),  # after the window of 7 days
            (2, "other", timedelta(hours=1), 7.0),
        ])
    ]  # fmt: skip
    later = NOW + timedelta(days=8, hours=1)
    service.log_store.append([check_event(one, later) for one in spent], later)
    service.close()
    found = read(replace(settings, as_of=LATER), Candidate("greedy"), reward="revenue")
    assert found.logged.reward.tolist() == [15.0, 0.0, 0.0]


def test_an_outcome_counts_for_the_choice_it_names_also_when_nobody_reported_an_impression(tmp_path):
    settings = new_home(tmp_path)
    service = build(settings)
    service.start()
    made = service.decider.decide(DecisionRequest(customer_id="c1", placements=(PlacementRequest("hero", 1),)), seed=1)
    service.log_store.append_decisions([DecisionRow(made.decision_id, "c1", to_us(NOW), made.log_payload)])
    taken = {"event_id": "e", "event_type": "accept", "customer_id": "c1", "decision_id": made.decision_id,
             "offer_id": made.placements[0].offers[0].offer_id, "occurred_at": made.decided_at.isoformat()}  # fmt: skip
    service.log_store.append([check_event(taken, service.clock())], service.clock())
    service.close()
    found = read(replace(settings, as_of=LATER), Candidate("greedy"))
    assert (found.logged.reward.tolist(), found.n_unseen) == ([1.0], 1)


def test_a_log_without_impressions_is_said_to_be_that_before_all_else(tmp_path, monkeypatch, capsys):
    settings = new_home(tmp_path)
    service = build(settings)
    service.start()
    for seed in range(30):
        asked = DecisionRequest(customer_id=f"c{seed}", placements=(PlacementRequest("hero", 1),))
        made = service.decider.decide(asked, seed=seed)
        row = DecisionRow(made.decision_id, made.customer_id, to_us(made.decided_at), made.log_payload)
        service.log_store.append_decisions([row])
    service.close()
    monkeypatch.setenv("NBO_HOME", str(settings.home.root))
    monkeypatch.setenv("NBO_AS_OF", LATER.isoformat())
    assert command.run("greedy", as_json_=True) == 0
    found = json.loads(capsys.readouterr().out)["evaluation"]
    assert found["verdict"] == "no verdict"
    assert found["reasons"][0].startswith("no row has an impression in the log")
    assert found["reasons"][1] == "all 30 rows have the reward 0: outcomes do not vary"
    said = promotion_gate(replace(settings, as_of=LATER))("1", "2")
    assert said.sentence.startswith("the log gives no verdict: no row has an impression")


def test_what_was_learned_is_the_same_in_order_as_one_by_one(tmp_path):
    settings = new_home(tmp_path, policy="thompson", epsilon=0.2)
    service = build(settings)
    service.start()
    views = []
    for seed in range(4):
        decide_and_answer(service, 15, seed)
        service.learner.refresh()
        views.append(service.learner.position)
    one_by_one, in_order = Learner(service.log_store, settings.home.learning_db, prior_strength=20.0), None
    view = service.decider.edition.view
    in_order = LearnedInOrder(settings.home.learning_db)
    for position in [*views, views[1], *views]:
        one, other = (of(position) for of in (
            lambda p: one_by_one.beliefs_at(p, view, "1", "web"), lambda p: in_order(20.0, p, view, "1", "web")
        ))  # fmt: skip
        assert (one.shape == other.shape).all()
        assert (one.rate == other.rate).all()
        assert (one.n_seen == other.n_seen).all()
    assert one.n_seen.sum() > 0
    in_order.close()
    service.close()


@pytest.mark.parametrize("name", ["holdout", "best", ""])
def test_a_policy_that_cannot_state_its_chances_is_refused(name):
    with pytest.raises(BadSettings, match="expected one of greedy"):
        Candidate(name)


# The command


@pytest.fixture
def nbo(shop, monkeypatch, capsys):
    """`nbo evaluate` on the shop; what it printed."""
    monkeypatch.setenv("NBO_HOME", str(shop.home.root))
    monkeypatch.setenv("NBO_AS_OF", LATER.isoformat())

    def run(policy, **options):
        assert command.run(policy, **options) == 0
        return capsys.readouterr().out

    return run


def test_the_report_says_diagnostics_verdict_and_estimates(nbo, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_keep", lambda *given: None)  # MLflow has its own test
    text = nbo("greedy", release="2", reward="accept", most=200, out=tmp_path / "r.html")
    assert text.index("**No verdict**") < text.index("Whether the log can tell") < text.index("## Estimates")
    assert re.search(r"\| rows +\| +200 \|", text)
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") == 2
    assert "://" not in page
    for suffix in (".md", ".json"):
        nbo("softmax", reward="click", most=50, out=tmp_path / f"r{suffix}")
    assert json.loads((tmp_path / "r.json").read_text())["evaluation"]["n_rows"] == 50
    assert (tmp_path / "r.md").read_text().startswith("# Off-policy evaluation of softmax (epsilon 0.05")


def test_of_a_named_release_the_report_is_kept_beside_it(nbo, monkeypatch):
    kept = []
    monkeypatch.setattr("training.tracking.tracking", lambda home: nullcontext("client"))
    monkeypatch.setattr("training.tracking.log_report", lambda *given: kept.append(given))
    found = json.loads(nbo("greedy", release="2", reward="accept", most=60, as_json_=True))["evaluation"]
    ((client, name, tags, metrics, files),) = kept
    assert (client, name) == ("client", "off-policy: greedy")
    assert (tags["kind"], tags["release"], tags["verdict"]) == ("off_policy", "2", "no verdict")
    assert metrics["dr_value"] == found["estimates"][3]["value"]
    assert metrics["effective_rows"] == found["overlap"]["effective_rows"]
    assert set(files) == {"report.html", "report.md", "report.json", "pictures/estimates.svg", "pictures/weights.svg"}


def test_json_holds_every_estimate_with_its_interval(nbo):
    found = json.loads(nbo("epsilon_greedy", reward="accept", most=400, tuning={"epsilon": 1.0}, as_json_=True))
    assert found["policy"] == "epsilon_greedy (epsilon 1)"
    estimates = {one["estimator"]: one for one in found["evaluation"]["estimates"]}
    assert list(estimates) == ["DM", "IPS", "SNIPS", "DR", "Switch-DR", "DRos"]
    assert estimates["DR"]["low"] < np.mean(list(TRUTH.values())) < estimates["DR"]["high"]  # uniform over three


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"policy": "ucb"}, BadSettings, "policy is 'ucb', expected one of greedy"),
        ({"reward": "clv"}, BadInput, "reward is 'clv', expected one of accept"),
        ({"out": "r.pdf"}, BadInput, "ends in .html, .md or .json"),
        ({"since": "yesterday"}, BadInput, "yesterday"),
        ({"placement": "attic"}, NotFound, "no placement 'attic'"),
        ({"tuning": {"epsilon": 1.5}}, BadSettings, "epsilon == 1.5"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(nbo, options, error, said, tmp_path):
    given = {"policy": "greedy", **options}
    if "out" in given:
        given["out"] = tmp_path / given["out"]
    with pytest.raises(error, match=said):
        nbo(given.pop("policy"), **given)


def test_a_home_that_served_nothing_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "new"))
    with pytest.raises(BadInput, match="nothing was served yet"):
        command.run("greedy")
    assert not (tmp_path / "new/log.db").exists()


# The gate of a promotion


def test_promote_asks_the_gate_and_says_what_it_said(shop, monkeypatch, capsys):
    """`nbo models promote`, with the registry replaced by lines that ask only this gate, as it does."""
    from serving.commands import models
    from training.gates import GATES, Case, Standing, asked, bounds_of
    from training.registry import Promotion

    def judge_by(bounds, value_of):
        new, old = (Standing(number, shop.home.releases / number, {}) for number in "12")
        others = {name: {"enabled": False} for name in GATES if name != "off_policy"}
        return lambda: asked(Case(new, old, value=lambda: value_of("1", "2")), bounds_of(others))

    def registry_promote(home, release, *, force, judge, **given):
        said = judge()
        if any(one.passage == "refused" for one in said) and not force:
            raise PromotionRefused("off_policy: " + said[-1].said, said)
        return Promotion("1", "2", home.releases / "1", False, said)

    monkeypatch.setattr("training.gates.judge_by", judge_by)
    monkeypatch.setenv("NBO_HOME", str(shop.home.root))
    monkeypatch.setenv("NBO_AS_OF", LATER.isoformat())
    monkeypatch.setenv("NBO_POLICY", "greedy")
    monkeypatch.setattr("training.registry.promote", registry_promote)
    with pytest.raises(PromotionRefused, match="is lower than that of the champion"):
        models.promote("1", force=False, reason=None, as_json=False)
    monkeypatch.setattr(command, "GATE_DECISIONS", 100)
    models.promote("1", force=False, reason=None, as_json=False)
    said = capsys.readouterr().out
    assert "off_policy   refused" in said
    assert "off_policy   no verdict                 the log gives no verdict: the challenger: the log is worth" in said
    models.promote("1", force=False, reason=None, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["off_policy"]["passage"] == told["gates"][-1]["passage"] == "no verdict"


def test_without_overlap_or_a_log_the_gate_says_so_and_blocks_nothing(tmp_path, shop):
    few = served(new_home(tmp_path / "few"), n=30)
    said = promotion_gate(replace(few, policy="greedy"))("1", "2")
    assert said.passage == "no verdict"
    assert "the challenger: the log is worth" in said.sentence
    nobody = promotion_gate(new_home(tmp_path / "none"))("1", "2")
    assert (nobody.passage, nobody.comparison) == ("no verdict", None)
    assert "nothing was served yet" in nobody.sentence
    gone = promotion_gate(shop)("1", "3")
    assert gone.passage == "no verdict"


def test_the_gate_judges_what_the_champion_has_not_learned_from(shop):
    """A release says until when its data went; decisions before it would flatter it."""
    manifest = shop.home.releases / "2" / "manifest.json"
    before = manifest.read_bytes()
    manifest.write_bytes(msgspec.json.encode({**json.loads(before), "as_of": LATER.isoformat()}))
    try:
        said = promotion_gate(replace(shop, policy="greedy"))("1", "2")
    finally:
        manifest.write_bytes(before)
    assert said.passage == "no verdict"
    assert "may have learned from" in said.sentence


def test_inputs_of_a_decision_are_asked_for_the_same_way_as_a_replay(shop):
    service = build(replace(shop, as_of=NOW + timedelta(days=31)))
    row = service.log_store.decisions_after(0, 1)[0]
    with pytest.raises(InputsExpired):
        service.replayer.recall(row)
    service.close()
