"""What was seen last, in one file of NBO_HOME that the admin port and `nbo train --if-needed` read."""

from __future__ import annotations

import os
from datetime import datetime

import msgspec

from features.home import Home
from training.monitoring.line import Line

FILE = "monitor.json"


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the log."""

    at: datetime
    since: datetime
    until: datetime
    release: str | None  # the champion
    n_decisions: int
    n_outcomes: int
    lines: tuple[Line, ...]


def keep(home: Home, watched: Watched) -> None:
    """Whole or not at all."""
    path = home.root / FILE
    staged = path.with_suffix(f".{os.getpid()}.tmp")
    staged.write_bytes(msgspec.json.format(msgspec.json.encode(watched), indent=1))
    os.replace(staged, path)


def last_watched(home: Home) -> Watched | None:
    """None where nothing was watched, or what is there cannot be read."""
    try:
        return msgspec.json.decode((home.root / FILE).read_bytes(), type=Watched)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
