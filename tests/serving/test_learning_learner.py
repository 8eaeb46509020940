"""One worker's beliefs: as new as the log, ready when a decision asks, and to be had again as they were."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import pytest

from features.data_settings import Attribution
from features.facts import Catalogue
from features.log import DecisionRow
from serving.catalogue_view import CatalogueView
from serving.learning import learner as learner_module
from serving.learning.cells import Cells
from serving.learning.evidence import Shown, shown_by
from serving.learning.learner import own_windows_of
from serving.learning.memory import SqliteMemory
from tests.serving.conftest import an_offer
from tests.serving.learning_log import NOW, open_learners, open_shop

S = 20.0


@pytest.fixture
def shop(tmp_path):
    yield from open_shop(tmp_path)


@pytest.fixture
def learner_of(shop, tmp_path):
    yield from open_learners(shop, tmp_path, S)


def view_of(*offer_ids, version=1):
    return CatalogueView(Catalogue(version, tuple(an_offer(o) for o in sorted(offer_ids)), ()))


VIEW = view_of("o-1", "o-2")


def same(one, other):
    return (
        one.shape.tobytes() == other.shape.tobytes()
        and one.rate.tobytes() == other.rate.tobytes()
        and one.n_seen.tobytes() == other.n_seen.tobytes()
    )


def test_before_anything_happened_every_factor_is_one(learner_of):
    learner = learner_of()
    assert list(learner.beliefs(VIEW, "7", "web").factor) == [1.0, 1.0]
    learner.refresh()
    assert list(learner.beliefs(VIEW, "7", "web").factor) == [1.0, 1.0]
    assert learner.beliefs(VIEW, "7", "web").position == 0


def test_a_refresh_takes_in_what_the_log_has(shop, learner_of):
    learner = learner_of()
    before = learner.beliefs(VIEW, "7", "web")
    shop.shown("d-1", taken=True)
    learner.refresh()
    after = learner.beliefs(VIEW, "7", "web")
    assert list(before.factor) == [1.0, 1.0]
    assert after.factor[0] > 1.0
    assert after.factor[1] == 1.0
    assert list(after.n_seen) == [1, 0]
    assert after.position == learner.position == shop.log.last_position() == 3


def test_every_worker_learns_by_itself_what_the_log_receives(shop, learner_of):
    """Within a second, where a thread gets its turn: four times as long as it waits between two looks."""
    assert learner_module.POLL_S <= 0.25
    workers = [learner_of(), learner_of()]
    for worker in workers:
        worker.start()
        worker.beliefs(VIEW, "7", "web")
    shop.shown("d-1", taken=True)
    until = time.monotonic() + 60
    while time.monotonic() < until and any(w.position < 3 for w in workers):
        time.sleep(0.01)
    assert [w.position for w in workers] == [3, 3]
    assert same(workers[0].beliefs(VIEW, "7", "web"), workers[1].beliefs(VIEW, "7", "web"))
    assert workers[0].beliefs(VIEW, "7", "web").factor[0] > 1.0


def test_a_view_a_release_and_a_segment_each_have_their_beliefs(shop, learner_of):
    learner = learner_of()
    shop.shown("d-1", taken=True)
    shop.shown("d-2", customer="c-2", segment="app")
    learner.refresh()
    web, app, none = (learner.beliefs(VIEW, "7", name).factor[0] for name in ("web", "app", "kiosk"))
    assert app < none < web
    assert learner.beliefs(VIEW, "6", "web").factor[0] == 1.0
    assert learner.beliefs(VIEW, "6", "web").n_seen[0] == 2
    other = view_of("o-0", "o-1", "o-3", version=2)
    assert list(learner.beliefs(other, "7", "web").factor) == [1.0, web, 1.0]


def test_another_view_of_the_same_version_gets_arrays_on_its_own_axis(learner_of):
    learner = learner_of()
    learner.refresh()
    assert len(learner.beliefs(VIEW, "7", "web").factor) == 2
    assert len(learner.beliefs(view_of("o-1"), "7", "web").factor) == 1


def test_a_segment_that_is_heard_of_for_the_first_time_is_ready_at_once(shop, learner_of):
    learner = learner_of()
    learner.refresh()
    assert learner.beliefs(VIEW, "7", "web").factor[0] == 1.0
    shop.shown("d-1", taken=True)
    learner.refresh()
    own, others = learner.beliefs(VIEW, "7", "web"), learner.beliefs(VIEW, "7", "kiosk")
    assert own.rate[0] == pytest.approx(S + 0.1, abs=0.001)
    assert others.rate[0] == S
    assert own.factor[0] == pytest.approx(others.factor[0])  # one segment's evidence is not counted twice


def test_what_is_not_asked_for_any_more_is_dropped(shop, learner_of, monkeypatch):
    monkeypatch.setattr(learner_module, "UNUSED_REFRESHES", 2)
    learner = learner_of()
    learner.refresh()
    first = learner.beliefs(VIEW, "7", "web")
    for n in range(5):
        shop.shown(f"d-{n}", customer=f"c-{n}")
        learner.refresh()
        learner.beliefs(VIEW, "6", "web")
    assert len(learner._ready) == 1
    assert not same(learner.beliefs(VIEW, "7", "web"), first)


def test_beliefs_can_be_had_again_bit_for_bit_at_every_position(shop, learner_of, monkeypatch):
    monkeypatch.setattr(learner_module, "CHECKPOINT_ROWS", 7)
    monkeypatch.setattr(learner_module, "CHANGES_PER_CELL", 0)
    learner, rng = learner_of(), np.random.default_rng(5)
    then = []
    for n in range(40):
        offer = f"o-{rng.integers(1, 3)}"
        shop.shown(f"d-{n}", customer=f"c-{n}", offers={offer: 0.3}, taken=bool(rng.random() < 0.3))
        learner.refresh()
        then.append(learner.beliefs(VIEW, "7", "web"))
    with_checkpoints = learner_of()
    for one in then:
        assert same(with_checkpoints.beliefs_at(one.position, VIEW, "7", "web"), one)
        assert same(with_checkpoints.beliefs_at(one.position + 1, VIEW, "7", "web"), one) or one is not then[-1]
    memory = SqliteMemory(learner._path)
    assert memory.checkpoint_before() is not None
    memory.close()
    made_anew = learner_of("another.db")
    made_anew.refresh()
    for one in then:
        assert same(made_anew.beliefs_at(one.position, VIEW, "7", "web"), one)


def test_a_restart_goes_on_where_it_was(shop, learner_of, monkeypatch):
    monkeypatch.setattr(learner_module, "CHECKPOINT_ROWS", 5)
    first = learner_of()
    for n in range(20):
        shop.shown(f"d-{n}", customer=f"c-{n}", taken=n % 3 == 0)
        first.refresh()
    before = first.beliefs(VIEW, "7", "web")
    first.close()
    again = learner_of()
    again.start()
    assert same(again.beliefs(VIEW, "7", "web"), before)
    assert again.beliefs(VIEW, "7", "web").position == before.position


def test_reading_what_lies_ready_takes_less_than_five_microseconds(learner_of):
    learner = learner_of()
    learner.refresh()
    learner.beliefs(VIEW, "7", "web")
    took = []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(200):
            learner.beliefs(VIEW, "7", "web")
        took.append((time.perf_counter() - began) / 200)
    assert min(took) < 5e-6


def test_workers_that_fold_at_the_same_time_find_the_same_as_one(shop, learner_of):
    workers = [learner_of(poll_s=0.005) for _ in range(3)]
    for worker in workers:
        worker.start()
    for n in range(60):
        shop.shown(f"d-{n}", customer=f"c-{n % 7}", taken=n % 2 == 0)
    until = time.monotonic() + 60
    while time.monotonic() < until and any(w.position < shop.log.last_position() for w in workers):
        time.sleep(0.01)
    alone = learner_of("alone.db")
    alone.refresh()
    expected = alone.beliefs(VIEW, "7", "web")
    assert all(same(worker.beliefs(VIEW, "7", "web"), expected) for worker in workers)
    assert expected.n_seen[0] <= 21  # seven customers, at most three times a day each


def test_outcomes_and_windows_are_those_of_the_data_settings(shop, learner_of):
    rules = Attribution(outcomes=("click",), window_attribute="valid_days")
    offers = [an_offer("o-1", attributes={"valid_days": 1}), an_offer("o-2", attributes={"valid_days": "soon"})]
    assert own_windows_of(offers, rules) == {"o-1": 1.0}
    assert own_windows_of(offers, Attribution()) == {}
    learner = learner_of(attribution=rules, own_windows=lambda: own_windows_of(offers, rules))
    shop.shown("d-1", taken=True)
    shop.now += timedelta(days=2)
    shop.event("click", "d-1")
    learner.refresh()
    assert learner.beliefs(VIEW, "7", "web").factor[0] < 1.0


def test_an_erased_customer_leaves_sums_alone(shop, learner_of):
    learner = learner_of()
    shop.shown("d-1", taken=True)
    learner.refresh()
    before = learner.beliefs(VIEW, "7", "web")
    assert learner.erase("c-1") == 3
    assert learner.erase("nobody") == 0
    learner.refresh()
    assert same(learner.beliefs(VIEW, "7", "web"), before)


def test_a_real_decisions_row_can_be_learned_from(decider_with, ask, logged):
    decision = ask(decider_with({"o-1": 1.0, "o-2": 2.0}, rates={"o-2": 0.25}))
    row = DecisionRow(decision.decision_id, "c1", 5, decision.log_payload)
    assert shown_by(row) == {"o-2": Shown("c1", 5, "none", "web", 0.25)}
    assert logged(decision)["placements"][0]["offers"][0]["p_model"] == 0.25


IMPORTS = """
import sys
import serving.learning.learner
heavy = {"pandas", "sklearn", "lightfm", "mlflow", "feast", "duckdb", "scipy", "matplotlib", "pyarrow"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_learning_loads_no_training_library():
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


def test_thousands_of_offers_are_renewed_by_what_changed_alone(shop, learner_of, monkeypatch):
    """A refresh after one impression leaves the other 1,999 offers of the catalogue untouched."""
    view = view_of(*[f"o-{n}" for n in range(2_000)])
    learner = learner_of()
    learner.refresh()
    learner.beliefs(view, "7", "web")
    shop.shown("d-1", taken=True)
    renewed, belief = [], Cells.belief
    monkeypatch.setattr(Cells, "belief", lambda cells, *which: renewed.append(which) or belief(cells, *which))
    learner.refresh()
    assert renewed == [("7", "o-1", None)]
    factor = learner.beliefs(view, "7", "web").factor
    assert (factor != 1).sum() == 1


def test_the_learner_understands_a_log_of_another_clock(learner_of, shop):
    """Historical data is served as of its own day."""
    shop.now = NOW - timedelta(days=3_000)
    shop.shown("d-1", taken=True)
    learner = learner_of()
    learner.refresh()
    assert learner.beliefs(VIEW, "7", "web").factor[0] > 1.0


def test_what_is_asked_for_while_the_log_is_taken_in_can_be_had_again_too(shop, learner_of, monkeypatch):
    """A new segment or catalogue in the midst of it, while another worker goes on folding."""
    monkeypatch.setattr(learner_module, "TAKE_ROWS", 3)
    learner, other = learner_of(), learner_of()
    learner.refresh()
    asked = []
    take = SqliteMemory.changes_after

    def meanwhile(memory, seq, limit, until_position=None):
        if memory is learner._memory and until_position is None and len(asked) < 60:
            asked.append(learner.beliefs(view_of("o-1", "o-2", version=len(asked) + 2), "7", f"s{len(asked)}"))
            shop.shown(f"m-{len(asked)}", customer=f"m-{len(asked)}", taken=len(asked) % 2 == 0)
            other.refresh()
        return take(memory, seq, limit, until_position)

    for i in range(20):
        shop.shown(f"d-{i}", customer=f"c-{i}", taken=i % 3 == 0)
    other.refresh()
    monkeypatch.setattr(SqliteMemory, "changes_after", meanwhile)
    learner.refresh()
    monkeypatch.setattr(SqliteMemory, "changes_after", take)
    assert len({one.position for one in asked}) > 5
    for at, one in enumerate(asked):
        again = learner.beliefs_at(one.position, view_of("o-1", "o-2", version=at + 2), "7", f"s{at}")
        assert same(one, again), at
