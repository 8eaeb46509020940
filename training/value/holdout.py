"""Whether the value models keep their word: fitted on the purchases before a day, judged on those after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import NotTrainable
from features.events import US_PER_DAY
from training.evaluate import Interval
from training.value.bgnbd import BgNbd, fit_bgnbd
from training.value.gamma_gamma import GammaGamma, fit_gamma_gamma
from training.value.history import Numbers, Repeats, repeats_of

TOP = 7  # customers with as many repeats, or more, stand together


@dataclass(frozen=True)
class ValueReport:
    """Models fitted before the cut, and their purchases after it against what happened."""

    counts: BgNbd
    money: GammaGamma | None
    no_money: str | None  # why there is no `money`
    before: Repeats
    days: float  # that were held out
    predicted: Numbers  # (n,) purchases of each customer
    actual: Numbers
    actual_spend: Numbers  # (n,) currency of each customer in the days held out; 0 without purchases
    table: pd.DataFrame  # by number of repeats before: n, predicted, actual and its interval
    total: Interval  # predicted / actual purchases, all customers together
    correlation: Interval  # of predicted and actual, over customers
    parameters: dict[str, Interval]

    @property
    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = {"value_customers": float(len(self.before)), "value_holdout_days": self.days}
        for name, one in (("predicted_to_actual", self.total), ("correlation", self.correlation)):
            found |= {f"value_{name}": one.estimate, f"value_{name}_low": one.low, f"value_{name}_high": one.high}
        found |= {f"value_{name}": one.estimate for name, one in self.parameters.items()}
        return {name: value for name, value in found.items() if np.isfinite(value)}


def judge_value(
    customers: Sequence[str],
    us: NDArray[np.int64],
    values: NDArray[np.floating],
    until_us: int,
    *,
    held_out: float = 0.3,
    n_draws: int = 50,
    seed: int = 0,
) -> ValueReport:
    """The last `held_out` share of the days is kept for judging; intervals by `n_draws` draws of customers.

    `NotTrainable` where the days are too few; without money only the number of purchases is judged, and `no_money`
    says why.
    """
    if not len(us):
        raise NotTrainable("customer value", "the log holds no purchases")
    days = (until_us - int(us.min())) / US_PER_DAY
    later_days = float(np.floor(days * held_out))
    if later_days < 1:
        raise NotTrainable("customer value", f"purchases span {days:.1f} days; some must be left to judge on")
    cut = until_us - int(later_days) * US_PER_DAY
    before = repeats_of(customers, us, values, cut)
    counts = fit_bgnbd(before)
    money, no_money = money_of(before)
    predicted = counts.purchases(before, later_days)
    actual, actual_spend = _later(before, customers, us, values, cut, until_us)
    rng = np.random.default_rng(seed)
    n = len(before)
    draws = [np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64) for _ in range(n_draws)]
    return ValueReport(
        counts=counts,
        money=money,
        no_money=no_money,
        before=before,
        days=later_days,
        predicted=predicted,
        actual=actual,
        actual_spend=actual_spend,
        table=by_frequency(before.frequency, predicted, actual, rng),
        total=_drawn(lambda w: float((w * predicted).sum() / max((w * actual).sum(), 1e-12)), n, draws),
        correlation=_drawn(lambda w: _correlation(predicted, actual, w), n, draws),
        parameters=_parameters(before, counts, money, draws),
    )


def by_frequency(
    frequency: Numbers, predicted: Numbers, actual: Numbers, rng: np.random.Generator, n_draws: int = 500
) -> pd.DataFrame:
    """Mean purchases per customer by repeats before the cut, with the 95 % interval of the actual mean."""
    rows = []
    for repeats in range(TOP + 1):
        inside = np.flatnonzero((frequency == repeats) if repeats < TOP else (frequency >= TOP))
        if not inside.size:
            continue
        means = actual[inside][rng.integers(0, inside.size, (n_draws, inside.size))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        rows.append(
            {
                "repeats": str(repeats) if repeats < TOP else f"{TOP} or more",
                "n_customers": int(inside.size),
                "predicted": float(predicted[inside].mean()),
                "actual": float(actual[inside].mean()),
                "actual_low": float(low),
                "actual_high": float(high),
            }
        )
    return pd.DataFrame(rows)


def money_of(before: Repeats) -> tuple[GammaGamma | None, str | None]:
    """The size of purchases, or why it is not known."""
    try:
        return fit_gamma_gamma(before), None
    except NotTrainable as error:
        return None, error.reason


def _later(
    before: Repeats, customers: Sequence[str], us: NDArray[np.int64], values: NDArray[np.floating], cut: int, until: int
) -> tuple[Numbers, Numbers]:
    frame = pd.DataFrame({"customer": np.asarray(customers, object), "day": us // US_PER_DAY, "value": values})
    frame = frame[(us >= cut) & (us < until)]
    days = frame.groupby("customer")["day"].nunique()
    spent = frame.groupby("customer")["value"].sum()
    index = pd.Index(before.customers)
    return days.reindex(index, fill_value=0).to_numpy(np.float64), spent.reindex(index, fill_value=0.0).to_numpy()


def _drawn(of: object, n: int, draws: Sequence[Numbers]) -> Interval:
    assert callable(of)
    found = np.array([of(w) for w in draws])
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(float(of(np.ones(n))), float(low), float(high))


def _correlation(one: Numbers, other: Numbers, w: Numbers) -> float:
    size = w.sum()
    a, b = one - (w * one).sum() / size, other - (w * other).sum() / size
    spread = np.sqrt((w * a * a).sum() * (w * b * b).sum())
    return float((w * a * b).sum() / spread) if spread > 0 else float("nan")


def _parameters(
    before: Repeats, counts: BgNbd, money: GammaGamma | None, draws: Sequence[Numbers]
) -> dict[str, Interval]:
    """Fitted anew on each draw of customers; draws without a maximum are left out."""
    found: dict[str, list[float]] = {}
    for w in draws:
        try:
            again = fit_bgnbd(before, w)
            spent = fit_gamma_gamma(before, w) if money is not None else None
        except NotTrainable:
            continue
        _collect(found, again, spent)
    of_all: dict[str, list[float]] = {}
    _collect(of_all, counts, money)
    return {
        name: Interval(one, *np.quantile(found.get(name) or [np.nan], [0.025, 0.975]).tolist())
        for name, (one,) in of_all.items()
    }


def _collect(into: dict[str, list[float]], counts: BgNbd, money: GammaGamma | None) -> None:
    for name in ("r", "alpha", "a", "b"):
        into.setdefault(name, []).append(getattr(counts, name))
    for name in ("p", "q", "v") if money is not None else ():
        into.setdefault(name, []).append(getattr(money, name))
