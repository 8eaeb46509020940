"""`monitor.toml`: when a figure is a reason to look, as data, checked; where it is absent the defaults hold."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from features.home import Home
from training.toml_file import check_key, check_value, tables_of

FILE = "monitor.toml"
NotNegative = Annotated[float, Meta(ge=0.0)]
Count = Annotated[int, Meta(ge=0)]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is crossed when a figure is worse; `inf` (or 0, where less is worse) watches without judging."""

    psi: NotNegative = 0.2  # of one feature between training and now
    ks: NotNegative = 0.2  # largest distance of a feature's distribution functions
    null_rate: NotNegative = 0.1  # by how much the share of customers without a value may have changed, either way
    unseen_share: NotNegative = 0.01  # of customers with a category that the acceptance model has no column for
    feature_age_h: NotNegative = 36.0  # median age of the snapshot that decisions were made from
    without_features: NotNegative = 0.02  # share of decisions of which features could not be read
    prediction_psi: NotNegative = 0.2  # of P(accept) and P(churn), between the release's first days and now
    calibration: NotNegative = 0.2  # mean P(accept) over rate - 1, either way, beyond its interval
    ece: NotNegative = 0.05  # expected calibration error on matured outcomes
    auc_loss: NotNegative = 0.05  # AUC when trained minus AUC on matured outcomes, beyond its interval
    offers_shown: NotNegative = 0.2  # least share of the offers on sale that were shown at all
    empty: NotNegative = 0.2  # share of placements that stayed empty
    held_back: NotNegative = 0.5  # share of otherwise eligible offers that caps, inventory and budgets hold back
    degraded: NotNegative = 0.01  # share of decisions
    late: NotNegative = 0.001  # share of decisions beyond their deadline
    model_age_days: NotNegative = 14.0  # since the end of the champion's data
    min_decisions: Count = 100  # in the window, before shares of them are judged
    min_customers: Count = 200  # on each side, before a distribution is compared
    min_outcomes: Count = 200  # matured impressions, and 20 of each outcome, before a model is judged by them


def read_thresholds(home: Home) -> Thresholds:
    """From `monitor.toml` in NBO_HOME. `BadSettings` names the key, and what was expected."""
    found = tables_of(home.root / FILE)
    known = {field.name: field.type for field in msgspec.structs.fields(Thresholds)}
    for key, value in found.items():
        check_key(FILE, key, "a threshold", known)
        check_value(FILE, key, value, known[key])
    return msgspec.convert(found, Thresholds)
