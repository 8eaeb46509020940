"""Why an offer was chosen: in codes that stay, and in words that a customer may read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def reasons(attempt: Attempt, drafted: Drafted) -> list[tuple[Code, ...]]:
    """Why each offer that was picked, as stable codes, the strongest first."""
    edition, customer = attempt.edition, attempt.question.known.customer
    if edition.release is None:
        return [_forced(pick) or (*_chosen(pick), "popular") for pick in drafted.picks]
    p_churn = attempt.draft.p_churn
    last: tuple[Code, ...] = ("at_risk",) if p_churn is not None and p_churn >= 0.5 else ()
    same_for_all = isinstance(edition.release.recommender, PopularityScorer)
    liked: Code = "popular" if same_for_all else "similar_customers"
    is_liked = _above_median(drafted.scores.affinity, [pick.row for pick in drafted.picks])
    found = []
    for pick, above in zip(drafted.picks, is_liked, strict=True):
        codes = _chosen(pick)
        if not edition.known(pick.row):
            codes = (*codes, "new_offer")
        elif not customer.known:
            codes = (*codes, "new_customer")
        elif above:
            codes = (*codes, liked)
        found.append(_forced(pick) or (*codes, *last) or ("best_value",))
    return found


def _forced(pick: Pick) -> tuple[Code, ...]:
    return () if pick.why is None else (cast(Code, pick.why),)


def _chosen(pick: Pick) -> tuple[Code, ...]:
    return () if pick.best else ("explored",)


def _above_median(values: NDArray[np.float32], rows: Sequence[int]) -> Sequence[bool]:
    """Whether at least half are smaller, of each row; a tenth of what it costs to find the median."""
    if not rows:
        return ()
    found: list[bool] = _at_least_half_below(values, np.array(rows, np.int64)).tolist()
    return found


@compiled
def _at_least_half_below(values, rows):  # type: ignore[no-untyped-def]
    found = np.empty(len(rows), np.bool_)
    for i in range(len(rows)):
        limit, n = values[rows[i]], 0
        for value in values:
            n += value < limit
        found[i] = 2 * n >= len(values)
    return found


def warm() -> None:
    """Compile the loop, or load it from the machine's cache, before a decision waits for it."""
    for writeable in (True, False):  # two types to the compiler
        values = np.zeros(2, np.float32)
        values.flags.writeable = writeable
        _above_median(values, [0])


def in_words(codes: Iterable[str]) -> tuple[str, ...]:
    """One sentence per code."""
    return tuple(WORDS[cast(Code, code)] for code in codes)
