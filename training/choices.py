"""What the log says of how an impression came to be shown: its rank, its chance, and whether chance alone chose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from training.dataset import Log

MOST_WEIGHT = 10.0  # of one impression, times the mean of its offer
COLUMNS = ("position", "chance", "at_random")
PLACEMENTS = (
    '[{"placement_id": "VARCHAR", "offers": [{"rank": "INTEGER", "offer_id": "VARCHAR", '
    '"selection_probability": "DOUBLE", "is_fallback": "BOOLEAN", "random": "BOOLEAN"}]}]'
)


def read_choices(log: Log) -> pd.DataFrame:
    """Per decision and offer that some impression names: `COLUMNS`, beside decision_id and offer_id.

    `position` counts from 1 within its placement. `chance` is the policy's chance of the offer at that rank, given the
    ranks above; NaN where the draw was repeated after a lost race: the logged chances are then not those of the draw.
    `at_random`: it came out of the control share, or its customer is in the holdout, so that no estimate chose it.
    Empty where the lake holds no decisions.
    """
    if not log.has_decisions:
        return pd.DataFrame({"decision_id": [], "offer_id": [], **{name: [] for name in COLUMNS}})
    return log.frame(
        "WITH named AS (SELECT DISTINCT decision_id FROM events "
        "WHERE event_type = 'impression' AND decision_id IS NOT NULL), "
        "made AS (SELECT decision_id, coalesce((payload ->> '$.holdout')::BOOLEAN, false) AS holdout, "
        "coalesce((payload ->> '$.redrawn')::BOOLEAN, false) AS redrawn, "
        "unnest(from_json(payload -> '$.placements', $1)) AS placement "
        "FROM decisions SEMI JOIN named USING (decision_id)), "
        "shown AS (SELECT decision_id, holdout, redrawn, unnest(placement.offers) AS offer FROM made) "
        "SELECT decision_id, offer.offer_id AS offer_id, offer.rank::DOUBLE AS position, "
        "CASE WHEN NOT redrawn AND offer.selection_probability > 0 THEN offer.selection_probability END AS chance, "
        "(holdout OR coalesce(offer.random, false)) AND NOT redrawn AND NOT offer.is_fallback AS at_random "
        "FROM shown ORDER BY decision_id, position, offer_id",
        PLACEMENTS,
    ).drop_duplicates(["decision_id", "offer_id"])


def joined(shown: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """The impressions in their order, with `COLUMNS`; NaN, and False, where no decision says so."""
    found = shown.merge(choices, on=["decision_id", "offer_id"], how="left", sort=False)
    return found.assign(
        position=found["position"].astype(np.float64),
        chance=found["chance"].astype(np.float64),
        at_random=found["at_random"].eq(True),
    )


def selection_weights(chance: NDArray[np.float64], offer: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much each impression counts so that each offer is learned from as if it had been shown by lot; (n,).

    1 / chance, divided by its mean over the impressions of the same offer (which leaves what is learned of an offer as
    it is, and keeps the weights even between offers), at most `MOST_WEIGHT`. Rows without a chance count 1.
    Source: Swaminathan and Joachims, The self-normalized estimator for counterfactual learning (NIPS 2015).
    """
    known = np.isfinite(chance) & (chance > 0)
    w = np.ones(len(chance))
    w[known] = 1.0 / chance[known]
    n_offers = int(offer.max(initial=-1)) + 1
    for _ in range(3):  # clipping lowers the mean; three rounds bring it back to within a percent
        total = np.bincount(offer[known], weights=w[known], minlength=n_offers)
        count = np.bincount(offer[known], minlength=n_offers)
        mean = np.divide(total, count, out=np.ones(n_offers), where=count > 0)
        w[known] = np.minimum(w[known] / mean[offer[known]], MOST_WEIGHT)
    return w


def effective_size(w: NDArray[np.float64]) -> float:
    """How many rows of equal weight say as much; Kish's (sum w)^2 / sum w^2, 0 without rows."""
    return float(w.sum() ** 2 / (w**2).sum()) if len(w) else 0.0
