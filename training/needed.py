"""Whether a training is due: the newest release is old, customers have changed, or enough has happened since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from features.events import from_us, parse_time, to_us
from features.facts import Facts
from features.home import Home
from features.log_export import exported
from features.sqlite_log import SqliteLog


class Drift(msgspec.Struct, frozen=True):
    """What watching says of the newest release: whether what it sees has moved away from what it learned."""

    drifted: bool
    said: str  # a sentence, for who reads why a training ran
    at: datetime  # when it was looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a training is due; any one reason is enough."""

    max_age_days: float  # inf: never by age
    new_events: int  # 0: never by what happened
    on_drift: bool
    min_age_hours: float  # younger than that no release is replaced, whatever else: drift may outlast a training


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to judge by."""

    newest: str | None  # release, None if nothing was ever trained
    as_of: datetime | None  # until when its data went
    n_new_events: int = 0  # that happened after it
    n_not_in_lake: int = 0  # of these, which `nbo features build` has yet to bring to the training's table
    drift: Drift | None = None


class Need(msgspec.Struct, frozen=True):
    """Whether to train, and every reason for or against."""

    train: bool
    why: tuple[str, ...]


def needed(known: Known, rules: Rules, now: datetime) -> Need:
    """Pure. A drift that was seen before the newest release was trained is not held against it."""
    if known.newest is None or known.as_of is None:
        return Need(True, ("nothing was ever trained",))
    age = now - known.as_of
    old = f"release {known.newest} is {_spoken(age)} old"
    if age.total_seconds() < rules.min_age_hours * 3_600:
        return Need(False, (f"{old}, younger than {rules.min_age_hours:g} h",))
    drift = known.drift if known.drift is not None and known.drift.at > known.as_of else None
    happened = f"{known.n_new_events:,} events happened since"
    reasons = (
        (age.total_seconds() >= rules.max_age_days * 86_400, f"{old}, {rules.max_age_days:g} days are the most", old),
        (0 < rules.new_events <= known.n_new_events, f"{happened}, {rules.new_events:,} are enough", happened),
        (rules.on_drift and drift is not None and drift.drifted, f"drift: {drift.said if drift else ''}", _calm(drift)),
    )
    due = tuple(reason for holds, reason, _ in reasons if holds)
    return Need(True, due) if due else Need(False, tuple(otherwise for _, _, otherwise in reasons))


def _calm(drift: Drift | None) -> str:
    return f"no drift: {drift.said}" if drift is not None else "whether there is drift is unknown: run `nbo monitor`"


def _spoken(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.1f} days"


def what_is_known(home: Home, facts: Facts, now: datetime) -> Known:
    """Read from MLflow, the lake and the log; changes nothing."""
    newest = newest_release(home)
    if newest is None:
        return Known(None, None)
    number, as_of = newest
    lake, log = new_events(home, facts, as_of, now)
    return Known(number, as_of, lake + log, log, drift_known(home))


def newest_release(home: Home) -> tuple[str, datetime] | None:
    """The release that was trained last, and the instant its data ended; None before the first."""
    if not (home.mlflow / "mlflow.db").exists():
        return None
    from training.registry import read_pins
    from training.tracking import RELEASE, tracking

    with tracking(home) as client:
        numbers = [int(version.version) for version in client.search_model_versions(f"name = '{RELEASE}'")]
        if not numbers:
            return None
        number = str(max(numbers))
        return number, parse_time(read_pins(client, number)[0].as_of, "as_of")


def new_events(home: Home, facts: Facts, since: datetime, until: datetime) -> tuple[int, int]:
    """How many events happened in (since, until]: in the lake, and in the log that the lake does not hold yet."""
    return _in_lake(home, facts, since, until), _in_log(home, facts, since, until)


def _in_lake(home: Home, facts: Facts, since: datetime, until: datetime) -> int:
    first = from_us(to_us(since)).date().isoformat()
    files = [str(home.lake / file.path) for file in facts.lake_files("events") if file.day >= first]
    if not files:
        return 0
    import duckdb

    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        rows: Any = db.read_parquet(files, hive_partitioning=False)  # noqa: F841  DuckDB reads it by its name
        found = db.execute(
            "SELECT count(*) FROM rows WHERE epoch_us(occurred_at) > $1 AND epoch_us(occurred_at) <= $2",
            [to_us(since), to_us(until)],
        ).fetchone()
    return int(found[0]) if found else 0


def _in_log(home: Home, facts: Facts, since: datetime, until: datetime) -> int:
    if not home.log_db.exists():
        return 0
    log = SqliteLog(home.log_db)
    try:
        return log.n_events(exported(facts).position, to_us(since), to_us(until))
    finally:
        log.close()


def drift_known(home: Home) -> Drift | None:
    """What `training.monitoring` last saw; None where nothing is watched."""
    from training.monitoring import drift_verdict  # which says it with `Drift`

    return drift_verdict(home)
