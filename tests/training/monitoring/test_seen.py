"""What watching reads of the log, from rows as serving writes them."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import pytest

from features.data_settings import DataSettings
from features.definitions import FeatureSet
from features.events import to_us
from features.log_export import export
from serving.decision_log import OfferRow, PlacementRow
from tests.features.histories import open_home
from tests.serving.learning_log import NOW, shop_at
from tests.training.builders import offer
from tests.training.monitoring.planted import FEATURES
from training.dataset import open_log
from training.monitoring.seen import read_decisions, read_features, read_outcomes, shown_of

LATER = NOW + timedelta(days=8)
OFFERS = [offer("o-1"), offer("o-2")]


def row(rank, name, p, **more):
    told = {"random": False, "is_fallback": False} | more
    return OfferRow(rank, name, f"{name}/a", 0.5, p, 0.6, 1.0, (), {}, told["is_fallback"], p, told["random"])


def body(*offers, release="2", age=40.0, degraded=(), **more):
    told = {
        "placements": [PlacementRow("hero", "web", list(offers))],
        "model_versions": {"release": release}, "policy": "greedy", "holdout": False, "redrawn": False,
        "degraded": [{"code": code, "action": "x"} for code in degraded], "latency_us": 5_000, "p_churn": 0.2,
        "request": {"deadline_ms": 50}, "snapshot_us": to_us(NOW) - 3_600_000_000,
        "support": [{"n_eligible": 2, "dropped": {"caps": 1}}], "features": {"age": age, "tier": None},
    }  # fmt: skip
    return msgspec.json.encode(told | more)


@pytest.fixture
def log(tmp_path):
    shop = shop_at(tmp_path)
    shop.decision("d-1", "c-1", body=body(row(1, "o-2", 0.3), row(2, "o-1", 0.1, random=True)))
    shop.event("impression", "d-1", "o-2", "c-1")
    shop.event("accept", "d-1", "o-2", "c-1", at=NOW + timedelta(minutes=1))
    shop.decision(
        "d-2", "c-2", body=body(release="1", degraded=["features_unavailable"], snapshot_us=None, features=None)
    )
    later = NOW + timedelta(hours=1)
    shop.decision("d-3", "c-1", at=later, body=body(row(1, "o-1", 0.2, is_fallback=True), age=41.0, p_churn=None))
    shop.event("impression", "d-3", "o-1", "c-1", at=later)
    home, facts = open_home(tmp_path / "home")
    export(home, facts, shop.log, LATER)
    opened = open_log(home, facts, to_us(LATER))
    yield opened
    opened.db.close()
    facts.close()
    shop.log.close()


def test_a_decision_is_read_with_what_it_says_of_itself(log):
    found = read_decisions(log, to_us(NOW), to_us(LATER)).set_index("decision_id")
    assert found.index.tolist() == ["d-1", "d-2", "d-3"]
    assert found["release"].tolist() == ["2", "1", "2"]
    assert found["degraded"].tolist() == [[], ["features_unavailable"], []]
    np.testing.assert_array_equal(found["p_churn"], [0.2, 0.2, np.nan])
    np.testing.assert_array_equal(found["deadline_us"], 50_000.0)
    np.testing.assert_array_equal(found["snapshot_us"].isna(), [False, True, False])
    assert found["support"]["d-1"] == [{"n_eligible": 2, "dropped": {"caps": 1}}]


def test_the_window_is_closed_before_and_open_after_and_may_be_of_one_release(log):
    assert len(read_decisions(log, to_us(NOW), to_us(NOW))) == 0
    assert len(read_decisions(log, to_us(NOW) + 1, to_us(LATER))) == 1
    assert read_decisions(log, 0, to_us(LATER), "1")["decision_id"].tolist() == ["d-2"]


def test_every_shown_offer_is_a_row_and_so_is_an_empty_place(log):
    found = shown_of(read_decisions(log, 0, to_us(LATER)))
    assert found["offer_id"].tolist() == ["o-2", "o-1", None, "o-1"]
    assert found["random"].tolist() == [False, True, False, False]
    assert found["is_fallback"].tolist() == [False, False, False, True]
    assert found["customer_id"].tolist() == ["c-1", "c-1", "c-2", "c-1"]


def test_features_are_those_of_each_customers_newest_decision_and_of_nobody_without_any(log):
    found = read_features(log, read_decisions(log, 0, to_us(LATER)), FEATURES)
    assert found["age"].tolist() == [41.0]
    assert read_features(log, read_decisions(log, 0, 0), FEATURES).columns.tolist() == ["age", "tier"]


def test_outcomes_are_of_what_was_seen_and_chosen_by_a_policy(log):
    shown = shown_of(read_decisions(log, 0, to_us(LATER)))
    found = read_outcomes(log, OFFERS, DataSettings(), shown)
    assert found[["customer_id", "offer_id", "release", "p", "accepted"]].values.tolist() == [
        ["c-1", "o-2", "2", 0.3, True]  # o-1 of d-1 was not seen, and the fallback of d-3 nobody chose
    ]


def test_a_log_without_decisions_is_an_empty_window(tmp_path):
    shop = shop_at(tmp_path)
    shop.event("impression", None, "o-1")
    home, facts = open_home(tmp_path / "home")
    export(home, facts, shop.log, LATER)
    opened = open_log(home, facts, to_us(LATER))
    found = read_decisions(opened, 0, to_us(LATER))
    assert len(found) == 0
    assert len(shown_of(found)) == 0
    assert len(read_features(opened, found, FeatureSet((), "EUR"))) == 0
    assert len(read_outcomes(opened, OFFERS, DataSettings(), shown_of(found))) == 0
    opened.db.close()
    facts.close()
    shop.log.close()
