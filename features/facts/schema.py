"""The tables of what we know."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL, updated_us INTEGER NOT NULL,
    PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS object_history (
    version INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT, changed_us INTEGER NOT NULL,
    PRIMARY KEY (version, kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS history_of ON object_history (kind, id, version);
CREATE TABLE IF NOT EXISTS object_authors (version INTEGER PRIMARY KEY, changed_by TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS profiles (
    customer_id TEXT PRIMARY KEY, attributes TEXT NOT NULL, consent TEXT NOT NULL, time_zone TEXT,
    updated_us INTEGER NOT NULL, less_like TEXT NOT NULL DEFAULT '[]', said_us TEXT NOT NULL DEFAULT '{}'
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS profile_history (
    customer_id TEXT NOT NULL, valid_from_us INTEGER NOT NULL, attributes TEXT NOT NULL,
    PRIMARY KEY (customer_id, valid_from_us)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attribute_kinds (
    name TEXT NOT NULL, kind TEXT NOT NULL, n INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (name, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identities (
    alias TEXT PRIMARY KEY, customer_id TEXT NOT NULL, joined_us INTEGER NOT NULL, is_unit INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS identities_by_customer ON identities (customer_id, joined_us, alias);
CREATE TABLE IF NOT EXISTS tombstones (hash BLOB PRIMARY KEY, erased_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lake_files (
    dataset TEXT NOT NULL, path TEXT PRIMARY KEY, day TEXT NOT NULL, n_rows INTEGER NOT NULL,
    sha256 TEXT NOT NULL, batch TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lake_by_day ON lake_files (dataset, day);
"""
