"""What lists are like, whether or not they are right: novelty, diversity, and how much they favour the popular."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.compiled import compiled
from training.interactions import Interactions

LISTS = ("novelty", "diversity", "category_diversity", "popularity", "head_share")
HEAD = 0.2  # share of the offers, the most taken first, that are called the head
MEASURED = 5_000  # customers, evenly spread, whose takings say how alike two offers are


@dataclass(frozen=True)
class Catalogue:
    """What the lists of one past are measured by."""

    share: NDArray[np.float64]  # (n_offers,) of the past's customers who took it; one at least, so that it has a log
    head: NDArray[np.bool_]  # (n_offers,)
    category: NDArray[np.int32]  # (n_offers,), -1 for none
    alike: sparse.csr_matrix  # (n_offers, n_offers) cosine of who took them, sorted rows


def catalogue_of(past: Interactions) -> Catalogue:
    n, n_offers = len(np.unique(past.customer)), len(past.offers)
    pairs, _ = past.pairs(0, None)
    counts = np.bincount(pairs % max(n_offers, 1), minlength=n_offers)
    head = np.zeros(n_offers, np.bool_)
    head[np.argsort(-counts, kind="stable")[: max(round(HEAD * n_offers), 1)]] = True
    names = sorted({offer.category for offer in past.offers if offer.category is not None})
    code = {name: at for at, name in enumerate(names)}
    category = np.array([-1 if o.category is None else code[o.category] for o in past.offers], np.int32)
    return Catalogue(np.maximum(counts, 1) / max(n, 1), head, category, _alike(pairs, n_offers))


def _alike(pairs: NDArray[np.int64], n_offers: int) -> sparse.csr_matrix:
    """Cosine between offers over customers, binary."""
    customer, offer = np.divmod(pairs, max(n_offers, 1))
    names, row = np.unique(customer, return_inverse=True)
    if len(names) > MEASURED:
        kept = np.zeros(len(names), np.bool_)
        kept[np.linspace(0, len(names) - 1, MEASURED).astype(int)] = True
        offer, row = offer[kept[row]], row[kept[row]]
    ones = np.ones(len(row), np.float32)
    takes = sparse.csr_matrix((ones, (row, offer)), shape=(max(len(names), 1), n_offers))
    length = np.sqrt(np.asarray(takes.sum(axis=0)).ravel())
    scaled = takes @ sparse.diags(1.0 / np.maximum(length, 1.0))
    found = (scaled.T @ scaled).tocsr()
    found.sort_indices()
    return found


def list_metrics(lists: NDArray[np.int32], catalogue: Catalogue) -> dict[str, NDArray[np.float64]]:
    """Each of `LISTS`, (n_customers,); NaN for an empty list, and where a list has no pair to compare.

    novelty: mean self-information −log2(share of customers who took the offer) [bits]; diversity: mean 1 − cosine of
    who took the two, over the pairs of a list; category_diversity: share of the pairs with different categories;
    popularity: mean share of customers who took the offer; head_share: share of the list that is of the most taken
    fifth of the catalogue.
    """
    alike = catalogue.alike
    found = _lists(
        lists, catalogue.share, catalogue.head, catalogue.category,
        alike.indptr.astype(np.int64), alike.indices.astype(np.int64), alike.data.astype(np.float64),
    )  # fmt: skip
    return dict(zip(LISTS, found, strict=True))


def coverage(lists: NDArray[np.int32], n_offers: int) -> tuple[float, float]:
    """Share of the catalogue that is in somebody's list, and the Gini coefficient of how often (0: all alike)."""
    counts = np.sort(np.bincount(lists[lists >= 0], minlength=n_offers))
    total = counts.sum()
    if not total:
        return 0.0, float("nan")
    rank = np.arange(1, n_offers + 1)
    gini = float((2 * rank - n_offers - 1) @ counts / (n_offers * total))
    return float((counts > 0).mean()), gini


@compiled
def _lists(lists, share, head, category, start, columns, cosine):  # type: ignore[no-untyped-def]
    n, k = lists.shape
    out = np.full((5, n), np.nan)
    for i in range(n):
        size, novelty, popularity, in_head = 0, 0.0, 0.0, 0
        pairs, apart, known, other = 0, 0.0, 0, 0
        for a in range(k):
            offer = lists[i, a]
            if offer < 0:
                break
            size += 1
            novelty -= np.log2(share[offer])
            popularity += share[offer]
            in_head += head[offer]
            row = columns[start[offer] : start[offer + 1]]
            for b in range(a):
                to = lists[i, b]
                at = np.searchsorted(row, to)
                near = cosine[start[offer] + at] if at < len(row) and row[at] == to else 0.0
                pairs += 1
                apart += 1.0 - near
                if category[offer] >= 0 and category[to] >= 0:
                    known += 1
                    other += category[offer] != category[to]
        if size:
            out[0, i], out[3, i], out[4, i] = novelty / size, popularity / size, in_head / size
        if pairs:
            out[1, i] = apart / pairs
        if known:
            out[2, i] = other / known
    return out
