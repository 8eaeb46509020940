"""Every check, in the order of the report; a new one is a function of what was seen, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from training.monitoring.checks.features import feature_age, feature_drift, unseen_categories
from training.monitoring.checks.outcomes import acceptance_by_policy, matured
from training.monitoring.checks.predictions import prediction_drift
from training.monitoring.checks.service import coverage, degraded, headroom, model_age
from training.monitoring.line import Line
from training.monitoring.seen import Seen
from training.monitoring.thresholds import Thresholds

Check = Callable[[Seen, Thresholds], Iterator[Line]]
CHECKS: dict[str, Check] = {
    "feature drift": feature_drift,
    "unseen categories": unseen_categories,
    "age of features": feature_age,
    "prediction drift": prediction_drift,
    "matured outcomes": matured,
    "acceptance by policy": acceptance_by_policy,
    "coverage": coverage,
    "headroom": headroom,
    "answers": degraded,
    "age of the model": model_age,
}
DRIFT = frozenset(
    {"psi", "ks", "null_rate", "unseen", "prediction_psi", "calibration", "auc_loss"}
)  # lines to retrain for
