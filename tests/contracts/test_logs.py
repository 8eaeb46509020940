"""What every log promises, run over each of LOGS."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import StoreUnavailable
from features.events import Event, to_us
from features.group_commit import GroupCommit
from features.log import Batch, DecisionRow, Exposure, ExposureRow, Log, LogEvent, ShadowRow
from features.sqlite_log import SqliteLog

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def sqlite_log(folder: Path) -> Log:
    return SqliteLog(folder / "log.db")


LOGS: tuple[Callable[[Path], Log], ...] = (sqlite_log,)  # each opens the same log again when given the same folder


@pytest.fixture(params=LOGS, ids=lambda opened: opened.__name__)
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Log]]:
    opened: list[Log] = []

    def open_one() -> Log:
        opened.append(request.param(tmp_path))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def log(open_log: Callable[[], Log]) -> Log:
    return open_log()


def event(event_id: str, at: datetime = NOW, **fields: object) -> Event:
    given = {"event_id": event_id, "event_type": "visit", "customer_id": "c-1", "occurred_at": at, **fields}
    return msgspec.convert(given, Event)


def ids(events: list[LogEvent]) -> list[str]:
    return [one.event_id for one in events]


def test_an_event_comes_back_whole(log: Log) -> None:
    written = event(
        "e-1", event_type="purchase", decision_id="d", offer_id="o", placement_id="p", session_id="s", channel="web",
        category="shoes", value=Decimal("25.2001"), currency="EUR", properties={"size": 42, "who": "Zoë"},
    )  # fmt: skip
    log.append([written], NOW)
    (read,) = log.recent("c-1", to_us(NOW), 0)
    assert read == LogEvent(
        1, "e-1", "purchase", "c-1", to_us(NOW), "d", "o", "p", "s", "web", "shoes", Decimal("25.2001"), "EUR",
        '{"size":42,"who":"Zoë"}', to_us(NOW),
    )  # fmt: skip


def test_a_known_event_id_is_a_duplicate_and_never_overwrites(log: Log) -> None:
    assert log.append([event("e-1"), event("e-1", channel="app"), event("e-2")], NOW) == [True, False, True]
    assert log.append([event("e-1", channel="app")], NOW) == [False]
    assert [(one.event_id, one.channel) for one in log.events_after(0, 10)] == [("e-1", None), ("e-2", None)]


def test_the_log_says_which_ids_it_has(log: Log) -> None:
    odd = "é\U0001f600'\""
    log.append([event("e-1"), event(odd)], NOW)
    log.append_decisions([DecisionRow("d-1", "c-1", to_us(NOW), b"payload")])
    assert log.known(["e-1", "e-2", odd, "d-1"]) == {"e-1", odd}
    assert log.known([]) == set()


def test_an_event_cannot_swallow_a_decision_of_the_same_id(log: Log) -> None:
    assert log.append([event("same")], NOW) == [True]
    log.append_decisions([DecisionRow("same", "c-1", to_us(NOW), b"payload")])
    found = log.decision("same")
    assert found is not None
    assert found[:4] == ("same", "c-1", to_us(NOW), b"payload")
    assert ids(log.recent("c-1", 0, 0)) == ["same"]


def test_a_decision_is_written_once(log: Log) -> None:
    log.append_decisions([DecisionRow("d", "c", 5, b"first")])
    log.append_decisions([DecisionRow("d", "c", 6, b"second"), DecisionRow("e", "c", 7, b"")])
    assert [(row.decision_id, row.payload) for row in log.decisions_after(0, 10)] == [("d", b"first"), ("e", b"")]
    assert log.decision("unknown") is None


def test_a_group_is_answered_batch_by_batch(log: Log) -> None:
    decisions = [DecisionRow("d", "c-1", 1, b"x")]
    batches = [Batch([event("a"), event("b")], NOW), Batch([], NOW, decisions), Batch([event("a"), event("c")], NOW)]
    assert log.write(batches) == [[True, True], [], [False, True]]


def test_a_batch_with_a_bad_row_writes_nothing(log: Log) -> None:
    bad = DecisionRow("d", "c", None, b"x")  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        log.write([Batch([event("a")], NOW), Batch([], NOW, [bad])])
    assert log.last_position() == 0
    assert log.append([event("a")], NOW) == [True]


def exposed_by(decision_id: str, customer_id: str = "c-1", us: int = 5, **met: str) -> DecisionRow:
    """A decision that exposed units (by name) to variants, in phase 1 of experiment `e`."""
    exposures = [Exposure("e", 1, unit, variant) for unit, variant in met.items()]
    return DecisionRow(decision_id, customer_id, us, b"{}", exposures=exposures)


def test_the_first_exposure_of_a_unit_in_a_phase_stands(log: Log) -> None:
    log.append_decisions([exposed_by("d-1", us=5, u="on"), exposed_by("d-2", us=6, u="off", v="off")])
    log.append_decisions([exposed_by("d-3", us=7, u="off", v="on", w="on")])
    second = Exposure("e", 2, "u", "off"), Exposure("f", 1, "u", "a")
    log.append_decisions([DecisionRow("d-4", "c-1", 8, b"{}", exposures=second)])
    found = [(row.experiment_id, row.phase, row.unit_id, row.variant, row.decision_id) for row in exposures(log)]
    assert found == [
        ("e", 1, "u", "on", "d-1"),
        ("e", 1, "v", "off", "d-2"),
        ("e", 1, "w", "on", "d-3"),
        ("e", 2, "u", "off", "d-4"),
        ("f", 1, "u", "a", "d-4"),
    ]
    (first,) = log.exposures_after(0, 1)
    assert first == ExposureRow(first.position, "e", 1, "u", "c-1", "on", 5, "d-1")


def exposures(log: Log) -> list[ExposureRow]:
    found = log.exposures_after(0, 1_000)
    pages = [log.exposures_after(0, 2)]
    while pages[-1]:
        pages.append(log.exposures_after(pages[-1][-1].position, 2))
    assert [row for page in pages for row in page] == found
    return found


def test_many_exposures_of_one_commit_are_each_written_once(log: Log) -> None:
    rows = [exposed_by(f"d-{n}", **{f"u-{n % 150}": "on", f"w-{n}": "off"}) for n in range(200)]
    log.write([Batch((), NOW, rows[:120]), Batch([event("a")], NOW, rows[120:])])
    assert sorted(row.unit_id for row in exposures(log)) == sorted(
        [*(f"u-{n}" for n in range(150)), *(f"w-{n}" for n in range(200))]
    )
    assert log.last_position() == 201  # exposures have positions of their own


def test_an_exposure_whose_transaction_failed_is_written_the_next_time(log: Log) -> None:
    bad = DecisionRow("bad", "c", None, b"x")  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        log.write([Batch([], NOW, [exposed_by("d-1", u="on"), bad])])
    assert exposures(log) == []
    log.append_decisions([exposed_by("d-1", u="on")])
    assert [row.unit_id for row in exposures(log)] == ["u"]


def test_an_exposure_that_another_opener_has_written_stands(open_log: Callable[[], Log]) -> None:
    first, second = open_log(), open_log()
    first.append_decisions([exposed_by("d-1", u="on")])
    second.append_decisions([exposed_by("d-2", u="off")])
    second.append_decisions([exposed_by("d-3", u="off")])
    assert [(row.variant, row.decision_id) for row in exposures(first)] == [("on", "d-1")]


def test_the_log_says_who_was_ever_exposed(log: Log) -> None:
    odd = "\x1f'\"é"
    log.append_decisions([exposed_by("d-1", u="on"), exposed_by("d-2", odd, v="on"), exposed_by("d-3", "c-3")])
    assert log.exposed(["c-1", "c-2", odd, "c-3", "u"]) == {"c-1", odd}
    assert log.exposed([]) == set()


def test_exposures_are_erased_with_the_customer_and_refused_afterwards(log: Log) -> None:
    log.append_decisions([exposed_by("d-1", u="on", s="off"), exposed_by("d-2", "c-2", v="on")])
    assert log.erase(["c-1"]).exposures == 2
    log.append_decisions([exposed_by("d-3", u="on")])
    assert [(row.customer_id, row.unit_id) for row in exposures(log)] == [("c-2", "v")]
    position = log.exposures_after(0, 9)[-1].position
    log.append_decisions([exposed_by("d-4", "c-2", w="on")])
    assert [row.unit_id for row in log.exposures_after(position, 9)] == ["w"]


def test_recent_is_what_occurred_since_or_arrived_after(log: Log) -> None:
    log.append([event("old", NOW - timedelta(days=2)), event("today")], NOW)
    position = log.last_position()
    log.append([event("late", NOW - timedelta(days=3)), event("other", customer_id="c-2")], NOW)
    since = to_us(NOW - timedelta(hours=1))
    assert ids(log.recent("c-1", since, position)) == ["late", "today"]
    assert ids(log.recent("c-1", since, 0)) == ["late", "old", "today"]
    assert ids(log.recent("c-1", since, log.last_position())) == ["today"]
    assert ids(log.recent("nobody", 0, 0)) == []


def test_events_of_one_instant_are_ordered_by_id(log: Log) -> None:
    log.append([event("b"), event("c"), event("a")], NOW)
    assert ids(log.recent("c-1", 0, 0)) == ["a", "b", "c"]


def test_positions_page_through_the_log(log: Log) -> None:
    log.append([event(f"e-{n}") for n in range(5)], NOW)
    log.append_decisions([DecisionRow("d", "c", 1, b"")])
    first = log.events_after(0, 3)
    rest = log.events_after(first[-1].position, 3)
    assert ids(first + rest) == [f"e-{n}" for n in range(5)]
    assert log.last_position() == 6
    assert log.decisions_after(0, 10)[0].position == 6
    assert [tuple(one) for one in log.decided_after(0, 10)] == [(6, "d", 1)]
    assert log.decided_after(6, 10) == []


def tail_event(event_id: str, at: datetime = NOW, customer_id: str = "c-1") -> LogEvent:
    nothing = (None,) * 6
    return LogEvent(0, event_id, "visit", customer_id, to_us(at), *nothing, Decimal("1.5"), "EUR", "{}")


def test_the_tail_is_read_beside_the_log(log: Log) -> None:
    assert log.tail_snapshot_us() is None
    log.append([event("live", NOW + timedelta(hours=1))], NOW)
    log.replace_tail([tail_event("t-1"), tail_event("t-2", customer_id="c-2")], to_us(NOW))
    assert ids(log.recent("c-1", 0, 0)) == ["t-1", "live"]
    assert log.recent("c-1", 0, 0)[0] == tail_event("t-1")
    assert ids(log.recent("c-1", to_us(NOW) + 1, 0)) == ["live"]
    assert log.tail_snapshot_us() == to_us(NOW)


def test_a_new_tail_replaces_the_old_one(log: Log) -> None:
    log.replace_tail([tail_event("t-1")], 1)
    log.replace_tail([tail_event("t-2")], 2)
    assert ids(log.recent("c-1", 0, 0)) == ["t-2"]
    log.replace_tail([], 3)
    assert log.recent("c-1", 0, 0) == []


def test_an_event_in_both_log_and_tail_counts_once_as_the_log_has_it(log: Log) -> None:
    log.append([event("both", channel="web")], NOW)
    log.replace_tail([tail_event("both"), tail_event("only")], to_us(NOW))
    assert [(one.event_id, one.channel) for one in log.recent("c-1", 0, 0)] == [("both", "web"), ("only", None)]


def test_an_unfinished_tail_is_not_seen_and_is_cleared_away(log: Log) -> None:
    log.replace_tail([tail_event("old")], 1)

    def broken() -> Iterator[LogEvent]:
        yield from (tail_event(f"t-{n}") for n in range(3_000))
        raise RuntimeError("the reader of the lake fell over")

    with pytest.raises(RuntimeError):
        log.replace_tail(broken(), 2)
    assert ids(log.recent("c-1", 0, 0)) == ["old"]
    assert log.tail_snapshot_us() == 1
    log.replace_tail([tail_event("new")], 3)
    assert ids(log.recent("c-1", 0, 0)) == ["new"]


def test_of_two_tails_at_a_time_the_later_begun_stays(log: Log) -> None:
    def slow() -> Iterator[LogEvent]:
        yield tail_event("earlier")
        log.replace_tail([tail_event("later")], 2)

    log.replace_tail(slow(), 1)
    assert ids(log.recent("c-1", 0, 0)) == ["later"]
    assert log.tail_snapshot_us() == 2


def test_another_opener_sees_what_was_written(open_log: Callable[[], Log]) -> None:
    first, second = open_log(), open_log()
    first.append([event("a")], NOW)
    assert second.append([event("a"), event("b")], NOW) == [False, True]
    assert ids(first.recent("c-1", 0, 0)) == ["a", "b"]


def test_many_threads_write_every_event_exactly_once(open_log: Callable[[], Log]) -> None:
    logs = [open_log(), open_log()]
    new: list[bool] = []

    def write(thread: int) -> None:
        for n in range(20):
            new.extend(logs[thread % 2].append([event(f"shared-{n}"), event(f"own-{thread}-{n}")], NOW))

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == 20 + 4 * 20  # each shared event is new to one thread alone
    assert len(set(ids(logs[0].events_after(0, 1_000)))) == 100


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(-3, 3), st.sampled_from("uvwxyz")), max_size=30),
    st.integers(-3, 4),
    st.integers(0, 30),
)
def test_recent_equals_a_plain_filter(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, str]], since: int, after: int
) -> None:
    for open_one in LOGS:
        log = open_one(tmp_path_factory.mktemp("log"))
        for customer, hours, event_id in rows:
            log.append([event(event_id, NOW + timedelta(hours=hours), customer_id=customer)], NOW)
        since_us = to_us(NOW + timedelta(hours=since))
        everything = log.events_after(0, 100)
        for customer in "ab":
            wanted = [
                one
                for one in everything
                if one.customer_id == customer and (one.occurred_us >= since_us or one.position > after)
            ]
            assert log.recent(customer, since_us, after) == sorted(wanted, key=lambda e: (e.occurred_us, e.event_id))
        log.close()


def test_group_commit_answers_every_caller(log: Log) -> None:
    writer = GroupCommit(log)
    answers = [writer.submit([event(f"e-{n % 50}")], NOW) for n in range(100)]
    decided = writer.submit_decisions([DecisionRow("d", "c", 1, b"x")])
    assert sum(answer.result(10)[0] for answer in answers) == 50
    assert decided.result(10) == []
    assert log.decision("d") is not None
    writer.close()


def test_group_commit_close_writes_what_was_submitted(log: Log) -> None:
    writer = GroupCommit(log, max_rows=3)
    answers = [writer.submit([event(f"e-{n}")], NOW) for n in range(50)]
    writer.close()
    writer.close()
    assert all(answer.result(0) == [True] for answer in answers)
    assert log.last_position() == 50
    with pytest.raises(Exception, match="closed"):
        writer.submit([event("late")], NOW)


def test_a_bad_row_fails_only_its_own_caller(log: Log) -> None:
    writer = GroupCommit(log)
    good = [writer.submit([event(f"e-{n}")], NOW) for n in range(3)]
    bad = writer.submit_decisions([DecisionRow("d", "c", None, b"x")])  # type: ignore[arg-type]
    good += [writer.submit([event("last")], NOW)]
    assert all(answer.result(10) == [True] for answer in good)
    with pytest.raises(Exception, match="NOT NULL"):
        bad.result(10)
    assert writer.n_lost == 1
    writer.close()


def test_rows_that_nobody_waits_for_are_written_and_a_bad_one_among_them_is_lost_alone(log: Log) -> None:
    writer = GroupCommit(log)
    for n in range(5):
        writer.hand_over(DecisionRow(f"d-{n}", "c", None if n == 2 else n, b"x"))  # type: ignore[arg-type]
    waited_for = writer.submit([event("e")], NOW)
    assert waited_for.result(10) == [True]
    writer.close()
    assert [row.decision_id for row in log.decisions_after(0, 10)] == ["d-0", "d-1", "d-3", "d-4"]
    assert writer.n_lost == 1
    with pytest.raises(StoreUnavailable, match="closed"):
        writer.hand_over(DecisionRow("late", "c", 1, b"x"))


def test_a_cancelled_caller_does_not_stop_the_writer(log: Log) -> None:
    writer = GroupCommit(log)
    answers = [writer.submit([event(f"e-{n}")], NOW) for n in range(200)]
    cancelled = sum(answer.cancel() for answer in answers)
    assert writer.submit([event("last")], NOW).result(10) == [True]
    assert log.last_position() == 201 - cancelled
    writer.close()


def test_with_a_limit_the_newest_events_are_read(log: Log) -> None:
    log.replace_tail([tail_event("t-1")], to_us(NOW))
    log.append([event(f"e-{n}", NOW + timedelta(seconds=n)) for n in range(5)], NOW)
    assert ids(log.recent("c-1", 0, 0, 2)) == ["e-3", "e-4"]
    assert len(log.recent("c-1", 0, 0, 100)) == len(log.recent("c-1", 0, 0)) == 6


def test_an_erased_customer_is_gone_and_others_stay(log: Log) -> None:
    log.append([event("a"), event("b", customer_id="c-2"), event("c", customer_id="\x1fv")], NOW)
    log.append_decisions([DecisionRow("d-1", "c-1", to_us(NOW), b"one"), DecisionRow("d-2", "c-2", to_us(NOW), b"two")])
    log.replace_tail([LogEvent(0, "t", "visit", "c-1", to_us(NOW), *[None] * 8, "{}")], to_us(NOW))  # type: ignore[arg-type]
    assert log.erase(["c-1", "\x1fv"]) == (2, 1, 1, 0)
    assert log.erase(["c-1", "\x1fv"]) == (0, 0, 0, 0)
    assert log.recent("c-1", 0, 0) == []
    assert [one.customer_id for one in log.events_after(0, 10)] == ["c-2"]
    assert [one.decision_id for one in log.decisions_after(0, 10)] == ["d-2"]


def test_nothing_of_an_erased_customer_is_taken_in_wherever_it_comes_from(open_log: Callable[[], Log]) -> None:
    log, other = open_log(), open_log()
    other.append([event("a", customer_id="c-2")], NOW)
    log.erase(["c-1"])
    assert other.append([event("b"), event("c", customer_id="c-2")], NOW) == [False, True]
    other.append_decisions([DecisionRow("d-1", "c-1", to_us(NOW), b"one")])
    other.replace_tail([LogEvent(0, "t", "visit", "c-1", to_us(NOW), *[None] * 8, "{}")], to_us(NOW))  # type: ignore[arg-type]
    assert log.recent("c-1", 0, 0) == []
    assert log.decision("d-1") is None
    assert ids(open_log().events_after(0, 10)) == ["a", "c"]


def test_positions_go_on_after_an_erasure(log: Log) -> None:
    log.append([event("a", customer_id="c-2"), event("b")], NOW)
    seen = log.last_position()
    log.erase(["c-1"])
    log.append([event("c", customer_id="c-2")], NOW)
    assert ids(log.events_after(seen, 10)) == ["c"]


def test_a_transaction_that_hangs_is_a_delay_before_it_fails(tmp_path):
    log = SqliteLog(tmp_path / "log.db", wait_s=5.0)
    with closing(GroupCommit(log, company_s=0.0)) as commit, closing(sqlite3.connect(log.path)) as other:
        assert commit.delayed_s == 0.0
        other.execute("BEGIN IMMEDIATE")
        written = commit.submit_decisions([DecisionRow("d", "c", 0, b"{}")])
        deadline = time.monotonic() + 4.0
        while commit.delayed_s == 0.0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        other.rollback()
        assert written.result(10) is not None
        assert commit.delayed_s == 0.0 or not commit._kept
    log.close()


def test_another_writer_is_waited_for_no_longer_than_said(tmp_path):
    log = SqliteLog(tmp_path / "log.db", wait_s=0.05)
    log.last_position()
    with closing(sqlite3.connect(log.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            log.append_decisions([DecisionRow("d", "c", 0, b"{}")])
    log.close()


def test_shadows_are_written_once_beside_their_decision_and_disturb_no_other_reader(log: Log) -> None:
    log.append_decisions([DecisionRow("d-1", "c-1", 5, b"{}")])
    rows = [ShadowRow("d-1", release, "c-1", 5, body) for release, body in (("2", b"a"), ("3", b"b"), ("2", b"c"))]
    log.append_shadows(rows[:2])
    log.append_shadows(rows[2:])
    found = log.shadows_after(0, 10)
    assert [row[:5] for row in found] == [tuple(rows[0][:5]), tuple(rows[1][:5])]
    assert [row.position for row in log.shadows_after(found[0].position, 10)] == [found[1].position]
    assert [row.decision_id for row in log.decisions_after(0, 10)] == ["d-1"]
    assert log.events_after(0, 10) == []
    assert log.recent("c-1", 0, 0) == []
    assert log.erase(["c-1"]).decisions == 3  # a shadow is a decision too, of a kind
    log.append_shadows(rows)
    assert log.shadows_after(0, 10) == []
