"""`nbo monitor`: what serves, watched through its log; exit code 3 when a threshold was crossed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from features.errors import BadInput, NotTrainable
from features.events import to_us
from features.facts import Facts
from serving.commands.documents import CROSSED, hand_over, wanted_format
from serving.settings import Settings, load_settings
from training.monitoring.kept import Watched
from training.monitoring.line import crossed
from training.monitoring.seen import Seen


def run(
    *,
    since: str = "7d",
    out: Path | None = None,
    format: str | None = None,
    prometheus: Path | None = None,
    as_json: bool = False,
) -> int:
    """Prints or writes the report, keeps it for the admin port and MLflow. `BadInput`, `BadSettings` name the field."""
    from serving.monitoring.document import document_of
    from training.monitoring.kept import keep

    wanted = wanted_format(out, format, as_json=as_json)
    if prometheus is not None and not prometheus.parent.is_dir():
        raise BadInput(f"--prometheus is {prometheus}, whose folder does not exist", "prometheus")
    settings = load_settings()
    watched, seen = made(settings, since)
    document = document_of(watched, seen if out is not None else None)
    keep(settings.home, watched)
    if prometheus is not None:
        from serving.monitoring.prometheus import write_textfile

        write_textfile(prometheus, watched, settings.now().timestamp())
    _into_mlflow(settings, watched, seen)
    hand_over(document, out, "monitor", wanted, as_json=as_json)
    return CROSSED if crossed(watched.lines) else 0


def made(settings: Settings, since: str = "7d") -> tuple[Watched, Seen]:
    """Everything that the log has received goes to the lake first."""
    from features.log_export import export
    from features.sqlite_log import SqliteLog
    from training.monitoring.thresholds import read_thresholds
    from training.monitoring.watch import judged, look, watched, window

    now, home = settings.now(), settings.home
    begin, held = window(since, now), read_thresholds(home)
    progress = _progress()
    with closing(Facts(home.facts_db)) as facts:
        if home.log_db.exists():
            with closing(SqliteLog(home.log_db)) as log:
                export(home, facts, log, now, progress)
        if not facts.lake_files("events"):
            raise NotTrainable("monitoring", "the lake holds no events: nothing was ingested or served yet")
        seen = look(home, facts, since=begin, until=now, levels=_levels(settings), progress=progress)
    return watched(seen, judged(seen, held, progress), now), seen


def _levels(settings: Settings) -> list[tuple[str, object]]:
    """What offers with inventory or a budget have used; nothing where nothing was ever decided."""
    if not settings.home.contacts_db.exists():
        return []
    from zoneinfo import ZoneInfo

    from serving.state.sqlite_contacts import SqliteContacts

    zone = ZoneInfo(settings.time_zone)
    with closing(SqliteContacts(settings.home.contacts_db, settings.clock(), time_zone=zone)) as contacts:
        return list(contacts.stock(to_us(settings.now())).levels.items())


def _into_mlflow(settings: Settings, watched: Watched, seen: Seen) -> None:
    from experiments.report.render import as_files
    from serving.monitoring.document import document_of
    from training.tracking import log_report, tracking

    metrics = {f"{line.check}.{line.of}" if line.of else line.check: line.figure for line in watched.lines}
    kept = {name.replace("/", "-"): figure for name, figure in metrics.items() if figure is not None}
    kept["crossed"] = float(len(crossed(watched.lines)))
    with tracking(settings.home) as client:
        tags = {"kind": "monitor", "release": watched.release or "", "since": watched.since.isoformat()}
        log_report(client, "monitor", tags, kept, as_files(document_of(watched, seen), "monitor"))


def _progress() -> Callable[[str], None]:
    started, on_terminal = time.monotonic(), sys.stderr.isatty()

    def progress(step: str) -> None:
        if on_terminal:
            print(f"\r\x1b[K{time.monotonic() - started:6.1f} s  {step}", end="", file=sys.stderr, flush=True)

    return progress
