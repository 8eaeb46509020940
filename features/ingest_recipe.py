"""A recipe: a folder that says how the raw files of one export become our tables, and what its data need."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from features.catalogue import OBJECT_ID, Placement
from features.data_settings import DataSettings
from features.errors import BadRecipe

SHIPPED = Path(__file__).parent / "recipes"
ALIASES = {"starbucks": "starbucks_offers"}
TABLES = ("customers", "offers", "events")
SETTINGS_FILE = "recipe.toml"
_NOT_SETTINGS = ("description", "placements")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a `recipe.toml` states."""

    settings: DataSettings
    placements: tuple[Placement, ...]
    time_zone: str | None  # None if not stated: times without an offset are then refused


@dataclass(frozen=True, slots=True)
class Recipe:
    """Up to three DuckDB queries over the raw files, by table."""

    name: str
    queries: Mapping[str, str]
    needs: Needs | None


def shipped_recipes() -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{SETTINGS_FILE}")))


def named_recipes() -> tuple[str, ...]:
    """Every name that stands for a shipped recipe."""
    return (*shipped_recipes(), *ALIASES)


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a folder of one's own."""
    folder = Path(name)
    if not folder.is_dir():
        folder = SHIPPED / ALIASES.get(name, name)
    if not folder.is_dir():
        raise BadRecipe(f"{name!r} is neither a folder nor a shipped recipe ({', '.join(shipped_recipes())})", "recipe")
    queries = {table: path.read_text() for table in TABLES if (path := folder / f"{table}.sql").is_file()}
    if not queries:
        raise BadRecipe(f"{folder} holds none of {', '.join(f'{table}.sql' for table in TABLES)}", "recipe")
    return Recipe(folder.name, queries, load_needs(folder / SETTINGS_FILE))


def load_needs(path: Path) -> Needs | None:
    """What the file states, or None if there is no such file."""
    if not path.is_file():
        return None
    try:
        stated = tomllib.loads(path.read_text())
        placements = tuple(_placement(row) for row in stated.get("placements", ()))
        settings = {key: value for key, value in stated.items() if key not in _NOT_SETTINGS}
        return Needs(msgspec.convert(settings, DataSettings), placements, stated.get("time_zone"))
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadRecipe(f"{path}: {error}", path.name) from error


def _placement(row: Any) -> Placement:
    placement = msgspec.convert(row, Placement)
    if not OBJECT_ID.match(placement.placement_id):
        raise BadRecipe(f"placement_id {placement.placement_id!r} must match {OBJECT_ID.pattern}", "placements")
    return placement
