"""Whether the outcomes of a log vary enough to tell policies apart: without them, intervals are narrow for no reason.

The rule: no verdict when all rewards are the same, when fewer than 20 rows have another reward than most rows have, or
when all rows are of one customer.
"""

from __future__ import annotations

import numpy as np

from experiments.offpolicy.logged import Logged

LEAST_VARIED = 20  # rows: a count of so few is uncertain by 44 % either way (1.96 / √20)
UNSEEN = (
    "no row has an impression in the log: of what was taken, only what names its decision counts (are impressions "
    "sent?)"
)


def n_varied(logged: Logged) -> int:
    """Rows whose reward is not the most common one: of clicks those that were clicked, or else the others."""
    _, counts = np.unique(logged.reward, return_counts=True)
    return len(logged) - int(counts.max())


def variation_refusals(logged: Logged) -> tuple[str, ...]:
    """Why nothing can be said of how policies differ, as sentences; empty: something may be."""
    varied, n, said = n_varied(logged), len(logged), []
    if varied == 0:
        said.append(f"all {n:,} rows have the reward {logged.reward[0]:g}: outcomes do not vary")
    elif varied < LEAST_VARIED:
        usual = _most_common(logged)
        word = "no reward" if usual == 0.0 else f"the reward {usual:g}"
        said.append(
            f"all but {varied:,} of {n:,} rows have {word}: at least {LEAST_VARIED} must have another to tell policies "
            "apart"
        )
    if logged.units[1] < 2:
        said.append("all rows are of one customer: nothing says how customers differ, so there is no interval")
    return tuple(said)


def _most_common(logged: Logged) -> float:
    values, counts = np.unique(logged.reward, return_counts=True)
    return float(values[counts.argmax()])
