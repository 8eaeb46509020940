"""Why an offer was chosen, in codes that stay."""

from __future__ import annotations

import numpy as np

from serving.customer import CustomerNow
from serving.edition import Edition, Scores
from serving.slate import Pick
from training.scorers import PopularityScorer


def reasons(edition: Edition, customer: CustomerNow, scores: Scores, pick: Pick) -> tuple[str, ...]:
    """Why this offer, as stable codes, the strongest first."""
    if pick.why is not None:
        return (pick.why,)
    codes = [] if pick.best else ["explored"]
    if edition.release is None:
        return (*codes, "popular")
    if not edition.known(pick.row):
        codes.append("new_offer")
    elif not customer.known:
        codes.append("new_customer")
    elif scores.affinity[pick.row] > np.median(scores.affinity):
        same_for_all = isinstance(edition.release.recommender, PopularityScorer)
        codes.append("popular" if same_for_all else "similar_customers")
    if scores.p_churn is not None and scores.p_churn >= 0.5:
        codes.append("at_risk")
    return tuple(codes or ["best_value"])
