"""Why an offer was chosen, in codes that stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from serving.drafting import Drafted
from serving.slate import Pick
from training.scorers import PopularityScorer

if TYPE_CHECKING:
    from serving.decide import Attempt


def reasons(attempt: Attempt, drafted: Drafted, pick: Pick) -> tuple[str, ...]:
    """Why this offer, as stable codes, the strongest first."""
    if pick.why is not None:
        return (pick.why,)
    edition, customer = attempt.edition, attempt.question.known.customer
    codes = [] if pick.best else ["explored"]
    if edition.release is None:
        return (*codes, "popular")
    if not edition.known(pick.row):
        codes.append("new_offer")
    elif not customer.known:
        codes.append("new_customer")
    elif drafted.scores.affinity[pick.row] > np.median(drafted.scores.affinity):
        same_for_all = isinstance(edition.release.recommender, PopularityScorer)
        codes.append("popular" if same_for_all else "similar_customers")
    p_churn = attempt.draft.p_churn
    if p_churn is not None and p_churn >= 0.5:
        codes.append("at_risk")
    return tuple(codes or ["best_value"])
