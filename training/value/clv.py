"""What a customer is worth from now on, and what is expected to be lost with those who leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from training.value.bgnbd import BgNbd
from training.value.gamma_gamma import GammaGamma
from training.value.history import Numbers, Repeats

MONTH_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Worth:
    """Per customer, shapes (n,). Without money (`valued` false) the unit is purchases, not currency."""

    customers: tuple[str, ...]
    p_active: Numbers
    purchases: Numbers  # expected in `days`
    spend: Numbers  # expected value of each, or 1
    remaining: Numbers  # expected value of the next `days`, discounted
    if_active: Numbers  # the same, of a customer who has not dropped out
    days: float
    valued: bool


def worth_of(
    counts: BgNbd,
    money: GammaGamma | None,
    of: Repeats,
    *,
    days: float = 360.0,
    margin: float = 1.0,
    discount: float = 0.0,
) -> Worth:
    """The next `days` in months of 30; `margin` of each purchase is kept; `discount` a year, 0.1 is ten per cent.

    `money` None values every purchase as 1. `BadInput` naming the argument that is out of range.
    """
    for name, value, fits in (
        ("days", days, days > 0), ("margin", margin, margin > 0), ("discount", discount, discount >= 0),
    ):  # fmt: skip
        if not (fits and np.isfinite(value)):
            raise BadInput(f"{name} == {value}, expected a number above 0 (a discount may be 0)", name)
    until = np.minimum(np.arange(1, int(np.ceil(days / MONTH_DAYS)) + 1) * MONTH_DAYS, days)
    bought = np.diff([np.zeros(len(of)), *(counts.purchases_if_active(of, float(t)) for t in until)], axis=0)
    worth_now = (1.0 + discount) ** (-until / 365.0)
    spend = np.full(len(of), 1.0) if money is None else money.spend(of)
    if_active = margin * spend * (worth_now[:, None] * bought).sum(axis=0)
    p_active = counts.p_active(of)
    return Worth(
        of.customers, p_active, bought.sum(axis=0) * p_active, spend, if_active * p_active, if_active, days,
        money is not None,
    )  # fmt: skip


def expected_loss(p_churn: NDArray[np.float64], worth: Worth) -> Numbers:
    """P(churn) x what the customer would still be worth on staying, (n,); NaN where P(churn) is not known.

    On staying: the chance of having left already is in `remaining`, and counting it beside P(churn) would count the
    same loss twice.
    """
    if p_churn.shape != worth.if_active.shape:
        raise BadInput(f"{len(p_churn)} chances for {len(worth.if_active)} customers, expected one each", "p_churn")
    found: Numbers = p_churn * worth.if_active
    return found
