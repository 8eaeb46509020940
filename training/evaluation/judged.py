"""Who is judged by what: the customers of a later time, what they took then, and what may not be ranked for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from features.events import US_PER_DAY
from training.interactions import Interactions

NEW_OFFER_DAYS = 30  # an offer that was first taken so recently before the cut-off, or not yet, is called new

Csr = tuple[NDArray[np.int64], NDArray[np.int32]]


@dataclass(frozen=True)
class Judged:
    """One past, one future: everything a recommender is measured against there."""

    past: Interactions
    rows: NDArray[np.int64]  # (n,) rows of `past.customers`, ascending
    relevant: Csr  # offers that each took in the future; without those taken before, if these are excluded
    excluded: Csr  # offers that are not ranked for each
    n_taken: NDArray[np.int64]  # (n,) different offers taken in the past; 0 for a new customer
    new_offer: NDArray[np.bool_]  # (n_offers,) see NEW_OFFER_DAYS
    exclude_seen: bool
    n_left_out: int  # customers of the future who took nothing that may be ranked
    cut_us: int

    def __len__(self) -> int:
        return len(self.rows)

    def at_most(self, n: int | None) -> Judged:
        """`n` of the customers, evenly spread over the customer axis."""
        if n is None or len(self) <= n:
            return self
        return self.part(np.linspace(0, len(self) - 1, n).astype(np.int64))

    def part(self, at: NDArray[np.int64]) -> Judged:
        return Judged(
            self.past, self.rows[at], picked(self.relevant, at), picked(self.excluded, at), self.n_taken[at],
            self.new_offer, self.exclude_seen, self.n_left_out, self.cut_us,
        )  # fmt: skip


def judged_by(past: Interactions, future: Interactions, *, exclude_seen: bool, cut_us: int | None = None) -> Judged:
    """The customers of `future` who took an offer that may be ranked; `BadInput` where the two have other axes.

    `cut_us` is when the past ended; left out, the last of its events.
    """
    if past.customers != future.customers or past.offer_map != future.offer_map:
        raise BadInput("past and future have different customers or offers; cut both from one log", "future")
    if cut_us is None:
        cut_us = int(past.occurred_us[-1]) + 1 if len(past) else 0
    start, taken = past.taken()
    first, wanted = future.taken()
    customers = np.flatnonzero(np.diff(first))
    relevant, had = picked((first, wanted), customers), picked((start, taken), customers)
    n_taken = np.diff(had[0])
    if exclude_seen:
        relevant = _without(relevant, had, len(past.offers))
    there = np.flatnonzero(np.diff(relevant[0]))
    excluded = picked(had, there) if exclude_seen else (np.zeros(len(there) + 1, np.int64), np.zeros(0, np.int32))
    return Judged(
        past=past,
        rows=customers[there].astype(np.int64),
        relevant=picked(relevant, there),
        excluded=excluded,
        n_taken=n_taken[there],
        new_offer=_new_offers(past, cut_us),
        exclude_seen=exclude_seen,
        n_left_out=len(customers) - len(there),
        cut_us=cut_us,
    )


def picked(csr: Csr, at: NDArray[np.int64]) -> Csr:
    """The rows `at` of a CSR-style pair."""
    start, values = csr
    lengths = np.diff(start)[at]
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    if not first[-1]:
        return first, values[:0]
    positions = np.arange(first[-1]) + np.repeat(start[at] - first[:-1], lengths)
    return first, values[positions]


def only(csr: Csr, keep: NDArray[np.bool_]) -> Csr:
    """The values for which `keep` (n_values,) says so, row by row."""
    start, values = csr
    kept = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    return kept[start], values[keep]


def _without(csr: Csr, other: Csr, n_offers: int) -> Csr:
    rows = [np.repeat(np.arange(len(one[0]) - 1), np.diff(one[0])) * n_offers + one[1] for one in (csr, other)]
    return only(csr, ~np.isin(rows[0], rows[1]))


def _new_offers(past: Interactions, cut_us: int) -> NDArray[np.bool_]:
    first = np.full(len(past.offers), np.iinfo(np.int64).max)
    np.minimum.at(first, past.offer, past.occurred_us)
    return first >= cut_us - NEW_OFFER_DAYS * US_PER_DAY
