"""Writes feature_store.yaml and registers what the feature set asks for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from features.compute import built, current_features
from features.compute.files import files_of
from features.errors import NboError
from features.facts import Facts
from features.feast_repo.loading import load_feast
from features.home import Home
from features.online import PROJECT, read_snapshot

APPLIED = "features_applied"  # key in facts.db: digest of the feature set that Feast knows
EMPTY_ONLINE = "online.db"  # before the first materialization
ROWS_PER_BATCH = 10_000  # in memory at once while materializing


@dataclass(frozen=True, slots=True)
class Applied:
    """What Feast knows now."""

    project: str
    entities: tuple[str, ...]
    views: dict[str, int]  # name -> number of fields
    services: tuple[str, ...]


def apply(home: Home, facts: Facts) -> Applied:
    """Entities, views and services from the feature set that was built last; those it no longer has are removed."""
    load_feast()
    from feast import Entity, FeatureService, FeatureView

    from features.feast_repo.objects import feast_objects

    built(facts)
    features = current_features(facts)
    snapshot = read_snapshot(facts)
    write_yaml(home, home.feast / (snapshot.online if snapshot else EMPTY_ONLINE))
    store = _store(home, _configured(home))
    wanted = feast_objects(features, files_of(home, features))
    names = {(type(one), one.name) for one in wanted}
    known = [*store.list_feature_services(), *store.list_feature_views(), *store.list_entities()]
    gone = [one for one in known if (type(one), one.name) not in names and one.name != "__dummy"]
    store.apply(wanted, objects_to_delete=gone, partial=not gone)
    facts.set_meta(APPLIED, features.digest)
    return Applied(
        PROJECT,
        tuple(one.name for one in wanted if isinstance(one, Entity)),
        {one.name: len(one.features) for one in wanted if isinstance(one, FeatureView)},
        tuple(one.name for one in wanted if isinstance(one, FeatureService)),
    )


def open_feast(home: Home, facts: Facts) -> Any:
    """Feast's own store on this home."""
    check_applied(facts)
    return _store(home, _configured(home))


def open_feast_on(home: Home, facts: Facts, online: Path) -> Any:
    """The same, on a new online file."""
    check_applied(facts)
    return _store(home, online)


def check_applied(facts: Facts) -> None:
    """`NboError` saying what to run, unless Feast knows the feature set that was built last."""
    features = current_features(facts)
    applied = facts.meta(APPLIED)
    if applied is None:
        raise NboError("Feast knows no features yet: run `nbo features apply`")
    if applied != features.digest:
        raise NboError("the features were built anew with another definition: run `nbo features apply`")


def settings_of(home: Home, online: Path) -> dict[str, Any]:
    """The contents of feature_store.yaml."""
    root = home.feast.resolve()
    return {
        "project": PROJECT,
        "provider": "local",
        "registry": {"registry_type": "file", "path": str(root / "registry.db"), "cache_ttl_seconds": 60},
        "offline_store": {"type": "duckdb"},
        "online_store": {"type": "sqlite", "path": str(root / online.name)},
        "materialization": {"online_write_batch_size": ROWS_PER_BATCH},
        "entity_key_serialization_version": 3,
    }


def write_yaml(home: Home, online: Path) -> None:
    home.feast.mkdir(parents=True, exist_ok=True)
    staged = home.feast / ".feature_store.yaml.tmp"
    staged.write_text(yaml.safe_dump(settings_of(home, online), sort_keys=False))
    os.replace(staged, home.feast / "feature_store.yaml")


def _store(home: Home, online: Path) -> Any:
    load_feast()
    from feast import FeatureStore, RepoConfig

    return FeatureStore(config=RepoConfig(repo_path=str(home.feast.resolve()), **settings_of(home, online)))


def _configured(home: Home) -> Path:
    try:
        text = (home.feast / "feature_store.yaml").read_text()
    except FileNotFoundError:
        raise NboError("there is no Feast repository yet: run `nbo features apply`") from None
    return Path(yaml.safe_load(text)["online_store"]["path"])
