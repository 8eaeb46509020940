"""What an uplift model is worth, for people: a page of Markdown, the same as JSON, and two pictures.

Ranking by risk and a random order stand beside the model in every one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from training.evaluate import Interval
from training.plots import new_figure
from training.uplift.judge import MIN_CLAIM, MODEL, RISK, SHARE, Judged
from training.uplift.learn import UpliftFit


@dataclass(frozen=True, slots=True)
class Words:
    """What the trial was about, as its report says it."""

    outcome: str = "stayed"
    treated: str = "shown a retention offer"
    control: str = "held out"


def markdown(fit: UpliftFit, words: Words) -> str:
    """One page; figures are shares and differences in percentage points, with 95 % intervals."""
    judged = fit.judged
    parts = [
        f"# Uplift: {words.outcome}, {words.treated} against {words.control}\n",
        f"**{sentence(judged, words)}**\n",
        _arms(judged, words),
        _rankings(judged),
        _bands(judged),
        _how(fit),
    ]
    return "\n".join(parts)


def sentence(judged: Judged, words: Words) -> str:
    """The verdict in words."""
    if judged.verdict == "too_few":
        few = ", ".join(f"{name} {arm.least:,}" for name, arm in judged.arms.items())
        return (
            f"No claim: {MIN_CLAIM} units with and as many without the outcome are needed in each arm; of the rarer "
            f"there are {few}."
        )
    effect = f"{words.treated} against {words.control} moves '{words.outcome}' by {points(judged.average)} points"
    if judged.verdict == "orders":
        return (
            f"The model finds whom a contact moves: among the first {SHARE:.0%} by predicted uplift {words.treated} "
            f"moves '{words.outcome}' by {points(judged.top[MODEL])} points, among the last by "
            f"{points(judged.bottom[MODEL])} (all: {points(judged.average)}). "
            f"Against ranking by risk: {_against(judged)}."
        )
    if judged.verdict == "alike":
        return f"Over all, {effect}; that it moves some more than others is not shown."
    return f"Nothing is shown: over all, {effect}, an interval that holds 0."


def as_json(fit: UpliftFit, words: Words) -> dict[str, Any]:
    """All figures of the page."""
    judged = fit.judged
    return {
        "verdict": judged.verdict,
        "sentence": sentence(judged, words),
        "arms": {name: {"n": arm.n, "n_with_outcome": arm.n_with} for name, arm in judged.arms.items()},
        "least_outcomes_for_a_claim": MIN_CLAIM,
        "average": _interval(judged.average),
        "rankings": {
            name: {
                "qini": _interval(judged.qini[name]),
                "auuc": _interval(judged.auuc[name]),
                "top": _interval(judged.top[name]),
                "bottom": _interval(judged.bottom[name]),
            }
            for name in judged.qini
        },
        "qini_gain_over_risk": _interval(judged.qini_gain),
        "tenths": judged.bands.to_dict(orient="records"),
        "learner": fit.choice.learner,
        "base": fit.choice.base,
        "slope": fit.choice.slope,
        "intercept": fit.choice.intercept,
        "share_below_zero": fit.share_below_zero,
        "propensity": "known by design" if fit.known_propensity else "estimated",
        "propensity_moved_share": fit.moved_share,
        "n_seeds": fit.n_seeds,
    }


def metrics(judged: Judged) -> dict[str, float]:
    """As a run keeps them, each with its interval."""
    named = {
        "uplift_average": judged.average,
        "uplift_qini": judged.qini[MODEL],
        "uplift_auuc": judged.auuc[MODEL],
        "uplift_top": judged.top[MODEL],
        "uplift_bottom": judged.bottom[MODEL],
        "uplift_qini_of_risk": judged.qini[RISK],
        "uplift_qini_gain_over_risk": judged.qini_gain,
    }
    found: dict[str, float] = {}
    for name, of in named.items():
        found |= {name: of.estimate, f"{name}_low": of.low, f"{name}_high": of.high}
    return {name: value for name, value in found.items() if value == value}


def figures(judged: Judged) -> Mapping[str, Any]:
    return {"uplift_qini": qini_figure(judged), "uplift_by_tenth": bands_figure(judged)}


def qini_figure(judged: Judged) -> Any:
    figure, axes = new_figure("Qini curve, units out of fold", "share contacted, best first", "gained per treated unit")
    for name, colour in ((MODEL, "C0"), (RISK, "C1")):
        curve = judged.curves[name]
        axes.plot(curve["share"], curve["value"], color=colour, label=f"{name}: Qini {judged.qini[name].estimate:.3f}")
        axes.fill_between(curve["share"], curve["low"], curve["high"], color=colour, alpha=0.15, lw=0)
    axes.plot([0, 1], [0, judged.average.estimate], color="grey", lw=1, ls=":", label="random")
    axes.legend()
    return figure


def bands_figure(judged: Judged) -> Any:
    figure, axes = new_figure("Uplift by tenth of predicted uplift", "tenth, highest first", "effect on the outcome")
    bands = judged.bands
    below, above = bands["effect"] - bands["low"], bands["high"] - bands["effect"]
    axes.errorbar(bands["band"], bands["effect"], yerr=[below, above], fmt="o", capsize=2, label="measured")
    axes.plot(bands["band"], bands["predicted"], color="C1", marker="x", lw=1, label="predicted")
    axes.axhline(0.0, color="grey", lw=1)
    axes.legend()
    return figure


def points(of: Interval) -> str:
    """In percentage points, with the interval."""
    return f"{100 * of.estimate:+.1f} [{100 * of.low:+.1f}, {100 * of.high:+.1f}]"


def _against(judged: Judged) -> str:
    gain = judged.qini_gain
    said = "better" if gain.low > 0.0 else "worse" if gain.high < 0.0 else "undecided"
    return f"{said} (Qini {gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}])"


def _arms(judged: Judged, words: Words) -> str:
    lines = ["| arm | units | with the outcome | rate |", "|---|---:|---:|---:|"]
    for name, said in (("treated", words.treated), ("control", words.control)):
        arm = judged.arms[name]
        lines.append(f"| {said} | {arm.n:,} | {arm.n_with:,} | {100 * arm.rate:.1f} % |")
    return "\n".join(lines) + f"\n\nOn all: {points(judged.average)} points.\n"


def _rankings(judged: Judged) -> str:
    lines = [
        f"| ranking | Qini | AUUC | first {SHARE:.0%}, points | last {SHARE:.0%}, points |",
        "|---|---|---|---|---|",
    ]
    said = {MODEL: "predicted uplift", RISK: "risk (least likely untreated first)"}
    for name, title in said.items():
        qini, auuc = judged.qini[name], judged.auuc[name]
        lines.append(
            f"| {title} | {qini.estimate:.3f} [{qini.low:.3f}, {qini.high:.3f}] "
            f"| {auuc.estimate:.4f} [{auuc.low:.4f}, {auuc.high:.4f}] "
            f"| {points(judged.top[name])} | {points(judged.bottom[name])} |"
        )
    average = points(judged.average)
    lines.append(f"| random | 0 | {judged.average.estimate / 2:.4f} | {average} | {average} |")
    return "\n".join(lines) + f"\n\nPredicted uplift against risk: {_against(judged)}.\n"


def _bands(judged: Judged) -> str:
    lines = [
        "| tenth by predicted uplift | predicted | measured, points | treated | control |",
        "|---:|---:|---|---:|---:|",
    ]
    for band in judged.bands.to_dict(orient="records"):
        measured = Interval(band["effect"], band["low"], band["high"])
        lines.append(
            f"| {band['band']} | {100 * band['predicted']:+.1f} | {points(measured)} | {band['n_treated']:,} "
            f"| {band['n_control']:,} |"
        )
    return "\n".join(lines) + "\n"


def _how(fit: UpliftFit) -> str:
    by_design = "known by design: chance decided who was contacted"
    moved = f"; {fit.moved_share:.1%} of the estimates were moved away from 0 and 1" if fit.moved_share else ""
    estimated = (
        f"estimated from the features{moved}. What was not recorded and led to contacts biases every figure here"
    )
    serves = (
        "one effect for all"
        if fit.choice.learner == "constant"
        else f"{fit.choice.learner}-learner on {fit.choice.base}"
    )
    return (
        f"Each unit was judged by a model that never saw it or another row of the same customer, mean over "
        f"{fit.n_seeds} deals into folds; intervals by bootstrap over customers. The chance of contact was "
        f"{by_design if fit.known_propensity else estimated}. Learned from all units: {serves}, effects read as "
        f"{fit.choice.intercept:+.4f} + {fit.choice.slope:.2f} x effect. Predicted below zero: "
        f"{fit.share_below_zero:.1%} of the units.\n"
    )


def _interval(of: Interval) -> dict[str, float | None]:
    return {name: v if (v := getattr(of, name)) == v else None for name in ("estimate", "low", "high")}


def tables(fit: UpliftFit) -> dict[str, pd.DataFrame]:
    return {
        "uplift_candidates": fit.tried,
        "uplift_tenths": fit.judged.bands,
        **{f"uplift_qini_{name}": curve for name, curve in fit.judged.curves.items()},
    }
