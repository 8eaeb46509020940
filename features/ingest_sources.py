"""Raw tables as DuckDB relations whose columns carry event fields: from files of ours, or from a recipe's query."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from features.errors import BadInput, BadRecipe
from features.ingest_recipe import TABLES, Recipe

LONGEST_LINE = 16 * 1024 * 1024  # bytes of one line of CSV or JSON
_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One raw table: how to select from it, and what its columns are."""

    name: str  # customers, offers or events
    shown: str  # file or query, for messages
    relation: str  # SQL that stands after FROM
    types: Mapping[str, str]  # DuckDB types by column; of JSON lines only `line`
    is_json: bool = False  # one JSON object per row, in the column `line`
    is_text: bool = False  # a CSV: all columns are text, and rejected lines are in the table `bad_<name>`


def tables_of(con: duckdb.DuckDBPyConnection, folder: Path, recipe: Recipe | None) -> list[Table]:
    """The raw tables, in the order customers, offers, events."""
    found = _queried(con, folder, recipe) if recipe is not None else [_read(con, *one) for one in _files(folder)]
    if not found:
        raise BadInput(
            f"{folder} holds none of customers, offers, events as .csv, .parquet or .jsonl (.ndjson, .json), "
            "plain or .gz; for other tables, write a recipe",
            "source",
        )
    return found


def quoted(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _queried(con: duckdb.DuckDBPyConnection, folder: Path, recipe: Recipe) -> list[Table]:
    return [
        _result(con, name, f"{recipe.name}/{name}.sql", recipe.queries[name], folder)
        for name in TABLES
        if name in recipe.queries
    ]


def _result(con: duckdb.DuckDBPyConnection, name: str, shown: str, query: str, folder: Path) -> Table:
    """A recipe's query, run once and kept, because running it twice may number rows differently."""
    try:
        statements = con.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise BadRecipe(f"{shown} must hold one SELECT", shown)
        con.execute(f"CREATE TEMP TABLE raw_{name} AS {query.strip().rstrip(';')}")
    except duckdb.IOException as error:
        raise BadRecipe(f"{shown} does not find its files in the source {folder}: {error}", shown) from error
    except duckdb.Error as error:
        raise BadRecipe(f"{shown}: {error}", shown) from error
    return Table(name, shown, f"raw_{name}", _types(con, f"raw_{name}"))


def _files(folder: Path) -> list[tuple[str, Path, str]]:
    """(table, path, format) of the files of ours in a folder."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", "source")
    found: dict[str, tuple[str, Path, str]] = {}
    for path in sorted(folder.iterdir()):
        plain = path.with_suffix("") if path.suffix == ".gz" else path
        if plain.stem in TABLES and plain.suffix in _FORMATS:
            if plain.stem in found:
                raise BadInput(f"{folder} holds {plain.stem} twice: {found[plain.stem][1].name}, {path.name}", "source")
            found[plain.stem] = (plain.stem, path, _FORMATS[plain.suffix])
    return [found[name] for name in TABLES if name in found]


def _read(con: duckdb.DuckDBPyConnection, name: str, path: Path, kind: str) -> Table:
    at = quoted(f"{path}/**/*.parquet" if path.is_dir() else str(path))
    try:
        if kind == "parquet":
            relation = f"read_parquet({at})"
            return Table(name, path.name, relation, _types(con, relation))
        if kind == "csv":
            return _read_csv(con, name, path, at)
        return _read_lines(con, name, path, at)
    except duckdb.Error as error:
        raise BadInput(f"{path}: {error}", path.name) from error


def _read_csv(con: duckdb.DuckDBPyConnection, name: str, path: Path, at: str) -> Table:
    options = (
        f"delim = {quoted(_delimiter(path))}, quote = '\"', escape = '\"', header = true, all_varchar = true, "
        f"store_rejects = true, rejects_table = 'bad_{name}', rejects_scan = 'bad_scan_{name}', "
        f"max_line_size = {LONGEST_LINE}"
    )
    con.execute(f"CREATE TEMP TABLE raw_{name} AS FROM read_csv({at}, {options})")
    return Table(name, path.name, f"raw_{name}", _types(con, f"raw_{name}"), is_text=True)


def _delimiter(path: Path) -> str:
    """The one that the header has most of; a comma if it has none."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        header = file.readline().decode(errors="replace")
    return max(",;\t|", key=header.count)


def _read_lines(con: duckdb.DuckDBPyConnection, name: str, path: Path, at: str) -> Table:
    """Lines as text, so that a malformed one is a refused row and not the end of the ingest."""
    options = (
        "columns = {'line': 'VARCHAR'}, delim = '\\x01', quote = '', escape = '', header = false, auto_detect = false, "
        f"max_line_size = {LONGEST_LINE}"
    )
    con.execute(f"CREATE TEMP TABLE raw_{name} AS SELECT line FROM read_csv({at}, {options}) WHERE trim(line) <> ''")
    return Table(name, path.name, f"raw_{name}", {"line": "VARCHAR"}, is_json=True)


def _types(con: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    return {row[0]: row[1] for row in con.execute(f"DESCRIBE FROM {relation}").fetchall()}
