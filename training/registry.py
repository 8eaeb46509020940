"""Registered releases: which versions serve together, promotion to champion, and the history of the aliases.

A release is a version of the registered model `release`, which pins one version of each model. Promotion writes its
files to `releases/<n>/`, then moves the alias, then the pointer; a crash in between leaves the old champion serving.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from features.definitions import FeatureSet
from features.errors import BrokenRelease, NotFound, PromotionRefused
from features.home import Home
from training.scorers import FORMAT, digest, json_bytes, load_release, read_pointer
from training.tracking import MODELS, RELEASE, ensure_registered, files_of, tracking

CHALLENGER, CHAMPION, SHADOW = "challenger", "champion", "shadow"


class Pins(msgspec.Struct, frozen=True):
    """What a release is made of."""

    versions: dict[str, str | None]  # model -> version
    calibrated: bool
    feature_set_digest: str
    offer_map_sha256: str
    verdicts: dict[str, str]  # model -> beats, undecided, lost, is the baseline
    metrics: dict[str, dict[str, float]]
    not_trainable: dict[str, str]  # model -> why it is missing
    data_digest: str
    as_of: str


@dataclass(frozen=True)
class Promotion:
    """What a promotion did."""

    release: str
    before: str | None  # the champion so far
    folder: Path
    forced: bool


def register_release(client: Any, pins: Pins, features: FeatureSet) -> str:
    """A new version of `release`, with the alias challenger; so are the versions it pins."""
    import mlflow

    ensure_registered(client, RELEASE)
    experiment = client.get_experiment_by_name(RELEASE)
    with mlflow.start_run(experiment_id=experiment.experiment_id) as run:
        mlflow.log_params({f"{name}_version": number for name, number in pins.versions.items() if number})
        mlflow.log_dict(msgspec.to_builtins(pins), "release/pins.json")
        mlflow.log_text(features.to_json().decode(), "release/features.json")
        source = f"{run.info.artifact_uri}/release"
        tags = {"calibrated": str(pins.calibrated).lower()}
        made = client.create_model_version(RELEASE, source, run.info.run_id, tags=tags)
    number = str(made.version)
    for name, pinned in {**pins.versions, RELEASE: number}.items():
        if pinned is not None:
            client.set_registered_model_alias(name, CHALLENGER, pinned)
    return number


def read_pins(client: Any, number: str) -> tuple[Pins, bytes]:
    """What release `number` pins, and its feature set as JSON; `NotFound` if there is no such release."""
    from mlflow.artifacts import load_text
    from mlflow.exceptions import MlflowException

    try:
        source = client.get_model_version(RELEASE, number).source
    except MlflowException as error:
        raise NotFound("release", number) from error
    pins = msgspec.json.decode(load_text(f"{source}/pins.json"), type=Pins)
    return pins, load_text(f"{source}/features.json").encode()


@dataclass(frozen=True, slots=True)
class Shadowing:
    """What is scored beside the champion now, and what was; None: nothing."""

    release: str | None
    before: str | None


def alias_of(client: Any, name: str, alias: str) -> str | None:
    """The version behind an alias, None if nothing is registered or aliased."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException:
        return None


def promote(
    home: Home,
    release: str = CHALLENGER,
    *,
    force: bool = False,
    reason: str | None = None,
    who: str = "unknown",
    now: datetime | None = None,
    refused_by: Callable[[str, str], str | None] = lambda challenger, champion: None,
) -> Promotion:
    """Make a release the champion; promoting the champion again changes nothing but writes its files anew.

    `PromotionRefused` when one of its models lost to its baseline, or when `refused_by` says why it shall not follow
    the champion, unless forced with a reason.
    """
    if force and not reason:
        raise PromotionRefused("a forced promotion needs a reason")
    with _promotion_lock(home), tracking(home) as client:
        number = alias_of(client, RELEASE, CHALLENGER) if release == CHALLENGER else release
        if number is None:
            raise NotFound("release", release)
        pins, features = read_pins(client, number)
        lost = sorted(name for name, said in pins.verdicts.items() if said == "lost")
        if lost and not force:
            raise PromotionRefused(
                f"release {number}: {', '.join(lost)} lost to the baseline; --force needs a --reason"
            )
        folder, pointer = export(client, home, number, pins, features)
        champion = read_pointer(home.releases)
        before = None if champion is None else champion.release
        refusal = None if before is None or before == number else refused_by(number, before)
        if refusal is not None and not force:
            raise PromotionRefused(f"release {number}: {refusal}; --force needs a --reason")
        forced = force and (bool(lost) or refusal is not None)
        moved = _move_aliases(client, number, pins)
        _replace(home.releases / "champion.json", json_bytes({"release": number, "sha256": pointer}))
        if before != number or moved:
            _remember(home, before, number, who, reason, now or datetime.now(UTC), forced=forced)
        return Promotion(number, before, folder, forced)


def shadow(
    home: Home, release: str | None, *, reason: str | None = None, who: str = "unknown", now: datetime | None = None
) -> Shadowing:
    """Score this release beside the champion and show it to nobody; None: no shadow any more.

    `NotFound` if there is no such release.
    """
    with _promotion_lock(home), tracking(home) as client:
        pointer, path = read_pointer(home.releases, SHADOW), home.releases / f"{SHADOW}.json"
        before = None if pointer is None else pointer.release
        number = alias_of(client, RELEASE, CHALLENGER) if release == CHALLENGER else release
        if release is not None and number is None:
            raise NotFound("release", release)
        if number is not None:
            _, manifest = export(client, home, number, *read_pins(client, number))
            client.set_registered_model_alias(RELEASE, SHADOW, number)
            _replace(path, json_bytes({"release": number, "sha256": manifest}))
        elif before is not None:
            client.delete_registered_model_alias(RELEASE, SHADOW)
            path.unlink()
            _flush_folder(home.releases)
        if number != before:
            _remember(home, before, number, who, reason, now or datetime.now(UTC), forced=False, alias=SHADOW)
        return Shadowing(number, before)


def exported(home: Home, release: str) -> Path:
    """The folder of a registered release, its files in place; it is not pointed at. `NotFound` if there is none."""
    with _promotion_lock(home), tracking(home) as client:
        return export(client, home, release, *read_pins(client, release))[0]


def export(client: Any, home: Home, number: str, pins: Pins, features: bytes) -> tuple[Path, str]:
    """Write `releases/<number>/` whole or not at all; the folder and the digest of its manifest."""
    files = release_files(client, number, pins, features)
    manifest = files["manifest.json"]
    target, staged = home.releases / number, home.releases / f"{number}.tmp"
    if target.exists() and _is_whole(target, digest(manifest)):
        return target, digest(manifest)
    for stale in (staged, target):
        shutil.rmtree(stale, ignore_errors=True)
    for name, body in files.items():
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, body)
    for folder in {path.parent for path in staged.rglob("*")} | {staged}:
        _flush_folder(folder)
    load_release(staged, digest(manifest))  # what cannot be loaded is never pointed at
    os.replace(staged, target)
    _flush_folder(home.releases)
    return target, digest(manifest)


def release_files(client: Any, number: str, pins: Pins, features: bytes) -> dict[str, bytes]:
    """Every file of a release with its manifest; the same release gives the same bytes."""
    versions = {RELEASE: number, **pins.versions}
    recommender = files_of(client, "recommender", _needed(pins, "recommender"))
    offers = json_bytes([offer["offer_id"] for offer in json.loads(recommender["offers.json"])])
    files = {"offers.json": offers, "features.json": features}
    files |= _folder(recommender, "scorer", "recommender", pins.versions["recommender"])
    files |= _folder(recommender, "popularity", "popularity", pins.versions["recommender"])
    if pins.versions["acceptance"] is None:
        files |= _folder(recommender, "prior", "acceptance", None)
    for name in ("acceptance", "churn"):
        pinned = pins.versions[name]
        if pinned is not None:
            files |= _folder(files_of(client, name, pinned), "scorer", name, pinned)
    manifest = {
        "format": FORMAT,
        "release": number,
        "versions": versions,
        "calibrated": pins.calibrated,
        "models": sorted({name.split("/")[0] for name in files if "/" in name}),
        "offer_map_sha256": digest(offers),
        "feature_set_digest": pins.feature_set_digest,
        "metrics": pins.metrics,
        "verdicts": pins.verdicts,
        "not_trainable": pins.not_trainable,
        "data_digest": pins.data_digest,
        "as_of": pins.as_of,
        "files": {name: digest(body) for name, body in sorted(files.items())},
    }
    if digest(offers) != pins.offer_map_sha256:
        raise BrokenRelease(f"release {number} pins another offer map than its recommender has")
    return {**files, "manifest.json": json_bytes(manifest)}


def _needed(pins: Pins, name: str) -> str:
    pinned = pins.versions[name]
    if pinned is None:
        raise BrokenRelease(f"a release without {name}")
    return pinned


def _folder(files: Mapping[str, bytes], source: str, target: str, number: str | None) -> dict[str, bytes]:
    """The files of one scorer under another name, its version filled in."""
    found = {name.replace(source, target, 1): body for name, body in files.items() if name.startswith(f"{source}/")}
    head = f"{target}/scorer.json"
    found[head] = json_bytes({**json.loads(found[head]), "version": number or ""})
    return found


def _is_whole(folder: Path, sha256: str) -> bool:
    try:
        load_release(folder, sha256)
    except BrokenRelease:
        return False
    return True


def _move_aliases(client: Any, number: str, pins: Pins) -> bool:
    """Champion on the release and all it pins, and off what it no longer has; whether anything moved."""
    moved = False
    for name, pinned in {**pins.versions, RELEASE: number}.items():
        current = alias_of(client, name, CHAMPION)
        if pinned is None and current is not None:
            client.delete_registered_model_alias(name, CHAMPION)
        elif pinned is not None and pinned != current:
            client.set_registered_model_alias(name, CHAMPION, pinned)
        moved |= pinned != current
    return moved


def _remember(
    home: Home,
    before: str | None,
    after: str | None,
    who: str,
    reason: str | None,
    now: datetime,
    *,
    forced: bool,
    alias: str = CHAMPION,
) -> None:
    line = {
        "at": now.isoformat(), "alias": alias, "from": before, "to": after, "who": who, "why": reason,
        "forced": forced,
    }  # fmt: skip
    with (home.releases / "history.jsonl").open("ab") as history:
        history.write(msgspec.json.encode(line) + b"\n")
        history.flush()
        os.fsync(history.fileno())


def alias_history(home: Home) -> list[dict[str, Any]]:
    """Each change of the champion and of the shadow, oldest first."""
    try:
        lines = (home.releases / "history.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def list_models(home: Home) -> list[dict[str, Any]]:
    """Every version of every registered model, newest first: metrics, verdict, aliases."""
    with tracking(home) as client:
        return [row for name in (RELEASE, *MODELS) for row in _versions(client, name)]


def _versions(client: Any, name: str) -> list[dict[str, Any]]:
    aliases = {alias: alias_of(client, name, alias) for alias in (CHAMPION, CHALLENGER, SHADOW)}
    versions = client.search_model_versions(f"name = '{name}'")
    return [
        {
            "model": name,
            "version": str(version.version),
            "aliases": [alias for alias, number in aliases.items() if number == str(version.version)],
            "created_at": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(),
            "tags": dict(version.tags),
            "metrics": dict(client.get_run(version.run_id).data.metrics),
        }
        for version in sorted(versions, key=lambda v: -int(v.version))
    ]


@contextmanager
def _promotion_lock(home: Home) -> Iterator[None]:
    home.releases.mkdir(parents=True, exist_ok=True)
    with (home.releases / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, body: bytes) -> None:
    """Atomically, and on disk when this returns."""
    staged = path.with_name(f"{path.name}.tmp")
    _write(staged, body)
    os.replace(staged, path)
    _flush_folder(path.parent)


def _write(path: Path, body: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(body)
        handle.flush()
        os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
