"""The log of any other system: a CSV or Parquet file with a row per choice, read by a recipe that names its columns."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from experiments.offpolicy.logged import Logged, Numbers, Rows
from experiments.offpolicy.reward_models import Fit, Shown, default_fit
from features.errors import BadInput, BadRecipe

MOST_LEVELS = 50  # of a column of text that becomes columns of the context


class LogRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which column is what. `*` stands for anything in the name of a column."""

    action: str = "action"  # what was shown: text or a number
    probability: str = "probability"  # the chance it was shown with
    reward: str = "reward"
    context: tuple[str, ...] = ("context_*",)  # what was known before; text becomes a column per value
    unit: str | None = None  # whose choice it was
    order: str | None = None  # rows are taken in the order of this column, else of the file
    chances: str | None = None  # the candidate's chances: a column per action, which stands for the `*`


@dataclass(frozen=True, slots=True)
class OutsideLog:
    """A log from elsewhere, in order. Every action may be chosen in every row."""

    offers: tuple[str, ...]
    action: Rows  # (n,)
    probability: Numbers  # (n,)
    reward: Numbers  # (n,)
    context: Numbers  # (n, d)
    unit: Rows | None  # (n,)
    chances: Numbers | None  # (n, n_offers)

    def logged(self, rows: slice, chances: Numbers) -> Logged:
        """Some rows with a candidate's chances for these; `BadInput` names what cannot be."""
        return Logged(
            offers=self.offers,
            action=self.action[rows],
            probability=self.probability[rows],
            reward=self.reward[rows],
            chances=chances,
            context=self.context[rows],
            unit=None if self.unit is None else self.unit[rows],
        )

    @property
    def later(self) -> slice:
        """The second half of the rows: a policy that learns from the first is judged on it."""
        return slice(len(self.action) // 2, len(self.action))

    def learned_scores(self, fit: Fit | None = None) -> Numbers:
        """The reward to be expected of each offer in each row of the second half, learned from the first."""
        first = slice(0, self.later.start)
        if not self.later.start:
            raise BadInput("the log holds one row, expected some to learn from and some to judge on", "log")
        outcome = self.reward[first]
        learn = default_fit(outcome) if fit is None else fit
        predict = learn(Shown(self.context[first], None, self.action[first], outcome, len(self.offers)))
        return predict(self.context[self.later], None)


def read_recipe(path: Path | None) -> LogRecipe:
    """From TOML; without a file, columns are called what they are. `BadRecipe` names the key."""
    if path is None:
        return LogRecipe()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=LogRecipe)
    except OSError as error:
        raise BadRecipe(f"{path} cannot be read: {error.strerror}", "recipe") from None
    except msgspec.ValidationError as error:
        raise BadRecipe(f"{path}: {error}", "recipe") from None
    except msgspec.DecodeError as error:
        raise BadRecipe(f"{path} is not valid TOML: {error}", "recipe") from None


def read_log(path: Path, recipe: LogRecipe) -> OutsideLog:
    """`BadInput` names the column, the first row (from 1) that cannot be, and what was expected."""
    table = _table(path, recipe.order)
    action = _column(table, recipe.action)
    if action.null_count:
        _refuse(recipe.action, np.array(action.is_null()), "an action")
    names = np.array([str(one) for one in action.to_pylist()])
    probability, reward = _numbers(table, recipe.probability), _numbers(table, recipe.reward)
    _refuse(
        recipe.probability,
        ~((probability > 0.0) & (probability <= 1.0)),
        "the chance that the action was shown with, above 0 and at most 1",
        probability,
    )
    _refuse(recipe.reward, ~np.isfinite(reward), "a finite number", reward)
    offers, action_rows = np.unique(names, return_inverse=True)
    chances = None
    if recipe.chances is not None:
        offers, chances = _given(table, recipe.chances, offers)
        action_rows = np.searchsorted(offers, names)
    unit = None
    if recipe.unit is not None:
        text = np.array([str(one) for one in _column(table, recipe.unit).to_pylist()])
        unit = np.unique(text, return_inverse=True)[1].astype(np.int64)
    return OutsideLog(
        offers=tuple(offers.tolist()),
        action=action_rows.astype(np.int64),
        probability=probability,
        reward=reward,
        context=_context(table, recipe),
        unit=unit,
        chances=chances,
    )


def _table(path: Path, order: str | None) -> Any:
    import duckdb

    readers = {".parquet": "read_parquet", ".csv": "read_csv", ".gz": "read_csv"}
    if path.suffix not in readers:
        raise BadInput(f"the log is {path.name!r}, expected a .csv, .csv.gz or .parquet file", "log")
    if not path.is_file():
        raise BadInput(f"there is no log {path}", "log")
    with duckdb.connect(config={"threads": 1}) as db:
        db.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
        try:
            read = f"SELECT * FROM {readers[path.suffix]}(?)"
            columns = db.sql(f"{read} LIMIT 0", params=[str(path)]).columns
            by = ""
            if order is not None:
                _need(order, columns)
                quoted = order.replace('"', '""')
                by = f' ORDER BY "{quoted}"'
            table = db.sql(read + by, params=[str(path)]).to_arrow_table()
        except duckdb.Error as error:
            raise BadInput(f"{path.name} cannot be read: {str(error).splitlines()[0]}", "log") from None
    if not len(table):
        raise BadInput(f"{path.name} holds no row", "log")
    return table


def _need(name: str, columns: Sequence[str]) -> None:
    if name not in columns:
        shown = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
        raise BadInput(f"the log has no column {name!r}; it has {shown}. Name yours in a --recipe", name)


def _column(table: Any, name: str) -> Any:
    _need(name, table.column_names)
    return table[name].combine_chunks()


def _numbers(table: Any, name: str) -> Numbers:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _column(table, name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or _odd_number(column.type)):
        raise BadInput(f"column {name!r} holds {column.type}, expected numbers", name)
    found: Numbers = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    return found


def _odd_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_boolean(kind) or pa.types.is_decimal(kind))


def _refuse(name: str, bad: Any, expected: str, values: Numbers | None = None) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        shown = "missing" if values is None or np.isnan(values[rows[0]]) else f"{values[rows[0]]:g}"
        where = f"row {rows[0] + 1} ({rows.size:,} of {len(bad):,} rows)"
        raise BadInput(f"column {name!r} is {shown} in {where}, expected {expected}", name)


def _given(table: Any, pattern: str, shown: Any) -> tuple[Any, Numbers]:
    """The candidate's chances by action, the actions in order."""
    before, star, after = pattern.partition("*")
    if not star:
        raise BadRecipe(f"chances is {pattern!r}, expected a name with a * that stands for the action", "chances")
    columns = {
        name[len(before) : len(name) - len(after)]: name
        for name in table.column_names
        if fnmatch.fnmatchcase(name, pattern)
    }
    missing = sorted(set(shown.tolist()) - set(columns))
    if missing:
        raise BadInput(f"the log has no column of chances {pattern.replace('*', missing[0])!r}", pattern)
    offers = np.array(sorted(columns))
    return offers, np.column_stack([_numbers(table, columns[name]) for name in offers.tolist()])


def _context(table: Any, recipe: LogRecipe) -> Numbers:
    import pyarrow as pa

    used = {recipe.action, recipe.probability, recipe.reward, recipe.unit}
    columns: list[Numbers] = []
    for pattern in recipe.context:
        names = [name for name in table.column_names if fnmatch.fnmatchcase(name, pattern) and name not in used]
        if not names and "*" not in pattern:
            _need(pattern, table.column_names)
        for name in names:
            kind = table[name].type
            if pa.types.is_integer(kind) or pa.types.is_floating(kind) or _odd_number(kind):
                columns.append(_numbers(table, name))
                continue
            values = [None if one is None else str(one) for one in table[name].to_pylist()]
            levels = sorted({one for one in values if one is not None})
            if len(levels) > MOST_LEVELS:
                raise BadInput(
                    f"context column {name!r} holds {len(levels):,} different texts, at most {MOST_LEVELS} become "
                    "columns; leave it out or group it",
                    name,
                )
            columns += [np.array([one == level for one in values], np.float64) for level in levels]
    return np.column_stack(columns) if columns else np.zeros((len(table), 0))
