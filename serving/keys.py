"""API keys: made once, shown once, kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast

from features.errors import BadInput, NotFound, StoreUnavailable
from features.events import from_us, has_control_characters, to_us
from serving.state.sqlite import open_wal

logger = logging.getLogger(__name__)
READ_WAIT_MS = 5
FRESH_S = 0.05  # a revocation by another process is seen within
ASKED_AGAIN_S = 1.0  # after a read that failed
Kind = Literal["secret", "public"]
SCOPES = ("decide", "events", "catalogue", "admin")
PUBLIC_SCOPES = ("decide", "events")  # all that a web page may ever do
PREFIX: dict[Kind, str] = {"secret": "sk", "public": "pk"}
SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    key_id TEXT PRIMARY KEY, kind TEXT NOT NULL, scopes TEXT NOT NULL, name TEXT NOT NULL, hash BLOB NOT NULL,
    created_us INTEGER NOT NULL, revoked_us INTEGER, origins TEXT NOT NULL DEFAULT '', signing_secret TEXT,
    per_s REAL, visitor_per_s REAL) WITHOUT ROWID
"""
ADDED = (  # columns that older files lack: CREATE TABLE IF NOT EXISTS does not add them
    ("origins", "TEXT NOT NULL DEFAULT ''"),
    ("signing_secret", "TEXT"),
    ("per_s", "REAL"),
    ("visitor_per_s", "REAL"),
)
COLUMNS = "key_id, kind, scopes, name, created_us, revoked_us, origins, signing_secret, per_s, visitor_per_s"
ORIGIN = re.compile(r"https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(:[0-9]{1,5})?\Z")
DEFAULT_PORT = {"http": ":80", "https": ":443"}
PUBLIC_PER_S, VISITOR_PER_S = 1000.0, 10.0  # requests, where a public key says nothing else
NOBODY = hashlib.sha256(b"").digest()  # compared with when the id is unknown, so that both take the same time


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key may be used for beyond its scopes."""

    origins: tuple[str, ...] = ()  # of the pages that may call with it
    per_s: float | None = None  # requests per second; None: no limit
    visitor_per_s: float | None = None  # of one visitor


@dataclass(frozen=True, slots=True)
class Key:
    """All that is known of a key; the key itself is not stored."""

    key_id: str
    kind: Kind
    scopes: tuple[str, ...]
    name: str
    created_at: datetime
    revoked_at: datetime | None = None
    limits: KeyLimits = KeyLimits()
    signing_secret: str | None = field(default=None, repr=False)  # with which a site signs customer ids; public keys


class Keys:
    """The keys of one deployment, in facts.db. Safe to share between threads; a revocation is seen at once."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = open_wal(path, synchronous="FULL")
        self._upgrade()
        self._reader = open_wal(path, synchronous="FULL")
        self._reader.execute(f"PRAGMA busy_timeout = {READ_WAIT_MS}")
        self._asked_again_at = 0.0  # of the monotonic clock
        self._version = -1
        self._known: dict[str, tuple[Key, bytes]] = {}
        self._origins: frozenset[str] = frozenset()

    def close(self) -> None:
        with self._lock:
            self._db.close()
            self._reader.close()

    def create(
        self, kind: Kind, scopes: Sequence[str], name: str, now: datetime, limits: KeyLimits | None = None
    ) -> str:
        """A new key; its text is returned here and nowhere else. `BadInput` for a kind, scope or limit that is none."""
        scopes = check_scopes(kind, scopes)
        limits = _DEFAULT[kind] if limits is None else check_limits(kind, limits)
        if len(name) > 200 or has_control_characters(name):
            raise BadInput("a key's name has at most 200 characters, none of them control characters", "name")
        with self._transaction():
            return self._insert(kind, scopes, name, now, limits)

    def first_start(self, now: datetime) -> tuple[str, str] | None:
        """A secret and a public key if there was never any key, else None. Of many at once, one gets them."""
        with self._transaction():
            if self._db.execute("SELECT 1 FROM keys").fetchone():
                return None
            return (
                self._insert("secret", SCOPES, "made at first start", now, _DEFAULT["secret"]),
                self._insert("public", PUBLIC_SCOPES, "made at first start", now, _DEFAULT["public"]),
            )

    def verify(self, token: str) -> Key | None:
        """The key whose text this is; None if it is unknown or revoked."""
        key_id = _key_id_of(token)
        known = self._lately()
        if key_id not in known:
            known = self._current()  # it may just have been made, by somebody else
        key, digest = known.get(key_id, (None, NOBODY))
        matches = hmac.compare_digest(_hash(token), digest)
        return key if matches and key is not None and key.revoked_at is None else None

    def named(self, key_id: str) -> Key:
        """A key by its id or its whole text; `NotFound` if there is none."""
        key_id = _key_id_of(key_id)
        found = self._current().get(key_id)
        if found is None:
            raise NotFound("key", key_id)
        return found[0]

    def origins(self) -> frozenset[str]:
        """Of the pages that may call with one public key or another."""
        self._lately()
        return self._origins

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
        return self.named(key_id)

    def _insert(self, kind: Kind, scopes: Sequence[str], name: str, now: datetime, limits: KeyLimits) -> str:
        token = f"{PREFIX[kind]}_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
        signing_secret = f"ss_{secrets.token_urlsafe(32)}" if kind == "public" else None
        self._db.execute(
            f"INSERT INTO keys (hash, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?)",
            (
                _hash(token), _key_id_of(token), kind, ",".join(scopes), name, to_us(now), " ".join(limits.origins),
                signing_secret, limits.per_s, limits.visitor_per_s,
            ),
        )  # fmt: skip
        self._version = -1
        return token

    def _lately(self) -> dict[str, tuple[Key, bytes]]:
        """The keys as of a moment ago: every request asks, on the event loop."""
        return self._known if time.monotonic() < self._asked_again_at else self._current()

    def _current(self) -> dict[str, tuple[Key, bytes]]:
        with self._lock:
            try:
                self._asked_again_at = time.monotonic() + FRESH_S
                version = self._reader.execute("PRAGMA data_version").fetchone()[0]  # changes when anybody commits
                if version != self._version:
                    self._known = {row[1]: (_key(*row[1:]), row[0]) for row in self._all()}
                    self._origins = frozenset(
                        origin for key, _ in self._known.values() if not key.revoked_at for origin in key.limits.origins
                    )
                    self._version = version
            except sqlite3.OperationalError as error:
                if not self._known:
                    raise StoreUnavailable(f"the keys cannot be read: {error}") from error
                # Who was let in goes on: a page must not break because a file is locked.
                logger.warning("the keys cannot be read, those known before go on: %s", error)
                self._asked_again_at = time.monotonic() + ASKED_AGAIN_S
            return self._known

    def _all(self) -> list[Any]:
        return self._reader.execute(f"SELECT hash, {COLUMNS} FROM keys").fetchall()

    def _upgrade(self) -> None:
        """Makes the table, or adds what a table of before lacks."""
        self._db.execute(SCHEMA)
        known = {row[1] for row in self._db.execute("PRAGMA table_info(keys)")}
        if not known.issuperset(name for name, _ in ADDED):
            with self._transaction():  # another process may have been faster
                known = {row[1] for row in self._db.execute("PRAGMA table_info(keys)")}
                for name, declared in ADDED:
                    if name not in known:
                        self._db.execute(f"ALTER TABLE keys ADD COLUMN {name} {declared}")

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
            self._asked_again_at = 0.0


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


def check_limits(kind: str, limits: KeyLimits) -> KeyLimits:
    """The limits with their origins as browsers send them; `BadInput` for what cannot be one."""
    if kind == "secret" and limits.origins:
        raise BadInput("a secret key has no origins: it must never be in a page", "origin")
    for name in ("per_s", "visitor_per_s"):
        rate = getattr(limits, name)
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise BadInput(f"{name} is {rate}, expected a number above 0", name)
    default = _DEFAULT[cast(Kind, kind)]
    return KeyLimits(
        origins=tuple(dict.fromkeys(check_origin(origin) for origin in limits.origins)),
        per_s=limits.per_s or default.per_s,
        visitor_per_s=limits.visitor_per_s or default.visitor_per_s,
    )


def check_origin(text: str) -> str:
    """An origin as a browser sends it, such as https://shop.example; `BadInput` for anything else."""
    origin = text.strip().lower().removesuffix("/")
    origin = origin.removesuffix(DEFAULT_PORT.get(origin.partition(":")[0], " "))
    if not ORIGIN.match(origin):
        raise BadInput(
            f"{text[:80]!r} is not an origin; expected a scheme and a host, as https://shop.example", "origin"
        )
    return origin


_DEFAULT: dict[Kind, KeyLimits] = {"secret": KeyLimits(), "public": KeyLimits((), PUBLIC_PER_S, VISITOR_PER_S)}


def _key(
    key_id: str, kind: str, scopes: str, name: str, created_us: int, revoked_us: int | None, origins: str,
    signing_secret: str | None, per_s: float | None, visitor_per_s: float | None,
) -> Key:  # fmt: skip
    revoked_at = None if revoked_us is None else from_us(revoked_us)
    default = _DEFAULT[cast(Kind, kind)]  # of keys that are older than limits
    limits = KeyLimits(tuple(origins.split()), per_s or default.per_s, visitor_per_s or default.visitor_per_s)
    return Key(
        key_id, cast(Kind, kind), tuple(scopes.split(",")), name, from_us(created_us), revoked_at, limits,
        signing_secret,
    )  # fmt: skip
