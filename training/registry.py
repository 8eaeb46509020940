"""Registered releases: which versions serve together, promotion to champion, and the history of the aliases.

A release is a version of the registered model `release`, which pins one version of each model. Promotion writes its
files to `releases/<n>/`, asks the gates, then moves the alias, then the pointer; a crash in between leaves the old
champion serving. What needs no MLflow is in `releases`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from features.definitions import FeatureSet
from features.errors import BrokenRelease, Conflict, NotFound, PromotionRefused
from features.home import Home
from training.gates import Passage, judge_by, read_bounds
from training.read_back import read_back
from training.releases import (
    CHALLENGER,
    CHAMPION,
    SHADOW,
    alias_history,
    champion_of,
    export_lock,
    flush_folder,
    mend,
    point,
    pointer_lock,
    remember,
    write_through,
)
from training.scorers import FORMAT, digest, json_bytes, load_release, read_pointer
from training.stored import stored
from training.tracking import MODELS, RELEASE, ensure_registered, files_of, tracking

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "SHADOW",
    "Pins",
    "Promotion",
    "Shadowing",
    "alias_history",
    "alias_of",
    "exported",
    "follow_champion",
    "list_models",
    "promote",
    "read_pins",
    "register_release",
    "shadow",
    "shadow_since",
]


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
    gates: tuple[Passage, ...] = ()  # what each said; none is asked of the champion itself


def register_release(client: Any, pins: Pins, features: FeatureSet, run_id: str | None = None) -> str:
    """A new version of `release`, with the alias challenger; so are the versions it pins.

    `run_id` is the run of the training that made it; without one it has a run of its own.
    """
    import mlflow

    ensure_registered(client, RELEASE)
    experiment = client.get_experiment_by_name(RELEASE)
    of = {"experiment_id": experiment.experiment_id} if run_id is None else {"run_id": run_id}
    with mlflow.start_run(**of) as run:
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
    """What release `number` pins, and its feature set as JSON.

    `NotFound` if there is no such release, `BrokenRelease` if its pins cannot be read.
    """
    from mlflow.exceptions import MlflowException

    try:
        source = client.get_model_version(RELEASE, number).source
    except MlflowException as error:
        raise NotFound("release", number) from error
    pinned, features = stored(f"{source}/pins.json"), stored(f"{source}/features.json")
    with read_back(f"release {number}", "pins.json"):
        return msgspec.json.decode(pinned, type=Pins), features


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


Judge = Callable[[Any, Home, str, str | None], Sequence[Passage]]  # client, home, challenger, champion


def promote(
    home: Home,
    release: str = CHALLENGER,
    *,
    force: bool = False,
    reason: str | None = None,
    who: str = "unknown",
    now: datetime | None = None,
    judge: Judge | None = None,
) -> Promotion:
    """Make a release the champion; promoting the champion again changes nothing but writes its files anew.

    `judge` asks the gates, None: all of `gates.toml` that training can ask by itself. `PromotionRefused`, with what
    every gate said, when one refuses and it is not forced with a reason; `Conflict` when somebody else changed the
    champion meanwhile.
    """
    if force and not reason:
        raise PromotionRefused("a forced promotion needs a reason")
    with tracking(home) as client:
        number = _number(client, release)
        pins, features = read_pins(client, number)
        folder, sha256 = _exported(client, home, number, pins, features)
        before = champion_of(home)
        said = () if before == number else tuple((judge or judge_by(read_bounds(home)))(client, home, number, before))
        refused = [one for one in said if one.passage == "refused"]
        if refused and not force:
            why = "; ".join(f"{one.gate}: {one.said}" for one in refused)
            raise PromotionRefused(f"release {number}: {why}; --force needs a --reason", said)
        with pointer_lock(home):
            if (current := champion_of(home)) != before:
                raise Conflict(f"release {current} became champion while the gates of {number} were asked; ask again")
            mend(home, now)
            moved = _move_aliases(client, number, pins)
            point(home, CHAMPION, number, sha256)
            if before != number or moved:
                at, kept = now or datetime.now(UTC), [msgspec.to_builtins(one) for one in said]
                remember(home, before, number, who, reason, at, forced=bool(refused), sha256=sha256, gates=kept)
        return Promotion(number, before, folder, bool(refused), said)


def follow_champion(home: Home) -> bool:
    """MLflow's aliases to what serves, as after a rollback; whether one had to move."""
    with tracking(home) as client, pointer_lock(home):
        number = champion_of(home)
        return number is not None and _move_aliases(client, number, read_pins(client, number)[0])


def shadow(
    home: Home, release: str | None, *, reason: str | None = None, who: str = "unknown", now: datetime | None = None
) -> Shadowing:
    """Score this release beside the champion and show it to nobody; None: no shadow any more.

    `NotFound` if there is no such release.
    """
    with tracking(home) as client:
        number = sha256 = None
        if release is not None:
            number = _number(client, release)
            sha256 = _exported(client, home, number, *read_pins(client, number))[1]
        with pointer_lock(home):
            before = _shadow_of(home)
            if number is not None and sha256 is not None:
                client.set_registered_model_alias(RELEASE, SHADOW, number)
                point(home, SHADOW, number, sha256)
            elif before is not None:
                client.delete_registered_model_alias(RELEASE, SHADOW)
                (home.releases / f"{SHADOW}.json").unlink()
                flush_folder(home.releases)
            if number != before:
                at = now or datetime.now(UTC)
                remember(home, before, number, who, reason, at, alias=SHADOW, kind=SHADOW, sha256=sha256)
    return Shadowing(number, before)


def _shadow_of(home: Home) -> str | None:
    """The shadow there is; by the history where its pointer cannot be read."""
    try:
        pointer = read_pointer(home.releases, SHADOW)
    except BrokenRelease:
        lines = [line for line in alias_history(home) if line["alias"] == SHADOW]
        return lines[-1]["to"] if lines else None
    return None if pointer is None else pointer.release


def shadow_since(home: Home) -> tuple[str | None, str | None]:
    """The shadow there is, and since when, where the history tells."""
    number = _shadow_of(home)
    lines = [line for line in alias_history(home) if line["alias"] == SHADOW]
    return number, (lines[-1]["at"] if number is not None and lines and lines[-1]["to"] == number else None)


def _number(client: Any, release: str) -> str:
    """A release by its number, or by an alias that it has."""
    number = alias_of(client, RELEASE, release) if release in (CHALLENGER, CHAMPION, SHADOW) else release
    if number is None:
        raise NotFound("release", release)
    return number


def exported(home: Home, release: str) -> Path:
    """The folder of a registered release, its files in place; it is not pointed at. `NotFound` if there is none."""
    with tracking(home) as client:
        number = _number(client, release)
        return _exported(client, home, number, *read_pins(client, number))[0]


def exported_digest(home: Home, release: str) -> str:
    """The digest of a registered release's manifest, its files in place; `NotFound` if there is none."""
    with tracking(home) as client:
        return _exported(client, home, release, *read_pins(client, release))[1]


def _exported(client: Any, home: Home, number: str, pins: Pins, features: bytes) -> tuple[Path, str]:
    with export_lock(home):
        return export(client, home, number, pins, features)


def export(client: Any, home: Home, number: str, pins: Pins, features: bytes) -> tuple[Path, str]:
    """Write `releases/<number>/` whole or not at all; the folder and the digest of its manifest.

    `StoreUnavailable` if it cannot be written, as on a full disk, `BrokenRelease` if not be loaded once it is; nothing
    is left behind then.
    """
    files = release_files(client, number, pins, features)
    manifest = files["manifest.json"]
    target, staged, old = (home.releases / f"{number}{ending}" for ending in ("", ".tmp", ".old"))
    for left in (staged, old):  # by an export that ended in the middle
        shutil.rmtree(left, ignore_errors=True)
    if target.exists() and _is_whole(target, digest(manifest)):
        return target, digest(manifest)
    try:
        for name, body in files.items():
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_through(path, body)
        for folder in {path.parent for path in staged.rglob("*")} | {staged}:
            flush_folder(folder)
        with read_back(f"release {number}", "one of its files"):
            load_release(staged, digest(manifest))  # what cannot be loaded is never pointed at
        if target.exists():
            os.replace(target, old)
        os.replace(staged, target)
        flush_folder(home.releases)
    finally:
        for left in (staged, old):
            shutil.rmtree(left, ignore_errors=True)
    return target, digest(manifest)


def release_files(client: Any, number: str, pins: Pins, features: bytes) -> dict[str, bytes]:
    """Every file of a release with its manifest; the same release gives the same bytes."""
    versions = {RELEASE: number, **pins.versions}
    recommender = files_of(client, "recommender", _needed(pins, "recommender"))
    with read_back(f"recommender {pins.versions['recommender']}", "offers.json"):
        offers = json_bytes([offer["offer_id"] for offer in json.loads(recommender["offers.json"])])
    files = {"offers.json": offers, "features.json": features}
    ranks = pins.versions["recommender"]
    files |= _folder(recommender, "scorer", "recommender", f"recommender {ranks}", ranks)
    files |= _folder(recommender, "popularity", "popularity", f"recommender {ranks}", ranks)
    if pins.versions["acceptance"] is None:
        files |= _folder(recommender, "prior", "acceptance", f"recommender {ranks}", None)
    for name in ("acceptance", "churn"):
        pinned = pins.versions[name]
        if pinned is not None:
            found = files_of(client, name, pinned)
            files |= _folder(found, "scorer", name, f"{name} {pinned}", pinned)
            if "uplift/scorer.json" in found:  # of the churn model, where a holdout told who is moved by an offer
                files |= _folder(found, "uplift", "uplift", f"{name} {pinned}", pinned)
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


def _folder(files: Mapping[str, bytes], source: str, target: str, version: str, number: str | None) -> dict[str, bytes]:
    """The files of one scorer under another name, its version filled in. `version` is that of the model, in words."""
    found = {name.replace(source, target, 1): body for name, body in files.items() if name.startswith(f"{source}/")}
    head = f"{target}/scorer.json"
    with read_back(version, f"{source}/scorer.json"):
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
