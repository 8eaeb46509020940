"""The acceptance model from the log: impressions with outcomes, features as of each, affinity without foresight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import NotTrainable
from features.history import customer_features_at, offer_features_at
from training.dataset import Impressions, context_of, read_impressions
from training.encoder import relative
from training.interactions import Interactions
from training.models.acceptance import AcceptanceTable, learn_acceptance
from training.models.classifier_fit import ClassifierFit
from training.models.recipes import Recipe, fit_recipe
from training.models.recommender import MIN_INTERACTIONS
from training.split import Split, blocks, split_with_gap
from training.steps.foresight import acceptance_canaries
from training.steps.inputs import MAX_ROWS, Inputs, Progress

N_BLOCKS = (
    6  # of what is before the acceptance test part, each with affinity from a recommender fitted on what came before it
)
CUSTOMERS_TOGETHER = 256  # whose tastes over the whole catalogue are in memory at once


def learn_from_log(inputs: Inputs, interactions: Interactions, recipe: Recipe, progress: Progress) -> ClassifierFit:
    progress("acceptance: impressions and outcomes")
    found = read_impressions(inputs.log, inputs.offers, inputs.settings, inputs.first_us, MAX_ROWS)
    n = found.n_mature
    if not n:
        raise NotTrainable(
            "acceptance",
            f"the log holds 0 impressions that were watched to the end of their window by the instant of training "
            f"({found.n_immature} are too young, {found.n_unknown_offer} are of unknown offers)",
        )
    rows, accepted = found.rows, found.accepted
    us = rows["us"].to_numpy(np.int64)
    split = split_with_gap(us, found.known_us, rows["customer_id"].tolist())
    if split is None:
        raise NotTrainable("acceptance", f"{n} impressions lie on one day, too few for two parts in time")
    progress("acceptance: affinity, each block from a recommender of what came before")
    affinity = stacked_affinity(rows, interactions, inputs.profiles_at, recipe, split)
    progress("acceptance: features as of each impression")
    moments = pd.to_datetime(us, unit="us", utc=True)
    customers = customer_features_at(
        inputs.home, inputs.facts, pd.DataFrame({"customer_id": rows["customer_id"], "event_timestamp": moments})
    )
    offers = offer_features_at(
        inputs.home, inputs.facts, pd.DataFrame({"offer_id": rows["offer_id"], "event_timestamp": moments})
    )
    by_id = {offer.offer_id: offer for offer in inputs.offers}
    table = AcceptanceTable(
        customers=rows["customer_id"].tolist(),
        offers=[by_id[offer_id] for offer_id in rows["offer_id"]],
        us=us,
        customer_features=customers,
        offer_features=offers,
        context={**context_of(rows), "position": rows["position"].to_numpy(np.float64)},
        affinity=affinity,
        is_new=rows["is_new"].to_numpy(np.bool_),
        y=accepted,
        chance=rows["chance"].to_numpy(np.float64),
        at_random=rows["at_random"].to_numpy(np.bool_),
        first_us=int(inputs.log.frame("SELECT min(us) AS us FROM events")["us"].iloc[0]),
    )
    progress("acceptance: fitting")
    fit = learn_acceptance(inputs.features, inputs.offers, table, split, inputs.seed, inputs.settings.acceptance)
    progress("acceptance: canaries")
    canaries = acceptance_canaries(inputs, fit.classifier.encoder, table, split)
    return replace(
        fit,
        notes=(*left_out(found), *fit.notes, *canaries.said),
        tables={**fit.tables, "canaries": canaries.alone},
        figures={**fit.figures, **canaries.metrics},
    )


def left_out(found: Impressions) -> list[str]:
    """What of the log the model does not learn from, in sentences."""
    said = []
    if found.n_unknown_offer:
        said.append(
            f"{found.n_unknown_offer:,} impressions are of offers that the catalogue no longer has; they are left out."
        )
    if found.n_repeated:
        said.append(f"{found.n_repeated:,} impressions repeat one of the same decision and offer; they are left out.")
    if found.n_mature > len(found.rows):
        said.append(
            f"{len(found.rows):,} of {found.n_mature:,} impressions, evenly spread over time, are learned from and "
            "judged on; the log holds more than a training table does."
        )
    if found.n_immature:
        said.append(f"{found.n_immature:,} impressions are too young for their outcome to be known; they are left out.")
    return said


def stacked_affinity(
    rows: pd.DataFrame,
    interactions: Interactions,
    profiles_at: Callable[[Sequence[str], int], list[dict[str, Any]]],
    recipe: Recipe,
    split: Split,
) -> NDArray[np.float64]:
    """The affinity of each impression, from a recommender fitted only on what happened before the row's block.

    What is before the test part is cut into blocks by time; the test part is a block of its own. NaN where too little
    had happened before the block. Relative to the customer's mean over the catalogue, as serving reads it, and by taste
    alone: whether an offer may be recommended again says nothing of whether it would be accepted.
    """
    us = rows["us"].to_numpy(np.int64)
    starts = [*blocks(us, split.test_from_us, N_BLOCKS), split.test_from_us]
    ends = [*starts[1:], np.iinfo(np.int64).max]
    offer_row = {offer.offer_id: row for row, offer in enumerate(interactions.offers)}
    out = np.full(len(rows), np.nan)
    for start, end in zip(starts, ends, strict=True):
        at = np.flatnonzero((us >= start) & (us < end))
        past = interactions.before(start)
        if not len(at) or len(past) < MIN_INTERACTIONS:
            continue
        past = replace(past, profiles=profiles_at(past.customers, start))
        scorer = fit_recipe(past, start, recipe)
        side = scorer.prepare(interactions.offers)
        customers = rows["customer_id"].to_numpy(object)[at]
        names, of_row = np.unique(customers.astype(str), return_inverse=True)
        profiles = profiles_at(names.tolist(), start)
        offers = np.array([offer_row[offer_id] for offer_id in rows["offer_id"].to_numpy(object)[at]])
        order = np.argsort(of_row, kind="stable")
        bounds = np.searchsorted(of_row[order], np.arange(len(names) + 1))
        for first in range(0, len(names), CUSTOMERS_TOGETHER):
            some = range(first, min(first + CUSTOMERS_TOGETHER, len(names)))
            tastes = np.stack([scorer.taste(str(names[n]), profiles[n], side) for n in some])
            mine = order[bounds[some.start] : bounds[some.stop]]
            out[at[mine]] = relative(tastes)[of_row[mine] - first, offers[mine]]
    return out
