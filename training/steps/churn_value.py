"""What the customers at risk are worth, and what is expected to go with those who leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.models.churn import ChurnTable, slices_of
from training.split import held_out
from training.value import (
    ValueReport,
    Worth,
    expected_loss,
    fit_bgnbd,
    fit_gamma_gamma,
    judge_value,
    repeats_of,
    worth_of,
)

YEAR_DAYS = 360.0  # that are looked ahead
MOST_CUSTOMERS = 50_000  # that the models are fitted on; the others are valued by them
N_DRAWS = 20  # of customers, for the intervals


@dataclass(frozen=True)
class ValueAtRisk:
    """The value models as judged on held-out days, and the customers at risk at one instant; shapes (n_at_risk,)."""

    report: ValueReport
    at_us: int
    rows: NDArray[np.intp]  # of the table of churn
    p_churn: NDArray[np.float64]
    worth: Worth  # of those who bought; a customer without a purchase has none
    remaining: NDArray[np.float64]  # 0 without a purchase
    loss: NDArray[np.float64]

    @property
    def metrics(self) -> dict[str, float]:
        return {
            **self.report.metrics,
            "expected_loss": float(self.loss.sum()),
            "remaining_value": float(self.remaining.sum()),
            "value_days": self.worth.days,
        }

    def by_segment(self, table: ChurnTable) -> pd.DataFrame:
        """segment, value, n_customers, mean_p_churn, remaining, expected_loss: sums over the customers at risk."""
        by: dict[str, list[object]] = {"all": ["everybody"] * len(self.rows), **slices_of(table, self.rows)}
        found = []
        for segment, values in by.items():
            named = np.asarray(values, object)
            for value in sorted(set(values), key=str):
                inside = named == value
                found.append(
                    {
                        "segment": segment,
                        "value": value,
                        "n_customers": int(inside.sum()),
                        "mean_p_churn": float(self.p_churn[inside].mean()),
                        "remaining": float(self.remaining[inside].sum()),
                        "expected_loss": float(self.loss[inside].sum()),
                        "unit": "currency" if self.worth.valued else "purchases",
                    }
                )
        return pd.DataFrame(found)


def value_at_risk(
    purchases: pd.DataFrame,
    until_us: int,
    at_us: int,
    rows: NDArray[np.intp],
    customers: Sequence[str],
    p_churn: NDArray[np.float64],
    seed: int,
) -> ValueAtRisk:
    """`purchases` has customer_id, us, value (NaN where it has none), up to `until_us`; `rows` are the customers' rows.

    The models are judged on the last days, and fitted again on what came before `at_us` to value `customers` there.
    `NotTrainable` where there are too few purchases.
    """
    share = MOST_CUSTOMERS / max(purchases["customer_id"].nunique(), 1)
    sample = purchases
    if share < 1.0:
        sample = purchases[held_out(purchases["customer_id"].tolist(), share)]
    report = judge_value(*_columns(sample), until_us, n_draws=N_DRAWS, seed=seed)
    before = repeats_of(*_columns(sample), at_us)
    counts = fit_bgnbd(before)
    money = None if report.money is None else fit_gamma_gamma(before)
    known = purchases[purchases["customer_id"].isin(set(customers))]
    of_risk = repeats_of(*_columns(known), at_us)
    worth = worth_of(counts, money, of_risk, days=YEAR_DAYS)
    index = pd.Index(list(customers))
    p = pd.Series(p_churn, index=index)
    loss = pd.Series(expected_loss(p.reindex(list(worth.customers)).to_numpy(np.float64), worth), index=worth.customers)
    remaining = pd.Series(worth.remaining, index=worth.customers)
    return ValueAtRisk(
        report,
        at_us,
        rows,
        p_churn,
        worth,
        remaining.reindex(index, fill_value=0.0).to_numpy(np.float64),
        loss.reindex(index, fill_value=0.0).to_numpy(np.float64),
    )


def _columns(purchases: pd.DataFrame) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    return (
        purchases["customer_id"].tolist(),
        purchases["us"].to_numpy(np.int64),
        purchases["value"].to_numpy(np.float64),
    )
