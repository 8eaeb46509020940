"""Uplift from the log: which moments count, on which side, and what is said where the log cannot tell."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from features.compute import build
from features.data_settings import Churn
from features.events import from_us, visitor_key
from features.facts import LakeFile
from features.feast_repo import apply
from features.holdout import note_share, phases_of
from features.identities import join
from features.log_export import DECISION_SCHEMA, EXPOSURE_SCHEMA
from tests.features.histories import FIRST, at, day_name, event, open_home, write_lake
from tests.training.builders import offer
from training.dataset import open_log
from training.scorers import read_scorer
from training.steps.inputs import read_inputs
from training.steps.uplift import Uplift, beside, learn_from_log
from training.tracking import Logged
from training.uplift import BASES
from training.uplift.contacts import arms, designed, read_moments

RULES = Churn(horizon_days=10)
STAY, OTHER = "stay", "other"


def write_dataset(home, facts, dataset, schema, rows):
    path = home.lake / dataset / f"day={day_name(0)}" / "test.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), schema, strict=True)]
    pq.write_table(pa.table(columns, schema=schema), path)
    name = path.relative_to(home.lake).as_posix()
    facts.add_lake_files([LakeFile(dataset, name, day_name(0), len(rows), dataset, "test")])


def write_decisions(home, facts, decided):
    """(decision id, customer, variant, instant); the first of a customer is the exposure."""
    write_dataset(home, facts, "decisions", DECISION_SCHEMA, [(d, c, us, "{}") for d, c, _, us in decided])
    exposed = {}
    for d, c, variant, us in decided:
        exposed.setdefault((c, variant), ("holdout", 1, c, c, variant, us, d))
    write_dataset(home, facts, "exposures", EXPOSURE_SCHEMA, list(exposed.values()))


def shown(customer, decision, us, offer_id=STAY):
    return event(customer, "impression", us, offer=offer_id, event_id=f"shown-{decision}")._replace(
        decision_id=decision
    )


@pytest.fixture
def world(tmp_path):
    home, facts = open_home(tmp_path, churn=RULES)
    note_share(facts, 0.5, from_us(at(0)))
    yield home, facts
    facts.close()


def moments_of(world, decided, events, as_of_us=at(40)):
    home, facts = world
    write_lake(home, facts, [event("nobody", "visit", at(0)), *events])
    write_decisions(home, facts, decided)
    log = open_log(home, facts, as_of_us)
    found = read_moments(home, facts, log, phases_of(facts), [STAY], RULES, at(0))
    log.db.close()
    return found


def told(found):
    return {row.who: (row.served, row.shown, row.stayed) for row in found.rows.itertuples()}


def test_who_was_served_shown_and_stayed_by_hand(world):
    noon = at(5, 12)
    decided = [
        ("d1", "shown-stays", "served", noon), ("d2", "shown-goes", "served", noon),
        ("d3", "other-offer", "served", noon), ("d4", "held-stays", "holdout", noon),
        ("d5", "held-goes", "holdout", noon), ("d6", "held-shown", "holdout", noon),
    ]  # fmt: skip
    events = [
        shown("shown-stays", "d1", noon), event("shown-stays", "visit", at(15, 23)),  # the tenth day after day 5
        shown("shown-goes", "d2", noon), event("shown-goes", "visit", at(5, 13)),  # the same day says nothing
        event("shown-goes", "visit", at(16, 1)),  # too late
        shown("other-offer", "d3", noon, OTHER), event("other-offer", "visit", at(6, 1)),
        event("held-stays", "visit", at(6, 1)), shown("held-shown", "d6", noon),
    ]  # fmt: skip
    found = moments_of(world, decided, events)
    assert told(found) == {
        "shown-stays": (True, True, True), "shown-goes": (True, True, False), "other-offer": (True, False, True),
        "held-stays": (False, False, True), "held-goes": (False, False, False), "held-shown": (False, True, False),
    }  # fmt: skip
    compared = arms(found).rows
    assert set(compared["who"][compared["treated"]]) == {"shown-stays", "shown-goes"}
    assert set(compared["who"][~compared["treated"]]) == {"held-stays", "held-goes"}


def test_a_moment_is_the_first_decision_of_a_span_whose_outcome_is_known(world):
    decided = [
        ("d1", "a", "served", at(12, 9)), ("d2", "a", "served", at(12, 10)), ("d3", "a", "served", at(25)),
        ("d4", "b", "served", at(29, 1)), ("d5", "b", "served", at(30, 1)),
    ]  # fmt: skip
    found = moments_of(world, decided, [], as_of_us=at(40))
    instants = sorted((row.who, row.us) for row in found.rows.itertuples())
    assert instants == [("a", at(12, 9)), ("a", at(25)), ("b", at(29, 1))]  # day 30 ends on 31, its outcome on day 41


def test_one_person_under_two_keys_in_both_variants_is_in_neither_arm(world):
    home, facts = world
    visitor = visitor_key(None, "v")
    write_lake(home, facts, [event(visitor, "visit", at(1)), event("c", "visit", at(1))], batch="before")
    join(facts, visitor, "c", from_us(at(3)))
    decided = [("d1", visitor, "holdout", at(2)), ("d2", "c", "served", at(2, 1)), ("d3", "d", "served", at(2))]
    assert set(told(moments_of(world, decided, []))) == {"d"}


def test_decisions_outside_of_the_holdouts_phases_do_not_count(world):
    _, facts = world
    note_share(facts, 0.0, from_us(at(6)))
    decided = [("d1", "a", "served", at(5)), ("d2", "b", "served", at(7))]
    assert set(told(moments_of(world, decided, []))) == {"a"}


def test_chance_alone_decided_only_where_all_served_and_nobody_held_out_was_shown_one(world):
    noon = at(5, 12)
    decided = [("d1", "a", "served", noon), ("d2", "b", "holdout", noon)]
    phases = phases_of(world[1])
    found = moments_of(world, decided, [shown("a", "d1", noon)])
    assert designed(found, phases).tolist() == [0.5, 0.5]
    found.rows.loc[found.rows["who"] == "a", "shown"] = False
    assert designed(found, phases) is None


def test_without_a_holdout_or_a_retention_offer_the_report_says_so(tmp_path):
    _, facts = open_home(tmp_path)
    inputs = SimpleNamespace(facts=facts, offers=(offer(OTHER),))
    none = learn_from_log(inputs, lambda what: None)
    assert "the holdout share is 0" in none.note
    assert none.scorer is None
    note_share(facts, 0.1, from_us(at(0)))
    assert "no offer of the catalogue is marked" in learn_from_log(inputs, lambda what: None).note
    facts.close()


def test_without_decisions_that_lie_back_far_enough_the_report_says_so(world):
    home, facts = world
    write_lake(home, facts, [event("a", "visit", at(0))])
    log = open_log(home, facts, at(40))
    inputs = SimpleNamespace(
        home=home, facts=facts, log=log, offers=(replace(offer(STAY), retention=True),), first_us=at(0),
        settings=facts.data_settings(),
    )  # fmt: skip
    assert "no decision of the holdout's time lies 10 days back" in learn_from_log(inputs, lambda what: None).note
    log.db.close()


LOGGED = Logged(params={}, metrics={"auc": 0.7}, tags={}, files={"scorer/x": b""})


def test_what_is_not_known_is_a_page_of_the_churn_run_and_no_part_of_its_artefact():
    found = beside(LOGGED, Uplift(missing="the holdout share is 0"))
    assert set(found.files) == {"scorer/x"}
    assert "the holdout share is 0" in found.texts["uplift/report.md"]


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Buyers stay more often by 0.4 for an offer, others less often by 0.3; the policy prefers to contact buyers."""
    monkeypatch.delitem(BASES, "trees")  # a line is enough for one flag, and fast
    home, facts = open_home(tmp_path, churn=Churn(horizon_days=3), windows=(1,))
    note_share(facts, 0.5, from_us(at(0)))
    facts.put(replace(offer(STAY), retention=True), from_us(at(0)))
    rng = np.random.default_rng(0)
    events, decided = [], []
    for n in range(1_200):
        name, noon = f"c{n:04}", at(2, 12) + n
        buys, served = n % 2 == 0, rng.random() < 0.5
        events.append(event(name, "visit", at(0)))
        if buys:
            events.append(event(name, "purchase", at(1), value=10, currency="EUR"))
        contacted = served and rng.random() < (0.9 if buys else 0.6)
        if contacted:
            events.append(shown(name, f"d{n}", noon + 1))
        if rng.random() < 0.5 + contacted * (0.4 if buys else -0.3):
            events.append(event(name, "visit", at(4)))
        decided.append((f"d{n}", name, "served" if served else "holdout", noon))
    write_lake(home, facts, events)
    write_decisions(home, facts, decided)
    build(home, facts, until=FIRST + timedelta(days=3))
    apply(home, facts)
    yield home, facts
    facts.close()


def test_a_planted_uplift_is_found_in_the_log_and_goes_with_the_churn_model(planted):
    home, facts = planted
    found = learn_from_log(read_inputs(home, facts, from_us(at(7)), 0), lambda what: None)
    judged = found.fit.judged
    assert judged.verdict == "orders"
    assert not found.fit.known_propensity
    assert judged.top["model"].low > 0.1  # 0.4 was planted
    assert judged.bottom["model"].high < -0.1  # -0.3 was planted
    logged = beside(LOGGED, found)
    assert logged.tags["uplift"] == "orders"
    assert logged.metrics["uplift_qini_low"] > 0
    assert "ranking" in logged.texts["uplift/report.md"]
    assert set(logged.figures) == {"uplift_qini", "uplift_by_tenth"}
    scorer = read_scorer(logged.files, "uplift", ())
    features = {"purchases_ever": 1.0, "days_since_purchase": 1.5, "days_since_activity": 1.5, "spent_ever": 10.0}
    assert scorer.uplift(features) > 0 > scorer.uplift({"purchases_ever": 0.0, "days_since_activity": 2.5})
