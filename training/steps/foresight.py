"""The canaries of a training table: what was known at each row's instant, and what nobody could have told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.as_of import customers_as_of, sampled
from training.canaries import MOST_ROWS, Canaries, Watched, check_canaries, refuse_future, row_ids
from training.encoder import Encoder
from training.models.acceptance import AcceptanceTable
from training.split import Split
from training.steps.inputs import Inputs, thinned

N_MADE_AGAIN = 200  # rows whose features are made again from the log alone


def refuse_foresight(
    model: str, inputs: Inputs, customers: Sequence[str], us: NDArray[np.int64], features: pd.DataFrame
) -> int:
    """How many rows' customer features are the same when made again from the log alone, cut before each instant.

    `Leakage` names a feature that is not.
    """
    at = sampled(len(us), N_MADE_AGAIN, inputs.seed)
    asked = [customers[i] for i in at.tolist()]
    again = customers_as_of(inputs.log.db, inputs.features, inputs.profiles_at, asked, us[at])
    n = min((len(values) for values in again.values()), default=0)
    refuse_future(model, {name: features[name].iloc[at[:n]].tolist() for name in features.columns}, again)
    return n


def acceptance_canaries(inputs: Inputs, encoder: Encoder, table: AcceptanceTable, split: Split) -> Canaries:
    """`Leakage` naming what knows too much of impressions, before their model is registered."""
    n = refuse_foresight("acceptance", inputs, table.customers, table.us, table.customer_features)
    train, judge = (thinned_rows(mask) for mask in (split.train, split.validation))
    both = np.concatenate([train, judge])
    ids = row_ids(
        [table.customers[i] for i in both.tolist()], [table.offers[i].offer_id for i in both.tolist()], table.us[both]
    )
    watched = {
        name: Watched(encoded(encoder, table, at), table.y[at], table.us[at], of)
        for name, at, of in (("train", train, ids[: len(train)]), ("judge", judge, ids[len(train) :]))
    }
    return replace(
        check_canaries("acceptance", encoder, watched["train"], watched["judge"], inputs.seed), n_made_again=n
    )


def thinned_rows(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where the mask holds, at most as many rows as the canaries look at."""
    at = np.flatnonzero(mask)
    return at[thinned(len(at), MOST_ROWS)]


def encoded(encoder: Encoder, table: AcceptanceTable, at: NDArray[np.intp]) -> NDArray[np.float64]:
    """Rows of the table, (n, n_columns)."""
    return encoder.rows(
        len(at),
        table.customer_features.iloc[at],
        [table.offers[i] for i in at.tolist()],
        table.offer_features.iloc[at],
        {name: np.asarray(values, dtype=object)[at].tolist() for name, values in table.context.items()},
        None if table.affinity is None else table.affinity[at],
    )
