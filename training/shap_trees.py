"""Boosted trees as the shap library reads them: splits by category become splits by number, over the same columns.

Its TreeSHAP knows numeric splits alone. A set of codes that goes left is a few ranges of codes; their borders are
numeric splits of the same column, so that the column stays one player and its contribution one number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.node import CATEGORY, LEAF
from training.trees import Forest

UNSEEN = 1e-3  # rows that a leaf counts which no row of the background reaches


class Run(NamedTuple):
    """Codes `low` to `high` - 1 that go the same way."""

    low: int
    high: int
    left: bool


@dataclass(frozen=True, slots=True)
class Codes:
    """Which codes of a column can still come, and whether a missing value can."""

    low: int
    high: int
    missing: bool = True


@dataclass(slots=True)
class Numeric:
    """One tree with numeric splits; children are positions, -1 in a leaf."""

    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    default: list[int] = field(default_factory=list)  # where missing values go
    column: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)  # at most this goes left
    value: list[float] = field(default_factory=list)

    def add(self, column: int = -2, threshold: float = 0.0, value: float = 0.0) -> int:
        for held, what in ((self.left, -1), (self.right, -1), (self.default, -1), (self.column, column)):
            held.append(what)
        self.threshold.append(threshold)
        self.value.append(value)
        return len(self.value) - 1

    def join(self, at: int, left: int, right: int, *, missing_left: bool) -> int:
        self.left[at], self.right[at], self.default[at] = left, right, left if missing_left else right
        return at


def numeric_trees(forest: Forest, sizes: Mapping[int, int]) -> list[Numeric]:
    """All trees; `sizes` says how many categories each categorical column has."""
    everything = {column: Codes(0, n) for column, n in sizes.items()}
    trees = []
    for root in forest.roots.tolist():
        tree = Numeric()
        _grow(tree, forest, root, everything)
        trees.append(tree)
    return trees


def _grow(tree: Numeric, forest: Forest, node: int, known: Mapping[int, Codes]) -> int:
    if forest.kind[node] == LEAF:
        return tree.add(value=float(forest.value[node]))
    column, missing_left = int(forest.column[node]), bool(forest.missing_left[node])
    if forest.kind[node] == CATEGORY:
        codes = known[column]
        runs = _runs(forest.code_left[forest.codes[node]], codes)
        return _grow_runs(tree, forest, node, runs, codes.missing, known)
    at = tree.add(column, float(forest.threshold[node]))
    left = _grow(tree, forest, int(forest.left[node]), known)
    return tree.join(at, left, _grow(tree, forest, int(forest.right[node]), known), missing_left=missing_left)


def _runs(goes_left: NDArray[np.uint8], codes: Codes) -> list[Run]:
    found: list[Run] = []
    for code in range(codes.low, codes.high):
        left = bool(goes_left[code])
        if found and found[-1].left == left:
            found[-1] = found[-1]._replace(high=code + 1)
        else:
            found.append(Run(code, code + 1, left))
    return found


def _grow_runs(
    tree: Numeric, forest: Forest, node: int, runs: Sequence[Run], missing: bool, known: Mapping[int, Codes]
) -> int:
    """Halves the runs until one is left; a missing value goes on to a half that goes its way."""
    column, missing_left = int(forest.column[node]), bool(forest.missing_left[node])
    if not runs:  # only missing values come here
        return _grow(tree, forest, int((forest.left if missing_left else forest.right)[node]), known)
    if len(runs) == 1:
        (run,) = runs
        child = int((forest.left if run.left else forest.right)[node])
        if not missing or run.left == missing_left:
            return _grow(tree, forest, child, {**known, column: Codes(run.low, run.high, missing)})
        at = tree.add(column, run.low - 0.5)
        nothing = {**known, column: Codes(run.low, run.low, True)}
        left = _grow_runs(tree, forest, node, (), True, nothing)
        right = _grow(tree, forest, child, {**known, column: replace(known[column], low=run.low, high=run.high,
                                                                     missing=False)})  # fmt: skip
        return tree.join(at, left, right, missing_left=True)
    middle = len(runs) // 2
    halves = runs[:middle], runs[middle:]
    first = any(run.left == missing_left for run in halves[0])
    at = tree.add(column, halves[1][0].low - 0.5)
    left = _grow_runs(tree, forest, node, halves[0], missing and first, known)
    right = _grow_runs(tree, forest, node, halves[1], missing and not first, known)
    return tree.join(at, left, right, missing_left=first)


def as_shap_reads(forest: Forest, sizes: Mapping[int, int], background: NDArray[np.float64]) -> dict[str, Any]:
    """The model that `shap.TreeExplainer` takes; `background` (n, n_columns) says how many rows go each way."""
    trees = []
    for tree in numeric_trees(forest, sizes):
        rows, value = _weighted(tree, background)
        trees.append(
            {
                "children_left": np.array(tree.left, np.int32),
                "children_right": np.array(tree.right, np.int32),
                "children_default": np.array(tree.default, np.int32),
                "features": np.array(tree.column, np.int32),
                "thresholds": np.array(tree.threshold),
                "values": value[:, None],
                "node_sample_weight": rows,
            }
        )
    return {"trees": trees, "base_offset": float(forest.baseline[0]), "input_dtype": np.float64}


def _weighted(tree: Numeric, background: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows through each node, and the mean value below it; (n_nodes,) both. Children come after their parent."""
    n = len(tree.value)
    rows, value = np.full(n, UNSEEN), np.array(tree.value)
    inside: dict[int, NDArray[np.intp]] = {0: np.arange(len(background))}
    for at in range(n):
        here = inside.pop(at)
        if tree.left[at] < 0:
            rows[at] = len(here) + UNSEEN
            continue
        x = background[here, tree.column[at]]
        left = np.where(np.isnan(x), tree.default[at] == tree.left[at], x <= tree.threshold[at])
        inside[tree.left[at]], inside[tree.right[at]] = here[left], here[~left]
    for at in range(n - 1, -1, -1):
        if tree.left[at] >= 0:
            two = [tree.left[at], tree.right[at]]
            rows[at] = rows[two].sum()
            value[at] = (rows[two] * value[two]).sum() / rows[at]
    return rows, value
