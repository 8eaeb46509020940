"""Have the customers who are decided about moved away from those that the models learned from?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.columns import MOST_GROWTH, growing
from training.monitoring.drift import category_histograms, histograms, ks, null_rate, psi, unseen
from training.monitoring.line import Line, above, shown, unknown
from training.monitoring.seen import Seen
from training.monitoring.thresholds import Thresholds
from training.scorers import AcceptanceScorer

US_PER_HOUR = 3_600_000_000
SINCE = "days_since_first_activity"  # as old as the log, at most


def feature_drift(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """PSI of every feature, KS of numbers, and the share of the missing.

    What grows with the age of a young log, by that alone, is shown and not judged.
    """
    before = seen.reference
    if isinstance(before, str):
        yield unknown("feature_drift", "", before)
        return
    after = seen.features
    n, m = len(before), len(after)
    if min(n, m) < held.min_customers:
        yield unknown(
            "feature_drift",
            "",
            f"{n:,} customers before the training and {m:,} now, {held.min_customers} each are needed",
        )
        return
    then, now = seen.log_age_days
    grown = {*growing(seen.feature_set, np.array([then]), now), *((SINCE,) if now > MOST_GROWTH * then else ())}
    for feature in seen.feature_set.customer:
        name = feature.name
        if feature.kind == "keyed" or name not in before or name not in after:
            continue
        if name in grown:
            moved = psi(*histograms(_numbers(before[name]), _numbers(after[name])))
            yield shown(
                "psi", name, moved, f"grows with the log, {then:.0f} days old then and {now:.0f} now: not judged"
            )
            continue
        if feature.kind == "category":
            b, a = _texts(before[name]), _texts(after[name])
            yield above("psi", name, psi(*category_histograms(b, a)), held.psi, "PSI between training and now")
            missing = null_rate(b), null_rate(a)
        else:
            x, y = _numbers(before[name]), _numbers(after[name])
            yield above("psi", name, psi(*histograms(x, y)), held.psi, "PSI between training and now")
            if not (np.isnan(x).all() or np.isnan(y).all()):
                yield above("ks", name, ks(x, y), held.ks, "largest distance of distribution functions")
            missing = float(np.isnan(x).mean()), float(np.isnan(y).mean())
        said = f"missing for {missing[1]:.1%} of the customers, {missing[0]:.1%} before the training"
        yield above("null_rate", name, abs(missing[1] - missing[0]), held.null_rate, said)


def unseen_categories(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """Categories that the acceptance model has no column for: it takes them for missing."""
    model = None if seen.champion is None else seen.champion.acceptance
    if not isinstance(model, AcceptanceScorer) or not len(seen.features):
        yield unknown("unseen", "", "no acceptance model, or no decision with features in the window")
        return
    for column in model.classifier.encoder.columns:
        if column.values is not None and column.name in seen.features:
            share, names = unseen(_texts(seen.features[column.name]), set(column.values))
            said = f"unseen in training: {', '.join(names[:3])}" if names else "every category was there in training"
            yield above("unseen", column.name, share, held.unseen_share, said)


def feature_age(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """How old the stored features were when decisions read them, and how often there were none to read."""
    made = seen.decisions
    if len(made) < held.min_decisions:
        said = f"{len(made):,} decisions in the window, {held.min_decisions} are needed"
        yield unknown("feature_age", "", said)
        return
    without = np.array([any(code.startswith("features_") for code in codes) for codes in made["degraded"]])
    yield above(
        "without_features", "", float(without.mean()), held.without_features, "decisions that could not read them"
    )
    age = (made["us"] - made["snapshot_us"]).to_numpy(np.float64) / US_PER_HOUR
    known = age[np.isfinite(age)]
    if not len(known):
        yield unknown("feature_age", "", "no decision was made from a snapshot: run `nbo features materialize`")
        return
    yield above("feature_age_h", "", float(np.median(known)), held.feature_age_h, "median age in hours")
    yield shown("feature_age_h", "oldest", float(known.max()), "the oldest in hours")


def _texts(values: pd.Series[Any]) -> list[str | None]:
    return [None if value is None or value != value else str(value) for value in values]


def _numbers(values: pd.Series[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = pd.to_numeric(values).to_numpy(np.float64, na_value=np.nan)
    return found
