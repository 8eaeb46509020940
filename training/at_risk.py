"""Who is likely to leave, why, and what goes with them: one row per customer at risk, as a list of whom to write to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.errors import NotTrainable
from features.events import US_PER_DAY, is_anonymous
from features.history import customer_features_at
from training.dataset import read_risks
from training.models.churn import chances
from training.reasons import churn_reasons
from training.scorers import ChurnScorer
from training.scorers.churn import by_horizon
from training.steps.churn_value import purchases_of, valued, without_value
from training.steps.inputs import Inputs


@dataclass(frozen=True, slots=True)
class AtRisk:
    """The list, one row per customer, and what has to be known to read it."""

    customers: pd.DataFrame
    notes: tuple[str, ...] = ()


def customers_at_risk(inputs: Inputs, scorer: ChurnScorer, k: int = 3) -> AtRisk:
    """Known customers active within the days of the settings before the last midnight, the greatest loss first.

    customer_id; `p_churn_<days>` for each horizon; `reason_1` … with what the feature holds and adds to the log-odds;
    p_active, remaining, if_staying, expected_loss over 360 days, NaN where purchases are too few to value anybody.
    Without money they count purchases, and `unit` says so. Where purchases do not show that anybody leaves, p_active
    and remaining are NaN, and a note says so.
    """
    midnight_us = inputs.as_of_us // US_PER_DAY * US_PER_DAY
    there = read_risks(inputs.log, [midnight_us], inputs.settings.churn).rows["customer_id"].tolist()
    customers = [customer for customer in there if not is_anonymous(customer)]
    if not customers:
        return AtRisk(pd.DataFrame({"customer_id": []}))
    moment = pd.to_datetime(np.full(len(customers), midnight_us), unit="us", utc=True)
    asked = pd.DataFrame({"customer_id": customers, "event_timestamp": moment})
    features = customer_features_at(inputs.home, inputs.facts, asked)
    p = chances(scorer.classifier, features)
    steps = {step.horizon_days: chances(step.classifier, features) for step in scorer.steps}
    serving_days = scorer.horizon_days or inputs.settings.churn.horizon_days
    found = pd.DataFrame({"customer_id": customers})
    for days, of in by_horizon(serving_days, p, steps).items():
        found[f"p_churn_{days}"] = of
    reasons = churn_reasons(scorer.classifier, features, k)
    for rank in range(1, k + 1):
        found[f"reason_{rank}"] = _said(reasons[reasons["rank"] == rank]).reindex(range(len(found)))
    try:
        worth = valued(purchases_of(inputs), midnight_us, customers, p)
        found, notes = found.assign(**worth.columns), worth.notes
    except NotTrainable as error:
        found = found.assign(p_active=np.nan, remaining=np.nan, if_staying=np.nan, expected_loss=np.nan, unit=None)
        notes = (without_value(error.reason),)
    by = (
        found["expected_loss"].fillna(0.0) if found["expected_loss"].notna().any() else found[f"p_churn_{serving_days}"]
    )
    return AtRisk(found.iloc[np.argsort(-by.to_numpy(np.float64), kind="stable")].reset_index(drop=True), notes)


def _said(reasons: pd.DataFrame) -> pd.Series:
    """`days_since_activity = 43.2 (+1.20)`, by row."""
    said = [
        f"{name} = {value:.4g} ({added:+.2f})" if isinstance(value, float) else f"{name} = {value} ({added:+.2f})"
        for name, value, added in zip(reasons["feature"], reasons["value"], reasons["contribution"], strict=True)
    ]
    return pd.Series(said, index=reasons["row"].to_numpy(), dtype=object)
