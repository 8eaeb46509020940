"""The churn model from the log: customers at risk at snapshot dates, with features as of each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.errors import NotTrainable
from features.events import US_PER_DAY
from features.history import customer_features_at
from training.dataset import read_risks, snapshot_instants
from training.models.churn import ChurnTable, learn_churn
from training.models.classifier_fit import ClassifierFit
from training.split import split_instants
from training.steps.inputs import MAX_ROWS, Inputs, Progress, thinned


def learn_from_log(inputs: Inputs, progress: Progress) -> ClassifierFit:
    progress("churn: customers at risk")
    rules = inputs.settings.churn
    instants = snapshot_instants(inputs.first_us + US_PER_DAY, inputs.as_of_us, rules)
    ahead = rules.gap_days + rules.horizon_days
    earlier, test = split_instants(instants, ahead * US_PER_DAY)
    if not earlier:
        raise NotTrainable(
            "churn",
            f"{len(instants)} snapshot dates, {rules.every_days} days apart, whose label of {ahead} days is known; "
            f"too few for a test part that no earlier label reaches into",
        )
    risks = read_risks(inputs.log, [*earlier, *test], rules)
    kept = thinned(len(risks.rows), MAX_ROWS)
    rows = risks.rows.iloc[kept].reset_index(drop=True)
    us = rows["us"].to_numpy(np.int64)
    progress("churn: features as of each date")
    features = customer_features_at(
        inputs.home,
        inputs.facts,
        pd.DataFrame({"customer_id": rows["customer_id"], "event_timestamp": pd.to_datetime(us, unit="us", utc=True)}),
    )
    progress("churn: fitting")
    table = ChurnTable(rows["customer_id"].tolist(), us, features, risks.churned[kept])
    return learn_churn(inputs.features, table, earlier, test, inputs.seed)
