"""LightFM with WARP: identity and attributes of customers and offers, stopped early on a validation part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.interactions import Interactions
from training.models.base import (
    Params,
    RecommenderModel,
    Suggest,
    check_interactions,
    defaults_of,
    not_negative,
    positive,
    positive_or_none,
    settings_of,
)
from training.models.matrix import matrix
from training.models.side_information import CustomerMap, OfferMap
from training.scorers import FactorScorer
from training.scorers.like import described
from training.tokens import WORDS, Tokens, fit_tokens


@dataclass(frozen=True, slots=True)
class LightfmSettings:
    n_factors: int = 64  # at most; fewer for a small catalogue
    learning_rate: float = 0.1
    l2: float = 1e-6
    max_sampled: int = 20  # negatives tried per positive before WARP gives up
    max_epochs: int = 16
    patience: int = 4  # epochs without a validation figure that is better by `min_gain`
    min_gain: float = 0.005  # share of the best figure so far
    half_life_days: float | None = 90.0  # ages the weight of an interaction
    most_weight: float = 3.0  # of one customer and offer, however often it was taken
    buckets: int = 8  # per numeric attribute
    min_count: int = 5  # rows that a category needs to become a token
    n_threads: int = 1  # with one thread the same seed gives the same factors
    customer_l2: float | None = None  # customers' worth of doubt about what an attribute says; None: by those held out
    popular_half_life_days: float | None = 30.0  # of what customers without history get
    offer_l2: float = 2.0  # offers' worth of doubt about what a word or attribute says of a new offer
    doubt: float = 5.0  # times that an offer must be taken to count half as much, when that is learned
    repeats: bool = False  # whether what was taken before may be recommended again

    def __post_init__(self) -> None:
        positive(
            self, "n_factors", "learning_rate", "max_sampled", "max_epochs", "most_weight", "n_threads", "offer_l2"
        )
        positive_or_none(self, "half_life_days", "popular_half_life_days", "customer_l2")
        not_negative(self, "l2", "doubt")


@dataclass(frozen=True, slots=True)
class LightfmFit:
    scorer: FactorScorer
    epochs: int
    curve: tuple[float, ...]  # validation figure after each epoch; empty without validation


def fit_lightfm(
    past: Interactions,
    until_us: int,
    settings: LightfmSettings,
    seed: int,
    *,
    repeats: bool,
    epochs: int | None = None,
    judge: Callable[[FactorScorer], float] | None = None,
) -> LightfmFit:
    """Fit on `past`: for `epochs`, or, with `judge`, until its figure stops growing; the best epoch is kept."""
    training = LightfmTraining(past, until_us, settings, seed, repeats=repeats)
    n = epochs if epochs is not None else settings.max_epochs
    if judge is None:
        for _ in range(n):
            training.epoch()
        return LightfmFit(training.scorer(), n, ())
    best, best_figure, best_epoch, curve = training.template, 0.0, 0, []
    for epoch in range(1, n + 1):
        training.epoch()
        scorer = training.scorer()
        curve.append(judge(scorer))
        if epoch == 1 or curve[-1] > best_figure * (1.0 + settings.min_gain):
            best, best_figure, best_epoch = scorer, curve[-1], epoch
        elif epoch - best_epoch >= settings.patience:
            break
    return LightfmFit(best, best_epoch, tuple(curve))


class LightfmTraining:
    """A LightFM model on its way, and the scorer it is at any moment."""

    def __init__(
        self, past: Interactions, until_us: int, settings: LightfmSettings, seed: int, *, repeats: bool
    ) -> None:
        from lightfm import LightFM

        active = np.unique(past.customer).astype(np.int64)
        attributes = [past.profiles[row] for row in active]
        customer_tokens = _tokens(attributes, settings)
        fields = [described(offer) for offer in past.offers]
        offer_tokens = _tokens(fields, settings)
        position = np.full(len(past.customers), -1, dtype=np.int64)
        position[active] = np.arange(len(active))
        self.n_active, self.settings = len(active), settings
        self._past, self._until_us = past, until_us
        self._customer_map: CustomerMap | None = None  # made when it is first asked for, as is the next
        self._offer_map: OfferMap | None = None
        self.positives, self.weights = _matrix(past, position, len(active), until_us, settings)
        self.customer_side = _with_identity(len(active), customer_tokens, attributes)
        self.offer_side = _with_identity(len(past.offers), offer_tokens, fields)
        self.model = LightFM(
            no_components=min(settings.n_factors, max(4, len(past.offers) // 2)),
            loss="warp",
            learning_rate=settings.learning_rate,
            user_alpha=settings.l2,
            item_alpha=settings.l2,
            max_sampled=settings.max_sampled,
            random_state=np.random.RandomState(seed),
        )
        self.template = replace(without_factors(past, active, repeats=repeats), customer_tokens=customer_tokens)

    def epoch(self) -> None:
        self.model.fit_partial(
            self.positives, user_features=self.customer_side, item_features=self.offer_side,
            sample_weight=self.weights, epochs=1, num_threads=self.settings.n_threads,
        )  # fmt: skip

    def scorer(self) -> FactorScorer:
        """The known as LightFM has them; who is new by what attributes say."""
        model, settings = self.model, self.settings
        if self._offer_map is None:
            n_taken = np.bincount(self.positives.col, minlength=len(self.template.offer_map))
            self._offer_map = OfferMap.of(self._past.offers, n_taken, settings.offer_l2, settings.doubt)
        trained = self.offer_side @ np.column_stack([model.item_embeddings, model.item_biases])
        found, left = self._offer_map.split(trained)
        if self._customer_map is None:
            recent = matrix(self._past, self._until_us, "binary", settings.popular_half_life_days).taken
            profiles = [self._past.profiles[row] for row in np.unique(self._past.customer)]
            self._customer_map = CustomerMap(profiles, recent, self.positives.tocsr(), settings.customer_l2)
        customers = self.customer_side @ model.user_embeddings
        of_customer, left_to_customers = self._customer_map.split(customers, trained[:, :-1], trained[:, -1])
        return replace(
            self.template,
            customer_tokens=self._customer_map.described.tokens,
            customer_factors=left_to_customers,
            offer_factors=left[:, :-1].copy(),
            offer_biases=left[:, -1].copy(),
            customer_token_factors=of_customer.token,
            offer_tokens=self._offer_map.described.tokens,
            offer_token_factors=found.token[:, :-1].copy(),
            offer_token_biases=found.token[:, -1].copy(),
            new_offer_bias=float(found.mean[-1]),
            new_customer_factors=of_customer.mean,
            new_offer_factors=found.mean[:-1].copy(),
        )


def without_factors(past: Interactions, active: NDArray[np.int64], *, repeats: bool) -> FactorScorer:
    """A scorer that gives every offer the same affinity: where the rows of `active` customers and offers belong."""
    starts, taken = past.taken()
    n = len(past.offers)
    return FactorScorer(
        version="",
        offer_map=past.offer_map,
        customers={past.customers[row]: at for at, row in enumerate(active)},
        customer_tokens=Tokens(),
        offer_tokens=Tokens(),
        customer_factors=np.zeros((len(active), 0), np.float32),
        offer_factors=np.zeros((n, 0), np.float32),
        offer_biases=np.zeros(n, np.float32),
        customer_token_factors=np.zeros((0, 0), np.float32),
        offer_token_factors=np.zeros((0, 0), np.float32),
        offer_token_biases=np.zeros(0, np.float32),
        new_offer_bias=0.0,
        new_customer_factors=np.zeros(0, np.float32),
        new_offer_factors=np.zeros(0, np.float32),
        repeats=repeats,
        taken_start=np.concatenate([starts[active], starts[-1:]]),  # customers without interactions take no room
        taken=taken,
        taken_boost=np.zeros(len(taken), np.float32),
    )


def _tokens(rows: Sequence[Mapping[str, Any]], settings: LightfmSettings) -> Tokens:
    names = sorted({name for row in rows for name in row} - {WORDS})
    return fit_tokens(rows, names, buckets=settings.buckets, min_count=min(settings.min_count, max(len(rows) // 10, 1)))


def _matrix(
    past: Interactions, position: NDArray[np.int64], n_active: int, until_us: int, settings: LightfmSettings
) -> tuple[sparse.coo_matrix, sparse.coo_matrix]:
    pairs, weight = past.pairs(until_us, settings.half_life_days)
    customer, offer = np.divmod(pairs, max(len(past.offers), 1))
    at = (position[customer].astype(np.int32), offer.astype(np.int32))
    shape = (n_active, len(past.offers))
    weight = np.minimum(weight, settings.most_weight).astype(np.float32)
    ones = np.ones(len(pairs), dtype=np.float32)
    return sparse.coo_matrix((ones, at), shape=shape), sparse.coo_matrix((weight, at), shape=shape)


def _with_identity(n: int, tokens: Tokens, rows: Sequence[Mapping[str, Any]]) -> sparse.csr_matrix:
    """(n, n + n_tokens): a one for the row itself and one for each of its tokens."""
    found = [tokens.of(row) for row in rows]
    lengths = np.array([len(of) for of in found], dtype=np.int64)
    columns = np.concatenate([np.arange(n), *[n + np.array(of, dtype=np.int64) for of in found]]) if n else np.zeros(0)
    at = np.concatenate([np.arange(n), np.repeat(np.arange(n), lengths)])
    ones = np.ones(len(at), dtype=np.float32)
    return sparse.csr_matrix((ones, (at, columns)), shape=(n, n + tokens.n_tokens), dtype=np.float32)


def _fit(past: Interactions, until_us: int, params: Params, seed: int) -> FactorScorer:
    settings = settings_of(LightfmSettings, params, "lightfm")
    check_interactions(past, until_us, "lightfm")
    return fit_lightfm(past, until_us, settings, seed, repeats=settings.repeats).scorer


def _grow(past: Interactions, until_us: int, params: Params, seed: int) -> Iterator[FactorScorer]:
    settings = settings_of(LightfmSettings, params, "lightfm")
    check_interactions(past, until_us, "lightfm")
    training = LightfmTraining(past, until_us, settings, seed, repeats=settings.repeats)
    for _ in range(settings.max_epochs):
        training.epoch()
        yield training.scorer()


def _space(suggest: Suggest) -> dict[str, Any]:
    return {
        "n_factors": suggest.suggest_int("n_factors", 16, 128, log=True),
        "learning_rate": suggest.suggest_float("learning_rate", 0.02, 0.3, log=True),
        "l2": suggest.suggest_float("l2", 1e-7, 1e-4, log=True),
        "max_sampled": suggest.suggest_int("max_sampled", 5, 50, log=True),
        "half_life_days": suggest.suggest_categorical("half_life_days", [None, 30.0, 90.0, 365.0]),
    }


LIGHTFM = RecommenderModel("lightfm", _fit, _space, defaults_of(LightfmSettings()), grow=_grow)
