"""The service with stores that can be made slow or failing while it runs, by a word in the pipe of BENCH_FAULT."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from features.errors import StoreUnavailable

SLOW_S = 0.5
METHODS: dict[str, tuple[tuple[str, str, str], ...]] = {  # fault -> module, class, methods of the store's protocol
    "features": (("features.online", "SqliteOnlineStore", "customer"),),
    "recent": (("features.sqlite_log", "SqliteLog", "recent"),),
    "profiles": (("features.facts", "Facts", "told_of"), ("features.facts", "Facts", "commits")),
    "contacts": (("serving.state.sqlite_contacts", "SqliteContacts", "histories"),),
    "claims": (("serving.state.sqlite_contacts", "SqliteContacts", "claim"),),
    "log": (("features.sqlite_log", "SqliteLog", "write"),),
}
_now = [""]  # "<store> slow", "<store> fails", or nothing


def create_app() -> ASGIApp:
    """As `serving.app:from_settings`, with its stores at our mercy."""
    from serving.app import from_settings

    for store, methods in METHODS.items():
        for module, owner, method in methods:
            kind = getattr(__import__(module, fromlist=[owner]), owner)
            setattr(kind, method, _faulty(store, getattr(kind, method)))
    threading.Thread(target=_watch, args=(Path(os.environ["BENCH_FAULT"]),), daemon=True).start()
    return from_settings()


def _faulty(store: str, method: Callable[..., Any]) -> Callable[..., Any]:
    slow, fails = f"{store} slow", f"{store} fails"

    @functools.wraps(method)
    def asked(*given: Any, **named: Any) -> Any:
        if _now[0] == slow:
            time.sleep(SLOW_S)
        elif _now[0] == fails:
            raise StoreUnavailable("injected")
        return method(*given, **named)

    return asked


def _watch(path: Path) -> None:
    while True:
        _now[0] = path.read_text()  # a pipe: waits for somebody to write, which costs the service nothing
