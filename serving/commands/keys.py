"""`nbo keys`: create, list and revoke API keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import orjson

from serving.keys import PUBLIC_SCOPES, SCOPES, Key, Keys, Kind
from serving.settings import Settings, load_settings


def create(kind: str = "secret", scope: str | None = None, name: str = "") -> None:
    """Makes a key and prints it, alone, on stdout; what it may do goes to stderr. No scope: all of its kind."""
    if scope is None:
        scopes = list(PUBLIC_SCOPES if kind == "public" else SCOPES)
    else:
        scopes = [part.strip() for part in scope.split(",") if part.strip()]
    with _opened() as (keys, settings):
        print(keys.create(cast(Kind, kind), scopes, name, settings.now()))
    print(f"a {kind} key for {', '.join(scopes)}; it is shown once and stored only as a hash", file=sys.stderr)


def list_keys(*, as_json: bool = False) -> None:
    """Prints every key by its id; the keys themselves are not stored."""
    with _opened() as (keys, _):
        found = keys.all()
    if as_json:
        print(orjson.dumps({"keys": [_row(key) for key in found]}, option=orjson.OPT_UTC_Z).decode())
        return
    for key in found:
        state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "active"
        made = f"{key.created_at:%Y-%m-%d %H:%M}"
        print(f"{key.key_id}  {key.kind:6}  {','.join(key.scopes):30}  made {made}  {state}  {key.name}".rstrip())
    if not found:
        print("there are no keys; `nbo keys create` makes one, and so does the first `nbo serve`", file=sys.stderr)


def revoke(key_id: str) -> None:
    """Ends a key; a running service refuses it from its next request on."""
    with _opened() as (keys, settings):
        revoked = keys.revoke(key_id, settings.now())
    print(f"{revoked.key_id} is revoked", file=sys.stderr)


@contextmanager
def _opened() -> Iterator[tuple[Keys, Settings]]:
    settings = load_settings()
    keys = Keys(settings.home.facts_db)
    try:
        yield keys, settings
    finally:
        keys.close()


def _row(key: Key) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "kind": key.kind,
        "scopes": key.scopes,
        "name": key.name,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
