"""What the report of an acceptance model says of selection and of constraints: tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.evaluate import Interval, bootstrap, metrics
from training.models.classifier_fit import ClassifierFit, Sample
from training.models.selection import MIN_RANDOM, MIN_RANDOM_POSITIVES, Selection, enough

JUDGED = ("log_loss", "brier", "auc", "ece")
Numbers = NDArray[np.float64]


def selection_noted(
    fit: ClassifierFit, test: Sample, selection: Selection | None, weighs: bool, other: Numbers | None, seed: int
) -> ClassifierFit:
    """`other` are probabilities of the test part with the rows counted in the other way, by weight or each once."""
    if selection is None or other is None:
        nothing = (
            "No chance of having been shown is logged: what was shown is learned from as if by lot. If what chose it "
            "knew more than this model does, estimates are biased, and nothing here can tell."
        )
        return replace(fit, notes=(*fit.notes, nothing))
    counted = "by the inverse of the logged chance, at most ten times the mean" if weighs else "once each"
    said = [
        f"The chance of having been shown is logged for {selection.known:.1%} of the training impressions; weighted by "
        f"its inverse they say as much as {selection.effective:.1%} of them. Impressions count {counted}."
    ]
    figures = {"logged_chance_share": selection.known, "effective_share": selection.effective}
    drawn = selection.at_random["test"]
    y = test.part.y[drawn]
    if not enough(y):
        said.append(
            f"{len(y)} impressions of the test part were drawn at random, {int(y.sum())} of them accepted; below "
            f"{MIN_RANDOM} with {MIN_RANDOM_POSITIVES} of each kind nothing is concluded from them."
        )
        return replace(fit, notes=(*fit.notes, *said), figures={**fit.figures, **figures})
    p, q = fit.p[drawn], other[drawn]
    by_weight, by_count = (p, q) if weighs else (q, p)
    customers = pd.factorize(test.customers[drawn])[0].astype(np.int64)
    gains = bootstrap(y, by_weight, by_count, customers, np.random.default_rng(seed))
    gain = gains["log_loss_gain"]
    said.append(
        f"On the {len(y):,} impressions of the test part that were drawn at random, weights lower the log loss by "
        f"{gain.estimate:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]."
    )
    figures |= {f"random_share_{name}": value for name, value in metrics(y, p).items()}
    table = pd.DataFrame([
        {"impressions count": "by weight", "serves": weighs, "n_rows": len(y), **metrics(y, by_weight)},
        {"impressions count": "once each", "serves": not weighs, "n_rows": len(y), **metrics(y, by_count)},
        *({"impressions count": f"gain, {end}", **{name: _end(gains[f"{name}_gain"], end) for name in JUDGED}}
          for end in ("estimate", "low", "high")),
    ])  # fmt: skip
    return replace(
        fit,
        notes=(*fit.notes, *said),
        figures={**fit.figures, **figures},
        tables={**fit.tables, "random_share": table},
    )


def constraints_noted(
    fit: ClassifierFit, test: Sample, held: Mapping[str, int], free: Numbers | None, seed: int
) -> ClassifierFit:
    """`held` are the columns with a direction; `free` probabilities of the test part without any, None if none is."""
    if free is None:
        return replace(fit, notes=(*fit.notes, "No column that the model reads has an expected direction."))
    gain = bootstrap(test.part.y, fit.p, free, test.customers, np.random.default_rng(seed))["log_loss_gain"]
    verdict = "cost accuracy" if gain.high < 0 else "gain accuracy" if gain.low > 0 else "cost nothing that shows"
    said = (
        f"Expected directions of {len(held)} columns {verdict}: log loss of the test part {-gain.estimate:+.5f} "
        f"[{-gain.high:+.5f}, {-gain.low:+.5f}] against the same model without them."
    )
    table = pd.DataFrame([{"column": name, "acceptance": "rises" if up > 0 else "falls"} for name, up in held.items()])
    return replace(
        fit,
        notes=(*fit.notes, said),
        figures={**fit.figures, "constraints_log_loss": -gain.estimate},
        tables={**fit.tables, "directions": table},
    )


def _end(interval: Interval, end: str) -> float:
    return float(getattr(interval, end))
