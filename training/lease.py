"""One holder at a time, across processes and hosts that share a folder: a file with a heartbeat.

Who holds it touches the file every few seconds; who finds it untouched for longer, or its process gone, takes it over.
Ages are read from the clock of the file system, so that hosts whose clocks disagree agree on them. The moment of taking
is guarded by `flock`, which the file system has to pass on between hosts, as NFS 4 does.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

BEAT_S, STALE_S = 5.0, 60.0


class Holder(msgspec.Struct, frozen=True):
    """Who holds it."""

    token: str
    host: str
    pid: int
    since: str  # RFC 3339
    place: str = ""  # where the process id means something: host and process namespace
    began: str = ""  # when the process began, in the kernel's ticks; process ids are used again


class Lease:
    """Held until `release`. `lost` once somebody took it over, as from a machine that was asleep."""

    def __init__(self, path: Path, holder: Holder, before: Holder | None, beat_s: float) -> None:
        self.path, self.holder = path, holder
        self.taken_from = before  # who ended without letting go
        self.lost = False
        self._beat_s, self._end = beat_s, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._end.wait(self._beat_s):
            with suppress(OSError), _guarded(self.path):
                if self._is_ours():
                    os.utime(self.path)
                else:
                    self.lost = True
                    return

    def _is_ours(self) -> bool:
        held = _read(self.path)
        return held is not None and held.token == self.holder.token

    def release(self) -> None:
        self._end.set()
        self._thread.join()
        with _guarded(self.path):
            if self._is_ours():
                self.path.unlink()


def take(path: Path, *, beat_s: float = BEAT_S, stale_s: float = STALE_S) -> Lease | Holder:
    """The lease, or who holds it. `stale_s` must be the same for all who ask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _guarded(path) as now_s:
        held = _read(path)
        if held is not None and not _is_gone(held) and now_s - path.stat().st_mtime <= stale_s:
            return held
        holder = _ourselves()
        staged = path.with_name(f"{path.name}.tmp")
        staged.write_bytes(msgspec.json.encode(holder))
        os.replace(staged, path)
    return Lease(path, holder, held, beat_s)


@contextmanager
def _guarded(path: Path) -> Iterator[float]:
    """Alone with the file; gives now, by the clock of the file system."""
    with path.with_name(f"{path.name}.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        os.utime(guard.fileno())
        yield os.fstat(guard.fileno()).st_mtime


def _read(path: Path) -> Holder | None:
    """None where nobody holds it; what cannot be read was left by a full disk, as it is put in place whole."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _ourselves() -> Holder:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Holder(secrets.token_hex(8), socket.gethostname(), os.getpid(), now, _place(), _began(os.getpid()))


def _is_gone(holder: Holder) -> bool:
    """Whether its process has ended, as far as can be told from here."""
    if not holder.place or holder.place != _place():
        return False
    return _began(holder.pid) != holder.began


def _place() -> str:
    """Empty where processes cannot be looked up."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Empty if there is no such process, or it has ended and nobody has noticed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
