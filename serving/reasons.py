"""Why an offer was chosen: in codes that stay, and in words that a customer may read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled
from serving.drafting import Drafted
from serving.slate import Pick
from training.scorers import PopularityScorer

if TYPE_CHECKING:
    from serving.decide import Attempt

Code = Literal[
    "guaranteed",
    "fallback",
    "explored",
    "similar_customers",
    "popular",
    "new_offer",
    "new_customer",
    "at_risk",
    "best_value",
]
WORDS: dict[Code, str] = {  # nothing here may embarrass anybody: no word of models, margins or leaving
    "guaranteed": "We show this to everybody at the moment.",
    "fallback": "We have nothing more personal for you right now.",
    "explored": "We are trying something different, to learn what you like.",
    "similar_customers": "Customers with similar interests liked this.",
    "popular": "This is popular with our customers.",
    "new_offer": "This is new.",
    "new_customer": "We do not know you yet, so this is a first suggestion.",
    "at_risk": "A thank-you for being with us.",
    "best_value": "This is the best that we have for you right now.",
}


def reasons(attempt: Attempt, drafted: Drafted, pick: Pick) -> tuple[Code, ...]:
    """Why this offer, as stable codes, the strongest first."""
    if pick.why is not None:
        return (cast(Code, pick.why),)
    edition, customer = attempt.edition, attempt.question.known.customer
    codes: list[Code] = [] if pick.best else ["explored"]
    if edition.release is None:
        return (*codes, "popular")
    if not edition.known(pick.row):
        codes.append("new_offer")
    elif not customer.known:
        codes.append("new_customer")
    elif _above_median(drafted.scores.affinity, pick.row):
        same_for_all = isinstance(edition.release.recommender, PopularityScorer)
        codes.append("popular" if same_for_all else "similar_customers")
    p_churn = attempt.draft.p_churn
    if p_churn is not None and p_churn >= 0.5:
        codes.append("at_risk")
    return tuple(codes or ["best_value"])


def _above_median(values: NDArray[np.float32], row: int) -> bool:
    """Whether at least half are smaller; a tenth of what it costs to find the median."""
    return bool(2 * _n_below(values, values[row]) >= len(values))


@compiled
def _n_below(values, limit):  # type: ignore[no-untyped-def]
    n = 0
    for value in values:
        n += value < limit
    return n


def warm() -> None:
    """Compile the loop, or load it from the machine's cache, before a decision waits for it."""
    for writeable in (True, False):  # two types to the compiler
        values = np.zeros(2, np.float32)
        values.flags.writeable = writeable
        _above_median(values, 0)


def in_words(codes: Iterable[str]) -> tuple[str, ...]:
    """One sentence per code."""
    return tuple(WORDS[cast(Code, code)] for code in codes)
