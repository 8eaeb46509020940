"""What is measured on exported files: times, lists, size and memory of the very release."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from features.errors import BrokenRelease
from features.events import parse_time, to_us
from serving.edition import context_of
from tests.serving.releases import write_release
from tests.training.builders import acceptance_scorer, offer, popularity_scorer
from training.gates import measure
from training.gates.measure import _Asked

OFFERS = tuple(offer(name) for name in "ab")


def test_two_releases_are_measured_in_one_run_over_the_catalogue_that_is_live(tmp_path):
    names = [f"o{i:02}" for i in range(40)]
    small = write_release(tmp_path, "1", {name: float(i) for i, name in enumerate(names)})
    large = write_release(tmp_path, "2", dict.fromkeys(names[:10], 0.0))
    found = measure([large, small], [offer(name) for name in names[:20]])
    assert [one.n_offers for one in found.times] == [20, 20]
    assert all(0 < one.p50_ms <= one.p99_ms < 1_000 and one.n_calls >= 100 for one in found.times)
    # release 2 was trained with 10 of the 20; popularity recommends the same ten to everybody
    assert [one.known for one in found.lists] == [0.5, 1.0]
    assert [one.share for one in found.lists] == [0.5, 0.5]
    sizes = [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in (large, small)]
    assert found.size_mb == pytest.approx([size / 1e6 for size in sizes])
    assert 0 <= found.memory_mb < 500


def test_without_a_catalogue_it_is_the_offers_of_the_release(tmp_path):
    folder = write_release(tmp_path, "1", dict.fromkeys("abc", 1.0))
    (times,) = measure([folder]).times
    assert times.n_offers == 3


def test_a_release_that_cannot_be_loaded_is_not_measured(tmp_path):
    folder = write_release(tmp_path, "1", {"a": 1.0})
    array = folder / "popularity" / "scores.npy"
    array.write_bytes(np.random.default_rng(0).bytes(array.stat().st_size))
    with pytest.raises(BrokenRelease, match=r"1 cannot be measured: .*has digest"):
        measure([folder])


def test_scorers_are_asked_with_every_field_that_a_decisions_context_has():
    """A total per day of the log is missing without the instant, and would be measured as if it were."""
    end = "2026-03-04T12:00:00+00:00"
    scorer = popularity_scorer()
    release = SimpleNamespace(recommender=scorer, acceptance=acceptance_scorer(), manifest={"as_of": end})
    asked = _Asked(release, OFFERS)
    assert set(asked._context) == set(context_of(0, "web", ""))
    assert asked._context["us"] == to_us(parse_time(end))
