"""The canaries over impressions: honest ones pass, a feature made of the outcome is named before anything is kept."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from features.errors import Leakage
from tests.training.test_acceptance import FEATURES, OFFERS, table
from training.columns import acceptance_encoder
from training.steps import foresight
from training.steps.foresight import acceptance_canaries


@pytest.fixture
def world(monkeypatch):
    made, _, split = table()
    asked = []

    def made_again(model, inputs, customers, us, features):
        asked.append((model, len(customers), len(features)))
        return 200

    monkeypatch.setattr(foresight, "refuse_foresight", made_again)
    return made, split, asked


def encoder_of(made):
    return acceptance_encoder(
        FEATURES, made.customer_features, OFFERS, made.offers, made.offer_features, made.context, affinity=False
    )


def test_honest_impressions_pass_and_their_features_are_made_again(world):
    made, split, asked = world
    found = acceptance_canaries(SimpleNamespace(seed=0), encoder_of(made), made, split)
    assert asked == [("acceptance", len(made.y), len(made.y))]
    assert found.metrics["canary_rows_made_again"] == 200
    assert found.metrics["canary_shuffled_auc"] == pytest.approx(0.5, abs=0.1)
    assert set(found.alone["column"].iloc[:2]) <= {column.name for column in encoder_of(made).columns}


def test_a_customer_feature_made_of_the_outcome_is_refused_by_name(world):
    made, split, _ = world
    age = np.where(made.y, 30.0, 50.0) + np.random.default_rng(0).normal(size=len(made.y))
    leaking = replace(made, customer_features=made.customer_features.assign(age=age))
    with pytest.raises(Leakage, match=r"customer\.age alone") as error:
        acceptance_canaries(SimpleNamespace(seed=0), encoder_of(leaking), leaking, split)
    assert error.value.feature == "customer.age"
    assert error.value.model == "acceptance"
