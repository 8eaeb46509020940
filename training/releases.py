"""Releases as folders: which one serves, who made it so, when and why, and the way back to the one before.

MLflow has no part in it, so that going back takes no longer than reading the files. The pointer is what serves; the
history tells how it came to be there, and is mended from the pointer where a crash came between the two.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from features.errors import BrokenRelease, Conflict, NotFound, PromotionRefused, StoreUnavailable
from features.events import parse_time
from features.home import Home
from training.release_files import check_files, digest, json_bytes, read_pointer

CHALLENGER, CHAMPION, SHADOW = "challenger", "champion", "shadow"
HISTORY = "history.jsonl"
MENDED = "found in place: whoever put it there ended before it was written down"


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What going back did; `before` is the champion so far, the same where nothing changed."""

    release: str
    before: str


def roll_back(
    home: Home,
    to: str | None = None,
    *,
    reason: str | None = None,
    who: str = "unknown",
    now: datetime | None = None,
) -> RolledBack:
    """The champion before this one, or the former champion `to`, serves again.

    Its files are checked against the digest that was kept when it was promoted; are they gone or broken, they are
    exported from MLflow once more. `NotFound` where there is nobody to go back to, `PromotionRefused` for a
    release that was never champion: that is a promotion, and has gates. MLflow's aliases are not moved, so that nobody
    who is answered waits for them: `registry.follow_champion` does.
    """
    standing = champion_of(home)
    if standing is None:
        raise NotFound("release", CHAMPION)
    lines = [line for line in alias_history(home) if line["alias"] == CHAMPION]
    number = to if to is not None else _before(lines, standing)
    if number is None:
        raise NotFound("champion before release", standing)
    if number != standing and all(line["to"] != number for line in lines):
        raise PromotionRefused(
            f"release {number} was never champion, so there is no way back to it: `nbo models promote {number}`"
        )
    try:
        sha256 = _whole(home, number, lines)
    except BrokenRelease:
        from training.registry import exported_digest  # MLflow only where it is needed

        sha256 = exported_digest(home, number)
    with pointer_lock(home):
        if (current := champion_of(home)) != standing:
            raise Conflict(f"release {current} became champion meanwhile, in place of {standing}; nothing was changed")
        mend(home, now)
        point(home, CHAMPION, number, sha256)
        if number != standing:
            at = now or datetime.now(UTC)
            remember(home, standing, number, who, reason, at, kind="rollback", sha256=sha256)
    return RolledBack(number, standing)


def _before(lines: Sequence[Mapping[str, Any]], standing: str) -> str | None:
    """Whom the champion followed. Going back twice goes two steps back, and not to where one came from."""
    path: list[str] = []
    for line in lines:
        number = line["to"]
        if line.get("kind") == "rollback" and number in path:
            del path[len(path) - path[::-1].index(number) :]
        elif number is not None and path[-1:] != [number]:
            path.append(number)
    while path and path[-1] == standing:
        path.pop()
    return path[-1] if path else None


def _whole(home: Home, number: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """The digest of a release's manifest, once every file agrees with it. It loaded when it was exported."""
    kept = [line["sha256"] for line in lines if line["to"] == number and line.get("sha256")]
    folder = home.releases / number
    if not kept:  # from before digests were kept
        try:
            kept = [digest((folder / "manifest.json").read_bytes())]
        except OSError as error:
            raise BrokenRelease(f"{number}: {error}") from error
    check_files(folder, kept[-1])
    return str(kept[-1])


def champion_of(home: Home) -> str | None:
    """The release that serves; by the history where the pointer cannot be read, None before the first promotion."""
    try:
        pointer = read_pointer(home.releases)
    except BrokenRelease:
        lines = [line for line in alias_history(home) if line["alias"] == CHAMPION]
        return lines[-1]["to"] if lines else None
    return None if pointer is None else pointer.release


def champion_at(home: Home, moment: datetime) -> dict[str, Any] | None:
    """The line that made champion whoever was it at that moment; None before the first."""
    lines = [line for line in alias_history(home) if line["alias"] == CHAMPION]
    return next((line for line in reversed(lines) if parse_time(line["at"], "at") <= moment), None)


def alias_history(home: Home) -> list[dict[str, Any]]:
    """Each change of champion, shadow and challenger, oldest first. A line that a crash cut off is left out."""
    try:
        lines = (home.releases / HISTORY).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [line for line in map(_read, lines) if line is not None]


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def remember(
    home: Home,
    before: str | None,
    after: str | None,
    who: str,
    reason: str | None,
    at: datetime,
    *,
    alias: str = CHAMPION,
    kind: str = "promotion",
    forced: bool = False,
    sha256: str | None = None,
    gates: Sequence[Any] = (),
) -> None:
    """Add a line; the caller holds `pointer_lock`. `StoreUnavailable` where it cannot be written: `mend` will tell."""
    line: dict[str, Any] = {
        "at": at.isoformat(), "alias": alias, "kind": kind, "from": before, "to": after, "who": who, "why": reason,
        "forced": forced,
    }  # fmt: skip
    line |= {"sha256": sha256} if sha256 else {}
    line |= {"gates": gates} if gates else {}
    try:
        with (home.releases / HISTORY).open("ab+") as history:
            if history.tell():
                history.seek(-1, os.SEEK_END)
                if history.read(1) != b"\n":  # what a crash cut off stays a line of its own
                    history.write(b"\n")
            history.write(msgspec.json.encode(line) + b"\n")
            history.flush()
            os.fsync(history.fileno())
    except OSError as error:
        raise StoreUnavailable(f"{home.releases / HISTORY} cannot be written: {error.strerror}") from error


def user() -> str:
    """Whose hand it is, as the history keeps it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return "unknown"


def mend(home: Home, now: datetime | None = None) -> None:
    """Write down the champion that is in place and in no line; the caller holds `pointer_lock`."""
    try:
        pointer = read_pointer(home.releases)
    except BrokenRelease:
        return  # whoever holds the lock is about to write a good one
    lines = [line for line in alias_history(home) if line["alias"] == CHAMPION]
    known = lines[-1]["to"] if lines else None
    if pointer is None or pointer.release == known:
        return
    moved = datetime.fromtimestamp((home.releases / f"{CHAMPION}.json").stat().st_mtime, UTC)
    at = min(moved, now) if now is not None else moved
    remember(home, known, pointer.release, "unknown", MENDED, at, kind="found", sha256=pointer.sha256)


def point(home: Home, alias: str, number: str, sha256: str) -> None:
    """Move a pointer, whole or not at all; the caller holds `pointer_lock`."""
    path = home.releases / f"{alias}.json"
    staged = path.with_name(f"{path.name}.tmp")
    write_through(staged, json_bytes({"release": number, "sha256": sha256}))
    os.replace(staged, path)
    flush_folder(home.releases)


@contextmanager
def pointer_lock(home: Home) -> Iterator[None]:
    """Held for as long as pointers and history change, which is a moment."""
    with _lock(home, ".pointers.lock"):
        yield


@contextmanager
def export_lock(home: Home) -> Iterator[None]:
    """Held while the files of a release are written; nobody who only moves a pointer waits for it."""
    with _lock(home, ".lock"):
        yield


@contextmanager
def _lock(home: Home, name: str) -> Iterator[None]:
    home.releases.mkdir(parents=True, exist_ok=True)
    with (home.releases / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_through(path: Path, body: bytes) -> None:
    """On disk when this returns; `StoreUnavailable` where it cannot be, as on a full disk."""
    try:
        with path.open("wb") as handle:
            handle.write(body)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error


def flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
