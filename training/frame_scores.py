"""What each kind of scorer reads of a data frame, and what it gives for it: many rows at once, as it serves one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import Offer
from features.errors import BadInput
from training.batch import top_k
from training.encoder import Column, Encoder, numbers
from training.scorers import (
    RECOMMENDER_KINDS,
    AcceptanceScorer,
    BlendScorer,
    ChurnScorer,
    FactorScorer,
    ItemItemScorer,
    Recommender,
    Scorer,
    UncalibratedAcceptance,
    UpliftScorer,
)
from training.scorers.acceptance import LARGEST_SPREAD, SMALLEST_SPREAD
from training.scorers.churn import by_horizon
from training.trees import Forest

CUSTOMER, K = "customer_id", 10
Z = 1.96  # standard deviations either side of 95 %


class Scored(Protocol):
    """A scorer over data frames."""

    @property
    def required(self) -> tuple[Column, ...]:
        """The columns that must be there."""
        ...

    @property
    def optional(self) -> tuple[str, ...]:
        """The columns that are read where they are there."""
        ...

    def of(self, frame: pd.DataFrame, k: int = K) -> pd.DataFrame:
        """One row per row of the frame, with its index. `BadInput` names a column that is missing."""
        ...


def scored_by(scorer: Scorer, offers: Sequence[Offer] = (), beside: Scorer | None = None) -> Scored:
    """`beside` is the model of uplift that is registered with churn."""
    if isinstance(scorer, RECOMMENDER_KINDS):
        return Ranked(scorer, tuple(offers))
    if isinstance(scorer, AcceptanceScorer):
        return Accepted(scorer)
    if isinstance(scorer, UncalibratedAcceptance):
        return Supposed(scorer)
    if isinstance(scorer, ChurnScorer):
        assert beside is None or isinstance(beside, UpliftScorer)
        return Churned(scorer, beside)
    assert isinstance(scorer, UpliftScorer)
    return Moved(scorer)


@dataclass(frozen=True)
class Ranked:
    """offers, affinity: the ids of the best `k` offers of each customer, best first, and their affinity.

    Reads `customer_id`, and of the attributes those that the model knows customers by; whoever it does not know is
    answered from these, or with what is popular.
    """

    scorer: Recommender
    offers: tuple[Offer, ...]

    @property
    def required(self) -> tuple[Column, ...]:
        return (Column("customer", CUSTOMER, ()),)

    @property
    def optional(self) -> tuple[str, ...]:
        return fields_of(self.scorer)

    def of(self, frame: pd.DataFrame, k: int = K) -> pd.DataFrame:
        _need(frame, (CUSTOMER,))
        ids = frame[CUSTOMER]
        if ids.isna().any():
            raise BadInput(f"{CUSTOMER} is missing in {int(ids.isna().sum())} rows", CUSTOMER)
        there = [name for name in self.optional if name in frame]
        if there:
            known = frame[there].astype(object)
            features: list[Any] = known.where(known.notna(), None).to_dict("records")
        else:
            features = [{}] * len(frame)
        best = top_k(self.scorer, ids.astype(str).tolist(), features, self.offers, k)
        names = np.array([offer.offer_id for offer in self.offers], dtype=object)
        return pd.DataFrame(
            {"offers": names[best.rows].tolist(), "affinity": best.scores.astype(np.float64).tolist()},
            index=frame.index,
        )


def fields_of(scorer: Recommender) -> tuple[str, ...]:
    """The attributes of customers that a recommender reads."""
    if isinstance(scorer, BlendScorer):
        return tuple(dict.fromkeys(name for part in scorer.scorers for name in fields_of(part)))
    if isinstance(scorer, FactorScorer | ItemItemScorer):
        return tuple(field.name for field in scorer.customer_tokens.fields)
    return ()


@dataclass(frozen=True)
class Accepted:
    """p_accept, and where the model knows its doubt p_accept_low and p_accept_high (95 %). Reads encoded columns."""

    scorer: AcceptanceScorer

    @property
    def required(self) -> tuple[Column, ...]:
        return self.scorer.classifier.encoder.columns

    optional: tuple[str, ...] = ()

    def of(self, frame: pd.DataFrame, k: int = K) -> pd.DataFrame:
        classifier = self.scorer.classifier
        rows = encoded(classifier.encoder, frame)
        found = {"p_accept": classifier(rows)}
        if self.scorer.doubt is not None:
            raw, away = classifier.model.raw(rows), Z * spread_of(self.scorer.doubt, rows)
            found |= {"p_accept_low": classifier.calibration(raw - away)}
            found |= {"p_accept_high": classifier.calibration(raw + away)}
        return pd.DataFrame(found, index=frame.index)


def spread_of(doubt: Forest, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation of the log-odds of encoded rows, (n,)."""
    return np.exp(np.clip(doubt.raw(rows), np.log(SMALLEST_SPREAD), np.log(LARGEST_SPREAD)))


@dataclass(frozen=True)
class Supposed:
    """p_accept from `affinity` and a stated prior: nothing was ever shown to learn from."""

    scorer: UncalibratedAcceptance
    required: tuple[Column, ...] = (Column("affinity", ""),)
    optional: tuple[str, ...] = ()

    def of(self, frame: pd.DataFrame, k: int = K) -> pd.DataFrame:
        rows = encoded(Encoder(self.required), frame)
        p = self.scorer.p_accept({}, {}, rows[:, 0].astype(np.float32), len(rows))
        return pd.DataFrame({"p_accept": p}, index=frame.index)


@dataclass(frozen=True)
class Churned:
    """p_churn over the horizon that serves, p_churn_<days> by horizon, and uplift where the run has its model."""

    scorer: ChurnScorer
    uplift: UpliftScorer | None = None
    optional: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[Column, ...]:
        of_steps = [step.classifier.encoder for step in self.scorer.steps]
        of_uplift = [] if self.uplift is None else [self.uplift.encoder]
        columns = [c for e in (self.scorer.classifier.encoder, *of_steps, *of_uplift) for c in e.columns]
        return tuple({column.name: column for column in columns}.values())

    def of(self, frame: pd.DataFrame, k: int = K) -> pd.DataFrame:
        serving = self.scorer.classifier
        p = serving(encoded(serving.encoder, frame))
        steps = {
            step.horizon_days: step.classifier(encoded(step.classifier.encoder, frame)) for step in self.scorer.steps
        }
        by_days = by_horizon(self.scorer.horizon_days, p, steps) if self.scorer.horizon_days else {}
        found = {"p_churn": p, **{f"p_churn_{days}": chances for days, chances in by_days.items()}}
        if self.uplift is not None:
            found["uplift"] = self.uplift.many(encoded(self.uplift.encoder, frame))
        return pd.DataFrame(found, index=frame.index)


@dataclass(frozen=True)
class Moved:
    """uplift: by how much a retention contact moves the chance that a customer stays."""

    scorer: UpliftScorer
    optional: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[Column, ...]:
        return self.scorer.encoder.columns

    def of(self, frame: pd.DataFrame, k: int = K) -> pd.DataFrame:
        return pd.DataFrame({"uplift": self.scorer.many(encoded(self.scorer.encoder, frame))}, index=frame.index)


def encoded(encoder: Encoder, frame: pd.DataFrame) -> NDArray[np.float64]:
    """Rows of a frame that holds each column by its name, (n, n_columns); what a category never was is missing."""
    _need(frame, [column.name for column in encoder.columns])
    out = np.empty((len(frame), len(encoder.columns)))
    for at, column in enumerate(encoder.columns):
        codes = None if column.values is None else {value: float(code) for code, value in enumerate(column.values)}
        values = frame[column.name].to_numpy() if codes is None else frame[column.name].to_numpy(object)
        out[:, at] = numbers(values, codes)
    infinite = np.isinf(out).any(axis=0)
    if infinite.any():
        name = encoder.columns[int(np.argmax(infinite))].name
        raise BadInput(f"{name} is infinite, expected finite numbers or none", name)
    return out


def decoded(encoder: Encoder, rows: NDArray[np.float64]) -> pd.DataFrame:
    """Encoded rows as the frame that `encoded` reads: the inverse of it, for values that the encoder knows."""
    found: dict[str, pd.Series[Any]] = {}
    for at, column in enumerate(encoder.columns):
        values = rows[:, at]
        if column.values is None:
            found[column.name] = pd.Series(values, dtype=np.float64)
        else:
            names = [None if np.isnan(code) else column.values[int(code)] for code in values.tolist()]
            found[column.name] = pd.Series(names, dtype=object)
    return pd.DataFrame(found, index=pd.RangeIndex(len(rows)))


def _need(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise BadInput(f"the data frame lacks the column {missing[0]!r}, which the model reads", missing[0])
