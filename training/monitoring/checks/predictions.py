"""Does the champion say other things than in its first days? It is the same model, so its world has moved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.monitoring.drift import histograms, psi
from training.monitoring.line import Line, above, shown, unknown
from training.monitoring.seen import Seen
from training.monitoring.thresholds import Thresholds


def prediction_drift(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """PSI of P(accept) of the first offer and of P(churn), one value per customer."""
    if seen.champion is None:
        yield unknown("prediction_psi", "", "no release serves yet")
        return
    now = seen.decisions[seen.decisions["release"] == seen.champion.number]
    if not len(seen.first) or seen.first_us is None:
        yield unknown(
            "prediction_psi", "", f"release {seen.champion.number} has no first days before the window to compare with"
        )
        return
    of_now = seen.shown[seen.shown["release"] == seen.champion.number]
    for name, before, after in (
        ("p_accept", p_accept_of(seen.first_shown), p_accept_of(of_now)),
        ("p_churn", p_churn_of(seen.first), p_churn_of(now)),
    ):
        if min(len(before), len(after)) < held.min_customers:
            found = f"{len(before):,} customers in its first days and {len(after):,} now"
            yield unknown("prediction_psi", name, f"{found}, {held.min_customers} each are needed")
            continue
        said = f"mean {after.mean():.4f} now, {before.mean():.4f} in its first days"
        yield above("prediction_psi", name, psi(*histograms(before, after)), held.prediction_psi, said)
        yield shown("prediction_mean", name, float(after.mean()), said)


def p_accept_of(shown: pd.DataFrame) -> NDArray[np.float64]:
    """Of each customer's newest first offer that the policy chose."""
    first = shown[(shown["rank"] == 1) & ~shown["is_fallback"] & ~shown["random"] & ~shown["holdout"]]
    p: NDArray[np.float64] = first.drop_duplicates("customer_id", keep="last")["p_model"].to_numpy(np.float64)
    return p


def p_churn_of(decisions: pd.DataFrame) -> NDArray[np.float64]:
    """Of each customer's newest decision that has one."""
    known = decisions[decisions["p_churn"].notna()]
    p: NDArray[np.float64] = known.drop_duplicates("customer_id", keep="last")["p_churn"].to_numpy(np.float64)
    return p
