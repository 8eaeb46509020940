"""`nbo features`: list, build, apply, materialize, check."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC
from typing import Any

import msgspec

from features.errors import NboError
from features.facts import Facts
from serving.settings import Settings, load_settings


def list_features(*, as_json: bool = False) -> None:
    """Prints every feature: of the data's own set once it was built, else of the data as they are."""
    with _opened() as (_, facts):
        from features.compute import wanted_features

        features = wanted_features(facts).features
    rows: list[dict[str, Any]] = [
        {
            "name": f.name, "entity": f.entity, "family": f.family, "kind": f.kind, "unit": f.unit,
            "default": {} if f.kind == "keyed" else f.default, "ttl_days": f.ttl_days or None,
            "description": f.description,
        }
        for f in features
    ]  # fmt: skip
    if as_json:
        _print_json(rows)
        return
    columns = ("name", "entity", "kind", "unit", "default", "ttl_days", "description")
    _print_table(columns, [[_shown(row[name]) for name in columns] for row in rows])


def build(*, as_json: bool = False) -> None:
    """The live log to the lake, then snapshots up to today's, as of the settings' clock."""
    from features.compute import build as run
    from features.log_export import export
    from features.sqlite_log import SqliteLog

    with _opened() as (settings, facts), _progress("features build") as progress:
        log = SqliteLog(settings.home.log_db)
        try:
            exported = export(settings.home, facts, log, settings.now())
        finally:
            log.close()
        _need_events(facts)
        report = run(settings.home, facts, until=settings.now().astimezone(UTC).date(), progress=progress)
    found = {
        "n_exported": exported.n_events, "n_exported_decisions": exported.n_decisions,
        "first_day": report.days[0], "last_day": report.days[-1], "n_days": len(report.days),
        "n_daily": report.n_daily, "n_snapshots": report.n_snapshots, "n_customers": report.n_customers,
        "n_offers": report.n_offers, "n_features": len(report.features.features),
        "feature_set": report.features.digest, "seconds": round(report.seconds, 3),
    }  # fmt: skip
    if as_json:
        _print_json(found)
    else:
        print(
            f"{exported.n_events:,} live events and {exported.n_decisions:,} decisions were added to the lake\n"
            f"{report.n_daily:,} days aggregated, {report.n_snapshots:,} of {len(report.days):,} snapshots made, "
            f"{report.days[0]} to {report.days[-1]}\n{report.n_customers:,} customers and {report.n_offers:,} offers "
            f"in the newest, {len(report.features.features)} features\n{report.seconds:.1f} s"
        )


def apply(*, as_json: bool = False) -> None:
    """Registers entities, views and services with Feast."""
    from features.feast_repo import apply as run

    with _opened() as (settings, facts):
        applied = run(settings.home, facts)
    if as_json:
        _print_json(asdict(applied))
        return
    views = ", ".join(f"{name} ({n} fields)" for name, n in applied.views.items())
    print(f"entities: {', '.join(applied.entities)}\nviews: {views}\nservices: {', '.join(applied.services)}")


def materialize(*, as_json: bool = False) -> None:
    """The newest snapshot as of the settings' clock goes online."""
    from features.feast_repo import materialize as run

    started = time.perf_counter()
    with _opened() as (settings, facts), _progress("features materialize") as progress:
        done = run(settings.home, facts, settings.now(), progress)
    seconds = time.perf_counter() - started
    if as_json:
        _print_json({**msgspec.to_builtins(done.snapshot), "n_tail": done.n_tail, "seconds": round(seconds, 3)})
    else:
        print(
            f"the snapshot of {done.snapshot.day} is online; {done.n_tail:,} events since then count as live\n"
            f"{seconds:.1f} s"
        )


def check(*, n_customers: int = 1000, as_json: bool = False) -> int:
    """Prints what differs between online and offline, and how old the features are; 0 if all is well, else 1."""
    from features.check import check as run
    from features.events import to_us

    if n_customers < 1:
        raise NboError(f"--customers is {n_customers}, expected at least 1")
    with _opened() as (settings, facts):
        report = run(settings.home, facts, n_customers, now_us=to_us(settings.now()))
    if as_json:
        _print_json({**asdict(report), "ok": report.ok})
        return 0 if report.ok else 1
    print(
        f"{report.n_customers:,} customers x {report.n_features} features: online and offline differ "
        f"{report.n_mismatches:,} times; {report.n_parity} compared with get_online_features"
    )
    for one in report.mismatches:
        print(f"  {one.customer_id} {one.feature}: online {one.online!r}, offline {one.offline!r}")
    print(f"snapshot of {report.day}, {report.age_days:.2f} days old")
    if report.expired:
        print(f"{len(report.expired)} features are past their time to live: run `nbo features build` and materialize")
    return 0 if report.ok else 1


def _need_events(facts: Facts) -> None:
    if not facts.lake_files("events") and next(iter(facts.profile_history()), None) is None:
        raise NboError("there are no events and no customers yet: run `nbo ingest` first")


@contextmanager
def _opened() -> Iterator[tuple[Settings, Facts]]:
    settings = load_settings()
    facts = Facts(settings.home.facts_db)
    try:
        yield settings, facts
    finally:
        facts.close()


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """One line that is written over, on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total, step: None
        return
    terminal, started = sys.stderr, time.monotonic()
    try:
        yield lambda done, total, step: print(
            f"\r\x1b[K{time.monotonic() - started:6.1f} s  {what}: {done} of {total}, {step}",
            end="", file=terminal, flush=True,
        )  # fmt: skip
    finally:
        print("\r\x1b[K", end="", file=terminal, flush=True)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_table(header: tuple[str, ...], rows: list[list[str]]) -> None:
    widths = [max(len(row[at]) for row in [list(header), *rows]) for at in range(len(header))]
    for row in [list(header), *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_json(value: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())
