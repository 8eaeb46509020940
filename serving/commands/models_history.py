"""`nbo models rollback | history`: the way back to a former champion, and who was champion when, and why."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec

from features.errors import NboError, NotFound
from features.events import parse_time
from serving.settings import load_settings


def rollback(to: str | None, *, reason: str | None, as_json: bool) -> int:
    """Moves the pointer that workers follow, says so, and only then lets MLflow's aliases follow; exit code 0."""
    from training.releases import roll_back, user

    began = time.perf_counter()
    settings = load_settings()
    try:
        done = roll_back(settings.home, to, reason=reason, who=user(), now=settings.now())
    except NotFound as error:
        if error.kind == "release" and error.name == "champion":
            raise NboError("there is no champion to go back from: nothing was ever promoted") from None
        if error.kind == "champion before release":
            raise NboError(f"release {error.name} is the first champion: there is none before it") from None
        raise
    seconds = time.perf_counter() - began
    if as_json:
        body = {"release": done.release, "before": done.before, "seconds": round(seconds, 3)}
        print(msgspec.json.encode(body).decode(), flush=True)
    elif done.release == done.before:
        print(f"release {done.release} is the champion already", flush=True)
    else:
        print(f"release {done.release} is the champion again, after {done.before} ({seconds:.1f} s)", flush=True)
    _follow(settings.home)
    return 0


def _follow(home: Any) -> None:
    """The service reads the pointer alone, so a registry that cannot be written is no reason to fail."""
    try:
        from training.registry import follow_champion

        follow_champion(home)
    except Exception as error:
        print(f"nbo: MLflow's aliases have not followed; the next promotion moves them: {error}", file=sys.stderr)


def history(*, at: str | None, as_json: bool) -> int:
    """Every change of an alias, oldest first; with `at` the one that made the champion of that moment."""
    from training.releases import alias_history, champion_at

    home = load_settings().home
    if at is not None:
        found = champion_at(home, parse_time(at, "at"))
        if as_json:
            print(msgspec.json.encode(found).decode())
        else:
            print(f"release {found['to']}: {_line(found)}" if found else "nothing was promoted yet at that moment")
        return 0
    lines = alias_history(home)
    if as_json:
        print(msgspec.json.encode(lines).decode())
        return 0
    if not lines:
        print("no release was promoted yet")
    for line in lines:
        print(_line(line))
    return 0


def _line(line: dict[str, Any]) -> str:
    moved = f"{line['from'] or 'none'} → {line['to'] or 'none'}"
    kind = line.get("kind", line["alias"]) + (", forced" if line.get("forced") else "")
    why = f": {line['why']}" if line.get("why") else ""
    return f"{line['at']}  {line['alias']:<10} {moved:<12} {kind} by {line['who']}{why}"
