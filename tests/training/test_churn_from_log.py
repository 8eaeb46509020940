"""Churn from a log: silence by day, features made again from the log alone, a planted future, what a run keeps."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from features.compute import build
from features.data_settings import Churn, DataSettings
from features.errors import BadInput, BadRecipe, Leakage, NboError, NotTrainable
from features.events import US_PER_DAY, from_us
from features.feast_repo import apply
from features.history import customer_features_at
from features.identities import join
from serving.commands import at_risk
from tests.features.histories import at, event, open_home, write_lake
from training import customer_value
from training.as_of import customers_as_of
from training.at_risk import customers_at_risk
from training.canaries import refuse_future
from training.dataset import open_log, read_risks
from training.models.churn import Times
from training.steps.churn import instants_for, learn_from_log
from training.steps.churn_value import purchases_of, value_at_risk, worth_if_staying
from training.steps.inputs import read_inputs
from training.value import BgNbd

N_DAYS, N_CUSTOMERS = 38, 700
RULES = Churn(horizon_days=4, horizons=(2, 4, 6, 90), every_days=1, active_within_days=14)
AS_OF_US = at(N_DAYS)


def shoppers():
    """Each has a rate of coming, and may leave for good after any visit; every third visit is a purchase."""
    rng = np.random.default_rng(0)
    found = []
    for n in range(N_CUSTOMERS):
        often, leaves, day = rng.uniform(1, 6), rng.uniform(0, 0.12), rng.uniform(0, 22)
        while day < N_DAYS:
            moment = at(0) + int(day * US_PER_DAY)
            found.append(event(f"c{n:03}", "visit", moment, channel="web"))
            if rng.random() < 0.33:
                found.append(
                    event(f"c{n:03}", "purchase", moment + 5, value=round(rng.gamma(4, 10), 2), currency="EUR")
                )
            if rng.random() < leaves:
                break
            day += rng.exponential(often)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home, facts = open_home(tmp_path_factory.mktemp("nbo"), windows=(1, 7), snapshot_days=20, churn=RULES)
    visitor = [event("\x1fv", "visit", at(20, 3)), event("\x1fv", "click", at(22, 3), offer="o")]
    nobody = [event("\x1fnobody", "visit", at(N_DAYS - 2, 3))]
    write_lake(home, facts, [*shoppers(), *visitor, *nobody])
    facts.merge_profiles([("c001", {"tier": "gold"}, None), ("c002", {"tier": "plain"}, at(28))], from_us(AS_OF_US))
    join(facts, "\x1fv", "c003", from_us(at(25)))
    build(home, facts, until=from_us(AS_OF_US).date())
    apply(home, facts)
    yield home, facts
    facts.close()


@pytest.fixture(scope="module")
def inputs(made):
    found = read_inputs(*made, from_us(AS_OF_US), seed=0)
    yield found
    found.log.db.close()


@pytest.fixture(scope="module")
def run(inputs):
    return learn_from_log(inputs, lambda what: None)


def test_silence_is_counted_in_whole_days_up_to_the_longest_horizon(tmp_path):
    """By hand, gap 1 day, horizons 3 and 5: back on day 12 of instant 10 is a silence of 1 day, nothing seen is 5."""
    home, facts = open_home(tmp_path)
    came = [("a", at(9)), ("a", at(12, 1)), ("b", at(8)), ("b", at(10, 5)), ("d", at(9)), ("d", at(16, 1))]
    write_lake(home, facts, [event(customer, "visit", moment) for customer, moment in came])
    log = open_log(home, facts, at(30))
    rules = Churn(gap_days=1, horizon_days=3, horizons=(5,), active_within_days=5)
    found = read_risks(log, [at(10)], rules)
    log.db.close()
    facts.close()
    assert found.rows["customer_id"].tolist() == ["a", "b", "d"]
    assert found.silent_days.tolist() == [1, 5, 5]  # b is back within the gap, d on the day after the fifth
    assert found.churned.tolist() == [False, True, True]


def test_features_made_again_from_the_log_alone_are_those_of_training(made, inputs):
    home, facts = made
    customers = ["c000", "c001", "c002", "c003", "c003", "nobody", "c005"]
    us = np.array([at(20), at(33, 7.5), at(28), at(24), at(26), at(33), at(37, 23)])
    asked = pd.DataFrame({"customer_id": customers, "event_timestamp": pd.to_datetime(us, unit="us", utc=True)})
    features = customer_features_at(home, facts, asked)
    again = customers_as_of(inputs.log.db, inputs.features, inputs.profiles_at, customers, us)
    given = {name: features[name].tolist() for name in features}
    assert refuse_future("churn", given, again) == len(inputs.features.customer)
    assert again["tier"][1] == "gold"
    assert again["tier"][2] is None  # told at that very instant, so not known before
    assert again["activities_7d"][4] > 0


def test_features_that_were_joined_at_a_later_instant_are_refused_by_name(made, inputs):
    """A training table whose join looks a week ahead: the mistake that makes a churn model look perfect."""
    home, facts = made
    customers, us = [f"c{n:03}" for n in range(100)], np.full(100, at(24))
    ahead = pd.to_datetime(us + 7 * US_PER_DAY, unit="us", utc=True)
    features = customer_features_at(home, facts, pd.DataFrame({"customer_id": customers, "event_timestamp": ahead}))
    again = customers_as_of(inputs.log.db, inputs.features, inputs.profiles_at, customers, us)
    with pytest.raises(Leakage, match="made from nothing but what happened before") as error:
        refuse_future("churn", {name: features[name].tolist() for name in features}, again)
    assert error.value.feature in {feature.name for feature in inputs.features.customer}


def test_a_run_has_every_horizon_the_log_is_long_enough_for_and_says_which_it_left_out(run):
    assert [one.horizon_days for one in run.horizons.horizons] == [2, 4, 6]
    assert any(note.startswith("The horizon of 90 days is left out: 0 snapshot dates") for note in run.fit.notes)
    table = run.fit.tables["horizons"].set_index("horizon_days")
    assert table["rate"].is_monotonic_decreasing
    assert table["serves"].tolist() == [False, True, False]
    assert (table["mean_p"] - table["rate"]).abs().max() < 0.12


def test_a_run_keeps_value_expected_loss_and_canaries_and_names_no_customer(run, inputs):
    kept = run.logged(inputs)
    assert kept.metrics["canary_rows_made_again"] == 200.0
    assert 0.5 < kept.metrics["value_predicted_to_actual"] < 2.0
    loss = kept.tables["expected_loss"]
    everybody = loss[loss["segment"] == "all"].iloc[0]
    assert everybody["unit"] == "currency"
    assert everybody["expected_loss"] > 0
    by_tenure = loss[loss["segment"] == "tenure"]
    assert by_tenure["expected_loss"].sum() == pytest.approx(everybody["expected_loss"])
    assert {"reliability_by_horizon", "purchases_held_out", "reliability"} <= set(kept.figures)
    for name, frame in kept.tables.items():
        assert "c001" not in frame.to_json(), name
    assert kept.metrics["h2_auc"] > 0.5


def test_the_release_knows_what_each_buyer_is_worth_on_staying(run, inputs):
    """As the function for data frames has it; of those at risk the list says the same."""
    purchases = purchases_of(inputs)
    moments = purchases.assign(occurred_at=pd.to_datetime(purchases["us"], unit="us", utc=True))
    alone = customer_value(moments, from_us(AS_OF_US), days=360).set_index("customer_id")
    assert run.scorer.if_staying == pytest.approx((alone["value"] / alone["p_active"]).to_dict())
    assert run.logged(inputs).metrics["n_valued"] == purchases["customer_id"].nunique()
    of_list = customers_at_risk(inputs, run.horizons.scorer).customers.set_index("customer_id")["if_staying"]
    assert len(of_list) > 50
    for customer, value in of_list[of_list > 0].items():
        assert run.scorer.if_staying[customer] == pytest.approx(value)


def test_purchases_without_money_are_no_value_for_decisions(inputs):
    assert worth_if_staying(purchases_of(inputs).assign(value=np.nan), AS_OF_US) == {}


def test_customers_at_risk_come_with_horizons_reasons_and_what_goes_with_them(run, inputs):
    at_risk = customers_at_risk(inputs, run.horizons.scorer, k=2)
    found = at_risk.customers
    assert at_risk.notes == ()
    assert found["customer_id"].is_unique
    assert not found["customer_id"].str.startswith("\x1f").any()  # who cannot be written to
    assert len(found) > 50
    assert (found["p_churn_2"] >= found["p_churn_4"]).all()
    assert (found["p_churn_4"] >= found["p_churn_6"]).all()
    assert found["expected_loss"].is_monotonic_decreasing
    np.testing.assert_allclose(found["expected_loss"], found["p_churn_4"] * found["if_staying"])
    np.testing.assert_allclose(found["remaining"], (found["p_active"] * found["if_staying"]).fillna(0.0))
    assert found["reason_1"].str.contains(r" = .* \([+-]", regex=True).all()
    features = {column.name.removeprefix("customer.") for column in run.fit.classifier.encoder.columns}
    assert set(found["reason_1"].str.split(" = ").str[0]) <= features


@pytest.fixture
def serving(made, run, monkeypatch):
    """The home, with a release that serves this churn model, as a command reads it."""
    home, _ = made
    monkeypatch.setenv("NBO_HOME", str(home.root))
    monkeypatch.setenv("NBO_AS_OF", from_us(AS_OF_US).isoformat())
    released = SimpleNamespace(churn=run.horizons.scorer)
    monkeypatch.setattr("training.scorers.load_champion", lambda releases: released)
    return released


def test_the_command_writes_the_list_in_the_format_that_is_asked_for(serving, tmp_path, capsys):
    assert at_risk.run(out=tmp_path / "list.csv", reasons=2, top=10, as_json=False) == 0
    assert "10 customers at risk" in capsys.readouterr().err
    written = pd.read_csv(tmp_path / "list.csv")
    assert len(written) == 10
    assert {"customer_id", "p_churn_4", "reason_2", "expected_loss"} <= set(written.columns)
    at_risk.run(out=None, reasons=1, top=3, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [row["customer_id"] for row in told["customers"]] == written["customer_id"][:3].tolist()
    assert told["notes"] == []
    with pytest.raises(BadInput, match=r"\.csv, \.json, \.parquet"):
        at_risk.run(out=tmp_path / "list.xlsx", reasons=1, top=None, as_json=False)


NOBODY_LEAVES = BgNbd(1.0, 10.0, 1e-4, 1e4)  # a and b at their limits, as where nobody falls silent for good


def test_where_purchases_do_not_show_leaving_the_list_says_so_and_claims_nobody_to_be_active(
    serving, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr("training.steps.churn_value.fit_bgnbd", lambda of: NOBODY_LEAVES)
    at_risk.run(out=None, reasons=1, top=None, as_json=True)
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert len(told["notes"]) == 1
    assert "no finite a, b" in told["notes"][0]
    assert "p_active and remaining are left empty" in told["notes"][0]
    assert told["notes"][0] in printed.err
    for row in told["customers"]:
        assert row["p_active"] is None
        assert row["remaining"] is None
        assert row["expected_loss"] == pytest.approx(row["p_churn_4"] * row["if_staying"], rel=1e-6)
    at_risk.run(out=tmp_path / "list.csv", reasons=1, top=None, as_json=False)
    assert told["notes"][0] in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "list.csv")["p_active"].isna().all()
    at_risk.run(out=tmp_path / "list.json", reasons=1, top=5, as_json=False)
    assert json.loads((tmp_path / "list.json").read_text())["notes"] == told["notes"]


def test_a_run_whose_purchases_do_not_show_leaving_has_no_remaining_value(inputs, run, monkeypatch):
    monkeypatch.setattr("training.steps.churn_value.fit_bgnbd", lambda of: NOBODY_LEAVES)
    customers = [f"c{n:03}" for n in range(100)]
    value = value_at_risk(
        purchases_of(inputs), at(N_DAYS), at(30), np.arange(100), customers, np.full(100, 0.5), seed=0
    )
    assert "remaining_value" not in value.metrics
    assert value.metrics["expected_loss"] > 0
    assert any("do not show that customers leave" in note for note in value.notes)


def test_with_too_few_purchases_the_list_says_that_nobody_is_valued(inputs, run, monkeypatch):
    def few(of):
        raise NotTrainable("customer value", "3 customers bought")

    monkeypatch.setattr("training.steps.churn_value.fit_bgnbd", few)
    found = customers_at_risk(inputs, run.horizons.scorer, k=1)
    assert found.notes == ("Customers have no value and no expected loss: 3 customers bought.",)
    assert found.customers["expected_loss"].isna().all()


def test_without_a_churn_model_the_command_says_what_to_do(serving):
    serving.churn = None
    with pytest.raises(NboError, match="run `nbo train all`, as a release needs a recommender"):
        at_risk.run(out=None, reasons=1, top=None, as_json=False)


def test_a_log_too_short_for_the_horizon_that_serves_is_not_trainable(made):
    early = read_inputs(*made, from_us(at(23)), seed=0)
    with pytest.raises(NotTrainable, match="too few for a test part"):
        learn_from_log(early, lambda what: None)
    early.log.db.close()


def test_instants_for_a_longer_horizon_end_earlier(inputs):
    near, far = instants_for(inputs, 2), instants_for(inputs, 6)
    assert isinstance(near, Times)
    assert isinstance(far, Times)
    assert from_us(max(near.test)) - from_us(max(far.test)) >= timedelta(days=4)
    assert max(far.earlier) + 6 * US_PER_DAY <= min(far.test)


@pytest.mark.parametrize("wrong", [{"horizon_days": 0}, {"horizons": (7, 0)}, {"gap_days": -1}])
def test_horizons_below_a_day_are_refused(wrong):
    with pytest.raises(BadRecipe, match="churn needs"):
        DataSettings(churn=Churn(**wrong))
