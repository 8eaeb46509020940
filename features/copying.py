"""One lock between those who copy what we know of customers from store to store, and an erasure.

Without it a build that has read a customer could write them down again after the erasure has passed.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from features.errors import StoreUnavailable
from features.home import Home


@contextmanager
def copying(home: Home, wait_s: float = 600.0) -> Iterator[None]:
    """Many may copy at a time, but not while something is erased."""
    with _held(home, fcntl.LOCK_SH, wait_s, "an erasure"):
        yield


@contextmanager
def erasing(home: Home, wait_s: float = 60.0) -> Iterator[None]:
    """Nobody copies meanwhile; `StoreUnavailable` if a copy takes longer than `wait_s`."""
    with _held(home, fcntl.LOCK_EX, wait_s, "a build or materialization of features"):
        yield


@contextmanager
def _held(home: Home, mode: int, wait_s: float, other: str) -> Iterator[None]:
    home.root.mkdir(parents=True, exist_ok=True)
    with (home.root / ".copying.lock").open("w") as handle:
        give_up = time.monotonic() + wait_s
        while not _locked(handle.fileno(), mode):
            if time.monotonic() > give_up:
                raise StoreUnavailable(f"{other} on {home.root} has taken over {wait_s:.0f} s")
            time.sleep(0.02)
        yield


def _locked(handle: int, mode: int) -> bool:
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
