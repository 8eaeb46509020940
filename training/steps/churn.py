"""The churn model from the log: customers at risk at snapshot dates, features as of each, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from features.errors import NotTrainable
from features.events import US_PER_DAY
from features.history import customer_features_at
from training.dataset import read_risks, snapshot_instants
from training.frame_scores import scored_by
from training.models.churn import ChurnTable, Times, same_for_all, segments_of
from training.models.churn_horizons import ChurnFit, learn_horizons
from training.models.classifier_fit import ClassifierFit
from training.reasons import contributions
from training.scorers.churn import ChurnScorer
from training.split import split_instants
from training.steps.churn_value import ValueAtRisk, purchases_of, value_at_risk, without_value, worth_if_staying
from training.steps.foresight import refuse_foresight
from training.steps.inputs import MAX_ROWS, Inputs, Progress, thinned
from training.steps.kept import logged as kept_of_classifier
from training.steps.kept import under
from training.tracking import Logged

MOST_EXPLAINED = 500  # rows of the last test instant


@dataclass(frozen=True)
class ChurnRun:
    """What was learned of churn, and of what goes with those who leave."""

    horizons: ChurnFit
    value: ValueAtRisk | None
    if_staying: Mapping[str, float]  # what customers are worth now, for decisions; empty where purchases do not say
    fit: ClassifierFit  # of the horizon that serves, with the report's tables, figures and notes

    @property
    def scorer(self) -> ChurnScorer:
        return replace(self.horizons.scorer, if_staying=self.if_staying)

    def logged(self, inputs: Inputs) -> Logged:
        from training.churn_pictures import churn_figures

        kept = kept_of_classifier("churn", self.fit, inputs)
        assert kept.example is not None
        held_out = None if self.value is None else self.value.report
        return replace(
            kept,
            params={**kept.params, "horizon_days": self.horizons.horizon_days},
            files={**kept.files, **under("scorer", self.scorer)},
            output=scored_by(self.scorer).of(kept.example),
            figures={**kept.figures, **churn_figures(self.horizons, held_out)},
        )


def learn_from_log(inputs: Inputs, progress: Progress) -> ChurnRun:
    """`NotTrainable` where the log is too short or too small for the horizon that serves; `Leakage` by the canaries."""
    progress("churn: customers at risk")
    serving = inputs.settings.churn.horizon_days
    asked_for = sorted({*inputs.settings.churn.horizons, serving})
    known = {days: instants_for(inputs, days) for days in asked_for if days >= serving}
    too_short = {days: of for days, of in known.items() if isinstance(of, str)}
    if serving in too_short:
        raise NotTrainable("churn", too_short[serving])
    times = {days: of for days, of in known.items() if isinstance(of, Times)}
    instants = sorted({t for of in times.values() for t in (*of.earlier, *of.test)})
    risks = read_risks(inputs.log, instants, inputs.settings.churn)
    kept = thinned(len(risks.rows), MAX_ROWS)
    rows = risks.rows.iloc[kept].reset_index(drop=True)
    us = rows["us"].to_numpy(np.int64)
    progress("churn: features as of each date")
    moments = pd.to_datetime(us, unit="us", utc=True)
    asked = pd.DataFrame({"customer_id": rows["customer_id"], "event_timestamp": moments})
    features = customer_features_at(inputs.home, inputs.facts, asked)
    table = ChurnTable(rows["customer_id"].tolist(), us, features, risks.silent_days[kept])
    compared = refuse_foresight("churn", inputs, table.customers, us, features)
    progress("churn: fitting")
    horizons = [days for days in asked_for if days not in too_short]
    fit = learn_horizons(inputs.features, table, horizons, serving, lambda days: times[days], inputs.seed)
    progress("churn: customer value")
    purchases = purchases_of(inputs)
    value, unvalued = at_risk_value(inputs, purchases, table, fit)
    if_staying = {} if value is None else worth_if_staying(purchases, midnight_us(inputs))
    return described(fit, {**too_short, **fit.left_out}, value, unvalued, compared, table, if_staying)


def instants_for(inputs: Inputs, horizon_days: int) -> Times | str:
    """Snapshot dates to learn at and to judge at for a horizon, or why the log is too short for it."""
    rules = inputs.settings.churn
    of_horizon = msgspec.structs.replace(rules, horizon_days=horizon_days)
    instants = snapshot_instants(inputs.first_us + US_PER_DAY, inputs.as_of_us, of_horizon)
    ahead = rules.gap_days + horizon_days
    earlier, test = split_instants(instants, ahead * US_PER_DAY)
    if earlier:
        return Times(earlier, test)
    return (
        f"{len(instants)} snapshot dates, {rules.every_days} days apart, whose label of {ahead} days is known; "
        f"too few for a test part that no earlier label reaches into"
    )


def midnight_us(inputs: Inputs) -> int:
    """The last midnight, up to which purchases are counted by the day."""
    return inputs.as_of_us // US_PER_DAY * US_PER_DAY


def at_risk_value(
    inputs: Inputs, purchases: pd.DataFrame, table: ChurnTable, fit: ChurnFit
) -> tuple[ValueAtRisk | None, str | None]:
    """What those at risk at the last date of the test part are worth, with their chances then; or why not."""
    last_us = int(table.us[fit.learned.rows].max())
    there = table.us[fit.learned.rows] == last_us
    rows = fit.learned.rows[there]
    customers = [table.customers[row] for row in rows.tolist()]
    try:
        found = value_at_risk(purchases, midnight_us(inputs), last_us, rows, customers, fit.fit.p[there], inputs.seed)
    except NotTrainable as error:
        return None, error.reason
    return found, None


def described(
    fit: ChurnFit,
    left_out: Mapping[int, str],
    value: ValueAtRisk | None,
    unvalued: str | None,
    n_made_again: int,
    table: ChurnTable,
    if_staying: Mapping[str, float],
) -> ChurnRun:
    """Tables, figures and sentences for the run."""
    alike = same_for_all(segments_of(table, fit.learned.rows))
    notes = [
        "Churned means silent: no activity for the horizon. A longer silence is never more likely than a shorter one.",
        *(f"The horizon of {days} days is left out: {reason}." for days, reason in sorted(left_out.items())),
        *fit.learned.canaries.said,
    ]
    if value is not None and value.report.counts.at_limit:
        notes.append(
            f"Purchases say no finite {', '.join(value.report.counts.at_limit)} of BG/NBD: a customer's chance to have "
            f"left for good after a purchase is {value.report.counts.leaving:.4f} on average."
        )
    if value is not None:
        notes += value.notes
        notes.append(
            f"The release knows what {len(if_staying):,} customers are worth on staying, for retention offers."
            if if_staying
            else "The release does not know what customers are worth in money."
        )
    if unvalued is not None:
        notes.append(without_value(unvalued))
    notes += [f"No slice by {kind}: all of the test part are {only!r}." for kind, only in alike.items()]
    tables = {
        "horizons": pd.DataFrame([horizon_row(fit, one.horizon_days) for one in fit.horizons]),
        "slices_by_horizon": pd.concat([one.slices for one in fit.horizons], ignore_index=True),
        "reliability_by_horizon": pd.concat([one.reliability for one in fit.horizons], ignore_index=True),
        "canaries": fit.learned.canaries.alone,
        "what_weighs": what_weighs(fit, table),
    }
    figures = {**fit.metrics, "canary_rows_made_again": float(n_made_again), "n_valued": float(len(if_staying))}
    if value is not None:
        tables |= {"expected_loss": value.by_segment(table), "purchases_held_out": value.report.table}
        figures |= value.metrics
    own = set(fit.fit.metrics)
    return ChurnRun(
        fit,
        value,
        if_staying,
        replace(
            fit.fit,
            notes=(*fit.fit.notes, *notes),
            tables={**fit.fit.tables, **tables},
            figures={**fit.fit.figures, **{name: of for name, of in figures.items() if name not in own}},
        ),
    )


def horizon_row(fit: ChurnFit, days: int) -> dict[str, Any]:
    """One horizon with its intervals, as a line of a table."""
    one = next(found for found in fit.horizons if found.horizon_days == days)
    row: dict[str, Any] = {
        "horizon_days": days,
        "serves": days == fit.horizon_days,
        "n_rows": len(one.y),
        "rate": float(one.y.mean()),
        "mean_p": float(one.p.mean()),
        "baseline": one.baseline,
        "verdict": one.verdict,
    }
    for name in ("auc", "brier", "ece", "log_loss", "log_loss_gain"):
        interval = one.intervals[name]
        row |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row


def what_weighs(fit: ChurnFit, table: ChurnTable) -> pd.DataFrame:
    """By feature, what it adds to the log-odds on average: of the test part, no customer is named."""
    rows = fit.learned.rows[thinned(len(fit.learned.rows), MOST_EXPLAINED)]
    encoder = fit.fit.classifier.encoder
    encoded = encoder.rows(len(rows), table.features.iloc[rows], (), {}, {}, None)
    return contributions(fit.fit.classifier, encoded).overall()
