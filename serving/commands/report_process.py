"""The process that computes a report for the service; see `serving/report_aside.py`.

Arguments: NBO_HOME, the experiment's id, the time it is of, a folder to write to, and segments.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from features.errors import BadInput
from features.home import Home
from serving.report_aside import BUSY, LONGEST_S, WRONG

LOWEST = 19


def main(arguments: Sequence[str]) -> int:
    """Writes `report.json` and `report.html`; the exit code."""
    root, experiment_id, at, folder, *segments = arguments
    yield_to_others()
    signal.alarm(int(LONGEST_S))  # nobody waits any longer, not even for a process whose parent has gone
    home = Home(Path(root))
    with (home.root / ".report.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return BUSY
        return _write(home, experiment_id, datetime.fromisoformat(at), segments, Path(folder))


def yield_to_others() -> None:
    """The lowest priority, in a scheduling group of its own: Linux gives each session a share of the processor
    (autogroup), and in that of the service this process would use up what the service is due.
    """
    os.nice(LOWEST)
    group = Path("/proc/self/autogroup")
    if os.getsid(0) == os.getpid() and group.exists():
        group.write_text(str(LOWEST))


def _write(home: Home, experiment_id: str, at: datetime, segments: Sequence[str], folder: Path) -> int:
    from experiments.report.experiment_report import document_of
    from experiments.report.render import render
    from serving.commands.experiment_report import made

    try:
        document = document_of(made(home, experiment_id, at, segments, n_threads=1))
    except BadInput as wrong:
        print(json.dumps({"detail": wrong.detail, "field": wrong.field}), file=sys.stderr)
        return WRONG
    (folder / "report.json").write_bytes(render(document, "json"))
    (folder / "report.html").write_bytes(render(document, "html"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
