"""`nbo keys`: create, list and revoke API keys, and sign customer ids to try public ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import orjson

from features.errors import BadInput
from features.events import check_id
from serving.customer_token import sign
from serving.keys import PUBLIC_SCOPES, SCOPES, Key, KeyLimits, Keys, Kind, check_scopes
from serving.settings import Settings, load_settings


def create(
    kind: str = "secret",
    scope: str | None = None,
    name: str = "",
    origins: Sequence[str] = (),
    per_s: float | None = None,
    visitor_per_s: float | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Makes a key and prints it, alone, on stdout; what it may do goes to stderr. No scope: all of its kind."""
    if scope is None:
        scopes = list(PUBLIC_SCOPES if kind == "public" else SCOPES)
    else:
        scopes = [part.strip() for part in scope.split(",") if part.strip()]
    limits = KeyLimits(tuple(origins), per_s, visitor_per_s)
    with _opened() as (keys, settings):
        check_scopes(kind, scopes)
        token = keys.create(cast(Kind, kind), scopes, name, settings.now(), limits)
        made = keys.named(token)
    if as_json:
        shown = {"key": token, **_row(made), "signing_secret": made.signing_secret}
        print(orjson.dumps(shown, option=orjson.OPT_UTC_Z).decode())
        return
    print(token)
    print(f"a {kind} key for {', '.join(scopes)}; it is shown once and stored only as a hash", file=sys.stderr)
    if made.signing_secret is not None:
        pages = ", ".join(made.limits.origins) or "no pages: give --origin https://your.site to let a page use it"
        print(f"for {pages}", file=sys.stderr)
        print(f"signing secret, for your server only: {made.signing_secret}", file=sys.stderr)


def token(key_id: str, customer_id: str) -> None:
    """Prints a customer_token, good for an hour: what your server makes with the key's signing secret."""
    check_id(customer_id, "customer_id")
    with _opened() as (keys, _):
        key = keys.named(key_id)
    if key.signing_secret is None:
        kind = "secret keys need no customer_token" if key.kind == "secret" else "it is older than customer tokens"
        raise BadInput(f"{key.key_id} cannot sign: {kind}; make a public key with `nbo keys create`", "key_id")
    print(sign(key.signing_secret, customer_id, time.time()))


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
        if key.limits.origins:
            print(f"    for {' '.join(key.limits.origins)}")
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
        "origins": key.limits.origins,
        "per_s": key.limits.per_s,
        "visitor_per_s": key.limits.visitor_per_s,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
