"""`nbo ingest`: raw tables into the lake, with a count of what was kept and what was refused, and why."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from features.errors import BadInput, TooManyRefused
from features.facts import Facts
from features.ingest import IngestReport, Progress, TableReport, ingest
from features.ingest_recipe import named_recipes
from serving.settings import load_settings


def run(recipe_or_dir: str, *, source: Path | None, max_refused: float | None, as_json: bool) -> int:
    """Prints what became of the rows; exit code 0. `NboError` when nothing was committed.

    When too many rows were refused the counts are printed before that is raised.
    """
    settings = load_settings()
    limit = settings.max_refused if max_refused is None else max_refused
    if source is None and recipe_or_dir in named_recipes() and not Path(recipe_or_dir).is_dir():
        raise BadInput(f"{recipe_or_dir} is a shipped recipe: add --source DIR, the folder of the raw files", "source")
    recipe, folder = (None, Path(recipe_or_dir)) if source is None else (recipe_or_dir, source)
    facts = Facts(settings.home.facts_db)
    started = time.monotonic()
    try:
        report = ingest(
            settings.home, facts, folder, recipe, now=settings.now(), max_refused=limit, progress=_progress(started)
        )
    except TooManyRefused as error:
        _end_progress()
        if as_json:
            found = {"code": error.code, "table": error.table, "tables": error.tables, "refused_file": error.report}
            print(msgspec.json.encode(found).decode())
        else:
            print("\n".join(_table_lines(error.tables)))
        raise
    else:
        _end_progress()
    finally:
        facts.close()
    seconds = round(time.monotonic() - started, 3)
    if as_json:
        print(msgspec.json.encode({**asdict(report), "seconds": seconds}).decode())
    else:
        print(_words(report, seconds))
    return 0


def _progress(started: float) -> Progress:
    """One line that is written over, on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda step: None
    return lambda step: print(
        f"\r\x1b[K{time.monotonic() - started:6.1f} s  {step}", end="", file=sys.stderr, flush=True
    )


def _end_progress() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _table_lines(tables: Sequence[TableReport]) -> list[str]:
    """What became of each table's rows, and why some were refused."""
    lines = [f"{'':<12}{'rows':>12}{'kept':>12}{'duplicates':>12}{'refused':>12}"]
    for table in tables:
        lines.append(
            f"{table.table:<12}{table.n_rows:>12,}{table.kept:>12,}{table.duplicates:>12,}{table.n_refused:>12,}"
        )
        lines += [f"{'':<12}  refused: {n:,} {code}" for code, n in sorted(table.refused.items())]
        if table.erased:
            lines.append(f"{'':<12}  skipped: {table.erased:,} of customers who were erased")
    return lines


def _words(report: IngestReport, seconds: float) -> str:
    lines = _table_lines(report.tables)
    if report.first_day is not None:
        lines.append(f"events of {report.first_day} to {report.last_day} were added to the lake")
    else:
        lines.append("no events were added")
    lines.append(f"{report.n_offers_changed:,} offers and {report.n_customers_changed:,} customers are new or changed")
    if report.refused_file is not None:
        lines.append(f"the refused rows with their reasons: {report.refused_file}")
    return "\n".join([*lines, f"{seconds:.1f} s"])
