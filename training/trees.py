"""Boosted trees as flat node arrays, walked by compiled code without scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.compiled import compiled
from training.encoder import Encoder, OfferSide
from training.forest_for_offers import ForestBits, fits
from training.node import CATEGORY, LEAF, MAX_CODES, NUMBER


@dataclass(frozen=True, slots=True)
class Forest:
    """All trees one after the other; a node's children are positions in the same arrays. Axis: n_nodes."""

    roots: NDArray[np.int32]  # (n_trees,) position of each tree's first node
    kind: NDArray[np.uint8]  # LEAF, NUMBER or CATEGORY
    column: NDArray[np.int32]  # of the encoded row
    threshold: NDArray[np.float64]  # NUMBER: at most this goes left
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.uint8]  # where NaN and unknown categories go
    value: NDArray[np.float64]  # LEAF: added to the raw score
    codes: NDArray[np.int32]  # CATEGORY: row of `code_left`
    code_left: NDArray[np.uint8]  # (n_category_nodes, 256) whether a code goes left; unknown codes go with NaN
    baseline: NDArray[np.float64]  # (1,) raw score before the first tree

    def raw(self, rows: NDArray[np.float64], varies: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """The log-odds of each row: (n, n_columns) -> (n,). Columns that do not vary may be named to save time."""
        out = np.full(len(rows), self.baseline[0])
        if not len(rows):
            return out
        differs = np.ones(rows.shape[1], np.bool_) if varies is None else varies
        _walk(
            rows, differs, self.roots, self.kind, self.column, self.threshold, self.left, self.right,
            self.missing_left, self.value, self.codes, self.code_left, out,
        )  # fmt: skip
        return out

    def one(self, row: NDArray[np.float64]) -> float:
        """The log-odds of one row, (n_columns,)."""
        return float(self.raw(row[None, :])[0])

    def prepare(self, encoder: Encoder, side: OfferSide) -> ForestBits | ForestRows:
        return (ForestBits if fits(self, len(side.template)) else ForestRows)(self, encoder, side)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class ForestRows:
    """One customer against all offers of a side, row by row: for trees of any size."""

    forest: Forest
    encoder: Encoder
    side: OfferSide

    def raw(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: NDArray[np.floating[Any]] | None
    ) -> NDArray[np.float64]:
        rows = self.encoder.fill(self.side, features, context, affinity)
        return self.forest.raw(rows, self.encoder.varies_by_offer)


@compiled
def _walk(  # type: ignore[no-untyped-def]
    rows, varies, roots, kind, column, threshold, left, right, missing_left, value, codes, code_left, out
):
    """Decisions on columns that are the same in all rows are made once: `skip` leads past them. Children come after
    their parent, so that going backwards finds every child settled. The decision is written out twice, because a
    function of so many arrays costs many times the step itself."""
    skip = np.empty(len(kind), dtype=np.int32)
    for node in range(len(kind) - 1, -1, -1):
        if kind[node] == LEAF or varies[column[node]]:
            skip[node] = node
            continue
        x = rows[0, column[node]]
        if np.isnan(x):
            goes_left = missing_left[node] != 0
        elif kind[node] == NUMBER:
            goes_left = x <= threshold[node]
        elif 0 <= x < MAX_CODES:
            goes_left = code_left[codes[node], int(x)] != 0
        else:
            goes_left = missing_left[node] != 0
        skip[node] = skip[left[node] if goes_left else right[node]]
    for root in roots:  # trees outside: one tree stays in the cache while all rows pass
        for i in range(rows.shape[0]):
            node = skip[root]
            while kind[node] != LEAF:
                x = rows[i, column[node]]
                if np.isnan(x):
                    goes_left = missing_left[node] != 0
                elif kind[node] == NUMBER:
                    goes_left = x <= threshold[node]
                elif 0 <= x < MAX_CODES:
                    goes_left = code_left[codes[node], int(x)] != 0
                else:
                    goes_left = missing_left[node] != 0
                node = skip[left[node] if goes_left else right[node]]
            out[i] += value[node]


def flatten(model: Any, n_trees: int | None = None) -> Forest:
    """The first `n_trees`, or all, of a fitted binary HistGradientBoostingClassifier over its own input columns.

    scikit-learn moves categorical columns to the front and replaces their codes by ranks; both are undone here,
    so that the forest reads rows as they were given to `fit`.
    """
    columns, categories = _input_columns(model)
    trees = [predictor for (predictor,) in model._predictors[:n_trees]]
    sizes = np.array([len(tree.nodes) for tree in trees], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    nodes = np.concatenate([tree.nodes for tree in trees])
    start_of = np.repeat(starts, sizes)
    leaf = nodes["is_leaf"].astype(bool)
    category = nodes["is_categorical"].astype(bool) & ~leaf
    if (
        np.where(leaf, len(nodes), np.minimum(nodes["left"], nodes["right"]) + start_of) <= np.arange(len(nodes))
    ).any():
        raise ValueError("a node comes before its parent")  # the walk relies on it
    tree_of = np.repeat(np.arange(len(trees)), sizes)
    at = np.flatnonzero(category)
    codes = np.full(len(nodes), -1, dtype=np.int32)
    codes[at] = np.arange(len(at), dtype=np.int32)
    code_left = np.repeat(nodes["missing_go_to_left"][at].astype(np.uint8)[:, None], MAX_CODES, axis=1)
    for row, node in enumerate(at):
        known = categories[int(nodes["feature_idx"][node])]
        bits = trees[tree_of[node]].raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        for rank, code in enumerate(known):
            code_left[row, code] = bits[rank >> 5] >> (rank & 31) & 1
    return Forest(
        roots=starts.astype(np.int32),
        kind=np.where(leaf, LEAF, np.where(category, CATEGORY, NUMBER)).astype(np.uint8),
        column=np.where(leaf, 0, columns[np.where(leaf, 0, nodes["feature_idx"])]).astype(np.int32),
        threshold=np.where(leaf | category, 0.0, nodes["num_threshold"]).astype(np.float64),
        left=np.where(leaf, 0, nodes["left"] + start_of).astype(np.int32),
        right=np.where(leaf, 0, nodes["right"] + start_of).astype(np.int32),
        missing_left=np.where(leaf, 0, nodes["missing_go_to_left"]).astype(np.uint8),
        value=np.where(leaf, nodes["value"], 0.0).astype(np.float64),
        codes=codes,
        code_left=code_left,
        baseline=np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1),
    )


def _input_columns(model: Any) -> tuple[NDArray[np.int64], dict[int, list[int]]]:
    """The input column of each inner column, and the codes, in rank order, of each inner categorical column."""
    if model.is_categorical_ is None:
        return np.arange(model.n_features_in_), {}
    columns = np.concatenate([np.flatnonzero(model.is_categorical_), np.flatnonzero(~model.is_categorical_)])
    encoder = model._preprocessor.named_transformers_["encoder"]
    codes = {inner: [int(code) for code in of if not np.isnan(code)] for inner, of in enumerate(encoder.categories_)}
    for known in codes.values():
        if known and not 0 <= min(known) <= max(known) < MAX_CODES:
            raise ValueError(f"category codes {min(known)} … {max(known)}, expected 0 … {MAX_CODES - 1}")
    return columns, codes
