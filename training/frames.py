"""Training's steps as functions over data frames, for notebooks: the code of `nbo train`, on whatever rows you have.

Everything here is also a name of the package: `from training import fit_recommender`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import Offer
from features.errors import BadInput, NotTrainable
from features.events import to_us
from features.facts import Facts
from features.home import Home
from training.interactions import Interactions
from training.scorers import FittedRecommender

if TYPE_CHECKING:
    from training.models.classifier_fit import ClassifierFit
    from training.uplift.learn import UpliftFit

EVENT_COLUMNS = ("customer_id", "offer_id", "occurred_at")
LAST_US = 2**62 // 1_000 * 1_000  # no event is later
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.25  # of the rows by time; of the customers of the rest


def read_events(home: Home, as_of: datetime | None = None) -> pd.DataFrame:
    """Every event that the lake holds, in time order, up to an instant; `NotTrainable` if it is empty.

    customer_id, event_type, offer_id, occurred_at (UTC), value and the other columns; `person` is who an anonymous
    visitor turned out to be.
    """
    from training.dataset import open_log

    with closing(Facts(home.facts_db)) as facts:
        log = open_log(home, facts, to_us(as_of) if as_of is not None else LAST_US)
        try:
            return log.frame(
                "SELECT * EXCLUDE (us, who, alias_until_us), who AS person FROM events ORDER BY us, event_id"
            )
        finally:
            log.db.close()


# Recommenders


def interactions_from(
    events: pd.DataFrame, offers: pd.DataFrame | None = None, customers: pd.DataFrame | None = None
) -> Interactions:
    """Positive events as recommenders take them: customer_id, offer_id, occurred_at, and weight (1 without it).

    `offers` has offer_id and any of name, value, category and other attributes; without it the catalogue is what the
    events name. `customers` has customer_id and attributes. `BadInput` names a column that is missing or holds
    something else; events of offers that are not in the catalogue are refused too.
    """
    _need(events, EVENT_COLUMNS, "events")
    when = _instants(events["occurred_at"], "occurred_at")
    weight, names = _weights(events), _ids(events, "offer_id")
    catalogue = _offers(offers if offers is not None else events[["offer_id"]].drop_duplicates())
    row_of_offer = {offer.offer_id: row for row, offer in enumerate(catalogue)}
    unknown = names[~names.isin(row_of_offer)]
    if len(unknown):
        raise BadInput(f"{unknown.iloc[0]!r} is not among the {len(catalogue)} offers", "offer_id")
    keys, row = np.unique(_ids(events, "customer_id").to_numpy(str), return_inverse=True)
    order = np.lexsort((row, when))
    return Interactions(
        customers=tuple(keys.tolist()),
        offers=catalogue,
        profiles=_profiles(keys.tolist(), customers),
        customer=row[order].astype(np.int32),
        offer=names.map(row_of_offer).to_numpy(np.int32)[order],
        weight=weight[order],
        occurred_us=when[order],
    )


def parts_at(interactions: Interactions, cut: datetime) -> tuple[Interactions, Interactions]:
    """(before the cut, from it on). `BadInput` where either is empty: the cut lies outside of the data."""
    from training.evaluation import check_cutoff

    if not isinstance(cut, datetime) or cut.tzinfo is None:
        raise BadInput(f"cut is {cut!r}, expected a datetime with a time zone", "cut")
    cut_us = to_us(cut)
    check_cutoff(interactions, cut_us)
    return interactions.before(cut_us), interactions.part(interactions.occurred_us >= cut_us)


def fit_recommender(name: str, past: Interactions, *, seed: int = 0, **params: Any) -> FittedRecommender:
    """One of RECOMMENDERS, fitted on all of `past`; parameters that are not given have their defaults.

    `BadInput` names a model or parameter that does not exist, `NotTrainable` says what is too little.
    """
    from training.models import RECOMMENDERS

    if name not in RECOMMENDERS:
        raise BadInput(f"{name!r} is not a recommender; expected one of {', '.join(RECOMMENDERS)}", "name")
    until_us = int(past.occurred_us[-1]) + 1 if len(past) else 0
    return RECOMMENDERS[name].fit(past, until_us, params, seed)


def recommend(
    scorer: FittedRecommender, past: Interactions, customers: Sequence[str] | None = None, k: int = 10
) -> pd.DataFrame:
    """customer_id, rank, offer_id, affinity: the best `k` offers of each customer, all that there are if none is named.

    Somebody whom `past` does not know is answered too.
    """
    from training.batch import top_k

    wanted = list(past.customers if customers is None else customers)
    known = dict(zip(past.customers, past.profiles, strict=True))
    best = top_k(scorer, wanted, [known.get(name, {}) for name in wanted], past.offers, k)
    width = best.rows.shape[1]
    ids = np.array(past.offer_map, object)
    return pd.DataFrame(
        {
            "customer_id": np.repeat(np.array(wanted, object), width),
            "rank": np.tile(np.arange(1, width + 1), len(wanted)),
            "offer_id": ids[best.rows.ravel()],
            "affinity": best.scores.ravel(),
        }
    )


# Probabilities


def fit_probabilities(
    table: pd.DataFrame,
    y: Sequence[bool] | NDArray[np.bool_],
    *,
    customers: Sequence[str] | None = None,
    when: Sequence[Any] | None = None,
    seed: int = 0,
) -> ClassifierFit:
    """P(y) of rows of any frame, chosen and calibrated as churn is: base rate, logistic regression, boosted trees.

    Numbers, truth values and text are taken as they are. The last fifth by `when` is the test part (without it a fifth
    of the customers); of the rest a quarter of the customers chooses and calibrates. Rows of one of `customers` stay
    together; without them every row is somebody else. `NotTrainable` where a part is too small or of one class,
    `Leakage` naming a column that tells y alone, `BadInput` naming a column that cannot be used.
    """
    from training.canaries import Watched, check_canaries
    from training.columns import frame_encoder
    from training.models.churn import baselines_of, candidates_of
    from training.models.classifier_fit import Sample, check_parts, check_rows, codes, judge_and_choose
    from training.models.classifiers import Part

    labels = _flags(y, "y")
    _sound(table)
    for name, given in (("y", labels), ("customers", customers), ("when", when)):
        if given is not None and len(given) != len(table):
            raise BadInput(f"{len(given)} values of {len(table)} rows", name)
    whose = codes([str(one) for one in customers]) if customers is not None else np.arange(len(table))
    test = _test_part(whose, when, seed)
    dealt = np.random.default_rng(seed).permutation(int(whose.max(initial=0)) + 1) / max(
        int(whose.max(initial=0)) + 1, 1
    )
    aside = ~test & (dealt[whose] < VALIDATION_SHARE)
    parts = {"train": ~test & ~aside, "validation": aside, "test": test}
    check_parts("probabilities", {name: labels[mask] for name, mask in parts.items()})
    encoder = frame_encoder(table[parts["train"]])
    if not encoder.columns:
        raise NotTrainable("probabilities", "every column is constant, or missing everywhere, in the training part")
    rows = encoder.rows(len(table), table, (), {}, {}, None)
    check_rows(encoder, rows)
    us = np.zeros(len(table), np.int64) if when is None else _instants(pd.Series(list(when)), "when")
    watched = {name: Watched(rows[mask], labels[mask], us[mask], np.flatnonzero(mask)) for name, mask in parts.items()}
    check_canaries("probabilities", encoder, watched["train"], watched["validation"], seed)
    samples = {name: Sample(Part(rows[mask], labels[mask]), whose[mask], us[mask]) for name, mask in parts.items()}
    train, validation = samples["train"].part, samples["validation"].part
    baselines = baselines_of(encoder, train)
    candidates = candidates_of(encoder, train, validation, seed)
    return judge_and_choose(encoder, baselines, candidates, samples, dict, seed)


def probabilities(fit: ClassifierFit, table: pd.DataFrame) -> NDArray[np.float64]:
    """P(y) of each row, (n,). `BadInput` names a column that the model reads and the frame lacks."""
    from training.models.churn import chances

    columns = fit.classifier.encoder.columns
    _need(table, [column.key for column in columns], "table")
    _sound(table)
    for column in columns:
        if column.values is None and table[column.key].dtype.kind not in "fiub":
            raise BadInput(f"column {column.key} is of kind {table[column.key].dtype}, was a number", column.key)
    return chances(fit.classifier, table)


# Value and uplift


def customer_value(
    purchases: pd.DataFrame, until: datetime, *, days: float = 360.0, margin: float = 1.0, discount: float = 0.0
) -> pd.DataFrame:
    """What each customer is worth in the next `days`, by BG/NBD and Gamma–Gamma: one row per customer who bought.

    `purchases` has customer_id, occurred_at and value. Columns: frequency, recency, age, p_active, purchases, spend,
    value. Without values everywhere, a purchase counts 1.
    """
    from training.value import fit_bgnbd, repeats_of, worth_of
    from training.value.holdout import money_of

    _need(purchases, ("customer_id", "occurred_at", "value"), "purchases")
    us = _instants(purchases["occurred_at"], "occurred_at")
    values = pd.to_numeric(purchases["value"], errors="coerce").to_numpy(np.float64)
    if (np.isnan(values) & purchases["value"].notna().to_numpy()).any() or (values < 0).any():
        raise BadInput("value holds what is no amount of 0 or more; a purchase without one is missing", "value")
    of = repeats_of(_ids(purchases, "customer_id").tolist(), us, values, to_us(until))
    money, _ = money_of(of)
    worth = worth_of(fit_bgnbd(of), money, of, days=days, margin=margin, discount=discount)
    return pd.DataFrame(
        {
            "customer_id": worth.customers, "frequency": of.frequency, "recency": of.recency, "age": of.age,
            "p_active": worth.p_active, "purchases": worth.purchases, "spend": worth.spend, "value": worth.remaining,
        }
    )  # fmt: skip


def fit_uplift(
    table: pd.DataFrame,
    y: Sequence[bool] | NDArray[np.bool_],
    treated: Sequence[bool] | NDArray[np.bool_],
    *,
    propensity: float | None = None,
    seeds: Sequence[int] = (0,),
) -> UpliftFit:
    """Who is moved by being contacted, from a randomised trial: the best of T-, X- and DR-learner, judged by Qini.

    `propensity` is the share that the design contacted; None estimates it, and says so. One row per unit.
    """
    from training.columns import frame_encoder
    from training.uplift import Trial
    from training.uplift.learn import learn_uplift

    _sound(table)
    encoder = frame_encoder(table)
    rows = encoder.rows(len(table), table, (), {}, {}, None)
    shares = None if propensity is None else np.full(len(table), propensity)
    trial = Trial(rows, _flags(y, "y"), _flags(treated, "treated"), np.arange(len(table)), shares)
    return learn_uplift(encoder, trial, seeds=seeds)


# What is asked of frames


def _need(frame: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise BadInput(f"{name} is a {type(frame).__name__}, expected a DataFrame", name)
    missing = [column for column in columns if column not in frame]
    if missing:
        raise BadInput(
            f"{name} lacks the column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}", missing[0]
        )


def _ids(frame: pd.DataFrame, column: str) -> pd.Series[Any]:
    missing = int(frame[column].isna().sum())
    if missing:
        raise BadInput(f"{column} is missing in {missing} rows", column)
    return frame[column].astype(str)


def _flags(values: Sequence[Any] | NDArray[Any], name: str) -> NDArray[np.bool_]:
    """Truth values, or 0 and 1."""
    found = np.asarray(values)
    if found.dtype != np.bool_ and not (found.dtype.kind in "iuf" and np.isin(found, (0, 1)).all()):
        raise BadInput(f"{name} is of kind {found.dtype}, expected truth values, or 0 and 1", name)
    return found.astype(np.bool_)


def _sound(table: pd.DataFrame) -> None:
    """`BadInput` where a column is there twice, or holds infinities."""
    if not isinstance(table, pd.DataFrame):
        raise BadInput(f"table is a {type(table).__name__}, expected a DataFrame", "table")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise BadInput(f"the column {twice!r} is there twice; expected each once", str(twice))
    for name in table.columns:
        if table[name].dtype.kind == "f" and np.isinf(table[name].to_numpy(np.float64)).any():
            raise BadInput(f"column {name} holds infinities; missing is NaN", str(name))


def _instants(values: pd.Series[Any], name: str) -> NDArray[np.int64]:
    """Microseconds since 1970 UTC; times without a zone are UTC."""
    if values.dtype.kind in "iufb":
        raise BadInput(f"{name} is of kind {values.dtype}, expected times", name)
    try:
        when = pd.to_datetime(values, utc=True)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{name} holds what is no time: {error}", name) from None
    if when.isna().any():
        raise BadInput(f"{name} is missing in {int(when.isna().sum())} rows", name)
    found: NDArray[np.int64] = when.dt.as_unit("us").to_numpy(np.int64)
    return found


def _weights(events: pd.DataFrame) -> NDArray[np.float32]:
    if "weight" not in events:
        return np.ones(len(events), np.float32)
    weight = pd.to_numeric(events["weight"], errors="coerce").to_numpy(np.float64)
    if not (np.isfinite(weight).all() and (weight > 0).all()):
        raise BadInput("not every weight is a finite number above 0", "weight")
    found: NDArray[np.float32] = weight.astype(np.float32)
    return found


def _offers(table: pd.DataFrame) -> tuple[Offer, ...]:
    """The catalogue, ordered by id."""
    _need(table, ("offer_id",), "offers")
    ids = _ids(table, "offer_id")
    value = pd.to_numeric(table["value"], errors="coerce") if "value" in table else pd.Series(1.0, index=table.index)
    if not np.isfinite(value.to_numpy(np.float64)).all():
        raise BadInput("value holds what is no finite number", "value")
    _sound(table)
    if ids.duplicated().any():
        raise BadInput(f"{ids[ids.duplicated()].iloc[0]!r} is there twice; expected each id once", "offer_id")
    own = {"offer_id", "name", "value", "category"}
    found = []
    for record in table.to_dict("records"):
        name = str(record["offer_id"])
        attributes = {str(k): v for k, v in record.items() if k not in own and not _missing(v)}
        category = record.get("category")
        found.append(
            Offer(
                offer_id=name, name=str(record.get("name", name)), value=float(record.get("value", 1.0)), currency="",
                treatments=(), category=None if _missing(category) else str(category), attributes=attributes,
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda offer: offer.offer_id))


def _profiles(keys: Sequence[str], customers: pd.DataFrame | None) -> Sequence[Mapping[str, Any]]:
    if customers is None:
        return [{} for _ in keys]
    _need(customers, ("customer_id",), "customers")
    ids = customers["customer_id"].astype(str)
    if ids.duplicated().any():
        raise BadInput(f"{ids[ids.duplicated()].iloc[0]!r} is there twice; expected each id once", "customer_id")
    told = {
        name: {str(k): (None if _missing(v) else v) for k, v in record.items()}
        for name, record in zip(ids, customers.drop(columns="customer_id").to_dict("records"), strict=True)
    }
    return [told.get(key, {}) for key in keys]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _test_part(whose: NDArray[np.int64], when: Sequence[Any] | None, seed: int) -> NDArray[np.bool_]:
    if when is not None:
        us = _instants(pd.Series(list(when)), "when")
        return us >= np.quantile(us, 1.0 - TEST_SHARE, method="higher")
    n = int(whose.max(initial=0)) + 1
    dealt = np.random.default_rng([seed, 1]).permutation(n) / n
    found: NDArray[np.bool_] = dealt[whose] < TEST_SHARE
    return found
