"""A logistic regression over signed logs: many encoded rows at once, and one customer against all offers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.compiled import compiled
from training.encoder import NO_ENTRIES, SAME_FOR_ALL_OFFERS, Encoder, Entries, OfferSide

Numbers = NDArray[np.float64]
Positions = NDArray[np.int64]
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
        total = float(self.intercept[0])
        total += _added(row, self.numbers, self.centre, self.scale, self.weights, self.missing_weights)
        for at, column in enumerate(self.categories.tolist()):
            last, code = int(self.starts[at + 1]) - 1, row[column]
            total += float(self.category_weights[_code(code, int(self.starts[at]), last)])
        return float(total)

    def prepare(self, encoder: Encoder, side: OfferSide) -> LinearForOffers:
        return LinearForOffers(self, encoder, side)


class LinearForOffers:
    """The part of the log-odds that the offers alone decide, kept; the customer's is added as one number, and what
    differs by both as few numbers as there are. Equal to `Linear.raw` of the filled rows, up to rounding.
    """

    def __init__(self, model: Linear, encoder: Encoder, side: OfferSide) -> None:
        self.encoder, self.side = encoder, side
        sources = np.array([column.source for column in encoder.columns], dtype=object)
        same = np.isin(sources, list(SAME_FOR_ALL_OFFERS))
        affinity = sources == "affinity"
        of_customer = same[model.numbers]
        self._numbers = _Numbers(model, np.flatnonzero(of_customer))
        self._affinity = _Numbers(model, np.flatnonzero(affinity[model.numbers]))
        self._categories = [
            (int(column), int(model.starts[at]), int(model.starts[at + 1]) - 1)
            for at, column in enumerate(model.categories.tolist())
            if same[column]
        ]
        self._category_weights = model.category_weights.tolist()
        self._by_column = _Numbers(model, np.arange(len(model.numbers)))
        self._at = np.full(len(encoder.columns), -1)  # of a column, among the numbers
        self._at[model.numbers] = np.arange(len(model.numbers))
        self._fixed = self._of_offers(model, same | affinity)  # (n_offers,)
        self._no_entries = np.zeros(len(side.categories) + 1)
        self._add(NO_ENTRIES, self._no_entries)  # compiled now, not by the first customer who has some

    def raw(self, features: Any, context: Any, affinity: NDArray[np.floating[Any]] | None) -> Numbers:
        """The log-odds of one customer for each offer, (n_offers,)."""
        encoder, side = self.encoder, self.side
        row = encoder.of_customer(features, context)
        base = self._numbers.added(row)
        for column, start, last in self._categories:
            base += self._category_weights[_code(row[column], start, last)]
        entries = encoder.by_category(side, features)
        by_category = self._no_entries
        if len(entries.column):
            by_category = by_category.copy()
            self._add(entries, by_category)
        a = self._affinity
        known = affinity is not None and len(a.columns) > 0
        scores = affinity if affinity is not None and known else NO_AFFINITY
        if not known:
            base += float(a.missing_weights.sum())
        out: Numbers = _sum_up(self._fixed, base, side.category_of, by_category, scores, a.centre, a.scale, a.weights)
        entries = encoder.by_offer(side, features)
        if len(entries.column):
            self._add(entries, out)
        return out

    def _add(self, entries: Entries, out: Numbers) -> None:
        """Entries take the place of the zeros that are in `fixed`."""
        of = self._by_column
        _add_entries(*entries, self._at, of.centre, of.scale, of.weights, of.missing_weights, out)

    def _of_offers(self, model: Linear, later: NDArray[np.bool_]) -> Numbers:
        """The log-odds from the intercept and all columns but those of `later`, keyed ones at 0."""
        rows = self.side.template.copy()
        for column, _, _ in (*self.encoder.of("by_category"), *self.encoder.of("by_offer")):
            rows[:, column] = 0.0
        numbers = np.flatnonzero(~later[model.numbers])
        z = model.standardised(rows)[:, numbers]
        missing = np.isnan(z)
        out: Numbers = model.intercept[0] + np.where(missing, 0.0, z) @ model.weights[numbers]
        out += missing @ model.missing_weights[numbers]
        for at, column in enumerate(model.categories.tolist()):
            if not later[column]:
                last = model.starts[at + 1] - 1
                codes = np.where(np.isnan(rows[:, column]), last, rows[:, column] + model.starts[at]).astype(np.int64)
                out += model.category_weights[np.minimum(codes, last)]
        return out


def _code(code: float, start: int, last: int) -> int:
    """Where the weight of a category's code stands; the last of its column is for NaN."""
    return last if code != code else min(int(code) + start, last)


NO_AFFINITY = np.zeros(0, np.float32)


class _Numbers:
    """Some of a model's numeric columns."""

    def __init__(self, model: Linear, which: Positions) -> None:
        self.columns = model.numbers[which]
        self.centre, self.scale = model.centre[which], model.scale[which]
        self.weights, self.missing_weights = model.weights[which], model.missing_weights[which]

    def added(self, row: Numbers) -> float:
        """What they add to the log-odds of one row."""
        return float(_added(row, self.columns, self.centre, self.scale, self.weights, self.missing_weights))


@compiled
def _adds(x, centre, scale, weight, missing_weight):  # type: ignore[no-untyped-def]
    if np.isnan(x):
        return missing_weight
    z = (math.copysign(math.log1p(abs(x)), x) - centre) / scale
    return min(max(z, -LIMIT), LIMIT) * weight


@compiled
def _added(row, columns, centre, scale, weights, missing_weights):  # type: ignore[no-untyped-def]
    total = 0.0
    for at in range(len(columns)):
        total += _adds(row[columns[at]], centre[at], scale[at], weights[at], missing_weights[at])
    return total


@compiled
def _add_entries(column, of, value, at_of, centre, scale, weights, missing_weights, out):  # type: ignore[no-untyped-def]
    for i in range(len(column)):
        at = at_of[column[i]]
        if at >= 0:
            now = _adds(value[i], centre[at], scale[at], weights[at], missing_weights[at])
            out[of[i]] += now - _adds(0.0, centre[at], scale[at], weights[at], missing_weights[at])


@compiled
def _sum_up(fixed, base, category_of, by_category, affinity, centre, scale, weights):  # type: ignore[no-untyped-def]
    """`affinity` is made relative as `encoder.relative` does, and may be empty: then nothing is added for it."""
    n = len(fixed)
    out = np.empty(n)
    for i in range(n):
        out[i] = fixed[i] + base + by_category[category_of[i]]  # -1 reads the last, which is 0
    if len(affinity) == 0:
        return out
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
