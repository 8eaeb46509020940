"""Older files of what we know, brought to the present form in place."""

from __future__ import annotations

import sqlite3
from collections import Counter

import msgspec

from features.definitions.dsl import AttributeKind
from features.definitions.profile import kinds_moved
from features.facts.attributes import count_attributes
from features.profile import category_consent

ADDED = (  # columns that older files lack: CREATE TABLE IF NOT EXISTS does not add them
    ("profiles", "less_like", "TEXT NOT NULL DEFAULT '[]'"),
    ("profiles", "said_us", "TEXT NOT NULL DEFAULT '{}'"),
    ("attribute_kinds", "n", "INTEGER NOT NULL DEFAULT 0"),
    ("identities", "is_unit", "INTEGER NOT NULL DEFAULT 0"),
)


def upgrade(db: sqlite3.Connection) -> None:
    """Within a transaction, once all tables are there. A file in the present form stays as it is."""
    for table, column, declared in ADDED:
        if column not in _columns(db, table):
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declared}")
    if "muted_categories" in _columns(db, "profiles"):
        _mutes_into_consent(db)
    _count_attributes_of_old(db)
    db.execute(  # said at the latest when the profile last changed
        "UPDATE profiles SET said_us = (SELECT json_group_object(key, profiles.updated_us) FROM "
        "json_each(profiles.consent)) WHERE said_us = '{}' AND consent != '{}'"
    )


def _mutes_into_consent(db: sqlite3.Connection) -> None:
    """Once a list of its own; the column stays, empty."""
    rows = db.execute("SELECT customer_id, consent, muted_categories FROM profiles WHERE muted_categories != '[]'")
    for customer_id, consent, muted in rows.fetchall():
        refused = {category_consent(name): False for name in msgspec.json.decode(muted)}
        merged = msgspec.json.encode(msgspec.json.decode(consent) | refused).decode()
        db.execute(
            "UPDATE profiles SET consent = ?, muted_categories = '[]' WHERE customer_id = ?", (merged, customer_id)
        )


def _count_attributes_of_old(db: sqlite3.Connection) -> None:
    """There were no counts once."""
    if db.execute("SELECT 1 FROM attribute_kinds WHERE n > 0 LIMIT 1").fetchall():
        return
    moved: Counter[tuple[str, AttributeKind]] = Counter()
    for (attributes,) in db.execute("SELECT attributes FROM profiles"):
        moved.update(kinds_moved({}, msgspec.json.decode(attributes)))
    count_attributes(db, moved)


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in db.execute(f"PRAGMA table_info({table})").fetchall()}
