"""`nbo report engagement`: the weekly digest, of all that the log has received, as a document."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from experiments.digest.digest import Digest
from experiments.report.render import format_of, render, write
from features.errors import BadInput
from features.facts import Facts
from serving.settings import Settings, load_settings

CROSSED = 3  # exit code: done, and a threshold was crossed


def engagement(
    *,
    week: str | None = None,
    out: Path | None = None,
    format: str | None = None,
    quotes: int = 3,
    as_json: bool = False,
) -> int:
    """Prints or writes the digest of a week, None for the last whole one. Exit code 3 with an alarm, else 0.

    `BadInput` for a week that is none, has not ended, or in which nothing happened.
    """
    from experiments.digest.document import document_of

    if as_json and out is None and format not in (None, "json"):
        raise BadInput(f"--format is {format!r} and --json was given, expected one of them", "format")
    wanted = format_of(out, format, "json" if as_json else "md")
    settings = load_settings()
    now = settings.now()
    digest = made(settings, week, now, quotes)
    document = document_of(digest, now)
    if out is None:
        assert wanted is not None
        sys.stdout.write(render(document, wanted).decode())
    else:
        written = write(document, out, f"engagement-{digest.week}", wanted)
        if as_json:
            sys.stdout.write(render(document, "json").decode())
        else:
            for path in written:
                print(path)
    return CROSSED if digest.alarms else 0


def made(settings: Settings, week: str | None, now: datetime, quotes: int = 3) -> Digest:
    """The digest as of `now`, of all that the log has received until now, which goes to the lake first."""
    from experiments.digest.digest import make_digest
    from experiments.digest.week import week_named
    from experiments.tables import open_tables
    from features.holdout import holdout_of
    from features.log_export import export
    from features.sqlite_log import SqliteLog

    home, wanted = settings.home, week_named(week, now, ZoneInfo(settings.time_zone))
    with closing(Facts(home.facts_db)) as facts:
        if home.log_db.exists():
            with closing(SqliteLog(home.log_db)) as log:
                export(home, facts, log, now)
        catalogue = facts.catalogue()
        names = {one.offer_id: one.name for one in catalogue.offers}
        with open_tables(home, facts) as tables:
            return make_digest(tables, wanted, catalogue.experiments, holdout_of(facts), names=names, n_quotes=quotes)
