"""Uplift of retention offers from the log: who was shown one against the randomised holdout, beside the churn model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import NotTrainable
from features.history import customer_features_at
from features.holdout import phases_of
from training.columns import churn_encoder
from training.encoder import Encoder
from training.evaluate import Interval
from training.frame_scores import decoded, scored_by
from training.scorers import Effect, UpliftScorer, read_scorer
from training.steps.inputs import Inputs, Progress, thinned
from training.steps.kept import under
from training.tracking import Logged
from training.uplift import Trial
from training.uplift import report as pages
from training.uplift.contacts import Moments, arms, designed, read_moments
from training.uplift.learn import UpliftFit, learn_uplift

MOST_MOMENTS = 60_000  # more are thinned, evenly over time
WORDS = pages.Words()
TURN_ON = "set `holdout` under [experiments] in nbo.toml, 0.05 for one customer in twenty"


@dataclass(frozen=True)
class Uplift:
    """What is known of uplift; without a fit `missing` says why, and with one `by_chance` what chance alone tells."""

    fit: UpliftFit | None = None
    by_chance: Interval | None = None  # of everybody served over everybody held out, in the share that stays
    missing: str = ""
    left_out: str = ""
    example: pd.DataFrame | None = None  # features at some of the moments

    @property
    def scorer(self) -> UpliftScorer | None:
        """What may serve: the model where it orders customers, the one effect where that is all that is shown."""
        if self.fit is None or self.fit.judged.verdict not in ("orders", "alike"):
            return None
        if self.fit.judged.verdict == "orders":
            return self.fit.scorer
        average = self.fit.judged.average.estimate
        return replace(self.fit.scorer, effect=Effect("constant"), slope=0.0, intercept=average)

    @property
    def note(self) -> str:
        """One sentence for whoever trains."""
        if self.fit is None:
            return f"Uplift of retention offers is not known: {self.missing}."
        said = f"Uplift of retention offers. {pages.sentence(self.fit.judged, WORDS)}"
        return said if self.scorer is not None else f"{said} The set save rate stays."


def learn_from_log(inputs: Inputs, progress: Progress) -> Uplift:
    """What the log tells of retention offers; where it tells too little, why. Never an error of the churn model."""
    progress("uplift: who was shown a retention offer, who was held out")
    phases = phases_of(inputs.facts)
    if not phases:
        return Uplift(missing=f"the holdout share is 0, so that nobody is there to compare with; {TURN_ON}")
    retention = [offer.offer_id for offer in inputs.offers if offer.retention]
    if not retention:
        return Uplift(missing="no offer of the catalogue is marked as a retention offer")
    rules = inputs.settings.churn
    found = read_moments(inputs.home, inputs.facts, inputs.log, phases, retention, rules, inputs.first_us)
    compared = arms(found)
    if not len(compared):
        ahead = rules.gap_days + rules.horizon_days
        return Uplift(missing=f"no decision of the holdout's time lies {ahead} days back, when its outcome is known")
    chance = designed(found, phases)
    kept = thinned(len(compared), MOST_MOMENTS)
    rows = compared.rows.iloc[kept].reset_index(drop=True)
    progress("uplift: features as of each moment")
    moments = pd.to_datetime(rows["us"], unit="us", utc=True)
    features = customer_features_at(
        inputs.home, inputs.facts, pd.DataFrame({"customer_id": rows["customer_id"], "event_timestamp": moments})
    )
    encoder = churn_encoder(inputs.features, features)
    left_out = _left_out(found)
    if not encoder.columns:
        return Uplift(missing=f"no feature differs between the {len(rows)} moments", left_out=left_out)
    trial = Trial(
        rows=encoder.rows(len(rows), features, (), {}, {}, None),
        y=rows["stayed"].to_numpy(np.bool_),
        treated=rows["treated"].to_numpy(np.bool_),
        clusters=_codes(rows["who"]),
        propensity=None if chance is None else chance.to_numpy(np.float64)[kept],
    )
    try:
        fit = learn_uplift(encoder, trial, seeds=(inputs.seed,), progress=progress)
    except NotTrainable as error:
        return Uplift(missing=error.reason, left_out=left_out)
    return Uplift(fit, by_chance(found, inputs.seed), left_out=left_out, example=features.iloc[:2])


def by_chance(found: Moments, seed: int, n_draws: int = 500) -> Interval:
    """What being served does to the share that stays, whoever was shown what; by customer."""
    rows = found.rows
    served, stayed = rows["served"].to_numpy(np.bool_), rows["stayed"].to_numpy(np.float64)
    clusters = _codes(rows["who"])
    rng, n = np.random.default_rng(seed), int(clusters.max()) + 1

    def difference(w: NDArray[np.float64]) -> float:
        of = [np.average(stayed[arm], weights=w[arm]) if w[arm].sum() else np.nan for arm in (served, ~served)]
        return float(of[0] - of[1])

    draws = [
        difference(np.bincount(rng.integers(0, n, n), minlength=n)[clusters].astype(np.float64)) for _ in range(n_draws)
    ]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Interval(difference(np.ones(len(rows))), float(low), float(high))


def beside(churn: Logged, found: Uplift) -> Logged:
    """The churn model's run with all that is known of uplift; the artefact has `uplift/` where that may serve."""
    text = f"# Uplift of retention offers\n\n{found.note}\n"
    if found.fit is None:
        report = {"verdict": "not known", "sentence": found.note}
        return replace(churn, texts={**churn.texts, **_texts(text, report)})
    fit = found.fit
    page = pages.markdown(fit, WORDS) + f"\n{_chance_said(found)}\n"
    report = pages.as_json(fit, WORDS) | {"left_out": found.left_out, "serves": found.scorer is not None}
    scorer = found.scorer
    if scorer is not None and found.example is not None and churn.example is not None:
        churn = _read_by_both(churn, scorer, found.example)
    return replace(
        churn,
        metrics={**churn.metrics, **pages.metrics(fit.judged)},
        tags={**churn.tags, "uplift": fit.judged.verdict},
        files={**churn.files, **({} if scorer is None else under("uplift", scorer))},
        tables={**churn.tables, **pages.tables(fit)},
        figures={**churn.figures, **pages.figures(fit.judged)},
        texts={**churn.texts, **_texts(page, report)},
    )


def _read_by_both(churn: Logged, scorer: UpliftScorer, features: pd.DataFrame) -> Logged:
    """With an example that has the columns of both models, each of the same customers."""
    scored = scored_by(read_scorer(churn.files, "scorer", ()), (), scorer)
    encoder = Encoder(scored.required)
    example = decoded(encoder, encoder.rows(len(features), features, (), {}, {}, None))
    return replace(churn, example=example, output=scored.of(example))


def _texts(page: str, report: Mapping[str, object]) -> dict[str, str]:
    return {"uplift/report.md": page, "uplift/report.json": json.dumps(report, indent=1)}


def _chance_said(found: Uplift) -> str:
    assert found.by_chance is not None
    return (
        f"{found.left_out} What chance alone tells: everybody served stays more often than everybody held out by "
        f"{pages.points(found.by_chance)} points, whatever they were shown."
    )


def _left_out(found: Moments) -> str:
    return (
        f"Left out of the comparison: {found.count(True, False):,} moments of customers who were served and shown no "
        f"retention offer, {found.count(False, True):,} of the holdout whose even draw showed one."
    )


def _codes(values: pd.Series) -> NDArray[np.int64]:
    found: NDArray[np.int64] = pd.factorize(values)[0].astype(np.int64)
    return found
