"""Erasing a customer: from every store, for good, with a receipt that names each place.

The id is buried first, so that whatever is still on its way is refused; then store after store is cleared, and who the
anonymous ids belonged to is forgotten last. Each step may be done again: after a failure, asking once more finishes it.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from features.copying import erasing, writer_lock
from features.errors import StoreUnavailable
from features.facts import Facts
from features.home import Home
from features.log import ErasedRows
from features.online import PROJECT, SNAPSHOT, VIEWS, entity_key, read_snapshot
from features.packed import PACKED

ERASURES = "erasures"  # key in facts.db: how many there were; another number means that caches are to be dropped
FILES = ("lake_events", "lake_decisions", "lake_exposures", "lake_refused", "features")  # places that are Parquet
FILES_WITHIN_S = 900.0


class Place(NamedTuple):
    """What one place held, and no longer does."""

    place: str
    erased: int
    note: str = ""


class ErasableLog(Protocol):
    """What is asked of a log here; see `features.log.Log`."""

    def erase(self, customer_ids: Sequence[str]) -> ErasedRows: ...


def begin(facts: Facts, customer_id: str, now: datetime) -> tuple[str, ...]:
    """All keys of this customer, the anonymous ones too. From now on nothing of them is taken in or joined."""
    with facts.transaction():
        keys = (customer_id, *facts.aliases_of(customer_id))
        facts.bury(keys, now)
        facts.set_meta(ERASURES, str(erasures(facts) + 1))
    return keys


def erasures(facts: Facts) -> int:
    """How many there were; it grows when one begins and when it ends."""
    return int(facts.meta(ERASURES) or 0)


def erase_stores(home: Home, facts: Facts, log: ErasableLog, keys: Sequence[str]) -> list[Place]:
    """Out of everything but who was joined to whom; `StoreUnavailable` if one of the stores could not be had.

    In the order in which data flow, so that nothing is copied on from a store that is still to come.
    """
    from_log = log.erase(keys)
    profiles = erase_profiles(facts, keys)
    files = _erase_files(home, facts, keys)
    online = erase_online(home, facts, keys)
    return [
        Place("events", from_log.events),
        Place("decisions", from_log.decisions),
        Place("exposures", from_log.exposures),
        Place("tail", from_log.tail),
        *(Place(place, n + profiles.get(place, 0)) for place, n in files.items()),
        Place("online_store", online),
    ]


def erase_profiles(facts: Facts, keys: Sequence[str]) -> dict[str, int]:
    """How many rows there were, by place."""
    return {
        "profile": _removed(facts, keys),
        "profile_history": _deleted(facts, "profile_history", keys),
    }


def _removed(facts: Facts, keys: Sequence[str]) -> int:
    with facts.transaction() as db:
        db.execute("PRAGMA secure_delete = ON")
        return facts.remove_profiles(keys)


def finish(facts: Facts, keys: Sequence[str]) -> list[Place]:
    """At last, who was joined to whom."""
    n_identities = _deleted(facts, "identities", keys)
    facts.set_meta(ERASURES, str(erasures(facts) + 1))
    return [Place("identities", n_identities)]


def _deleted(facts: Facts, table: str, keys: Sequence[str]) -> int:
    marks = ", ".join("?" * len(keys))
    with facts.transaction() as db:
        db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, not only forgotten
        return db.execute(f"DELETE FROM {table} WHERE customer_id IN ({marks})", keys).rowcount


def flush_journals(home: Home) -> None:
    """What SQLite's journals still hold of what was deleted goes too; one that is in use goes with its next flush."""
    for path in sorted(home.root.glob("*.db")):
        with closing(sqlite3.connect(path, timeout=2.0)) as db, suppress(sqlite3.OperationalError):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def erase_online(home: Home, facts: Facts, keys: Sequence[str]) -> int:
    """How many customers were taken out of the online stores. Readers open theirs anew, as after a materialization."""
    entities = [(entity_key("customer_id", key),) for key in keys]
    found = 0
    for path in sorted(home.feast.glob("online-*.db")):
        with closing(sqlite3.connect(path, timeout=10.0, isolation_level=None)) as db:
            found += _erase_entities(db, entities)
    if found:
        with facts.transaction():
            snapshot = read_snapshot(facts)
            if snapshot is not None:
                again = msgspec.structs.replace(snapshot, erasures=snapshot.erasures + 1)
                facts.set_meta(SNAPSHOT, msgspec.json.encode(again).decode())
    return found


def _erase_entities(db: sqlite3.Connection, entities: Sequence[tuple[bytes]]) -> int:
    """How many of these entities one online file held."""
    tables = [PACKED, *(f"{PROJECT}_{VIEWS[view]}" for view in VIEWS if view != "offer")]
    present = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    held: set[bytes] = set()
    try:
        db.execute("PRAGMA secure_delete = ON")
        db.execute("BEGIN IMMEDIATE")
        for table in present.intersection(tables):
            for (key,) in entities:
                if db.execute(f'DELETE FROM "{table}" WHERE entity_key = ?', (key,)).rowcount:
                    held.add(key)
        db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"the online store did not answer: {error}") from error
    return len(held)


def _erase_files(home: Home, facts: Facts, keys: Sequence[str]) -> dict[str, int]:
    """Runs `features.erase_files` beside us, if there are files: who answers decisions loads no Parquet library."""
    with erasing(home), writer_lock(home):  # nobody is about to write one
        if not any(path for folder in (home.lake, home.features) for path in folder.rglob("*.parquet")):
            return dict.fromkeys(FILES, 0) | erase_profiles(facts, keys)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "features.erase_files", str(home.root)],
            input=msgspec.json.encode(list(keys)),
            capture_output=True,
            timeout=FILES_WITHIN_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise StoreUnavailable(f"the files were not rewritten: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable(f"the files were not rewritten within {FILES_WITHIN_S:.0f} s") from error
    return msgspec.json.decode(done.stdout, type=dict[str, int])
