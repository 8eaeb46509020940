"""Experiments with planted truth through a real service: assignment, exposure, log, lake, metrics and statistics."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from serving.settings import Settings
from serving.simulation.planting import planted_experiments, run_planted
from serving.simulation.shop import new_shop


@pytest.fixture
def shop(tmp_path):
    """It is open now: a service over HTTP has the real clock."""
    now = datetime.now(UTC).replace(microsecond=0)
    return new_shop(tmp_path / "shop", seed=3, n_customers=420, n_offers=12, now=now)


def test_what_was_planted_is_found_again_at_the_end_of_the_chain_over_http(shop):
    """4 A/A tests, one whose variant accepts three times as often, and one that shows the most valuable offers.

    Each statement is broken by chance once in ten thousand runs; the decisions' randomness is the service's own.
    """
    wanted = planted_experiments(4, (2.0,), policy=True)
    chain = run_planted(shop, Settings(home=shop.home), wanted, n_visits=1200, seed=3, http=True)
    assert chain.holds, [one.sentence for one in chain.claims if not one.holds]
    assert {one.n_units for one in chain.assigned} == {chain.n_visitors}
    tripled = next(one for one in chain.recovered if one.experiment_id == "ab-01" and one.primary)
    assert tripled.planted == 2.0
    assert tripled.low > 0  # found, and not only not contradicted
