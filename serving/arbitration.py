"""Which of the eligible offers is worth most: the score and its factors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.errors import BrokenRelease
from serving.arrays import read_only
from serving.compiled import compiled
from serving.learning.beliefs import Beliefs
from serving.retention import measured_gain
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.customer import CustomerNow
    from serving.levers import Levers
    from serving.rules.asked import Asked

Numbers = NDArray[np.float64]
PREDICTED = "predicted"  # `retention.customer_value`: what the release expects of each customer
SMALLEST = 1e-6  # no probability is nearer to 0 or 1 than this
LESS_OF_OFFER = 0.2  # what an offer counts that the customer wants to see less of
LESS_OF_CATEGORY = 0.6  # and the others of its category


class Worth(Struct, frozen=True, eq=False):
    """What each offer is worth here and now, with the factors that made it; shapes (n_offers,), all finite."""

    p_accept: Numbers  # the model's estimate, corrected by what was learned since
    value: Numbers  # currency
    context_weight: Numbers
    lever: Numbers
    wish: Numbers  # below 1 where the customer wants to see less of it
    retention_gain: Numbers  # currency; added, after the wish
    moved: Numbers  # currency; p_accept x value x context_weight x lever x wish
    score: Numbers  # moved + retention_gain


def worth_of(
    levers: Levers,
    view: CatalogueView,
    p_model: Numbers,
    beliefs: Beliefs,
    asked: Asked,
    customer: CustomerNow,
    p_churn: float | None,
    settings: Settings,
    predicted_value: float = 0.0,
) -> Worth:
    """Expected margin of showing each offer, in the deployment's currency.

    `predicted_value`: what the release expects of the customer on staying.

    `BrokenRelease` if the models, or what was learned, give no finite number: greater or less then means nothing.
    """
    lever, context_weight, weight = levers.weights(asked)
    wish = wish_of(view, customer.less_like)
    at_stake = customer_worth(customer, settings.customer_value, predicted_value)
    saved = 0.0 if p_churn is None else p_churn * at_stake
    if asked.uplift is None or p_churn is None:
        gain = retention_gain(view, saved, settings.save_rate)
    else:
        gain = measured_gain(view, saved, asked.uplift, p_churn)
    if wish is not view.ones:
        weight = read_only(weight * wish)
        gain = gain if gain is view.zeros else read_only(gain * wish)
    p_accept, moved, score = np.empty((3, len(view)))
    if not _worth(p_model, beliefs.factor, weight, gain, p_accept, moved, score):
        row = int(np.flatnonzero(~np.isfinite(score))[0])
        raise BrokenRelease(f"the score of {view.offers[row].offer_id} is not a finite number")
    return Worth(p_accept, view.value, context_weight, lever, wish, gain, moved, score)


@compiled
def _worth(p_model, factor, weight, gain, p_accept, moved, score):  # type: ignore[no-untyped-def]
    """Writes the last three, shapes (n_offers,); whether all scores are finite."""
    finite = True
    for i in range(len(score)):
        p = p_model[i] * factor[i]
        p = SMALLEST if p < SMALLEST else p  # NaN stays NaN
        p = 1.0 - SMALLEST if p > 1.0 - SMALLEST else p
        p_accept[i] = p
        moved[i] = p * weight[i]
        score[i] = moved[i] + gain[i]
        finite &= np.isfinite(score[i])
    return finite


@compiled
def _gain(retention, save_rate, usual, saved, gain):  # type: ignore[no-untyped-def]
    for i in range(len(gain)):
        rate = usual if np.isnan(save_rate[i]) else save_rate[i]
        gain[i] = saved * rate if retention[i] else 0.0


def warm() -> None:
    """Compile the loops, or load them from the machine's cache, before a decision waits for them."""
    one, out = read_only(np.ones(1)), np.ones(1)
    _worth(out, one, one, one, out, out, out)
    _gain(np.ones(1, np.bool_), out, 0.1, 1.0, out)


def wish_of(view: CatalogueView, less_like: frozenset[str]) -> Numbers:
    """What a customer's "less like this" leaves of each offer, shape (n_offers,)."""
    rows = [view.row[offer_id] for offer_id in less_like if offer_id in view.row] if less_like else []
    if not rows:
        return view.ones
    categories = view.category[rows]
    alike = np.isin(view.category, categories[categories >= 0])
    wish = np.where(alike, LESS_OF_CATEGORY, 1.0)
    wish[rows] = LESS_OF_OFFER
    return read_only(wish)


def customer_worth(customer: CustomerNow, customer_value: str, predicted: float = 0.0) -> float:
    """What is lost with this customer: currency, 0 where it is not known.

    `customer_value` is an amount, `PREDICTED`, or the name of a feature or attribute that holds one.
    """
    if not customer_value:
        return 0.0
    worth = predicted if customer_value == PREDICTED else _amount(customer_value, customer)
    return worth if 0.0 < worth < math.inf else 0.0


def retention_gain(view: CatalogueView, saved: float, save_rate: float) -> Numbers:
    """Per offer what showing it is expected to keep, shape (n_offers,): 0 but for retention offers."""
    if saved == 0.0 or not view.any_retention:
        return view.zeros
    gain = np.empty(len(view))
    _gain(view.retention, view.save_rate, save_rate, saved, gain)
    return read_only(gain)


def _amount(customer_value: str, customer: CustomerNow) -> float:
    try:
        return float(customer_value)
    except ValueError:
        held: Any = customer.features.get(customer_value, customer.attributes.get(customer_value))
    try:
        return float(held) if isinstance(held, int | float) and not isinstance(held, bool) else 0.0
    except OverflowError:
        return 0.0
