"""The log of any other system: a CSV or Parquet file with a row per choice, read by a recipe that names its columns."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from experiments.offpolicy.logged import CLOSE, Logged, Numbers, Rows
from experiments.offpolicy.reward_models import Fit, Shown, default_fit
from features.duck import hush
from features.errors import BadInput, BadRecipe

MOST_LEVELS = 50  # of a column of text that becomes columns of the context
MOST_NAMED = 20  # columns in one message


class LogRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which column is what. `*` stands for anything in the name of a column."""

    action: str = "action"  # what was shown: text or a number
    probability: str = "probability"  # the chance it was shown with
    reward: str = "reward"
    context: tuple[str, ...] = ("context_*",)  # what was known before; text becomes a column per value
    unit: str | None = None  # whose choice it was; a row without is taken as somebody else's than all others
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
    n_without_unit: int = 0  # rows that are units of their own, as the log does not say whose they were

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
    """`BadInput` names the column, the first row that cannot be, and what was expected. Rows are those of data in the
    file, from 1, whatever order they are taken in.
    """
    file = _read(path, recipe.order)
    action = _column(file, recipe.action)
    _refuse(file, recipe.action, np.array(action.is_null()), "an action")
    names = np.array([str(one) for one in action.to_pylist()])
    probability, reward = _numbers(file, recipe.probability), _numbers(file, recipe.reward)
    _refuse(
        file,
        recipe.probability,
        ~((probability > 0.0) & (probability <= 1.0)),
        "the chance that the action was shown with, above 0 and at most 1",
        probability,
    )
    _refuse(file, recipe.reward, ~np.isfinite(reward), "a finite number", reward)
    offers, action_rows = np.unique(names, return_inverse=True)
    chances = None
    if recipe.chances is not None:
        offers, chances = _given(file, recipe.chances, offers)
        action_rows = np.searchsorted(offers, names)
    unit, n_without_unit = None, 0
    if recipe.unit is not None:
        unit, n_without_unit = _units(_column(file, recipe.unit).to_pylist())
    return OutsideLog(
        offers=tuple(offers.tolist()),
        action=action_rows.astype(np.int64),
        probability=probability,
        reward=reward,
        context=_context(file, recipe),
        unit=unit,
        chances=chances,
        n_without_unit=n_without_unit,
    )


@dataclass(frozen=True, slots=True)
class _File:
    table: Any  # in the order in which rows are taken
    rows: Rows  # (n,) of data in the file, from 1


def _units(values: Sequence[Any]) -> tuple[Rows, int]:
    """(n,) numbers of the units, and how many rows name none: each of these is one of its own."""
    known: dict[str, int] = {}
    found, n_without = np.empty(len(values), np.int64), 0
    for i, value in enumerate(values):
        if value is None or value == "" or (isinstance(value, float) and isnan(value)):
            n_without += 1
            found[i] = -n_without
        else:
            found[i] = known.setdefault(str(value), len(known))
    return found, n_without


def _read(path: Path, order: str | None) -> _File:
    import duckdb
    import pyarrow.compute as pc

    csv = "read_csv(?, sample_size = -1)"  # types are those of all rows: what is no number is then found by its row
    readers = {".parquet": "read_parquet(?)", ".csv": csv, ".gz": csv}
    if path.suffix not in readers:
        raise BadInput(f"the log is {path.name!r}, expected a .csv, .csv.gz or .parquet file", "log")
    if not path.is_file():
        raise BadInput(f"there is no log {path}", "log")
    with duckdb.connect(config={"threads": 1}) as db:
        db.execute("SET TimeZone = 'UTC'")
        hush(db)
        try:
            table = db.sql(f"SELECT * FROM {readers[path.suffix]}", params=[str(path)]).to_arrow_table()
        except duckdb.Error as error:
            raise BadInput(f"{path.name} cannot be read: {str(error).splitlines()[0]}", "log") from None
    if not len(table):
        raise BadInput(f"{path.name} holds no row", "log")
    rows = np.arange(len(table), dtype=np.int64)
    if order is not None:
        _need(order, table.column_names)
        rows = pc.sort_indices(table, [(order, "ascending")]).to_numpy().astype(np.int64)  # of equals, the first first
        table = table.take(rows)
    return _File(table, rows + 1)


def _need(name: str, columns: Sequence[str]) -> None:
    if name not in columns:
        shown = ", ".join(columns[:MOST_NAMED]) + (", …" if len(columns) > MOST_NAMED else "")
        raise BadInput(f"the log has no column {name!r}; it has {shown}. Name yours in a --recipe", name)


def _column(file: _File, name: str) -> Any:
    _need(name, file.table.column_names)
    return file.table[name].combine_chunks()


def _numbers(file: _File, name: str) -> Numbers:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _column(file, name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or _odd_number(column.type)):
        _refuse_others(file, name, column)
    found: Numbers = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    return found


def _odd_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_boolean(kind) or pa.types.is_decimal(kind))


def _refuse_others(file: _File, name: str, column: Any) -> None:
    """A column that is not of numbers, by the first row of it that is none; of text that is, by the first."""
    values = column.to_pylist()
    bad = np.array([not _reads_as_number(one) for one in values])
    bad = bad if bad.any() else np.ones(len(values), np.bool_)
    first = _first(file, bad)
    shown = "missing" if values[first] is None else repr(values[first])
    raise BadInput(f"column {name!r} is {shown} in {_where(file, bad)}, expected a number", name)


def _reads_as_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _refuse(file: _File, name: str, bad: Any, expected: str, values: Numbers | None = None) -> None:
    if bad.any():
        value = np.nan if values is None else values[_first(file, bad)]
        shown = "missing" if np.isnan(value) else f"{value:g}"
        raise BadInput(f"column {name!r} is {shown} in {_where(file, bad)}, expected {expected}", name)


def _first(file: _File, bad: Any) -> int:
    """Of those marked, the one that comes first in the file."""
    marked = np.flatnonzero(bad)
    return int(marked[file.rows[marked].argmin()])


def _where(file: _File, bad: Any) -> str:
    return f"row {file.rows[_first(file, bad)]} ({np.count_nonzero(bad):,} of {len(bad):,} rows)"


def _given(file: _File, pattern: str, shown: Any) -> tuple[Any, Numbers]:
    """The candidate's chances by action, the actions in order."""
    before, star, after = pattern.partition("*")
    if not star:
        raise BadRecipe(f"chances is {pattern!r}, expected a name with a * that stands for the action", "chances")
    columns = {
        name[len(before) : len(name) - len(after)]: name
        for name in file.table.column_names
        if fnmatch.fnmatchcase(name, pattern)
    }
    missing = sorted(set(shown.tolist()) - set(columns))
    if missing:
        raise BadInput(f"the log has no column of chances {pattern.replace('*', missing[0])!r}", pattern)
    offers = sorted(columns)
    chances = np.column_stack([_numbers(file, columns[name]) for name in offers])
    for k, name in enumerate(offers):
        _refuse(file, columns[name], ~(chances[:, k] >= 0.0), "a chance, from 0 to 1", chances[:, k])
    total = chances.sum(axis=1)
    bad = np.abs(total - 1.0) > CLOSE
    if bad.any():
        named = ", ".join(columns[name] for name in offers[:MOST_NAMED]) + (", …" if len(offers) > MOST_NAMED else "")
        raise BadInput(
            f"the columns {named} sum to {total[_first(file, bad)]:g} in {_where(file, bad)}, expected 1", pattern
        )
    return np.array(offers), chances


def _context(file: _File, recipe: LogRecipe) -> Numbers:
    import pyarrow as pa

    table = file.table
    used = {recipe.action, recipe.probability, recipe.reward, recipe.unit}
    columns: list[Numbers] = []
    for pattern in recipe.context:
        names = [name for name in table.column_names if fnmatch.fnmatchcase(name, pattern) and name not in used]
        if not names and "*" not in pattern:
            _need(pattern, table.column_names)
        for name in names:
            kind = table[name].type
            if pa.types.is_integer(kind) or pa.types.is_floating(kind) or _odd_number(kind):
                columns.append(_numbers(file, name))
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
