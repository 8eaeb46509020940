"""Why an offer was chosen, in codes that stay."""

from __future__ import annotations

import numpy as np

from serving.customer import CustomerNow
from serving.edition import Edition, Scores
from serving.slate import Pick


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
        codes.append("similar_customers")
    if scores.p_churn is not None and scores.p_churn >= 0.5:
        codes.append("at_risk")
    return tuple(codes or ["best_value"])
