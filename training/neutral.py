"""A fitted model with one column held at a value, and the column gone: what serving cannot know is decided once.

Position is learned from, as an offer at the top is taken more often, and then held at the top: serving compares offers
that all compete for the same place. Source: Haldar et al., Improving deep learning for Airbnb search (KDD 2020), 4.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.encoder import Encoder
from training.linear import Linear
from training.node import LEAF, NUMBER
from training.trees import Forest


def held_at(model: Linear | Forest, encoder: Encoder, column: int, value: float) -> tuple[Linear | Forest, Encoder]:
    """The same log-odds as the model's where the number in `column` is `value`, for rows without that column."""
    if encoder.columns[column].values is not None:
        raise ValueError(f"{encoder.columns[column].name} is a category; only a number can be held")
    left = Encoder(tuple(one for at, one in enumerate(encoder.columns) if at != column))
    if isinstance(model, Linear):
        return _linear(model, column, value), left
    return _forest(model, column, value), left


def without(rows: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    """(n, n_columns) -> (n, n_columns - 1)."""
    return np.delete(rows, column, axis=1)


def _linear(model: Linear, column: int, value: float) -> Linear:
    at = np.flatnonzero(model.numbers == column)
    row = np.full((1, max(int(model.numbers.max(initial=0)), column) + 1), np.nan)
    row[0, column] = value
    adds = float(model.standardised(row)[0, at] @ model.weights[at]) if at.size else 0.0
    numbers, categories = np.delete(model.numbers, at), model.categories
    return replace(
        model,
        numbers=numbers - (numbers > column),
        centre=np.delete(model.centre, at),
        scale=np.delete(model.scale, at),
        weights=np.delete(model.weights, at),
        missing_weights=np.delete(model.missing_weights, at),
        categories=categories - (categories > column),
        intercept=model.intercept + adds,
    )


def _forest(forest: Forest, column: int, value: float) -> Forest:
    """Nodes on the column give way to the child that the value leads to; what nothing leads to is left out."""
    n = len(forest.kind)
    stands_for = np.arange(n)
    for node in range(n - 1, -1, -1):  # children come after their parent
        if forest.kind[node] == NUMBER and forest.column[node] == column:
            goes_left = forest.missing_left[node] != 0 if np.isnan(value) else value <= forest.threshold[node]
            stands_for[node] = stands_for[forest.left[node] if goes_left else forest.right[node]]
    roots = stands_for[forest.roots]
    reached = np.zeros(n, np.bool_)
    reached[roots] = True
    inner = forest.kind != LEAF
    for node in range(n):
        if reached[node] and inner[node]:
            reached[stands_for[[forest.left[node], forest.right[node]]]] = True
    kept = np.flatnonzero(reached)
    place = np.cumsum(reached) - 1
    columns = forest.column[kept]
    return Forest(
        roots=place[roots].astype(np.int32),
        kind=forest.kind[kept],
        column=np.where(inner[kept], columns - (columns > column), 0).astype(np.int32),
        threshold=forest.threshold[kept],
        left=np.where(inner[kept], place[stands_for[forest.left[kept]]], 0).astype(np.int32),
        right=np.where(inner[kept], place[stands_for[forest.right[kept]]], 0).astype(np.int32),
        missing_left=forest.missing_left[kept],
        value=forest.value[kept],
        codes=forest.codes[kept],
        code_left=forest.code_left,
        baseline=forest.baseline,
    )
