"""What the customers at risk are worth, and what is expected to go with those who leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.events import US_PER_DAY
from training.models.churn import ChurnTable, slices_of
from training.split import held_out
from training.steps.inputs import Inputs
from training.value import (
    BgNbd,
    ValueReport,
    Worth,
    expected_loss,
    fit_bgnbd,
    judge_value,
    money_of,
    repeats_of,
    worth_of,
)

YEAR_DAYS = 360.0  # that are looked ahead
MOST_CUSTOMERS = 20_000  # that the models are fitted on; the others are valued by them
N_DRAWS = 20  # of customers, for the intervals


@dataclass(frozen=True)
class ValueAtRisk:
    """The value models as judged on held-out days, and the customers at risk at one instant; shapes (n_at_risk,)."""

    report: ValueReport
    at_us: int
    rows: NDArray[np.intp]  # of the table of churn
    p_churn: NDArray[np.float64]
    worth: Worth  # of those who bought; a customer without a purchase has none
    remaining: NDArray[np.float64]  # 0 without a purchase; NaN where purchases do not show leaving
    loss: NDArray[np.float64]
    notes: tuple[str, ...] = ()  # what purchases do not show

    @property
    def metrics(self) -> dict[str, float]:
        found = {
            **self.report.metrics,
            "expected_loss": float(self.loss.sum()),
            "remaining_value": float(self.remaining.sum()),
            "value_days": self.worth.days,
        }
        return {name: value for name, value in found.items() if np.isfinite(value)}

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


@dataclass(frozen=True)
class Valued:
    """What customers are worth at an instant, in the order they were asked for; shapes (n,)."""

    worth: Worth  # of those who bought; a customer without a purchase has none
    p_active: NDArray[np.float64]  # NaN without a purchase
    remaining: NDArray[np.float64]  # 0 without a purchase
    if_staying: NDArray[np.float64]  # `remaining` of who has not left; 0 without a purchase
    loss: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, object]:
        return {
            "p_active": self.p_active,
            "remaining": self.remaining,
            "if_staying": self.if_staying,
            "expected_loss": self.loss,
            "unit": "currency" if self.worth.valued else "purchases",
        }


def purchases_of(inputs: Inputs) -> pd.DataFrame:
    """customer_id, us, value: one row per customer and UTC day with a purchase, at its first; before the last midnight.

    `value` is the day's sum; NaN where none has a value in the deployment's currency.
    """
    return inputs.log.frame(
        f"SELECT who AS customer_id, min(us) AS us, sum(CASE WHEN currency = $1 THEN value END)::DOUBLE AS value "
        f"FROM events WHERE event_type = 'purchase' AND us < $2 GROUP BY who, us // {US_PER_DAY} ORDER BY us, who",
        inputs.settings.currency,
        inputs.as_of_us // US_PER_DAY * US_PER_DAY,
    )


def valued(purchases: pd.DataFrame, at_us: int, customers: Sequence[str], p_churn: NDArray[np.float64]) -> Valued:
    """By models fitted on the purchases before `at_us`; without money each purchase counts 1.

    Where purchases do not show that anybody leaves, `p_active` and `remaining` would say that nobody does: both are
    NaN, and leaving is P(churn)'s alone. `NotTrainable` where there are too few purchases.
    """
    before = repeats_of(*_columns(sample_of(purchases)), at_us)
    counts, (money, no_money) = fit_bgnbd(before), money_of(before)
    known = purchases[purchases["customer_id"].isin(set(customers))]
    worth = worth_of(counts, money, repeats_of(*_columns(known), at_us), days=YEAR_DAYS)
    index, theirs = pd.Index(list(customers)), list(worth.customers)
    p = pd.Series(p_churn, index=index).reindex(theirs).to_numpy(np.float64)
    found = pd.DataFrame(
        {
            "p_active": worth.p_active,
            "remaining": worth.remaining,
            "if_staying": worth.if_active,
            "loss": expected_loss(p, worth),
        },
        index=theirs,
    ).reindex(index)
    known_to_leave = 1.0 if counts.knows_leaving else np.nan
    return Valued(
        worth,
        found["p_active"].to_numpy(np.float64) * known_to_leave,
        found["remaining"].fillna(0.0).to_numpy(np.float64) * known_to_leave,
        found["if_staying"].fillna(0.0).to_numpy(np.float64),
        found["loss"].fillna(0.0).to_numpy(np.float64),
        tuple(said for said in (leaving_unknown(counts), money_unknown(no_money)) if said is not None),
    )


def worth_if_staying(purchases: pd.DataFrame, at_us: int) -> dict[str, float]:
    """Customer id -> currency of the next `YEAR_DAYS` if the customer stays, of whoever bought before `at_us`.

    Empty where purchases carry no money: a count of purchases is no amount. `NotTrainable` where there are too few.
    """
    before = repeats_of(*_columns(sample_of(purchases)), at_us)
    money, _ = money_of(before)
    if money is None:
        return {}
    worth = worth_of(fit_bgnbd(before), money, repeats_of(*_columns(purchases), at_us), days=YEAR_DAYS)
    return dict(zip(worth.customers, worth.if_active.tolist(), strict=True))


def leaving_unknown(counts: BgNbd) -> str | None:
    """What follows where purchases do not show that anybody leaves for good."""
    if counts.knows_leaving:
        return None
    return (
        f"Purchases do not show that customers leave for good (BG/NBD has no finite "
        f"{', '.join(name for name in counts.at_limit if name in 'ab')}): p_active and remaining are left empty; "
        f"expected loss is P(churn) times purchases at each customer's rate so far, as if who stays never leaves."
    )


def without_value(reason: str) -> str:
    return f"Customers have no value and no expected loss: {reason}."


def money_unknown(no_money: str | None) -> str | None:
    return None if no_money is None else f"Expected loss is counted in purchases, not money: {no_money}."


def sample_of(purchases: pd.DataFrame) -> pd.DataFrame:
    """Those of at most about `MOST_CUSTOMERS`, the same ones every time."""
    share = MOST_CUSTOMERS / max(purchases["customer_id"].nunique(), 1)
    return purchases if share >= 1.0 else purchases[held_out(purchases["customer_id"].tolist(), share)]


def value_at_risk(
    purchases: pd.DataFrame,
    until_us: int,
    at_us: int,
    rows: NDArray[np.intp],
    customers: Sequence[str],
    p_churn: NDArray[np.float64],
    seed: int,
) -> ValueAtRisk:
    """`purchases` as `purchases_of` has them, up to the midnight `until_us`; `rows` are the customers' rows.

    The models are judged on the last days, and fitted again on what came before `at_us` to value `customers` there.
    `NotTrainable` where there are too few purchases.
    """
    report = judge_value(*_columns(sample_of(purchases)), until_us, n_draws=N_DRAWS, seed=seed)
    there = valued(purchases, at_us, customers, p_churn)
    return ValueAtRisk(report, at_us, rows, p_churn, there.worth, there.remaining, there.loss, there.notes)


def _columns(purchases: pd.DataFrame) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    return (
        purchases["customer_id"].tolist(),
        purchases["us"].to_numpy(np.int64),
        purchases["value"].to_numpy(np.float64),
    )
