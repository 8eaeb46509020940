"""What we know now, in one SQLite file: catalogue, customers, the lake's file list, settings of the data.

One file on purpose: an ingest that brings offers, customers and events becomes visible in one commit.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from features.catalogue import ContactPolicy, Lever, Offer, Placement
from features.data_settings import DataSettings
from features.definitions.dsl import AttributeKind
from features.definitions.profile import common_kind, kinds_moved
from features.errors import BadInput, Erased, NotFound, StaleVersion
from features.events import from_us, is_anonymous, to_us
from features.facts_upgrade import upgrade
from features.fingerprint import fingerprint
from features.profile import CATEGORY, Profile, Word, with_words, words_now

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL, updated_us INTEGER NOT NULL,
    PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS object_history (
    version INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT, changed_us INTEGER NOT NULL,
    PRIMARY KEY (version, kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS history_of ON object_history (kind, id, version);
CREATE TABLE IF NOT EXISTS object_authors (version INTEGER PRIMARY KEY, changed_by TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS profiles (
    customer_id TEXT PRIMARY KEY, attributes TEXT NOT NULL, consent TEXT NOT NULL, time_zone TEXT,
    updated_us INTEGER NOT NULL, less_like TEXT NOT NULL DEFAULT '[]', said_us TEXT NOT NULL DEFAULT '{}'
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS profile_history (
    customer_id TEXT NOT NULL, valid_from_us INTEGER NOT NULL, attributes TEXT NOT NULL,
    PRIMARY KEY (customer_id, valid_from_us)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attribute_kinds (
    name TEXT NOT NULL, kind TEXT NOT NULL, n INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (name, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identities (
    alias TEXT PRIMARY KEY, customer_id TEXT NOT NULL, joined_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS identities_by_customer ON identities (customer_id, joined_us, alias);
CREATE TABLE IF NOT EXISTS tombstones (hash BLOB PRIMARY KEY, erased_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lake_files (
    dataset TEXT NOT NULL, path TEXT PRIMARY KEY, day TEXT NOT NULL, n_rows INTEGER NOT NULL,
    sha256 TEXT NOT NULL, batch TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lake_by_day ON lake_files (dataset, day);
"""
PEPPER = "tombstone_pepper"  # key in meta: makes the hashes of erased ids useless elsewhere
MOST_KEYS = 256  # attributes, or answers of consent, of one customer
MOST_NAMES = 2_000  # attributes of all customers together that rules may name
ALWAYS_US = 0  # an attribute without a date was known from the beginning

T = TypeVar("T", bound=Offer | Placement | ContactPolicy | Lever)
_KINDS: dict[type, tuple[str, str]] = {
    Offer: ("offer", "offer_id"),
    Placement: ("placement", "placement_id"),
    ContactPolicy: ("contact_policy", "policy_id"),
    Lever: ("lever", "lever_id"),
}


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """One catalogue object as stored. `version` is the catalogue version that brought it."""

    body: T
    version: int
    updated_at: datetime
    created: bool = False
    changed: bool = True

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One change of a catalogue object: what it became, when, and by whom. `body` is None where it was removed."""

    version: int
    at: datetime
    by: str | None  # None: nobody said
    body: T | None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything at one version, each ordered by id; archived offers included."""

    version: int
    offers: tuple[Offer, ...]
    placements: tuple[Placement, ...]
    contact_policies: tuple[ContactPolicy, ...] = ()
    levers: tuple[Lever, ...] = ()


class LakeFile(NamedTuple):
    """One Parquet file that counts; `path` is relative to the lake."""

    dataset: str
    path: str
    day: str
    n_rows: int
    sha256: str
    batch: str


@lru_cache(maxsize=128)
def marks(n: int) -> str:
    """Places for `n` values in a statement; as few statements as there are lengths, so that they stay prepared."""
    return ", ".join("?" * n)


class Facts:
    """An open facts.db. Safe to share between threads of one process; open one per process."""

    def __init__(self, path: Path, wait_s: float = 30.0) -> None:
        """`wait_s` is how long a write waits for another process's."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._depth = 0
        self._catalogue = Catalogue(0, (), ())  # as last read
        self._db = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if self.meta("schema") != SCHEMA:
            with self.transaction():
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                upgrade(self._db)
                self._count_attributes_of_old()
                self.set_meta("schema", SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; nested ones join the outer."""
        with self._lock:
            if self._depth == 0:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._db
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("COMMIT")

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    # Settings of the data and other single values

    def meta(self, key: str) -> str | None:
        try:
            rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
        return rows[0][0] if rows else None

    def set_meta(self, key: str, value: str) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def data_settings(self) -> DataSettings:
        text = self.meta("data_settings")
        return msgspec.json.decode(text, type=DataSettings) if text else DataSettings()

    def set_data_settings(self, settings: DataSettings) -> None:
        self.set_meta("data_settings", msgspec.json.encode(settings).decode())

    # Catalogue

    def catalogue_version(self) -> int:
        """Grows with every change of an object; 0 when there was none."""
        return int(self.meta("catalogue_version") or 0)

    def put(self, item: T, now: datetime, if_match: str | None = None, by: str | None = None) -> Stored[T]:
        """Replace one object whole. The same body again changes nothing, not even the version."""
        kind, key = _KINDS[type(item)]
        name = getattr(item, key)
        with self.transaction() as db:
            old = self._find(type(item), name)
            _check_match(old, if_match)
            if old is not None and old.body == item:
                return Stored(old.body, old.version, old.updated_at, created=False, changed=False)
            version = self._next_version(by)
            body = msgspec.json.encode(item).decode()
            db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (kind, name, version, body, to_us(now)))
            db.execute("INSERT INTO object_history VALUES (?, ?, ?, ?, ?)", (version, kind, name, body, to_us(now)))
            return Stored(item, version, now, created=old is None)

    def get(self, of: type[T], name: str) -> Stored[T]:
        found = self._find(of, name)
        if found is None:
            raise NotFound(_KINDS[of][0], name)
        return found

    def objects(self, of: type[T], limit: int, after: str = "") -> list[Stored[T]]:
        """Ordered by id, those behind `after`."""
        rows = self._rows(
            "SELECT body, version, updated_us FROM objects WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
            (_KINDS[of][0], after, limit),
        )
        return [_stored(of, *row) for row in rows]

    def removed(self, of: type[T], limit: int, after: str = "") -> list[Stored[T]]:
        """Those that were removed and did not come back, each as it last was; ordered by id, those behind `after`."""
        kind = _KINDS[of][0]
        rows = self._rows(
            "SELECT body, version, changed_us FROM object_history AS h WHERE kind = ? AND id > ? AND version = (SELECT "
            "max(version) FROM object_history WHERE kind = h.kind AND id = h.id AND body IS NOT NULL) AND NOT EXISTS "
            "(SELECT 1 FROM objects AS o WHERE o.kind = h.kind AND o.id = h.id) ORDER BY id LIMIT ?",
            (kind, after, limit),
        )
        return [_stored(of, *row) for row in rows]

    def remove(self, of: type[T], name: str, now: datetime, if_match: str | None = None, by: str | None = None) -> None:
        """Delete an object; its history stays. Offers are archived by `put`, not removed."""
        kind = _KINDS[of][0]
        with self.transaction() as db:
            _check_match(self.get(of, name), if_match)
            db.execute("DELETE FROM objects WHERE kind = ? AND id = ?", (kind, name))
            db.execute(
                "INSERT INTO object_history VALUES (?, ?, ?, NULL, ?)", (self._next_version(by), kind, name, to_us(now))
            )

    def catalogue(self) -> Catalogue:
        """As it stands. What did not change since the last call is not read again."""
        with self._lock:
            while True:
                before, version = self._catalogue, self.catalogue_version()
                if version == before.version:
                    return before
                if not 0 < before.version < version:  # nothing was read yet, or the file was put back
                    found = _catalogue(version, self._rows("SELECT kind, body FROM objects ORDER BY kind, id"))
                else:
                    changed = "SELECT kind, id, body FROM object_history WHERE version > ? ORDER BY version"
                    found = _changed(before, version, self._rows(changed, (before.version,)))
                if self.catalogue_version() == version:  # else another process changed it in between
                    break
            if self._depth == 0:  # what a transaction did may yet be undone
                self._catalogue = found
            return found

    def catalogue_at(self, version: int) -> Catalogue:
        """The catalogue as it stood at `version`, for replay."""
        rows = self._rows(
            "SELECT kind, id, body FROM object_history AS h WHERE version = (SELECT max(version) FROM object_history "
            "WHERE kind = h.kind AND id = h.id AND version <= ?) AND body IS NOT NULL ORDER BY kind, id",
            (version,),
        )
        return _catalogue(version, [(kind, body) for kind, _, body in rows])

    def changes(self, of: type[T], name: str, limit: int = 50) -> list[Change[T]]:
        """Every change of one object, the newest first; those before a removal too."""
        rows = self._rows(
            "SELECT version, changed_us, changed_by, body FROM object_history LEFT JOIN object_authors USING (version) "
            "WHERE kind = ? AND id = ? ORDER BY version DESC LIMIT ?",
            (_KINDS[of][0], name, limit),
        )
        return [
            Change(version, from_us(at_us), by, None if body is None else msgspec.json.decode(body, type=of))
            for version, at_us, by, body in rows
        ]

    def _find(self, of: type[T], name: str) -> Stored[T] | None:
        rows = self._rows(
            "SELECT body, version, updated_us FROM objects WHERE kind = ? AND id = ?", (_KINDS[of][0], name)
        )
        return _stored(of, *rows[0]) if rows else None

    def _next_version(self, by: str | None) -> int:
        version = self.catalogue_version() + 1
        self.set_meta("catalogue_version", str(version))
        if by is not None:
            self._db.execute("INSERT INTO object_authors VALUES (?, ?)", (version, by))
        return version

    # Customers

    def profile(self, customer_id: str) -> Profile | None:
        return self.profiles_of([customer_id]).get(customer_id)

    def profiles_of(self, keys: Sequence[str]) -> dict[str, Profile]:
        """The profiles of those who have one, by their keys."""
        rows = self._rows(
            "SELECT customer_id, attributes, consent, time_zone, updated_us, less_like, said_us FROM profiles "
            f"WHERE customer_id IN ({marks(len(keys))})",
            keys,
        )
        return {row[0]: _profile(*row) for row in rows}

    def merge_profile(
        self,
        customer_id: str,
        now: datetime,
        attributes: Mapping[str, Any] | None = None,
        consent: Mapping[str, bool | None] | None = None,
        time_zone: str | None = None,
    ) -> Profile:
        """Merge into what is known; a value of None removes its key, and a `time_zone` of "" the time zone.

        What is said of consent is said now.
        """
        with self.transaction():
            old = self.profile(customer_id) or Profile(customer_id=customer_id)
            new = msgspec.structs.replace(
                with_words(old, words_now(old, consent or {}, now)),
                attributes=_merged(old.attributes, attributes or {}),
                time_zone=old.time_zone if time_zone is None else time_zone or None,
            )
            return self.put_profile(new, now)

    def say(self, customer_id: str, words: Sequence[Word], now: datetime) -> None:
        """What a customer said of consent, each word at its time; a newer one stands. `Erased` for who was."""
        with self.transaction():
            old = self.profile(customer_id) or Profile(customer_id=customer_id)
            new = with_words(old, words)
            if new != old:  # what was known already writes nothing
                self.put_profile(new, now)

    def put_profile(self, profile: Profile, now: datetime) -> Profile:
        """Replace what is known; attributes that changed count from now on. `Erased` for who was."""
        _check_size(profile)
        new = msgspec.structs.replace(profile, updated_at=now)
        with self.transaction() as db:
            if self.is_erased(new.customer_id):
                raise Erased
            old = self.profile(new.customer_id)
            self._write_profile(db, new)
            if old is None or new.attributes != old.attributes:
                row = (new.customer_id, to_us(now), msgspec.json.encode(new.attributes).decode())
                db.execute("INSERT OR REPLACE INTO profile_history VALUES (?, ?, ?)", row)
                self._count_attributes(kinds_moved(old.attributes if old is not None else {}, new.attributes))
        return new

    def merge_profiles(
        self,
        rows: Iterable[tuple[str, Mapping[str, Any], int | None]],
        now: datetime,
        on_progress: Callable[[int], None] | None = None,
    ) -> int:
        """Bulk form of `merge_profile`; returns how many rows changed something.

        A row is (customer_id, attributes, valid_from_us), the last None for "always", or, if the customer was known
        before, "from now on".
        """
        n_changed = 0
        moved: Counter[tuple[str, AttributeKind]] = Counter()
        with self.transaction() as db:
            for n, (customer_id, attributes, valid_from_us) in enumerate(rows, start=1):
                old = self.profile(customer_id) or Profile(customer_id=customer_id)
                new = msgspec.structs.replace(old, attributes=_merged(old.attributes, attributes), updated_at=now)
                if old.updated_at is None or new.attributes != old.attributes:
                    n_changed += 1
                    self._write_profile(db, new)
                    moved.update(kinds_moved(old.attributes, new.attributes))
                    unsaid = ALWAYS_US if old.updated_at is None else to_us(now)
                    since = unsaid if valid_from_us is None else valid_from_us
                    body = msgspec.json.encode(new.attributes).decode()
                    db.execute("INSERT OR REPLACE INTO profile_history VALUES (?, ?, ?)", (customer_id, since, body))
                if on_progress is not None and n % 10_000 == 0:
                    on_progress(n)
            self._count_attributes(moved)
        return n_changed

    def attribute_kinds(self) -> dict[str, AttributeKind]:
        """The kind of each attribute that any customer ever had, so that a rule may name it: that of most customers."""
        seen: dict[str, dict[AttributeKind, int]] = {}
        for name, kind, n in self._rows("SELECT name, kind, n FROM attribute_kinds"):
            seen.setdefault(name, {})[kind] = n
        return {name: common_kind(counts) for name, counts in seen.items()}

    def remove_profiles(self, customer_ids: Sequence[str]) -> int:
        """How many there were; their history stays."""
        with self.transaction() as db:
            for profile in self.profiles_of(customer_ids).values():
                self._count_attributes(kinds_moved(profile.attributes, {}))
            where = f"customer_id IN ({marks(len(customer_ids))})"
            return db.execute(f"DELETE FROM profiles WHERE {where}", customer_ids).rowcount

    def _count_attributes(self, moved: Mapping[tuple[str, AttributeKind], int]) -> None:
        """Within a transaction: how many customers more, or fewer, have an attribute of a kind."""
        for (name, kind), n in moved.items():
            known = self._db.execute(
                "UPDATE attribute_kinds SET n = n + ? WHERE name = ? AND kind = ?", (n, name, kind)
            )
            if not known.rowcount:
                self._db.execute(
                    "INSERT INTO attribute_kinds SELECT ?, ?, ? WHERE (SELECT count(*) FROM attribute_kinds) < ?",
                    (name, kind, max(n, 0), MOST_NAMES),
                )

    def _count_attributes_of_old(self) -> None:
        """For a file from before there were counts."""
        if self._rows("SELECT 1 FROM attribute_kinds WHERE n > 0 LIMIT 1"):
            return
        moved: Counter[tuple[str, AttributeKind]] = Counter()
        for (attributes,) in self._db.execute("SELECT attributes FROM profiles"):
            moved.update(kinds_moved({}, msgspec.json.decode(attributes)))
        self._count_attributes(moved)

    def profile_history(self) -> Iterator[tuple[str, int, str]]:
        """(customer_id, valid_from_us, attributes as JSON), by customer and time."""
        with self._lock:
            yield from self._db.execute(
                "SELECT customer_id, valid_from_us, attributes FROM profile_history ORDER BY customer_id, valid_from_us"
            )

    @staticmethod
    def _write_profile(db: sqlite3.Connection, profile: Profile) -> None:
        db.execute(
            "INSERT OR REPLACE INTO profiles (customer_id, attributes, consent, time_zone, updated_us, less_like, "
            "said_us) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                profile.customer_id,
                msgspec.json.encode(profile.attributes).decode(),
                msgspec.json.encode(profile.consent).decode(),
                profile.time_zone,
                to_us(profile.updated_at) if profile.updated_at else 0,
                msgspec.json.encode(profile.less_like).decode(),
                msgspec.json.encode(profile.said_us).decode(),
            ),
        )

    # Who is who, and who is no more; written by `features/identities.py` and `features/erasure.py`

    def identity_of(self, key: str) -> str:
        """The key under which this visitor's facts are kept: the customer's whom an anonymous visitor turned out to be,
        else the given one.
        """
        if not is_anonymous(key):
            return key
        rows = self._rows("SELECT customer_id FROM identities WHERE alias = ?", (key,))
        return rows[0][0] if rows else key

    def identities_of(self, keys: Iterable[str]) -> dict[str, str]:
        """`identity_of` for many at once."""
        found = {key: key for key in keys}
        asked = msgspec.json.encode([key for key in found if is_anonymous(key)]).decode()
        if asked != "[]":
            one = "SELECT alias, customer_id FROM identities WHERE alias IN (SELECT value FROM json_each(?))"
            found.update(self._rows(one, (asked,)))
        return found

    def aliases_of(self, customer_id: str) -> tuple[str, ...]:
        """The keys of the anonymous visitors whom this customer turned out to be, the first joined first."""
        return self.aliases_of_all([customer_id]).get(customer_id, ())

    def aliases_of_all(self, keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """`aliases_of` for many at once; only those who have some."""
        rows = self._rows(
            f"SELECT customer_id, alias FROM identities WHERE customer_id IN ({marks(len(keys))}) "
            "ORDER BY joined_us, alias",
            keys,
        )
        found: dict[str, tuple[str, ...]] = {}
        for customer_id, alias in rows:
            found[customer_id] = (*found.get(customer_id, ()), alias)
        return found

    def identities(self) -> dict[str, list[tuple[str, int]]]:
        """By customer: the keys of the joined visitors, and since when each is known to be the customer (µs)."""
        found: dict[str, list[tuple[str, int]]] = {}
        for customer_id, *joined in self._rows(
            "SELECT customer_id, alias, joined_us FROM identities ORDER BY customer_id, joined_us, alias"
        ):
            found.setdefault(customer_id, []).append((joined[0], joined[1]))
        return found

    @property
    def any_erased(self) -> bool:
        return bool(self._rows("SELECT 1 FROM tombstones LIMIT 1"))

    def is_erased(self, key: str) -> bool:
        """Whether this visitor was erased: nothing may be kept of them any more."""
        return bool(self.erased_among([key]))

    def erased_among(self, keys: Iterable[str]) -> set[str]:
        """Those of these visitors who were erased."""
        if not self.any_erased:
            return set()
        pepper = self._pepper()
        one = "SELECT 1 FROM tombstones WHERE hash = ?"
        return {key for key in keys if self._rows(one, (fingerprint(pepper, key),))}

    def bury(self, keys: Iterable[str], now: datetime) -> None:
        """From now on these visitors count as erased, for good."""
        with self.transaction() as db:
            if self.meta(PEPPER) is None:
                self.set_meta(PEPPER, secrets.token_hex(32))
            rows = [(fingerprint(self._pepper(), key), to_us(now)) for key in keys]
            db.executemany("INSERT OR IGNORE INTO tombstones VALUES (?, ?)", rows)

    def _pepper(self) -> bytes:
        return bytes.fromhex(self.meta(PEPPER) or "")

    # The lake's file list

    def lake_files(self, dataset: str) -> list[LakeFile]:
        """The Parquet files that count, ordered by day and path."""
        rows = self._rows("SELECT * FROM lake_files WHERE dataset = ? ORDER BY day, path", (dataset,))
        return [LakeFile(*row) for row in rows]

    def add_lake_files(self, files: Iterable[LakeFile]) -> None:
        with self.transaction() as db:
            db.executemany("INSERT INTO lake_files VALUES (?, ?, ?, ?, ?, ?)", list(files))

    def replace_lake_files(self, gone: Iterable[str], files: Iterable[LakeFile]) -> None:
        """The files at these paths no longer count, others do instead."""
        with self.transaction() as db:
            db.executemany("DELETE FROM lake_files WHERE path = ?", [(path,) for path in gone])
            self.add_lake_files(files)


def _check_match(old: Stored[Any] | None, if_match: str | None) -> None:
    if if_match is None:
        return
    current = old.etag if old is not None else None
    given = [tag.strip().removeprefix("W/") for tag in if_match.split(",")]
    if current is None or (current not in given and "*" not in given):
        raise StaleVersion(if_match, current)


def _catalogue(version: int, rows: Iterable[tuple[str, str]]) -> Catalogue:
    found: dict[type, list[Any]] = {of: [] for of in _KINDS}
    types = {kind: of for of, (kind, _) in _KINDS.items()}
    for kind, body in rows:
        found[types[kind]].append(msgspec.json.decode(body, type=types[kind]))
    return Catalogue(version, *(tuple(found[of]) for of in (Offer, Placement, ContactPolicy, Lever)))


def _changed(before: Catalogue, version: int, rows: Iterable[tuple[str, str, str | None]]) -> Catalogue:
    """The catalogue after these changes, the last of each object counts; a body of None removes."""
    last: dict[type, dict[str, Any]] = {}
    types = {kind: of for of, (kind, _) in _KINDS.items()}
    for kind, name, body in rows:
        last.setdefault(types[kind], {})[name] = body
    kept: dict[type, tuple[Any, ...]] = {
        Offer: before.offers,
        Placement: before.placements,
        ContactPolicy: before.contact_policies,
        Lever: before.levers,
    }
    for of, bodies in last.items():
        objects = {getattr(one, _KINDS[of][1]): one for one in kept[of] if getattr(one, _KINDS[of][1]) not in bodies}
        objects |= {name: msgspec.json.decode(body, type=of) for name, body in bodies.items() if body is not None}
        kept[of] = tuple(objects[name] for name in sorted(objects))
    return Catalogue(version, kept[Offer], kept[Placement], kept[ContactPolicy], kept[Lever])


def _check_size(profile: Profile) -> None:
    """`BadInput` if there is more than is kept: every decision reads it."""
    n_muted = sum(key.startswith(CATEGORY) for key in profile.consent)
    for name, kind, n in (
        ("attributes", "attributes", len(profile.attributes)),
        ("consent", "consent", len(profile.consent) - n_muted),
        ("consent", "consent of categories", n_muted),
        ("less_like", "less_like", len(profile.less_like)),
    ):
        if n > MOST_KEYS:
            raise BadInput(f"{kind} would have {n:,} entries, at most {MOST_KEYS} are kept", f"/{name}")


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**old, **new}.items() if value is not None}


def _stored(of: type[T], body: str, version: int, updated_us: int) -> Stored[T]:
    return Stored(msgspec.json.decode(body, type=of), version, from_us(updated_us))


def _profile(
    customer_id: str, attributes: str, consent: str, time_zone: str | None, updated_us: int, less_like: str, said: str
) -> Profile:
    return Profile(
        customer_id=customer_id,
        attributes=msgspec.json.decode(attributes),
        consent=msgspec.json.decode(consent),
        said_us=msgspec.json.decode(said) if said != "{}" else {},
        time_zone=time_zone,
        less_like=tuple(msgspec.json.decode(less_like)) if less_like != "[]" else (),
        updated_at=from_us(updated_us),
    )
