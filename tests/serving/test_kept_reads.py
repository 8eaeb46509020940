"""What is kept of reads is what reading again would give, whoever writes meanwhile."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import timedelta

import pytest

from features.errors import StoreUnavailable
from features.events import Event
from features.facts import Facts
from features.sqlite_log import SqliteLog
from serving import kept_reads
from serving.kept_reads import KeptEvents, KeptUntilCommit
from tests.conftest import NOW


def event(name, customer_id, at=NOW):
    return Event(event_id=name, event_type="visit", customer_id=customer_id, occurred_at=at)


@pytest.fixture
def log(tmp_path):
    with closing(SqliteLog(tmp_path / "log.db")) as found:
        yield found


def reading(kept, log, customer_id, asked):
    def read():
        asked.append(customer_id)
        return log.recent(customer_id, 0, 0, 500)

    return [one.event_id for one in kept.of(customer_id, 0, read)]


def test_events_are_read_again_when_there_are_new_ones_of_the_same_customer_alone(log):
    kept, asked = KeptEvents(), []
    for _ in range(3):
        kept.catch_up(log)
        assert (reading(kept, log, "a", asked), reading(kept, log, "b", asked)) == ([], [])
    assert asked == ["a", "b"]
    log.append([event("e-1", "b")], NOW)
    kept.catch_up(log)
    assert (reading(kept, log, "a", asked), reading(kept, log, "b", asked)) == ([], ["e-1"])
    assert asked == ["a", "b", "b"]


def test_with_random_events_between_what_is_kept_is_what_the_log_says(log, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_reads, "MOST_NEW", 5)
    monkeypatch.setattr(kept_reads, "MOST_KEPT", 4)
    kept, rng = KeptEvents(), random.Random(3)
    with closing(SqliteLog(tmp_path / "log.db")) as other:
        for n in range(150):
            new = [
                event(f"e-{n}-{i}", rng.choice("abcdef"), NOW + timedelta(seconds=n))
                for i in range(rng.choice((0, 1, 7)))
            ]
            rng.choice((log, other)).append(new, NOW)
            kept.catch_up(log)
            for name in rng.choices("abcdef", k=3):
                assert kept.of(name, 0, lambda name=name: log.recent(name, 0, 0)) == log.recent(name, 0, 0)


def test_another_beginning_is_read_anew(log):
    log.append([event("old", "a", NOW - timedelta(days=9)), event("new", "a")], NOW)
    kept = KeptEvents()
    kept.catch_up(log)
    for since in (0, 1, 0):
        assert kept.of("a", since, lambda since=since: [since]) == [since]


def test_without_a_log_nothing_is_kept(log):
    class Gone:
        def events_after(self, position, limit):
            raise StoreUnavailable("gone")

        last_position = events_after

    kept = KeptEvents()
    kept.catch_up(log)
    assert reading(kept, log, "a", []) == []
    kept.catch_up(Gone())
    log.append([event("e-1", "a")], NOW)
    assert reading(kept, log, "a", []) == ["e-1"]
    asked = []
    assert [reading(kept, log, "a", asked) for _ in range(2)] == [["e-1"], ["e-1"]]
    assert len(asked) == 2  # there was no catching up since


def test_answers_are_kept_until_anybody_commits(tmp_path):
    kept, asked = KeptUntilCommit(), []
    with closing(Facts(tmp_path / "facts.db")) as mine, closing(Facts(tmp_path / "facts.db")) as others:

        def read(ids):
            asked.append(list(ids))
            return [mine.profile(one) for one in ids]

        def ages(*ids):
            return [one and one.attributes["age"] for one in kept.of(ids, mine.commits, read)]

        others.merge_profile("a", NOW, {"age": 1})
        assert ages("a", "b", "a") == [1, None, 1]
        assert ages("b", "a") == [None, 1]
        assert asked == [["a", "b"]]
        for n, facts in enumerate((mine, others, mine), start=2):
            facts.merge_profile("a", NOW, {"age": n})
            assert ages("a") == [n]


def test_a_read_that_fails_leaves_nothing_behind():
    def failing(ids):
        raise StoreUnavailable("gone")

    kept = KeptUntilCommit()
    with pytest.raises(StoreUnavailable):
        kept.of(["a"], lambda: 1, failing)
    assert kept.of(["a"], lambda: 1, lambda ids: [7]) == [7]
