"""What the second stage knows beside the recommenders: how popular offers are of late, and each customer's own past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.events import US_PER_DAY
from training.interactions import Interactions

Values = NDArray[np.float32]
HALF_LIVES = (7.0, 14.0, 30.0, 90.0)  # days
OFFER_TERMS = (
    *(f"popular_{days:.0f}d" for days in HALF_LIVES),
    "popular",  # ever
    "age",  # log of days since it was taken first
    "rest",  # log of days since it was taken last
)
OWN_TERMS = (
    "own",  # 1 for what the customer took before, whatever else
    "own_times",  # log of how often
    "own_rate",  # log of the share of the customer's visits
    "own_age",  # log of days since the last time
    "own_visits_since",  # log of the customer's visits since then
    "own_fading",  # log of how often, each time fading over 90 days
    "own_overdue",  # log of days since the last time over the usual days between
    "own_again",  # log of the share of the offer's customers who took it more than once
    *(f"own_and_{term}" for term in OFFER_TERMS),  # the offer's terms once more, for what the customer took before
)
FADES_DAYS = 90.0


@dataclass(frozen=True, slots=True)
class Past:
    """Each (customer, offer) once, with what is counted of it as of an instant."""

    n_customers: int
    n_offers: int
    customer: NDArray[np.int64]  # (n_pairs,) ascending, and the offers of each
    offer: NDArray[np.int64]
    pair: NDArray[np.int64]  # (n,) the pair of each interaction
    age_days: NDArray[np.float64]  # (n,) of each interaction

    @property
    def start(self) -> NDArray[np.int64]:
        """(n_customers + 1,) where each customer's pairs begin."""
        return np.searchsorted(self.customer, np.arange(self.n_customers + 1)).astype(np.int64)


def past_of(interactions: Interactions, until_us: int) -> Past:
    n_offers = max(len(interactions.offers), 1)
    key = interactions.customer.astype(np.int64) * n_offers + interactions.offer
    pairs, pair = np.unique(key, return_inverse=True)
    customer, offer = np.divmod(pairs, n_offers)
    age = (until_us - interactions.occurred_us) / US_PER_DAY
    return Past(len(interactions.customers), len(interactions.offers), customer, offer, pair, age)


def offer_terms(past: Past) -> Values:
    """`OFFER_TERMS` of each offer, shape (n_offers, n_terms); who took an offer counts once, by the last time."""
    n_pairs = len(past.customer)
    last = np.full(n_pairs, np.inf)
    np.minimum.at(last, past.pair, past.age_days)
    found = []
    for half_life in (*HALF_LIVES, np.inf):
        counts = np.bincount(past.offer, weights=0.5 ** (last / half_life), minlength=past.n_offers)
        found.append(np.log(counts + 0.5))  # half a customer, so that an offer never taken stays finite
    oldest = float(past.age_days.max(initial=0.0))
    youngest, first = np.full(past.n_offers, oldest), np.zeros(past.n_offers)
    of_each = past.offer[past.pair]
    np.minimum.at(youngest, of_each, past.age_days)
    np.maximum.at(first, of_each, past.age_days)
    return np.stack([*found, np.log1p(first), np.log1p(youngest)], axis=1).astype(np.float32)


def own_terms(past: Past, of_offers: Values) -> Values:
    """`OWN_TERMS` of each pair, shape (n_pairs, n_terms); `of_offers` are `offer_terms`.

    A visit is an instant at which a customer took something.
    """
    n_pairs = len(past.customer)
    ages, instant = np.unique(past.age_days, return_inverse=True)  # the youngest first
    of_pair, age = _once(past.pair, instant, ages)
    visitor, visit_age = _once(past.customer[past.pair], instant, ages)
    first_visit = np.searchsorted(visitor, np.arange(past.n_customers + 1))
    n_visits = np.diff(first_visit)[past.customer]
    times = np.bincount(of_pair, minlength=n_pairs)
    fading = np.bincount(of_pair, weights=0.5 ** (age / FADES_DAYS), minlength=n_pairs)
    last, first = np.full(n_pairs, np.inf), np.zeros(n_pairs)
    np.minimum.at(last, of_pair, age)
    np.maximum.at(first, of_pair, age)
    span = float(ages.max(initial=0.0)) + 1.0
    since = np.searchsorted(visitor * span + visit_age, past.customer * span + last) - first_visit[past.customer]
    between = np.maximum(first - last, 1.0) / np.maximum(times - 1, 1)
    columns = (
        np.ones(n_pairs),
        np.log(times),
        np.log((times + 0.3) / (n_visits + 1.0)),
        np.log1p(last),
        np.log1p(since),
        np.log1p(fading),
        np.where(times > 1, np.log1p(last / between), 0.0),
        _again(past.offer, times, past.n_offers)[past.offer],
        *of_offers[past.offer].T,
    )
    return np.stack(columns, axis=1).astype(np.float32)


def _again(offer: NDArray[np.int64], times: NDArray[np.int64], n_offers: int) -> NDArray[np.float64]:
    """(n_offers,) as if one customer more had come again, and four had not."""
    again = np.bincount(offer, weights=times > 1, minlength=n_offers)
    return np.log((again + 1.0) / (np.bincount(offer, minlength=n_offers) + 5.0))


def _once(
    of: NDArray[np.int64], instant: NDArray[np.int64], ages: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each (of, instant) once, in order, with the instant's age."""
    found, at = np.divmod(np.unique(of * len(ages) + instant), max(len(ages), 1))
    return found, ages[at]
