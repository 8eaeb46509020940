"""From the live log to training: beside each impression the rank and the chance that its decision's row tells."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import pytest

from features.data_settings import DataSettings
from features.events import to_us
from features.log_export import export
from serving.decision_log import OfferRow, PlacementRow
from tests.features.histories import open_home
from tests.serving.learning_log import NOW, shop_at
from tests.training.builders import offer
from training.dataset import open_log, read_impressions

OFFERS = [offer("o-1"), offer("o-2")]
LATER = NOW + timedelta(days=8)


def row(rank, name, chance, *, random=False, fallback=False):
    """As serving writes it."""
    return OfferRow(rank, name, f"{name}/a", 0.5, 0.1, chance, 1.0, (), {"title": "x"}, fallback, 0.1, random)


def body(*offers, holdout=False, redrawn=False):
    placements = [PlacementRow("hero", "web", list(offers)), PlacementRow("strip", "web", [])]
    return msgspec.json.encode({"placements": placements, "holdout": holdout, "redrawn": redrawn})


@pytest.fixture
def shop(tmp_path):
    made = shop_at(tmp_path)
    yield made
    made.log.close()


def impressions(shop, tmp_path, at_most=None):
    home, facts = open_home(tmp_path / "home")
    try:
        export(home, facts, shop.log, LATER)
        log = open_log(home, facts, to_us(LATER))
        found = read_impressions(log, OFFERS, DataSettings(), 0, at_most)
        log.db.close()
        return found
    finally:
        facts.close()


def test_rank_chance_and_lot_stand_beside_the_impression(shop, tmp_path):
    shop.decision("d-1", body=body(row(1, "o-2", 0.7), row(2, "o-1", 0.25, random=True)))
    shop.event("impression", "d-1", "o-2")
    shop.event("impression", "d-1", "o-1", at=NOW + timedelta(seconds=1))
    shop.event("impression", None, "o-1", at=NOW + timedelta(seconds=2))
    rows = impressions(shop, tmp_path).rows
    assert rows["offer_id"].tolist() == ["o-2", "o-1", "o-1"]
    np.testing.assert_array_equal(rows["position"], [1.0, 2.0, np.nan])
    np.testing.assert_array_equal(rows["chance"], [0.7, 0.25, np.nan])
    assert rows["at_random"].tolist() == [False, True, False]


def test_a_customer_of_the_holdout_was_shown_what_the_lot_gave(shop, tmp_path):
    shop.decision("d-1", body=body(row(1, "o-1", 0.5), holdout=True))
    shop.event("impression", "d-1")
    assert impressions(shop, tmp_path).rows["at_random"].tolist() == [True]


def test_after_a_lost_race_the_logged_chance_is_not_that_of_the_draw(shop, tmp_path):
    shop.decision("d-1", body=body(row(1, "o-1", 0.5, random=True), redrawn=True))
    shop.event("impression", "d-1")
    found = impressions(shop, tmp_path).rows
    assert np.isnan(found["chance"]).all()
    assert not found["at_random"].any()


def test_an_impression_that_is_reported_again_counts_once(shop, tmp_path):
    shop.decision("d-1", body=body(row(1, "o-1", 1.0)))
    for seconds in (0, 1, 2):
        shop.event("impression", "d-1", at=NOW + timedelta(seconds=seconds))
    found = impressions(shop, tmp_path)
    assert (len(found.rows), found.n_repeated) == (1, 2)


def test_an_offer_that_the_catalogue_no_longer_has_is_counted(shop, tmp_path):
    shop.event("impression", None, "gone")
    shop.event("impression", None, "o-1")
    found = impressions(shop, tmp_path)
    assert (len(found.rows), found.n_unknown_offer) == (1, 1)


def test_without_decisions_nothing_is_known_of_how_it_was_chosen(shop, tmp_path):
    shop.event("impression", None, "o-1")
    rows = impressions(shop, tmp_path).rows
    assert rows["position"].isna().all()
    assert rows["chance"].isna().all()
    assert not rows["at_random"].any()


def test_of_more_impressions_than_asked_for_some_come_evenly_with_the_outcomes_that_they_have_among_all(shop, tmp_path):
    for n in range(9):
        shop.event("impression", f"d-{n}", at=NOW + timedelta(minutes=10 * n))
        if n in (3, 8):  # each belongs to the last impression before it, which is in neither or in both
            shop.event("accept", f"d-{n}", at=NOW + timedelta(minutes=10 * n + 1))
    whole, some = impressions(shop, tmp_path / "whole"), impressions(shop, tmp_path / "some", at_most=3)
    assert (whole.n_mature, len(whole.rows)) == (some.n_mature, 9) == (9, 9)
    assert some.rows["decision_id"].tolist() == ["d-0", "d-3", "d-6"]
    assert whole.accepted.tolist() == [n in (3, 8) for n in range(9)]
    assert some.accepted.tolist() == [False, True, False]
