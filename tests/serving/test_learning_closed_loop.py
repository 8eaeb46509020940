"""The closed loop at a small size; `python -m bench.regret` and `bench.flood` are the same at full size."""

from __future__ import annotations

import pytest

from bench import flood, regret

OURS, ALONE = "ours, Thompson", "our model, not learning"


@pytest.fixture(scope="module")
def loop():
    """3,000 customers, 7,500 decisions; the three best shown offers break after a third."""
    only = (OURS, ALONE, *regret.THEIRS)
    return regret.run(7_500, n_customers=3_000, n_history=15_000, only=only)


def test_what_is_learned_loses_less_than_the_model_alone(loop):
    lost = loop.lost()
    assert lost[OURS] < lost[ALONE] - 0.02


def test_broken_offers_fade_from_what_is_shown(loop):
    mine, alone = (loop.runs[name].shown_broken[-8:].mean() for name in (OURS, ALONE))
    assert mine < alone / 2


def test_we_lose_no_more_than_bandits_that_learn_from_the_same(loop):
    """MABWiser's LinUCB and Thompson sampling, from the same history and visitors."""
    assert loop.ok


def test_a_flood_of_clicks_hardly_moves_an_offers_share():
    """1 % of the accounts send half of the clicks on one offer, through the real log, fold, beliefs and policy."""
    size = flood.Size(
        n_customers=1_000, n_offers=8, n_days=4, n_flood_days=1, visits_per_day=2.0, n_panel=150, policy="thompson"
    )
    report = flood.run(size)
    assert report.n_flood_clicks == report.n_clicks > 40
    assert report.ok
