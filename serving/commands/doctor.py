"""`nbo doctor`: is everything there that a decision needs, and what to do if not."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec

from features.errors import BadSettings, NboError
from features.facts import Facts
from serving.policies import policy_named
from serving.settings import Settings, configurable, load_settings

NEEDED = ("duckdb", "feast", "ibis-framework", "lightfm-next", "mlflow", "scikit-learn", "fastapi", "uvicorn", "numba")
LITTLE_DISK_GB = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. A warning leaves the service able to answer; a failure does not."""

    name: str
    state: Literal["ok", "warning", "failure"]
    detail: str
    todo: str = ""


def run(*, as_json: bool) -> int:
    """Print what was found; exit code 1 when something must be done before the service can answer."""
    try:
        settings = load_settings()
    except BadSettings as error:
        findings = [Finding("settings", "failure", str(error), "correct the setting that is named")]
    else:
        findings = examine(settings)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode([asdict(f) for f in findings]), indent=1).decode())
    else:
        for f in findings:
            mark = {"ok": "ok     ", "warning": "warning", "failure": "FAILURE"}[f.state]
            print(f"{mark}  {f.name:<12} {f.detail}" + (f"\n         {'':<12} → {f.todo}" if f.todo else ""))
    return int(any(f.state == "failure" for f in findings))


def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which a newcomer meets its subject; leaves everything as it is."""
    home = _home(settings.home.root)
    found = [_python(), _packages(), _settings(settings), home]
    if home.state == "failure":
        return found
    if not settings.home.facts_db.exists():
        todo = "run `nbo demo --keep DIR`, `nbo ingest`, or `nbo serve` and PUT offers"
        return [*found, Finding("data", "warning", "nothing is stored yet", todo)]
    facts = Facts(settings.home.facts_db)
    try:
        checks = (_catalogue, _lake, _snapshot, _release, _gates, _keys)
        return [*found, *_guarded(checks, settings, facts)]
    finally:
        facts.close()


def _guarded(
    checks: tuple[Callable[[Settings, Facts], Finding], ...], settings: Settings, facts: Facts
) -> Iterator[Finding]:
    for check in checks:
        try:
            yield check(settings, facts)
        except (NboError, OSError) as error:
            yield Finding(check.__name__.strip("_"), "failure", str(error), "see the message")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("python", "ok" if good else "failure", version, "" if good else "use Python 3.11, 3.12 or 3.13")


def _packages() -> Finding:
    missing, versions = [], []
    for name in NEEDED:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", "failure", f"missing: {', '.join(missing)}", "run `make setup`")
    return Finding("packages", "ok", ", ".join(versions))


def _settings(settings: Settings) -> Finding:
    shown = ", ".join(f"{name}={getattr(settings, name)}" for name in configurable())
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith("NBO_") and name not in _variables() and not name.startswith("NBO_TEST")
    )
    try:
        policy_named(settings.policy)
    except BadSettings as error:
        return Finding("settings", "failure", str(error), "correct decision.policy or NBO_POLICY")
    if unknown:
        return Finding("settings", "warning", shown, f"not read by anything: {', '.join(unknown)}")
    return Finding("settings", "ok", shown)


def _variables() -> set[str]:
    return {variable for _, variable in configurable().values()} | {"NBO_HOME", "NBO_SERVE_STARTED", "NBO_SHARED_DATA"}


def _home(root: Path) -> Finding:
    at = root
    try:
        while not at.exists():
            at = at.parent
        with tempfile.TemporaryDirectory(prefix=".nbo-doctor-", dir=at):  # permissions alone do not tell
            pass
    except OSError as error:
        detail = f"{root} cannot be written: {error.strerror}: {at}"
        return Finding("home", "failure", detail, "choose another folder with NBO_HOME")
    free_gb = shutil.disk_usage(at).free / 1e9
    if free_gb < LITTLE_DISK_GB:
        return Finding("home", "warning", f"{root}, {free_gb:.1f} GB free", "make room on the disk")
    return Finding("home", "ok", f"{root}, {free_gb:.0f} GB free")


def _catalogue(settings: Settings, facts: Facts) -> Finding:
    catalogue = facts.catalogue()
    approved = sum(offer.status == "approved" for offer in catalogue.offers)
    detail = f"{approved} approved offers of {len(catalogue.offers)}, {len(catalogue.placements)} placements"
    if not catalogue.placements:
        return Finding("catalogue", "failure", detail, "create one with PUT /v1/placements/{id}")
    if not approved:
        return Finding("catalogue", "warning", detail, "approve an offer: PUT /v1/offers/{id} with status approved")
    return Finding("catalogue", "ok", detail)


def _lake(settings: Settings, facts: Facts) -> Finding:
    files = facts.lake_files("events")
    if not files:
        return Finding("lake", "warning", "no history", "run `nbo ingest`, or wait for live events")
    gone = [f.path for f in files if not (settings.home.lake / f.path).exists()]
    if gone:
        return Finding("lake", "failure", f"{len(gone)} files are missing, first {gone[0]}", "restore them")
    return Finding("lake", "ok", f"{sum(f.n_rows for f in files):,} events, {files[0].day} to {files[-1].day}")


def _snapshot(settings: Settings, facts: Facts) -> Finding:
    text = facts.meta("snapshot")
    if text is None:
        todo = "run `nbo features build`, `nbo features apply` and `nbo features materialize`"
        return Finding("features", "warning", "nothing is materialized", todo)
    day = str(msgspec.json.decode(text)["day"])
    age_days = (settings.now().date() - msgspec.convert(day, type(settings.now().date()))).days
    if age_days > 1:
        return Finding("features", "warning", f"snapshot of {day}, {age_days} days old", "build and materialize again")
    return Finding("features", "ok", f"snapshot of {day}")


def _release(settings: Settings, facts: Facts) -> Finding:
    from training.scorers import load_champion

    release = load_champion(settings.home.releases)
    if release is None:
        return Finding("release", "warning", "none is promoted", "run `nbo train all` and `nbo models promote`")
    detail = f"release {release.number}" + (
        "" if release.calibrated else ", uncalibrated (no impressions to learn from)"
    )
    return Finding("release", "ok", detail)


def _gates(settings: Settings, facts: Facts) -> Finding:
    from training.gates import bounds_of, read_bounds

    defaults, found = bounds_of({}), read_bounds(settings.home)
    changed = [name for name in found if found[name] != defaults[name]]
    return Finding("gates", "ok", f"gates.toml changes {', '.join(changed)}" if changed else "as by default")


def _keys(settings: Settings, facts: Facts) -> Finding:
    from serving.keys import Keys

    keys = Keys(settings.home.facts_db)
    try:
        live = [key for key in keys.all() if key.revoked_at is None]
    finally:
        keys.close()
    if not live:
        return Finding("keys", "warning", "none", "`nbo serve` makes them at its first start; or `nbo keys create`")
    return Finding("keys", "ok", f"{len(live)} in use")
