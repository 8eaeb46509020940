"""A logistic regression over signed logs: many encoded rows at once, and one customer against all offers."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.compiled import compiled
from training.encoder import NO_ENTRIES, Encoder, Entries, OfferSide, Rows
from training.kept import Kept, read_only

Numbers = NDArray[np.float64]
LIMIT = 5.0  # no standardised number is further from 0


@dataclass(frozen=True, slots=True)
class Linear:
    """A logistic regression over signed logs of numbers and one weight per category."""

    numbers: NDArray[np.int64]  # (n_numbers,) columns of the encoded row
    centre: NDArray[np.float64]  # (n_numbers,)
    scale: NDArray[np.float64]  # (n_numbers,)
    weights: NDArray[np.float64]  # (n_numbers,)
    missing_weights: NDArray[np.float64]  # (n_numbers,) added where the number is missing
    categories: NDArray[np.int64]  # (n_categories,) columns of the encoded row
    starts: NDArray[np.int64]  # (n_categories + 1,) where each column's weights begin
    category_weights: NDArray[np.float64]  # one per code; the last of each column is for missing
    intercept: NDArray[np.float64]  # (1,)

    def raw(self, rows: NDArray[np.float64], varies: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        z = self.standardised(rows)
        missing = np.isnan(z)
        out: NDArray[np.float64] = self.intercept[0] + np.where(missing, 0.0, z) @ self.weights
        out += missing @ self.missing_weights
        for at, column in enumerate(self.categories):
            last = self.starts[at + 1] - 1
            codes = np.where(np.isnan(rows[:, column]), last, rows[:, column] + self.starts[at]).astype(np.int64)
            out += self.category_weights[np.minimum(codes, last)]
        return out

    def standardised(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The numeric columns as signed logs, centred and scaled, at most 5 away from 0; (n, n_numbers)."""
        values = rows[:, self.numbers]
        return np.clip((np.sign(values) * np.log1p(np.abs(values)) - self.centre) / self.scale, -LIMIT, LIMIT)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in self.__slots__}

    def one(self, row: Numbers) -> float:
        """The log-odds of one row, (n_columns,)."""
        return float(
            _of_row(
                row, self.numbers, self.centre, self.scale, self.weights, self.missing_weights, self.categories,
                self.starts, self.category_weights, self.intercept[0],
            )
        )  # fmt: skip

    def prepare(self, encoder: Encoder, side: OfferSide) -> LinearForOffers:
        return LinearForOffers(self, encoder, side)


class LinearForOffers:
    """The part of the log-odds that the offers alone decide, kept; and with it what a customer's affinity adds, as
    long as affinities stay. The rest is one number per category of offers, and what differs by offer as few numbers
    as there are. Equal to `Linear.raw` of the filled rows, up to rounding.
    """

    def __init__(self, model: Linear, encoder: Encoder, side: OfferSide) -> None:
        self.encoder = encoder
        sources = np.array([column.source for column in encoder.columns], dtype=object)
        shared, affinity = encoder.shared_columns, sources == "affinity"
        self._columns = _Columns(model, len(encoder.columns))
        self._shared = shared[self._columns.counts[shared]]
        self._where = np.flatnonzero(self._columns.counts[shared])  # among all that are shared
        a = np.flatnonzero(affinity[model.numbers])
        self._affinity = model.centre[a], model.scale[a], model.weights[a]
        self._reads_affinity = a.size > 0
        self._without_affinity = float(model.missing_weights[a].sum())
        self._by_offer = bool(encoder.of("by_offer"))
        later = affinity.copy()
        later[shared] = True
        self._take(side, self._of_offers(model, side.template, later))
        for known in (np.zeros(len(self.fixed), np.float32), read_only(np.zeros(len(self.fixed), np.float32))):
            self._with(known)  # compiled now, not by the first customers
        self.raw({}, {}, None)
        self._add(NO_ENTRIES, self.fixed)

    def among(self, side: OfferSide, fixed: Numbers) -> LinearForOffers:
        """The same model for other offers, of which is known what they alone decide, (n_offers,)."""
        others = copy(self)
        others._take(side, fixed)
        return others

    def _take(self, side: OfferSide, fixed: Numbers) -> None:
        n = len(side.categories)
        self.side, self.fixed = side, fixed  # (n_offers,)
        self._category_of = np.where(side.category_of < 0, n, side.category_of)  # the last is of none
        self._kept: Kept[int, tuple[NDArray[Any], Numbers]] = Kept(len(fixed))

    def raw(self, features: Any, context: Any, affinity: NDArray[np.floating[Any]] | None) -> Numbers:
        """The log-odds of one customer for each offer, (n_offers,)."""
        encoder, side, of = self.encoder, self.side, self._columns
        values, entries = encoder.shared(features, context), encoder.by_category(side, features)
        fixed, base = self.fixed, self._without_affinity
        if affinity is not None and self._reads_affinity:
            fixed, base = self._with(affinity), 0.0
        out: Numbers = _sum_up(
            values, self._where, self._shared, of.table, of.first, of.last, of.category_weights, base, *entries,
            len(side.categories), fixed, self._category_of,
        )  # fmt: skip
        if self._by_offer:
            entries = encoder.by_offer(side, features)
            if len(entries.column):
                self._add(entries, out)
        return out

    def _with(self, affinity: NDArray[np.floating[Any]]) -> Numbers:
        """What the offers alone decide, and the customer's affinity."""
        kept = self._kept.get(id(affinity))
        if kept is None:
            kept = affinity, _with_affinity(self.fixed, affinity, *self._affinity)
            if not affinity.flags.writeable:  # nor will it be another's: it is held here
                self._kept.put(id(affinity), kept)
        return kept[1]

    def _add(self, entries: Entries, out: Numbers) -> None:
        _add_entries(*entries, self._columns.table, out)

    def _of_offers(self, model: Linear, template: Rows, later: NDArray[np.bool_]) -> Numbers:
        """The log-odds from the intercept and all columns but those of `later`, keyed ones at 0.

        Row by row, so that an offer's is the same to the last bit whichever others there are: a product of matrices
        adds up in an order that depends on their size.
        """
        rows = template.copy()
        for column, _, _ in (*self.encoder.of("by_category"), *self.encoder.of("by_offer")):
            rows[:, column] = 0.0
        numbers = np.flatnonzero(~later[model.numbers])
        z = model.standardised(rows)[:, numbers]
        missing = np.isnan(z)
        terms = np.where(missing, model.missing_weights[numbers], z * model.weights[numbers])
        out: Numbers = model.intercept[0] + np.ascontiguousarray(terms).sum(axis=1)
        for at, column in enumerate(model.categories.tolist()):
            if not later[column]:
                last = model.starts[at + 1] - 1
                codes = np.where(np.isnan(rows[:, column]), last, rows[:, column] + model.starts[at]).astype(np.int64)
                out += model.category_weights[np.minimum(codes, last)]
        return out


class _Columns:
    """A model's weights by column of the encoded row; a column that it does not read weighs nothing."""

    def __init__(self, model: Linear, n_columns: int) -> None:
        self.counts = np.zeros(n_columns, np.bool_)  # whether the model reads it
        self.counts[model.numbers] = self.counts[model.categories] = True
        self.table = np.zeros((n_columns, 5))  # centre, scale, weight, missing weight; and what a 0 adds
        self.table[:, 1] = 1.0
        for at, of in enumerate((model.centre, model.scale, model.weights, model.missing_weights)):
            self.table[model.numbers, at] = of
        self.table[:, 4] = [_adds(0.0, *row[:4]) for row in self.table]
        self.first, self.last = np.full(n_columns, -1), np.full(n_columns, -1)  # of a category's weights
        self.first[model.categories], self.last[model.categories] = model.starts[:-1], model.starts[1:] - 1
        self.category_weights = model.category_weights


@compiled
def _code(code, first, last):  # type: ignore[no-untyped-def]
    """Where the weight of a category's code stands; the last of its column is for NaN."""
    return last if np.isnan(code) else min(int(code) + first, last)


@compiled
def _adds(x, centre, scale, weight, missing_weight):  # type: ignore[no-untyped-def]
    if np.isnan(x):
        return missing_weight
    z = (math.copysign(math.log1p(abs(x)), x) - centre) / scale
    return min(max(z, -LIMIT), LIMIT) * weight


@compiled
def _of_row(  # type: ignore[no-untyped-def]
    row, numbers, centre, scale, weights, missing_weights, categories, starts, category_weights, total
):
    for at in range(len(numbers)):
        total += _adds(row[numbers[at]], centre[at], scale[at], weights[at], missing_weights[at])
    for at in range(len(categories)):
        total += category_weights[_code(row[categories[at]], starts[at], starts[at + 1] - 1)]
    return total


@compiled
def _instead_of_0(value, row):  # type: ignore[no-untyped-def]
    return _adds(value, row[0], row[1], row[2], row[3]) - row[4]


@compiled
def _add_entries(column, of, value, table, out):  # type: ignore[no-untyped-def]
    """Entries take the place of the zeros that are in `fixed`."""
    for i in range(len(column)):
        out[of[i]] += _instead_of_0(value[i], table[column[i]])


@compiled
def _sum_up(  # type: ignore[no-untyped-def]
    values, where, columns, table, first, last, category_weights, base, entry_column, entry_of, entry_value,
    n_categories, fixed, category_of,
):  # fmt: skip
    """What the customer adds is the same for all offers of a category."""
    for i in range(len(where)):
        x, at = values[where[i]], columns[i]
        if first[at] >= 0:
            base += category_weights[_code(x, first[at], last[at])]
        else:
            base += _adds(x, table[at, 0], table[at, 1], table[at, 2], table[at, 3])
    added = np.full(n_categories + 1, base)
    for i in range(len(entry_column)):
        added[entry_of[i]] += _instead_of_0(entry_value[i], table[entry_column[i]])
    out = np.empty(len(fixed))
    for i in range(len(fixed)):
        out[i] = fixed[i] + added[category_of[i]]
    return out


@compiled
def _with_affinity(fixed, affinity, centre, scale, weights):  # type: ignore[no-untyped-def]
    """It is made relative as `encoder.relative` does."""
    n = len(fixed)
    out = fixed.copy()
    mean = 0.0
    for i in range(n):
        mean += affinity[i]
    mean /= n
    square = 0.0
    for i in range(n):
        square += (affinity[i] - mean) ** 2
    spread = math.sqrt(square / n)
    flat = not spread > 1e-9
    for at in range(len(weights)):
        for i in range(n):
            x = 0.0 if flat else (affinity[i] - mean) / spread
            z = (math.copysign(math.log(1.0 + abs(x)), x) - centre[at]) / scale[at]
            out[i] += min(max(z, -LIMIT), LIMIT) * weights[at]
    return out
