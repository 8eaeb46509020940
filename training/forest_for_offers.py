"""Boosted trees for one customer against all offers: what a tree's splits leave of its leaves, as bits.

Each tree has at most 32 leaves, numbered from left to right. A split that sends a row to the right rules out the leaves
on its left; of the leaves that all splits together leave, the leftmost is where the row ends. So splits may be decided
in any order: those on the offers alone once per catalogue, those on the customer once per decision, and only those on
affinity for each offer then. Source: Lucchese et al., QuickScorer (SIGIR 2015), https://doi.org/10.1145/2766462.2767733
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.compiled import compiled
from training.encoder import SAME_FOR_ALL_OFFERS, Encoder, OfferSide, relative
from training.node import LEAF, goes_left

if TYPE_CHECKING:
    from training.trees import Forest

MOST_LEAVES = 32
MOST_BYTES = 256 << 20  # of what is kept per catalogue
ALL = (1 << MOST_LEAVES) - 1
ALL_BITS = np.uint32(ALL)
DE_BRUIJN = 0x077CB531  # times a single bit, the upper five of 32 bits tell which it was

Bits = NDArray[np.uint32]


def fits(forest: Forest, n_offers: int) -> bool:
    """Whether the trees are small enough for bits, and all of it for the memory."""
    return _most_leaves(forest) <= MOST_LEAVES and len(forest.roots) * n_offers * 4 <= MOST_BYTES


class ForestBits:
    """The log-odds of `Forest.raw` on the filled rows, bit for bit."""

    def __init__(self, forest: Forest, encoder: Encoder, side: OfferSide) -> None:
        self.forest, self.encoder, self.side = forest, encoder, side
        sources = [column.source for column in encoder.columns]
        tree_of, keeps, self._values = _numbered(forest)
        inner = forest.kind != LEAF
        source_of = np.array([sources[at] for at in forest.column], dtype=object)

        def splits(*wanted: str) -> _Splits:
            return _Splits(forest, tree_of, keeps, np.flatnonzero(inner & np.isin(source_of, wanted)))

        n_trees, n = len(forest.roots), len(side.template)
        of_offers = splits("offer", "offer_feature")
        self._of_customer = splits(*SAME_FOR_ALL_OFFERS, "by_offer")  # 0 of an offer is the same for all
        self._of_category = splits("by_category")
        self._of_affinity = splits("affinity")
        self._affinity_starts = np.searchsorted(self._of_affinity.tree, np.arange(n_trees + 1))
        self._static: Bits = np.full((n_trees, n), ALL, np.uint32)
        of_offers.apply(np.ascontiguousarray(side.template.T), self._static)
        self._static_clears = ALL & ~np.bitwise_and.reduce(self._static, axis=1, initial=ALL).astype(np.int64)
        nothing = np.zeros((len(encoder.columns), 1))
        self._no_category: Bits = np.full((n_trees, 1), ALL, np.uint32)
        self._of_category.apply(nothing, self._no_category)
        self._by_offer = [at for at, source in enumerate(sources) if source == "by_offer"]
        self._by_category = [at for at, source in enumerate(sources) if source == "by_category"]
        self._varying = [at for at, source in enumerate(sources) if source not in SAME_FOR_ALL_OFFERS]

    def raw(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: NDArray[np.floating[Any]] | None
    ) -> NDArray[np.float64]:
        """The log-odds of one customer for each offer, (n_offers,)."""
        side, n_trees = self.side, len(self.forest.roots)
        row = self.encoder.of_customer(features, context)
        row[self._by_offer] = 0.0
        customer: Bits = np.full((n_trees, 1), ALL, np.uint32)
        self._of_customer.apply(row[:, None], customer)
        by_category, counts = self._categories(features)
        scores = np.full(len(side.template), np.nan) if affinity is None else relative(affinity[None, :])[0]
        a = self._of_affinity
        out: NDArray[np.float64] = _sum_up(
            customer[:, 0], self._static, self._static_clears, by_category, side.category_of,
            scores, self._affinity_starts, a.threshold, a.missing_left, a.keeps, self._values, self.forest.baseline[0],
        )  # fmt: skip
        self._correct(features, row, counts, scores, out)
        return out

    def _categories(self, features: Mapping[str, Any]) -> tuple[Bits, NDArray[np.float64]]:
        """Bits per tree and category, the last for none; and the counts, (n_columns, n_categories + 1)."""
        n = len(self.side.categories) + 1
        entries = self.encoder.by_category(self.side, features)
        counts = np.zeros((len(self.encoder.columns), n))
        if not len(entries.column):
            return self._no_category, counts
        counts[entries.column, entries.of] = entries.value
        bits: Bits = np.full((len(self.forest.roots), n), ALL, np.uint32)
        self._of_category.apply(counts, bits)
        return bits, counts

    def _correct(
        self,
        features: Mapping[str, Any],
        row: NDArray[np.float64],
        counts: NDArray[np.float64],
        scores: NDArray[np.float64],
        out: NDArray[np.float64],
    ) -> None:
        """The few offers of which the customer's features hold a count of their own, walked one by one."""
        entries = self.encoder.by_offer(self.side, features)
        if not len(entries.column):
            return
        which, at = np.unique(entries.of, return_inverse=True)
        rows = np.repeat(row[None, :], len(which), axis=0)
        rows[:, self._varying] = self.side.template[which][:, self._varying]
        for column in self._by_category:
            rows[:, column] = counts[column, self.side.category_of[which]]
        for column, _, _ in self.encoder.of("affinity"):
            rows[:, column] = scores[which]
        rows[:, self._by_offer] = 0.0
        rows[at, entries.column] = entries.value
        out[which] = self.forest.raw(rows)


class _Splits:
    """Some of a forest's inner nodes, in order of their trees."""

    def __init__(self, forest: Forest, tree_of: NDArray[np.int64], keeps: Bits, which: NDArray[np.intp]) -> None:
        self.tree, self.keeps = tree_of[which], keeps[which]
        self.column, self.kind, self.threshold = forest.column[which], forest.kind[which], forest.threshold[which]
        self.missing_left, self.codes = forest.missing_left[which], forest.codes[which]
        self._code_left = forest.code_left

    def apply(self, values: NDArray[np.float64], bits: Bits) -> None:
        """Values (n_columns, n), and bits (n_trees, n) of which what is ruled out is cleared."""
        _apply(
            values, self.tree, self.column, self.kind, self.threshold, self.missing_left, self.codes, self._code_left,
            self.keeps, bits,
        )  # fmt: skip


def _numbered(forest: Forest) -> tuple[NDArray[np.int64], Bits, NDArray[np.float64]]:
    """Per node its tree and the leaves that stay when it sends a row to the right; the leaves' values, (n_trees, 32),
    each where its bit leads to."""
    tree_of = np.searchsorted(forest.roots, np.arange(len(forest.kind)), side="right").astype(np.int64) - 1
    keeps: Bits = np.full(len(forest.kind), ALL, np.uint32)
    values = np.zeros((len(forest.roots), MOST_LEAVES))
    for tree, root in enumerate(forest.roots.tolist()):
        n_leaves = 0
        todo: list[tuple[int, int]] = [(root, -1)]  # a node, and for the way back the first leaf on its left
        while todo:
            node, first = todo.pop()
            if first >= 0:
                keeps[node] = ALL & ~((1 << n_leaves) - (1 << first))
            elif forest.kind[node] == LEAF:
                values[tree, ((1 << n_leaves) * DE_BRUIJN & ALL) >> 27] = forest.value[node]
                n_leaves += 1
            else:
                todo += [(int(forest.right[node]), -1), (node, n_leaves), (int(forest.left[node]), -1)]
    return tree_of, keeps, values


def _most_leaves(forest: Forest) -> int:
    ends = np.append(forest.roots[1:], len(forest.kind))
    return max((int((forest.kind[a:b] == LEAF).sum()) for a, b in zip(forest.roots, ends, strict=True)), default=0)


@compiled
def _apply(values, tree, column, kind, threshold, missing_left, codes, code_left, keeps, bits):  # type: ignore[no-untyped-def]
    n = values.shape[1]
    for node in range(len(tree)):
        of, at = tree[node], column[node]
        for i in range(n):
            if not goes_left(values[at, i], kind[node], threshold[node], missing_left[node], codes[node], code_left):
                bits[of, i] &= keeps[node]


@compiled
def _sum_up(  # type: ignore[no-untyped-def]
    customer, static, static_clears, by_category, category_of, scores, starts, threshold, missing_left, keeps, values,
    baseline,
):  # fmt: skip
    """A tree in which nothing that is left depends on the offer adds the same to all."""
    n_trees, n = static.shape
    n_categories = by_category.shape[1]
    out = np.full(n, baseline)
    left = np.empty(n, np.uint32)
    known = n == 0 or not np.isnan(scores[0])  # either all or none
    for tree in range(n_trees):
        of_static, of_category = static[tree], by_category[tree]
        bits = customer[tree] & of_category[0]
        differs = False
        for at in range(1, n_categories):
            differs |= customer[tree] & of_category[at] != bits
        if differs:
            bits = customer[tree]
            for i in range(n):
                left[i] = bits & of_category[category_of[i]]  # -1 reads the last, which is of none
        if static_clears[tree] & bits:
            if differs:
                for i in range(n):
                    left[i] &= of_static[i]
            else:
                for i in range(n):
                    left[i] = bits & of_static[i]
            differs = True
        for split in range(starts[tree], starts[tree + 1]):
            keep, at_most = keeps[split], threshold[split]
            if not bits & ~keep:
                continue
            if not known:
                if missing_left[split] == 0:
                    bits &= keep
                    if differs:
                        for i in range(n):
                            left[i] &= keep
                continue
            if not differs:
                left[:] = bits
                differs = True
            for i in range(n):
                left[i] &= ALL_BITS if scores[i] <= at_most else keep
        if differs:
            for i in range(n):
                m = np.int64(left[i])
                out[i] += values[tree, ((m & -m) * DE_BRUIJN & ALL) >> 27]
        else:
            m = np.int64(bits)
            value = values[tree, ((m & -m) * DE_BRUIJN & ALL) >> 27]
            for i in range(n):
                out[i] += value
    return out
