"""The log and its export under kill -9: what was acknowledged is there, once, whatever the moment."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from features.events import Event, to_us
from features.facts import Facts
from features.group_commit import GroupCommit
from features.home import Home
from features.lake import EVENT_SCHEMA
from features.log import DecisionRow, Exposure
from features.log_export import DECISION_SCHEMA, EXPOSURE_SCHEMA, export, exported
from features.sqlite_log import SqliteLog

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from features.events import Event
from features.group_commit import GroupCommit
from features.log import DecisionRow
from features.sqlite_log import SqliteLog

now = datetime(2026, 11, 21, 12, tzinfo=UTC)
writer = GroupCommit(SqliteLog(Path(sys.argv[1])))
for n in range(1_000_000):
    event = Event(event_id=f"e-{n}", event_type="visit", customer_id="c", occurred_at=now)
    done = writer.submit([event, event], now), writer.submit_decisions([DecisionRow(f"e-{n}", "c", n, b"{}")])
    for answer in done:
        answer.result()
    print(n, flush=True)
"""

EXPORTER = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from features import log_export
from features.facts import Facts
from features.home import Home
from features.sqlite_log import SqliteLog

log_export.CHUNK_ROWS = 15  # two commits

def killed_at(n_steps, root):
    home = Home(Path(root))

    def step(name):
        nonlocal n_steps
        n_steps -= 1
        if n_steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    log_export.export(home, Facts(home.facts_db), SqliteLog(home.log_db), datetime(2026, 11, 21, 12, tzinfo=UTC), step)

for n, root in enumerate(sys.argv[1:], 1):  # a process each, all of which begin with what this one has imported
    child = os.fork()
    if child == 0:
        killed_at(n, root)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def visit(event_id: str, at: datetime = NOW) -> Event:
    return Event(event_id=event_id, event_type="visit", customer_id="c", occurred_at=at)


@pytest.mark.parametrize("n_acknowledged", [1, 40, 300])
def test_what_a_killed_writer_acknowledged_is_there_once(tmp_path: Path, n_acknowledged: int) -> None:
    path = tmp_path / "log.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(n_acknowledged)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
    log = SqliteLog(path)
    there = [one.event_id for one in log.events_after(0, 1_000_000)]
    decided = [one.decision_id for one in log.decisions_after(0, 1_000_000)]
    for found in (there, decided):
        assert found[: len(acknowledged)] == [f"e-{n}" for n in acknowledged]
        assert len(found) == len(set(found))
        assert len(found) <= len(acknowledged) + 1  # the one that was on its way
    log.close()


def test_two_killed_writers_leave_a_log_that_a_third_can_write(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    command = [sys.executable, "-c", WRITER, str(path)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as one,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other,
    ):
        for child in (one, other):
            assert child.stdout is not None
            child.stdout.readline()
            child.kill()
    log = SqliteLog(path)
    assert log.append([visit("new")], NOW) == [True]
    assert log.append([visit("e-0")], NOW) == [False]
    log.close()


def events_over_days() -> list[Event]:
    """20 events over 4 days, two of one instant, one just before and one at midnight."""
    midnight = NOW.replace(hour=0)
    moments = [NOW - timedelta(hours=5 * n) for n in range(17)] + [NOW, midnight, midnight - timedelta(microseconds=1)]
    return [
        Event(
            event_id=f"e-{n:02d}", event_type="purchase", customer_id=f"c-{n % 3}", occurred_at=moment,
            value=Decimal("12.3401"), currency="EUR", category="shoes", properties={"n": n},
        )
        for n, moment in enumerate(moments)
    ]  # fmt: skip


def met(unit: str, phase: int = 1) -> Exposure:
    return Exposure("e", phase, unit, "on")


def filled(home: Home) -> tuple[Facts, SqliteLog]:
    log = SqliteLog(home.log_db)
    log.append(events_over_days(), NOW)
    log.append_decisions(
        [
            DecisionRow(f"d-{n}", "c-1", to_us(NOW) - n, json.dumps({"n": n}).encode(), exposures=[met(f"u-{n}")])
            for n in range(9)
        ]
    )
    return Facts(home.facts_db), log


SCHEMAS = {  # by dataset: its columns, what it is ordered by, and what then
    "events": (EVENT_SCHEMA, "occurred_at", "event_id"),
    "decisions": (DECISION_SCHEMA, "decided_at", "decision_id"),
    "exposures": (EXPOSURE_SCHEMA, "exposed_at", "exposed_at"),
}


def lake_rows(home: Home, facts: Facts, dataset: str) -> list[dict[str, object]]:
    """The listed rows; every file is checked for its order and its day."""
    rows: list[dict[str, object]] = []
    schema, moment, then = SCHEMAS[dataset]
    for file in facts.lake_files(dataset):
        table = pq.ParquetFile(home.lake / file.path).read()
        assert table.schema.equals(schema)
        part = table.to_pylist()
        assert len(part) == file.n_rows
        assert {row[moment].date().isoformat() for row in part} == {file.day}
        assert part == sorted(part, key=lambda row: (row[moment], row[then]))
        rows += part
    return rows


def test_export_brings_every_row_once_into_its_day(tmp_path: Path) -> None:
    home = Home(tmp_path)
    facts, log = filled(home)
    report = export(home, facts, log, NOW)
    assert (report.n_events, report.n_decisions, report.n_known, report.position) == (20, 9, 0, 29)
    assert report.days == ("2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21")
    rows = {row["event_id"]: row for row in lake_rows(home, facts, "events")}
    assert sorted(rows) == [event.event_id for event in events_over_days()]
    for event in events_over_days():
        assert rows[event.event_id] == {
            **dict.fromkeys(EVENT_SCHEMA.names),
            **{name: value for name, value in msgspec.structs.asdict(event).items() if name in EVENT_SCHEMA.names},
            "properties": msgspec.json.encode(event.properties).decode(),
            "received_at": NOW,
        }
    assert [row["payload"] for row in lake_rows(home, facts, "decisions")] == [f'{{"n": {n}}}' for n in range(9)][::-1]
    assert report.n_exposures == 9
    assert lake_rows(home, facts, "exposures")[-1] == {
        "experiment_id": "e",
        "phase": 1,
        "unit_id": "u-0",
        "customer_id": "c-1",
        "variant": "on",
        "exposed_at": NOW,
        "decision_id": "d-0",
    }
    log.close()
    facts.close()


def test_a_second_export_brings_only_what_is_new(tmp_path: Path) -> None:
    home = Home(tmp_path)
    facts, log = filled(home)
    export(home, facts, log, NOW)
    assert export(home, facts, log, NOW).n_events == 0
    log.append([visit("new")], NOW)
    report = export(home, facts, log, NOW)
    assert (report.n_events, report.days, report.position) == (1, ("2026-11-21",), 30)
    assert len(lake_rows(home, facts, "events")) == 21
    assert exported(facts).position == 30
    known = DecisionRow("d-0", "c-1", to_us(NOW), b"", exposures=[met("u-0"), met("u-0", phase=2)])
    log.append_decisions([known])  # the log's own position does not move
    report = export(home, facts, log, NOW)
    assert (report.n_decisions, report.n_exposures, report.position) == (0, 1, 30)
    assert export(home, facts, log, NOW).n_exposures == 0
    assert sorted((row["phase"], row["unit_id"]) for row in lake_rows(home, facts, "exposures"))[-2:] == [
        (1, "u-8"),
        (2, "u-0"),
    ]
    log.close()
    facts.close()


def test_an_event_that_the_lake_already_holds_is_not_exported_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    facts, log = filled(home)
    export(home, facts, log, NOW)
    other = SqliteLog(tmp_path / "other.db")  # the same event once more, through another log and on another day
    other.append(
        [Event(event_id=f"x-{n}", event_type="visit", customer_id="c", occurred_at=NOW) for n in range(29)], NOW
    )
    again = Event(event_id="e-03", event_type="visit", customer_id="c", occurred_at=NOW - timedelta(days=9))
    other.append([again, Event(event_id="y", event_type="visit", customer_id="c", occurred_at=NOW)], NOW)
    report = export(home, facts, other, NOW)
    assert (report.n_events, report.n_known) == (1, 1)
    for opened in (log, other, facts):
        opened.close()


def test_an_export_killed_at_any_step_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    n_steps = 2 * 5  # 5 in each of two commits
    homes = [Home(tmp_path / str(n)) for n in range(1, n_steps + 3)]
    opened = [filled(home) for home in homes]
    command = [sys.executable, "-c", EXPORTER, *(str(home.root) for home in homes)]
    ends = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    assert ends == [str(-signal.SIGKILL)] * (n_steps + 1) + ["0"]  # one at the end, and one run to it
    for home, (facts, log) in zip(homes, opened, strict=True):
        listed = lake_rows(home, facts, "events"), lake_rows(home, facts, "decisions")
        assert sum(map(len, listed)) == exported(facts).position  # what counts is whole commits
        export(home, facts, log, NOW)
        assert sorted(str(row["event_id"]) for row in lake_rows(home, facts, "events")) == [
            event.event_id for event in events_over_days()
        ]
        assert len(lake_rows(home, facts, "decisions")) == 9
        units = sorted(str(row["unit_id"]) for row in lake_rows(home, facts, "exposures"))
        assert units == sorted(f"u-{n}" for n in range(9))
        on_disk = {path.relative_to(home.lake).as_posix() for path in home.lake.glob("*/day=*/*")}
        assert on_disk == {file.path for dataset in SCHEMAS for file in facts.lake_files(dataset)}
        assert not list((home.lake / ".staging").glob("*"))
        log.close()
        facts.close()


def test_decisions_wait_for_a_store_that_is_away_and_are_written_when_it_is_back(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", wait_s=0.05)
    writer = GroupCommit(log, retry_s=0.01)
    blocker = SqliteLog(tmp_path / "log.db")
    with blocker._transaction():
        answer = writer.submit_decisions([DecisionRow("d", "c", 1, b"{}")])
        with pytest.raises(Exception, match="locked"):
            answer.result(5)
        assert writer.delayed_s > 0
        assert writer.error is not None
    writer.close()
    assert log.decision("d") is not None
    assert (writer.delayed_s, writer.n_lost, writer.error) == (0.0, 0, None)
    log.close()
    blocker.close()


def test_a_file_of_the_version_before_is_brought_up_to_date_and_keeps_what_it_holds(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    event = Event(event_id="e", event_type="view", customer_id="c", occurred_at=NOW, category="shoes")
    log.append([event], NOW)
    log.append_decisions([DecisionRow("d", "c", 1, b"{}")])
    old = (
        "DROP INDEX log_by_time",
        "DROP INDEX log_events",
        "CREATE INDEX log_by_time ON log (customer_id, kind, occurred_us)",
        "PRAGMA user_version = 2",
    )
    for statement in old:
        log._connection().execute(statement)
    log.close()
    log = SqliteLog(tmp_path / "log.db")
    assert [one.event_id for one in log.recent("c", 0, 0)] == [one.event_id for one in log.events_after(0, 9)] == ["e"]
    assert log.decision("d") == log.decisions_after(0, 9)[0]
    indexes = dict(log._read("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL", ()))
    assert indexes["log_by_time"].endswith("(customer_id, occurred_us) WHERE kind = 0")
    assert "log_events" in indexes
    log.close()


def test_a_file_without_exposures_gets_them_and_keeps_its_indexes(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.append([visit("e")], NOW)
    for statement in ("DROP TABLE exposures", "PRAGMA user_version = 3"):
        log._connection().execute(statement)
    roots = dict(log._read("SELECT name, rootpage FROM sqlite_master WHERE name LIKE 'log_by%'", ()))
    log.close()
    log = SqliteLog(tmp_path / "log.db")
    assert dict(log._read("SELECT name, rootpage FROM sqlite_master WHERE name LIKE 'log_by%'", ())) == roots
    log.append_decisions([DecisionRow("d", "c", 1, b"", exposures=[met("u")])])
    assert [one.unit_id for one in log.exposures_after(0, 9)] == ["u"]
    assert [one.event_id for one in log.events_after(0, 9)] == ["e"]
    log.close()


def test_exposures_of_a_decision_that_waited_for_the_store_are_written_with_it(tmp_path: Path) -> None:
    log, blocker = SqliteLog(tmp_path / "log.db", wait_s=0.05), SqliteLog(tmp_path / "log.db")
    writer = GroupCommit(log, retry_s=0.01, company_s=0.0)
    with blocker._transaction():
        writer.hand_over(DecisionRow("d", "c", 1, b"{}", exposures=[met("u")]))
        while writer.error is None:
            time.sleep(0.01)
    writer.close()
    assert log.decision("d") is not None
    assert [(one.unit_id, one.decision_id) for one in log.exposures_after(0, 9)] == [("u", "d")]
    log.close()
    blocker.close()


def test_decisions_wait_for_company_and_events_do_not(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    writer = GroupCommit(log, company_s=30.0)
    decided = writer.submit_decisions([DecisionRow("d", "c", 1, b"{}")])
    with pytest.raises(TimeoutError):
        decided.result(0.05)
    event = Event(event_id="e", event_type="view", customer_id="c", occurred_at=NOW, category="shoes")
    assert writer.submit([event], NOW).result(5) == [True]
    assert decided.result(5) == []
    last = writer.submit_decisions([DecisionRow("last", "c", 1, b"{}")])
    writer.close()  # does not wait either
    assert last.result(0) == []
    log.close()
