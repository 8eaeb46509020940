"""Locks between processes: one writer of the lake at a time, and nobody who copies customers on while one is erased.

Without the second a build that has read a customer could write them down again after the erasure has passed. The kernel
lets go of a lock when its holder dies.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import StoreUnavailable
from features.home import Home

LOCK = ".copying.lock"


@contextmanager
def copying(home: Home, wait_s: float = 600.0) -> Iterator[None]:
    """Many may copy at a time, but not while something is erased."""
    with _held(home.root / LOCK, fcntl.LOCK_SH, wait_s, f"an erasure on {home.root}"):
        yield


@contextmanager
def erasing(home: Home, wait_s: float = 60.0) -> Iterator[None]:
    """Nobody copies meanwhile; `StoreUnavailable` if a copy takes longer than `wait_s`."""
    with _held(home.root / LOCK, fcntl.LOCK_EX, wait_s, f"a build or materialization of features on {home.root}"):
        yield


@contextmanager
def writer_lock(home: Home, wait_s: float = 60.0) -> Iterator[None]:
    """One writer of the lake at a time, over all processes."""
    with _held(home.lake / ".lock", fcntl.LOCK_EX, wait_s, f"another writer of {home.lake}"):
        yield


@contextmanager
def _held(path: Path, mode: int, wait_s: float, other: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        give_up = time.monotonic() + wait_s
        while not _locked(handle.fileno(), mode):
            if time.monotonic() > give_up:
                raise StoreUnavailable(f"{other} has held it for over {wait_s:.0f} s")
            time.sleep(0.02)
        yield


def _locked(handle: int, mode: int) -> bool:
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
