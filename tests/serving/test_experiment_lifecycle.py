"""The lifecycle of experiments: whatever is done in whatever order, nobody is in two of a layer and nobody moves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.assignment import n_buckets, n_held, variants_of
from features.errors import ExperimentRefused
from features.experiment import Experiment, Variant
from features.facts import Facts
from serving.commands.experiment import start
from serving.experiment_lifecycle import decided, removable, revised, started, stopped
from tests.conftest import NOW

UNITS = [f"c-{n}" for n in range(400)]


def a_draft(name="x", traffic=1.0, weight=0.5, **changes):
    variants = (Variant(name="off", weight=1 - weight, is_control=True), Variant(name="on", weight=weight))
    given = {"hypothesis": "h", "variants": variants, "primary_metric": "nps", "traffic": traffic, **changes}
    return Experiment(experiment_id=name, **given)


MOVES = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(["put", "put", "put", "start", "start", "stop", "decide"]),
    st.sampled_from([0.1, 0.25, 0.5, 0.7, 1.0]),
    st.sampled_from([0.1, 0.5, 0.9]),
)


def moved(held, name, move, traffic, weight, now):
    running = [one for one in held.values() if one.status == "running"]
    if move == "put":
        return revised(held.get(name), a_draft(name, traffic, weight), running, now)
    if name not in held:
        return None
    if move == "start":
        return started(held[name], running, now)
    return stopped(held[name], "r", now) if move == "stop" else decided(held[name], "on", "r", now, None)


@settings(max_examples=60, deadline=None)
@given(st.lists(MOVES, max_size=25))
def test_no_order_of_moves_overlaps_layers_or_moves_anybody_back(moves):
    held = {}
    for n, (name, move, traffic, weight) in enumerate(moves):
        old = held.get(name)
        try:
            new = moved(held, name, move, traffic, weight, NOW + n * timedelta(hours=1))
        except ExperimentRefused:
            continue  # held is as it was: the functions are pure
        if new is None:
            continue
        held[name] = new
        running = [one for one in held.values() if one.status == "running"]
        taken = [place for one in running for start, end in one.buckets for place in range(start, end)]
        assert len(taken) == len(set(taken))
        assert all(n_held(one.buckets) == n_buckets(one.traffic) for one in running)
        assert [phase.number for phase in new.phases] == [*range(1, len(new.phases) + 1)]
        assert all(phase.stops_at is not None for phase in new.phases[:-1])
        assert (new.status == "draft") == (not new.phases)
        assert not new.phases or (new.phases[-1].stops_at is None) == (new.status == "running")
        if old is not None and old.status == new.status == "running":
            before, after = variants_of(old, UNITS), variants_of(new, UNITS)
            assert (after[before >= 0] >= 0).all()  # more traffic puts nobody out
            kept = 1 if new.variants[1].weight >= old.variants[1].weight else 0
            assert (after[before == kept] == kept).all()


def test_the_state_is_told_by_a_refusal():
    draft = a_draft()
    running = started(draft, [], NOW)
    over = stopped(running, "r", NOW)
    for refused, code in [
        (lambda: stopped(draft, "r", NOW), "experiment_not_started"),
        (lambda: started(running, [], NOW), "experiment_running"),
        (lambda: removable(running), "experiment_running"),
        (lambda: removable(over), "experiment_over"),
        (lambda: decided(running, "on", "r", NOW, None), "experiment_running"),
    ]:
        with pytest.raises(ExperimentRefused) as error:
            refused()
        assert error.value.code == code
    removable(draft)


def test_an_experiment_does_not_stand_in_its_own_way():
    running = started(a_draft(traffic=0.6), [], NOW)
    grown = revised(running, a_draft(traffic=1.0), [running], NOW)
    assert grown.buckets == ((0, 10_000),)


def test_more_traffic_takes_the_gaps_that_others_leave():
    one = started(a_draft("one", 0.2), [], NOW)
    two = started(a_draft("two", 0.2), [one], NOW)
    three = started(a_draft("three", 0.2), [one, two], NOW)
    grown = revised(three, a_draft("three", 0.5), [two, three], NOW)  # one has stopped
    assert grown.buckets == ((0, 2_000), (4_000, 7_000))


def test_of_two_that_start_at_once_one_gets_the_buckets(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NBO_HOME", str(tmp_path))
    facts = Facts(tmp_path / "facts.db")
    for name in "abcd":
        facts.put(a_draft(name, 0.6), NOW)

    def outcome(name):
        try:
            start(name)
        except ExperimentRefused as error:
            return error.code
        return "started"

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(outcome, "abcd"))
    assert sorted(told) == ["overlapping_layers"] * 3 + ["started"]
    assert [one.status for one in facts.catalogue().experiments].count("running") == 1
    facts.close()


def test_what_was_decided_says_by_whom_and_when():
    over = stopped(started(a_draft(), [], NOW), "enough", NOW + timedelta(days=7))
    found = decided(over, "off", "no effect", NOW + timedelta(days=8), "key sk_1")
    assert (found.decided.variant, found.decided.by, found.decided.at) == ("off", "key sk_1", NOW + timedelta(days=8))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Experiment) == found
