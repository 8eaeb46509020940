"""Customers whom no fit has seen, scored by the history that they bring."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from features.errors import BadInput
from training.interactions import Interactions
from training.scorers import BlendScorer, FactorScorer, ItemItemScorer, Recommender

Kind = TypeVar("Kind", bound=Recommender)


def folded_in(scorer: Kind, histories: Interactions) -> Kind:
    """The scorer for the customers of `histories` in place of those it was fitted to.

    Each offer of a history counts once, as if it had just been taken. Factor models and popularity know such a
    customer by attributes alone. `BadInput` for another catalogue, and for a blend that may repeat: it weighs when and
    how often, which only a fit works out.
    """
    if histories.offer_map != scorer.offer_map:
        raise BadInput("the histories are of another catalogue than the scorer", "offers")
    start, taken = histories.taken()
    had = np.flatnonzero(np.diff(start))
    customers = {histories.customers[row]: at for at, row in enumerate(had.tolist())}
    starts = np.append(start[had], len(taken)).astype(np.int64)
    if isinstance(scorer, BlendScorer):
        if scorer.repeats:
            raise BadInput("a blend that may repeat what was taken takes no other histories", "repeats")
        return replace(
            scorer,
            scorers=tuple(folded_in(part, histories) for part in scorer.scorers),
            customers=customers,
            taken_start=starts,
            taken=taken,
            taken_boost=np.zeros(len(taken), np.float32),
        )
    if isinstance(scorer, ItemItemScorer):
        ones = np.ones(len(taken), np.float32)
        return replace(scorer, customers=customers, taken_start=starts, taken=taken, taken_weight=ones)
    if isinstance(scorer, FactorScorer):
        return replace(
            scorer,
            customers={},
            customer_factors=scorer.customer_factors[:0],
            taken_start=np.zeros(1, np.int64),
            taken=taken[:0],
            taken_boost=np.zeros(0, np.float32),
        )
    return scorer
