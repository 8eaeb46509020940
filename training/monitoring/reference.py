"""Customers as they looked before the champion was trained, rebuilt from the lake: what drift is measured from."""

from __future__ import annotations

import pandas as pd

from features.errors import BadInput
from features.events import US_PER_DAY
from features.facts import Facts
from features.history import customer_features_at
from features.home import Home
from training.dataset import Log

DAYS, MOST = 28, 2_000  # before the end of the training's data, and customers


def features_before(
    home: Home, facts: Facts, log: Log, trained_us: int, activity: tuple[str, ...]
) -> pd.DataFrame | str:
    """One row per customer, of features as of what began one of their active days before the training, drawn by its
    hash; or what is missing.

    The beginning of a day, because decisions mostly begin a visit: a moment later its own events would count.

    Rebuilt instead of kept with the model, so that whoever was erased since is not in it.
    """
    found = log.frame(
        f"WITH begun AS (SELECT customer_id, min(us) AS us FROM events WHERE us >= $1 AND us < $2 "
        f"AND list_contains($3, event_type) GROUP BY customer_id, us // {US_PER_DAY}) "
        "SELECT customer_id, arg_min(us, hash(us, customer_id)) AS us FROM begun "
        "GROUP BY customer_id ORDER BY hash(customer_id), customer_id LIMIT $4",
        trained_us - DAYS * US_PER_DAY,
        trained_us,
        sorted({*activity, "impression"}),
        MOST,
    )
    if not len(found):
        return f"the lake holds no activity of the {DAYS} days before the training"
    moments = pd.to_datetime(found["us"], unit="us", utc=True)
    rows = pd.DataFrame({"customer_id": found["customer_id"].astype(object), "event_timestamp": moments})
    try:
        return customer_features_at(home, facts, rows)
    except BadInput as error:
        return f"features as of the training cannot be rebuilt: {error}"
