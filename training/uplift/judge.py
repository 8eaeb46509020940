"""What an order of units by predicted uplift is worth, beside ranking by risk and at random, with intervals.

Units are drawn by customer; several scores of the same units (of several seeds) are judged on the same draws, and
their mean is what is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.evaluate import Interval
from training.uplift.curves import (
    Numbers,
    Order,
    Outcomes,
    Sums,
    auuc,
    best_order,
    difference,
    order_by,
    qini,
    qini_curve,
    sums,
)

MODEL, RISK = "model", "risk"
N_BANDS = 10
SHARE = 0.3  # the top and the bottom that are reported
GRID = np.linspace(0.0, 1.0, 101)
PER_BAND = (len(GRID) - 1) // N_BANDS
# Between which points of the grid the effects are taken: the top, the bottom, then the bands.
STARTS = np.array([0, round(100 * (1 - SHARE)), *range(0, len(GRID) - 1, PER_BAND)])
ENDS = np.array([round(100 * SHARE), len(GRID) - 1, *range(PER_BAND, len(GRID), PER_BAND)])
MIN_CLAIM = 100  # outcomes of each kind in each arm, below which nothing is claimed


@dataclass(frozen=True)
class Counts:
    """How many units an arm has, and with which outcome."""

    n: int
    n_with: int

    @property
    def rate(self) -> float:
        return self.n_with / self.n

    @property
    def least(self) -> int:
        """Units with the rarer outcome."""
        return min(self.n_with, self.n - self.n_with)


@dataclass(frozen=True)
class Judged:
    """Figures of one model of uplift. Rankings by name: `model`, and `risk`, the lowest chance of the outcome first."""

    arms: Mapping[str, Counts]  # treated, control
    average: Interval  # the effect on all
    qini: Mapping[str, Interval]
    auuc: Mapping[str, Interval]
    top: Mapping[str, Interval]  # the effect among the first SHARE of each ranking
    bottom: Mapping[str, Interval]  # and among the last
    qini_gain: Interval  # of the model over risk
    bands: pd.DataFrame  # the model's tenths: predicted, effect, low, high, n_treated, n_control
    curves: Mapping[str, pd.DataFrame]  # share, value, low, high: outcomes gained per treated unit
    verdict: str  # too_few, orders, alike, undecided


def judge(
    of: Outcomes,
    scores: Mapping[str, Sequence[Numbers]],
    predicted: Numbers,
    clusters: NDArray[np.int64],
    rng: np.random.Generator,
    n_draws: int = 500,
) -> Judged:
    """`scores`: per ranking one score per seed, each (n,), higher is earlier; `predicted`: the mean uplift, (n,)."""
    arms = {
        name: Counts(int((of.treated == arm).sum()), int(of.y[of.treated == arm].sum()))
        for name, arm in (("treated", True), ("control", False))
    }
    orders = {name: [order_by(one) for one in some] for name, some in scores.items()}
    best = best_order(of)
    n = int(clusters.max()) + 1
    estimate = _figures(of, orders, best, None)
    draws = np.stack(
        [
            _figures(of, orders, best, np.bincount(rng.integers(0, n, n), minlength=n)[clusters].astype(np.float64))
            for _ in range(n_draws)
        ]
    )
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    names = list(scores)
    found = [Interval(float(e), float(a), float(b)) for e, a, b in zip(estimate, low, high, strict=True)]
    head, per = found[:2], 4 + N_BANDS + len(GRID)
    of_ranking = {name: found[2 + at * per : 2 + (at + 1) * per] for at, name in enumerate(names)}
    judged = Judged(
        arms=arms,
        average=head[0],
        qini={name: one[0] for name, one in of_ranking.items()},
        auuc={name: one[1] for name, one in of_ranking.items()},
        top={name: one[2] for name, one in of_ranking.items()},
        bottom={name: one[3] for name, one in of_ranking.items()},
        qini_gain=head[1],
        bands=_bands(of, orders[MODEL][0], predicted, of_ranking[MODEL][4 : 4 + N_BANDS]),
        curves={name: _curve(one[4 + N_BANDS :]) for name, one in of_ranking.items()},
        verdict="",
    )
    return Judged(**{**judged.__dict__, "verdict": verdict(judged)})


def verdict(judged: Judged) -> str:
    """What may be claimed. too_few: nothing, an arm has too few outcomes; orders: the model finds whom contact moves;
    alike: contact moves people, and nothing shows that it moves some more; undecided: not even that.
    """
    if min(arm.least for arm in judged.arms.values()) < MIN_CLAIM:
        return "too_few"
    if judged.qini[MODEL].low > 0.0:
        return "orders"
    return "alike" if judged.average.low > 0.0 or judged.average.high < 0.0 else "undecided"


def _figures(of: Outcomes, orders: Mapping[str, Sequence[Order]], best: Order, counts: Numbers | None) -> Numbers:
    """Average effect and gain over risk; then per ranking Qini, AUUC, top, bottom, bands and curve."""
    perfect = sums(best, of, counts)
    each = {
        name: np.mean([_of_ranking(sums(order, of, counts), perfect) for order in some], axis=0)
        for name, some in orders.items()
    }
    average = float(difference(perfect)[-1])
    gain = each[MODEL][0] - each[RISK][0] if RISK in each else float("nan")
    return np.concatenate([[average, gain], *each.values()])


def _of_ranking(s: Sums, perfect: Sums) -> Numbers:
    points = s.at(GRID)
    inside = Sums(*(of[ENDS] - of[STARTS] for of in (getattr(points, name) for name in Sums.__slots__)))
    curve = qini_curve(points) / max(float(s.n_treated[-1]), 1.0)
    return np.concatenate([[qini(s, perfect), auuc(s)], difference(inside), curve])


def _bands(of: Outcomes, by: Order, predicted: Numbers, effects: Sequence[Interval]) -> pd.DataFrame:
    """Of several seeds, who is in a band and what was predicted is told by the first."""
    parts = np.array_split(by.order, N_BANDS)
    return pd.DataFrame(
        [
            {
                "band": at + 1,
                "predicted": float(predicted[part].mean()) if len(part) else float("nan"),
                "effect": effect.estimate,
                "low": effect.low,
                "high": effect.high,
                "n_treated": int(of.treated[part].sum()),
                "n_control": int((~of.treated[part]).sum()),
            }
            for at, (part, effect) in enumerate(zip(parts, effects, strict=True))
        ]
    )


def _curve(points: Sequence[Interval]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "share": GRID,
            "value": [one.estimate for one in points],
            "low": [one.low for one in points],
            "high": [one.high for one in points],
        }
    )
