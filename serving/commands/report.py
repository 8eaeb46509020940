"""`nbo report engagement`: the weekly digest, of all that the log has received, as a document."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from experiments.digest.digest import Digest
from features.facts import Facts
from serving.commands.documents import CROSSED, hand_over, wanted_format
from serving.settings import Settings, load_settings


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

    wanted = wanted_format(out, format, as_json=as_json)
    settings = load_settings()
    now = settings.now()
    digest = made(settings, week, now, quotes)
    document = document_of(digest, now)
    hand_over(document, out, f"engagement-{digest.week}", wanted, as_json=as_json)
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
