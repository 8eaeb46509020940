"""Proof on a real experiment: Hillstrom's three arms, all metrics, corrected, with the uplift by segment.

64,000 customers of 2008, a third each got an e-mail about men's clothes, about women's, or none; two weeks of visits,
conversions and spending. The published effects on visits are +7.66 and +4.52 points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.proof import Proof, shared_data
from experiments.cells import Cell, cells_of
from experiments.statistics.arms import Kind
from experiments.statistics.corrections import corrected
from experiments.statistics.effect import Effect, compare
from experiments.statistics.sample_ratio import Counted, sample_ratio
from experiments.statistics.segments import by_segment

CONTROL, VARIANTS = "No E-Mail", ("Mens E-Mail", "Womens E-Mail")
METRICS: dict[str, Kind] = {"visit": "proportion", "conversion": "proportion", "spend": "mean"}
PUBLISHED = {"Mens E-Mail": 7.66, "Womens E-Mail": 4.52}  # points of visits
SEED = 42


def hillstrom(proof: Proof) -> None:
    """All effects, the sample ratio, segments, and who is targetable."""
    print("\n## Hillstrom: three arms\n")
    file = shared_data() / "hillstrom" / "hillstrom.csv.gz"
    if not proof.line(file.is_file(), "the data are there"):
        return
    data = pd.read_csv(file)
    ratio = sample_ratio(
        [
            Counted(
                phase=1,
                weights=dict.fromkeys((CONTROL, *VARIANTS), 1 / 3),
                looks=(data["segment"].value_counts().to_dict(),),
            )
        ]
    )
    proof.line(not ratio.mismatch, f"sample ratio: χ² p = {ratio.p_chi2:.2f}, sequential p = {ratio.p_sequential:.2f}")
    cells = [cell for name in METRICS for cell in _cells(data, name)]
    _effects(proof, cells)
    _segments(proof, data)
    _targetable(proof, data)


def _cells(data: Any, name: str, segments: dict[str, Any] | None = None) -> list[Cell]:
    return cells_of(name, data["segment"], data[name], None, data["history"], segments=segments)


def _effects(proof: Proof, cells: list[Cell]) -> None:
    plain = {name: [_compare(cells, name, v, cuped=False) for v in VARIANTS] for name in METRICS}
    adjusted = {name: [_compare(cells, name, v, cuped=True) for v in VARIANTS] for name in METRICS}
    primary = corrected(plain["visit"], "primary")
    secondary = corrected(plain["conversion"] + plain["spend"], "secondary")
    rows = []
    for effect, with_pre in zip(
        primary + secondary, adjusted["visit"] + adjusted["conversion"] + adjusted["spend"], strict=True
    ):
        rows.append(
            (
                effect.metric,
                effect.variant,
                _amount(effect, effect.absolute),
                f"{_amount(effect, effect.absolute_low)} to {_amount(effect, effect.absolute_high)}",
                f"{effect.relative:+.1%}",
                f"{effect.p_value:.1g}",
                f"{effect.p_adjusted:.1g}",
                f"{with_pre.cuped_reduction:.2%}",
            )
        )
    header = (
        "metric",
        "variant",
        "effect",
        "95 % interval",
        "relative",
        "p",
        "p, corrected",
        "CUPED by `history` saves",
    )
    proof.table(header, rows)
    for effect in primary:
        points = 100 * (effect.absolute or 0.0)
        want = PUBLISHED[effect.variant]
        proof.line(
            abs(points - want) < 0.005, f"{effect.variant}: {points:+.2f} points of visits, published {want:+.2f}"
        )
    proof.line(all((e.p_adjusted or 1.0) < 0.05 for e in primary + secondary), "all six hold after correction")


def _compare(cells: list[Cell], name: str, variant: str, *, cuped: bool) -> Effect:
    return compare(cells, name, CONTROL, variant, kind=METRICS[name], cuped=cuped)


def _segments(proof: Proof, data: Any) -> None:
    """Whether effects on visits differ between kinds of customers."""
    bought = np.select([data["mens"] * data["womens"] == 1, data["mens"] == 1], ["both", "men's"], "women's")
    axes = {
        "bought": bought,
        "channel": data["channel"],
        "new": np.where(data["newbie"] == 1, "new", "old"),
        "area": data["zip_code"],
        "spent a year": data["history_segment"].str[3:],
    }
    found = by_segment(_cells(data, "visit", axes), "visit", CONTROL, VARIANTS, kind="proportion", cuped=False)
    rows = [
        (
            one.variant,
            one.segment,
            ", ".join(f"{e.segment[1]} {_amount(e, e.absolute)}" for e in one.effects if e.segment),
            f"{one.p_differ_adjusted:.1g}",
        )
        for one in found
    ]
    proof.table(("variant", "segment", "effect on visits, in points", "p that they do not differ, corrected"), rows)
    by = {(one.variant, one.segment): one.p_differ_adjusted or 1.0 for one in found}
    proof.line(by["Womens E-Mail", "bought"] < 1e-6, "the women's e-mail works by what customers bought before")


def _targetable(proof: Proof, data: Any) -> None:
    """A logistic T-learner on one half, judged on the other: does uplift differ between its top and bottom 30 %?"""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = pd.get_dummies(
        data[["recency", "history", "mens", "womens", "newbie", "zip_code", "channel"]], dtype=float
    )
    half = np.random.default_rng(SEED).random(len(data)) < 0.5
    rows, gaps = [], {}
    for variant in VARIANTS:
        uplift = np.zeros(len(data))
        for arm, sign in ((variant, 1.0), (CONTROL, -1.0)):
            mine = half & (data["segment"] == arm).to_numpy()
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
            model.fit(features[mine].to_numpy(), data["visit"][mine].to_numpy())
            uplift += sign * model.predict_proba(features.to_numpy())[:, 1]
        judged = data[~half & data["segment"].isin([variant, CONTROL])]
        rank = pd.Series(uplift)[judged.index].rank(pct=True)
        third = np.select([rank > 0.7, rank <= 0.3], ["top 30 %", "bottom 30 %"], "between")
        (found,) = by_segment(
            _cells(judged, "visit", {"uplift": third}), "visit", CONTROL, (variant,), kind="proportion", cuped=False
        )
        effects = {e.segment[1]: e for e in found.effects if e.segment}
        gaps[variant] = (effects["top 30 %"].absolute or 0.0) - (effects["bottom 30 %"].absolute or 0.0)
        named = [f"{_amount(e, e.absolute)} ({_amount(e, e.absolute_low)} to {_amount(e, e.absolute_high)})" for e in
                 (effects["top 30 %"], effects["bottom 30 %"])]  # fmt: skip
        rows.append((variant, *named, f"{found.p_differ:.1g}"))
    proof.table(("variant", "top 30 % by predicted uplift", "bottom 30 %", "p that all thirds are the same"), rows)
    proof.line(gaps["Womens E-Mail"] > 0.05, "uplift is targetable for the women's e-mail")
    proof.line(gaps["Mens E-Mail"] < 0.03, "and hardly for the men's")


def _amount(effect: Effect, value: float | None) -> str:
    assert value is not None
    return f"{value:+.3f}" if effect.metric == "spend" else f"{100 * value:+.2f}"
