"""API keys: made once, shown once, kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, cast

from features.errors import BadInput, NotFound, StoreUnavailable
from features.events import from_us, has_control_characters, to_us
from serving.state.sqlite import open_wal

Kind = Literal["secret", "public"]
SCOPES = ("decide", "events", "catalogue", "admin")
PUBLIC_SCOPES = ("decide", "events")  # all that a web page may ever do
PREFIX: dict[Kind, str] = {"secret": "sk", "public": "pk"}
SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    key_id TEXT PRIMARY KEY, kind TEXT NOT NULL, scopes TEXT NOT NULL, name TEXT NOT NULL, hash BLOB NOT NULL,
    created_us INTEGER NOT NULL, revoked_us INTEGER) WITHOUT ROWID
"""
NOBODY = hashlib.sha256(b"").digest()  # compared with when the id is unknown, so that both take the same time


@dataclass(frozen=True, slots=True)
class Key:
    """All that is known of a key; the key itself is not stored."""

    key_id: str
    kind: Kind
    scopes: tuple[str, ...]
    name: str
    created_at: datetime
    revoked_at: datetime | None = None


class Keys:
    """The keys of one deployment, in facts.db. Safe to share between threads; a revocation is seen at once."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = open_wal(path, synchronous="FULL")
        self._db.execute(SCHEMA)
        self._version = -1
        self._known: dict[str, tuple[Key, bytes]] = {}

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def create(self, kind: Kind, scopes: Sequence[str], name: str, now: datetime) -> str:
        """A new key; its text is returned here and nowhere else. `BadInput` for a kind or scope that is none."""
        scopes = check_scopes(kind, scopes)
        if len(name) > 200 or has_control_characters(name):
            raise BadInput("a key's name has at most 200 characters, none of them control characters", "name")
        with self._transaction():
            return self._insert(kind, scopes, name, now)

    def first_start(self, now: datetime) -> tuple[str, str] | None:
        """A secret and a public key if there was never any key, else None. Of many at once, one gets them."""
        with self._transaction():
            if self._db.execute("SELECT 1 FROM keys").fetchone():
                return None
            return (
                self._insert("secret", SCOPES, "made at first start", now),
                self._insert("public", PUBLIC_SCOPES, "made at first start", now),
            )

    def verify(self, token: str) -> Key | None:
        """The key whose text this is; None if it is unknown or revoked."""
        key_id = _key_id_of(token)
        key, digest = self._current().get(key_id, (None, NOBODY))
        matches = hmac.compare_digest(_hash(token), digest)
        return key if matches and key is not None and key.revoked_at is None else None

    def all(self) -> list[Key]:
        """Every key, revoked ones too, oldest first."""
        return sorted((key for key, _ in self._current().values()), key=lambda key: (key.created_at, key.key_id))

    def revoke(self, key_id: str, now: datetime) -> Key:
        """Ends a key for good, by its id or its whole text; the first time counts. `NotFound` if there is none."""
        key_id = _key_id_of(key_id)
        with self._transaction():
            self._db.execute(
                "UPDATE keys SET revoked_us = coalesce(revoked_us, ?) WHERE key_id = ?", (to_us(now), key_id)
            )
        found = self._current().get(key_id)
        if found is None:
            raise NotFound("key", key_id)
        return found[0]

    def _insert(self, kind: Kind, scopes: Sequence[str], name: str, now: datetime) -> str:
        token = f"{PREFIX[kind]}_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
        row = (_key_id_of(token), kind, ",".join(scopes), name, _hash(token), to_us(now))
        self._db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
        self._version = -1
        return token

    def _current(self) -> dict[str, tuple[Key, bytes]]:
        with self._lock:
            try:
                version = self._db.execute("PRAGMA data_version").fetchone()[0]  # changes when anybody else commits
                if version != self._version:
                    self._known = {row[0]: (_key(*row[:4], *row[5:]), row[4]) for row in self._all()}
                    self._version = version
            except sqlite3.OperationalError as error:
                raise StoreUnavailable(f"the keys cannot be read: {error}") from error
            return self._known

    def _all(self) -> list[tuple[str, str, str, str, bytes, int, int | None]]:
        return self._db.execute("SELECT key_id, kind, scopes, name, hash, created_us, revoked_us FROM keys").fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            self._version = -1


def check_scopes(kind: str, scopes: Sequence[str]) -> tuple[str, ...]:
    """The scopes in their order, each once; `BadInput` for a kind or scope that is none."""
    if kind not in PREFIX:
        raise BadInput(f"kind is {kind!r}, expected secret or public", "kind")
    for scope in scopes:
        if scope not in SCOPES:
            raise BadInput(f"{scope!r} is not a scope, expected some of {', '.join(SCOPES)}", "scope")
        if kind == "public" and scope not in PUBLIC_SCOPES:
            raise BadInput(f"a public key cannot have the scope {scope}, only {', '.join(PUBLIC_SCOPES)}", "scope")
    if not scopes:
        raise BadInput(f"a key needs at least one scope of {', '.join(SCOPES)}", "scope")
    return tuple(scope for scope in SCOPES if scope in scopes)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _key_id_of(token: str) -> str:
    """The public part, `sk_<12 hex>`; the rest are 256 random bits."""
    return "_".join(token.split("_", 2)[:2])[:64]


def _key(key_id: str, kind: str, scopes: str, name: str, created_us: int, revoked_us: int | None) -> Key:
    revoked_at = None if revoked_us is None else from_us(revoked_us)
    return Key(key_id, cast(Kind, kind), tuple(scopes.split(",")), name, from_us(created_us), revoked_at)
