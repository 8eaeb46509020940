"""Purchases as the value models read them: how many came after the first, when the last was, how large they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import BadInput
from features.events import US_PER_DAY

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Repeats:
    """One row per customer who bought; shapes (n_customers,). Purchases of one UTC day are one purchase."""

    customers: tuple[str, ...]
    frequency: Numbers  # purchases after the first, whole
    recency: Numbers  # days from the first purchase to the last; 0 if there is only one
    age: Numbers  # days from the first purchase to the end of what was seen
    spend: Numbers  # mean value of the purchases after the first, currency; NaN where there is none with a value

    def __post_init__(self) -> None:
        for name in ("frequency", "recency", "age"):
            values = getattr(self, name)
            if not np.isfinite(values).all() or (values < 0).any():
                raise BadInput(f"{name} holds a number that is negative or not finite", name)
        if len(set(self.customers)) < len(self.customers):
            raise BadInput("a customer has two rows", "customers")
        if (self.recency > self.age).any():
            raise BadInput("a last purchase lies after the end of what was seen", "recency")

    def __len__(self) -> int:
        return len(self.customers)

    def part(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Repeats:
        """Those rows, each at most once."""
        customers = tuple(np.asarray(self.customers, object)[rows].tolist())
        return Repeats(customers, self.frequency[rows], self.recency[rows], self.age[rows], self.spend[rows])


def repeats_of(customers: Sequence[str], us: NDArray[np.int64], values: NDArray[np.floating], until_us: int) -> Repeats:
    """Purchases strictly before `until_us`, one row each, in any order; `values` NaN where a purchase has none.

    `BadInput` naming the field if the columns differ in length or a value is infinite.
    """
    if not len(customers) == len(us) == len(values):
        raise BadInput(f"{len(customers)} customers, {len(us)} instants, {len(values)} values: expected as many", "us")
    if np.isinf(values).any():
        raise BadInput("a purchase has an infinite value, expected an amount or NaN", "values")
    frame = pd.DataFrame({"customer": np.asarray(customers, object), "day": us // US_PER_DAY, "value": values})
    frame = frame[us < until_us]
    days = frame.groupby(["customer", "day"], sort=True)["value"].sum(min_count=1).reset_index()
    first = days.groupby("customer")["day"].transform("min")
    later = days[days["day"] > first]
    grouped = days.groupby("customer", sort=True)["day"].agg(["min", "max", "count"])
    spend = later[later["value"] > 0].groupby("customer")["value"].mean()
    end = until_us / US_PER_DAY
    return Repeats(
        customers=tuple(grouped.index.tolist()),
        frequency=(grouped["count"] - 1).to_numpy(np.float64),
        recency=(grouped["max"] - grouped["min"]).to_numpy(np.float64),
        age=np.floor(end - grouped["min"]).to_numpy(np.float64),
        spend=grouped.index.map(spend).to_numpy(np.float64),
    )
