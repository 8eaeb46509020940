"""`nbo models report`: how a release ranks for the customers of the log, by one protocol."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from features.facts import Facts
from serving.settings import load_settings


def report(release: str, *, against: str, out: Path | None, as_json: bool) -> int:
    """Prints Markdown or JSON, or writes both and the pictures into the folder `out`. Exit code 0.

    `NotFound` if there is no such release, or nobody to judge by.
    """
    from training.release_report import report_release

    settings = load_settings()
    with closing(Facts(settings.home.facts_db)) as facts:
        found = report_release(settings.home, facts, release, against=against, as_of=settings.now())
    if out is not None:
        for path in found.write(out):
            print(path, file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(found.json().decode())
    elif out is None:
        print(found.markdown)
    return 0
