"""Registered models as MLflow's pyfunc: every kind of scorer over a data frame says what it says when it serves."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.errors import BadInput
from features.home import Home
from tests.training.builders import (
    acceptance_scorer,
    blend_scorer,
    churn_scorer,
    encoder,
    factor_scorer,
    item_item_scorer,
    offer,
    popularity_scorer,
)
from training.encoder import Column, Encoder
from training.frame_scores import decoded, encoded, scored_by
from training.scorers import SCORERS, ChurnScorer, Effect, UncalibratedAcceptance, UpliftScorer, json_bytes
from training.scorers.churn import Step
from training.steps.kept import under
from training.tracking import Logged, log_model, tracking

OFFERS = [offer("o0", "red"), offer("o1", "blue"), offer("o2", "blue")]


def uplift_scorer() -> UpliftScorer:
    return UpliftScorer("1", Encoder((Column("customer", "spent"),)), Effect("constant"), 0.0, 0.25)


def with_horizons() -> ChurnScorer:
    base = churn_scorer()
    return replace(base, horizon_days=30, steps=(Step(7, base.classifier), Step(90, base.classifier)))


BUILT = {
    "factors": factor_scorer,
    "item_item": item_item_scorer,
    "popularity": popularity_scorer,
    "blend": blend_scorer,
    "acceptance": acceptance_scorer,
    "prior_times_affinity": lambda: UncalibratedAcceptance("", 0.02, 0.0, 1.0),
    "churn": with_horizons,
    "uplift": uplift_scorer,
}
RECOMMENDERS = ("factors", "item_item", "popularity", "blend")


def frame_for(kind: str, n: int = 4) -> pd.DataFrame:
    """Customers that the scorers know and such that nobody is; every column that the scorer reads."""
    scored = scored_by(BUILT[kind](), OFFERS)
    rng = np.random.default_rng(0)
    ids = ["c000", "c001", "nobody", ""]
    columns = {
        c.name if c.key != "customer_id" else c.key: (
            [ids[i % 4] for i in range(n)] if c.key == "customer_id"
            else [(*c.values, "of no kind", None)[i % (len(c.values) + 2)] for i in range(n)] if c.values
            else rng.normal(size=n)
        )
        for c in scored.required
    }  # fmt: skip
    return pd.DataFrame({**columns, **{name: (["red", None] * n)[:n] for name in scored.optional}})


def registered(home: Home, kind: str, files: dict[str, bytes], scored) -> str:
    name = (
        "recommender"
        if kind in RECOMMENDERS
        else {"prior_times_affinity": "acceptance", "uplift": "churn"}.get(kind, kind)
    )
    example = frame_for(kind).iloc[:2].reset_index(drop=True)
    if files.get("uplift/scorer.json"):
        example["customer.spent"] = 1.0
    what = Logged(
        params={"chosen": kind}, metrics={}, tags={}, files={**files, "offers.json": json_bytes(_offers())},
        example=example, output=scored.of(example), optional=scored.optional,
    )  # fmt: skip
    with tracking(home) as client:
        return f"models:/{name}/{log_model(client, name, what)}"


def _offers():
    import msgspec

    return [msgspec.to_builtins(one) for one in OFFERS]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Every kind of scorer, registered and loaded; churn has uplift beside it too."""
    home, found = Home(tmp_path_factory.mktemp("home")), {}
    made = {kind: (kind, under("scorer", of()), scored_by(of(), OFFERS)) for kind, of in BUILT.items()}
    both = {**under("scorer", with_horizons()), **under("uplift", uplift_scorer())}
    made["churn with uplift"] = ("churn", both, scored_by(with_horizons(), (), uplift_scorer()))
    addresses = {name: registered(home, *of) for name, of in made.items()}
    with tracking(home):
        import mlflow

        for name, address in addresses.items():
            found[name] = mlflow.pyfunc.load_model(address)
    return found


def test_there_is_a_case_for_every_kind_of_scorer():
    assert set(BUILT) == set(SCORERS)


@pytest.mark.parametrize("kind", sorted(BUILT))
def test_a_loaded_model_says_what_its_scorer_says_in_the_order_of_the_rows(models, kind):
    frame = frame_for(kind).set_axis([7, 5, 3, 1])
    found = models[kind].predict(frame)
    pd.testing.assert_frame_equal(found, scored_by(BUILT[kind](), OFFERS).of(frame))
    assert found.index.tolist() == [7, 5, 3, 1]


@pytest.mark.parametrize("kind", RECOMMENDERS)
def test_a_recommender_names_the_best_offers_of_known_and_unknown_customers_as_one_by_one(models, kind):
    scorer, frame = BUILT[kind](), frame_for(kind)
    side = scorer.prepare(OFFERS)
    found = models[kind].predict(frame, params={"k": 2})
    for row, features in enumerate(frame.to_dict("records")):
        one = scorer.affinity(features["customer_id"], features, side)
        best = np.argsort(-one, kind="stable")[:2]
        assert found["offers"].iloc[row] == [OFFERS[at].offer_id for at in best]
        np.testing.assert_allclose(found["affinity"].iloc[row], one[best], rtol=1e-5)


@pytest.mark.parametrize("kind", ["factors", "item_item", "blend"])
def test_attributes_may_be_left_out(models, kind):
    found = models[kind].predict(pd.DataFrame({"customer_id": ["nobody"]}))
    assert sorted(found["offers"].iloc[0]) == ["o0", "o1", "o2"]


def test_churn_falls_with_a_longer_horizon_and_is_that_of_one_customer(models):
    frame = frame_for("churn")
    found = models["churn"].predict(frame)
    assert found.columns.tolist() == ["p_churn", "p_churn_7", "p_churn_30", "p_churn_90"]
    for row, (age, gender) in enumerate(frame[["customer.age", "customer.gender"]].itertuples(index=False)):
        one = with_horizons().hazard({"age": age, "gender": gender})
        assert {days: found[f"p_churn_{days}"].iloc[row] for days in one} == pytest.approx(one)


def test_churn_says_uplift_where_the_run_has_it(models):
    frame = frame_for("churn").assign(**{"customer.spent": [1.0, np.nan, 0.0, -5.0]})
    assert models["churn with uplift"].predict(frame)["uplift"].tolist() == [0.25] * 4  # the constant effect


@pytest.mark.parametrize("kind", sorted(BUILT))
def test_a_missing_column_is_named(models, kind):
    scored = scored_by(BUILT[kind](), OFFERS)
    name = frame_for(kind).columns[0]
    frame = frame_for(kind).drop(columns=name)
    with pytest.raises(BadInput, match=name):
        scored.of(frame)
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=name):  # which MLflow finds by the signature
        models[kind].predict(frame)


def test_who_has_no_id_and_what_is_infinite_are_refused_by_name():
    with pytest.raises(BadInput, match="customer_id is missing in 1 rows"):
        scored_by(popularity_scorer(), OFFERS).of(pd.DataFrame({"customer_id": ["a", None]}))
    with pytest.raises(BadInput, match=r"customer\.age is infinite"):
        scored_by(churn_scorer()).of(frame_for("churn").assign(**{"customer.age": np.inf}))


def test_a_frame_without_rows_is_answered_with_none():
    for kind, of in BUILT.items():
        assert len(scored_by(of(), OFFERS).of(frame_for(kind).iloc[:0])) == 0


@pytest.mark.parametrize("kind", sorted(BUILT))
def test_ten_thousand_rows_take_seconds(models, kind):
    frame = frame_for(kind, 10_000)
    began = time.process_time()
    assert len(models[kind].predict(frame)) == 10_000
    assert time.process_time() - began < 5.0


def test_decoded_rows_are_read_as_they_were():
    columns = encoder()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, len(columns.columns)))
    for at in columns.categorical:
        rows[:, at] = rng.integers(0, len(columns.columns[at].values), 50)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    np.testing.assert_array_equal(encoded(columns, decoded(columns, rows)), rows)
