"""The phases of the global holdout."""

from __future__ import annotations

from datetime import timedelta

import pytest

from experiments.metrics import EXPERIMENT_METRICS
from features.facts import Facts
from features.holdout import METRIC, holdout_of, note_share, phases_of
from tests.conftest import NOW

DAY = timedelta(days=1)


@pytest.fixture
def facts(tmp_path):
    opened = Facts(tmp_path / "facts.db")
    yield opened
    opened.close()


def test_without_a_holdout_there_is_none_and_nothing_is_kept(facts):
    assert note_share(facts, 0.0, NOW) == 1
    assert (phases_of(facts), holdout_of(facts)) == ((), None)


def test_every_worker_that_starts_says_the_same(facts, tmp_path):
    other = Facts(tmp_path / "facts.db")
    assert [note_share(one, 0.1, NOW + n * DAY) for n, one in enumerate((facts, other, facts))] == [1, 1, 1]
    (phase,) = phases_of(other)
    assert (phase.starts_at, phase.stops_at, phase.weights) == (NOW, None, {"holdout": 0.1, "served": 0.9})
    other.close()


def test_another_share_begins_the_next_phase(facts):
    shares = [0.1, 0.2, 0.0, 0.0, 0.2]
    assert [note_share(facts, share, NOW + n * DAY) for n, share in enumerate(shares)] == [1, 2, 2, 2, 3]
    told = [
        (one.number, (one.starts_at - NOW).days, one.stops_at and (one.stops_at - NOW).days) for one in phases_of(facts)
    ]
    assert told == [(1, 0, 1), (2, 1, 2), (3, 4, None)]


def test_it_is_analysed_like_an_experiment(facts):
    note_share(facts, 0.1, NOW)
    found = holdout_of(facts)
    assert (found.experiment_id, found.status, found.control.name) == ("holdout", "running", "holdout")
    assert METRIC in EXPERIMENT_METRICS
    note_share(facts, 0.0, NOW + DAY)
    assert (holdout_of(facts).status, holdout_of(facts).stopped_at) == ("stopped", NOW + DAY)
