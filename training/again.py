"""A release prepared again for a catalogue of which little changed: rows of offers that stayed are taken over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from training.encoder import Encoder, OfferSide
from training.kept import Kept
from training.linear import LinearForOffers
from training.scorers import (
    AcceptanceModel,
    AcceptanceScorer,
    BlendScorer,
    BlendSide,
    FactorScorer,
    FactorSide,
    ItemItemScorer,
    ItemItemSide,
    RecommenderScorer,
)
from training.scorers.like import joined

OfferFeatures = Mapping[str, Mapping[str, Any]]


class Moved(NamedTuple):
    """What became of the offers of the catalogue before."""

    origin: NDArray[np.intp]  # (n_offers,) row in the catalogue before, -1 where the offer is new or another now
    fresh: Sequence[int]  # the rows where it is -1

    def rows(self, before: NDArray[Any], fresh: NDArray[Any]) -> NDArray[Any]:
        """Shapes (n_before, …), (n_fresh, …) -> (n_offers, …)."""
        if not len(before):
            return fresh
        taken = before[self.origin]
        taken[self.fresh] = fresh
        return taken


def recommender_again(scorer: RecommenderScorer, offers: Sequence[Offer], before: Any, moved: Moved) -> Any:
    """As `prepare` of all offers, bit for bit; `before` is what it gave for the catalogue before."""
    if isinstance(scorer, FactorScorer) and isinstance(before, FactorSide):
        fresh = scorer.prepare([offers[row] for row in moved.fresh])
        return FactorSide(
            moved.rows(before.factors, fresh.factors),
            moved.rows(before.biases, fresh.biases),
            _row_of_trained(before.row_of_trained, fresh.row_of_trained, moved, len(before.factors)),
            Kept(len(offers)),
        )
    if isinstance(scorer, ItemItemScorer) and isinstance(before, ItemItemSide):
        of_fresh = scorer.prepare([offers[row] for row in moved.fresh])
        return ItemItemSide(
            moved.rows(before.trained_of, of_fresh.trained_of),
            _row_of_trained(before.row_of_trained, of_fresh.row_of_trained, moved, len(before.trained_of)),
            joined(before.like, of_fresh.like, moved.origin, moved.fresh),
            Kept(len(offers)),
        )
    if isinstance(scorer, BlendScorer) and isinstance(before, BlendSide):
        parts = zip(scorer.scorers, before.parts, strict=True)
        return BlendSide(
            tuple(recommender_again(part, offers, of_part, moved) for part, of_part in parts), *scorer.of_offers(offers)
        )
    return scorer.prepare(offers)


def _row_of_trained(
    before: NDArray[np.int32], fresh: NDArray[np.int32], moved: Moved, n_before: int
) -> NDArray[np.int32]:
    """(n_trained,) row of each trained offer in the catalogue now, -1 if it is not there."""
    row_now = np.full(n_before + 1, -1, np.int32)  # by row before; the last is of what was not there
    stayed = np.flatnonzero(moved.origin >= 0)
    row_now[moved.origin[stayed]] = stayed
    found: NDArray[np.int32] = row_now[before]
    known = np.flatnonzero(fresh >= 0)
    found[known] = np.array(moved.fresh, np.int32)[fresh[known]]
    return found


def acceptance_again(
    scorer: AcceptanceModel,
    offers: Sequence[Offer],
    offer_features: OfferFeatures,
    now_us: int,
    before: Any,
    moved: Moved,
) -> Any:
    """As `prepare` of all offers, bit for bit; the features of offers that stayed must be those of before."""
    if not isinstance(scorer, AcceptanceScorer):
        return scorer.prepare(offers, offer_features, now_us)
    encoder, model = scorer.classifier.encoder, scorer.classifier.model
    fresh = encoder.prepare([offers[row] for row in moved.fresh], offer_features)
    side = _side_again(encoder, offers, before.side, fresh, moved)
    if isinstance(before, LinearForOffers):
        prepared = model.prepare(encoder, fresh)
        assert isinstance(prepared, LinearForOffers)
        return prepared.among(side, moved.rows(before.fixed, prepared.fixed))
    return model.prepare(encoder, side)


def _side_again(
    encoder: Encoder, offers: Sequence[Offer], before: OfferSide, fresh: OfferSide, moved: Moved
) -> OfferSide:
    template = moved.rows(before.template, fresh.template)
    return encoder.side(offers, template)
