"""What acceptance and churn models are made of: encoded rows to log-odds to calibrated probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.errors import BrokenRelease
from training.calibrated import between, sigmoid
from training.encoder import Encoder, OfferSide
from training.linear import Linear
from training.scorers.base import SMALLEST, Affinity, Arrays
from training.trees import Forest


class RawForOffers(Protocol):
    """Log-odds of one customer for each of the offers that it was prepared for, (n_offers,)."""

    @property
    def side(self) -> OfferSide: ...

    def raw(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: Affinity | None
    ) -> NDArray[np.float64]: ...


class Raw(Protocol):
    """Encoded rows (n, n_columns) -> log-odds (n,); `varies` (n_columns,) may name the columns that differ."""

    def raw(self, rows: NDArray[np.float64], varies: NDArray[np.bool_] | None = None) -> NDArray[np.float64]: ...
    def one(self, row: NDArray[np.float64]) -> float:
        """The log-odds of one row, (n_columns,)."""
        ...

    def prepare(self, encoder: Encoder, side: OfferSide) -> RawForOffers: ...
    def arrays(self) -> dict[str, NDArray[Any]]: ...


POINTS = frozenset({"isotonic", "beta"})  # kinds of calibration that are points
RAW: dict[str, type[Forest] | type[Linear]] = {"trees": Forest, "linear": Linear}


@dataclass(frozen=True, slots=True)
class Calibration:
    """A monotone map from log-odds to probability, linear between the points and flat outside."""

    kind: str = "none"  # none: the logistic function; sigmoid: of slope * log-odds + intercept; of POINTS: the points
    slope: float = 1.0
    intercept: float = 0.0
    x: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # log-odds, increasing
    y: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # probabilities

    def __call__(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        p = np.empty(len(raw))
        if self.kind in POINTS:
            between(raw, self.x, self.y, SMALLEST, p)
        else:
            sigmoid(raw, float(self.slope), float(self.intercept), SMALLEST, p)
        return p

    def one(self, raw: float) -> float:
        if self.kind in POINTS:
            p = float(np.interp(raw, self.x, self.y))
        else:
            p = 0.5 * (1.0 + math.tanh(0.5 * (self.slope * raw + self.intercept)))
        return min(max(p, SMALLEST), 1.0 - SMALLEST)


def logistic(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * z))  # no overflow on either side


@dataclass(frozen=True, slots=True)
class Classifier:
    """Encoded rows -> calibrated probabilities."""

    kind: str  # of RAW
    encoder: Encoder
    model: Raw
    calibration: Calibration

    def __call__(self, rows: NDArray[np.float64], varies: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        return self.calibration(self.model.raw(rows, varies))

    def one(self, features: Mapping[str, Any]) -> float:
        """The probability of one customer alone."""
        return self.calibration.one(self.model.one(self.encoder.of_customer(features, {})))

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        c = self.calibration
        meta = {
            "model": self.kind,
            "columns": msgspec.to_builtins(self.encoder.columns),
            "calibration": {"kind": c.kind, "slope": c.slope, "intercept": c.intercept},
        }
        arrays = {f"model_{name}": array for name, array in self.model.arrays().items()}
        return meta, {**arrays, "calibration_x": c.x, "calibration_y": c.y}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays) -> Classifier:
        columns = msgspec.convert({"columns": meta["columns"]}, Encoder)
        model = {name.removeprefix("model_"): array for name, array in arrays.items() if name.startswith("model_")}
        read = [model[name] for name in ("column", "numbers", "categories") if name in model]
        used = max((int(columns_read.max()) for columns_read in read if columns_read.size), default=-1)
        if used >= len(columns.columns):
            raise BrokenRelease(f"the model reads column {used}, its encoder has {len(columns.columns)}")
        calibration = Calibration(**meta["calibration"], x=arrays["calibration_x"], y=arrays["calibration_y"])
        return cls(meta["model"], columns, RAW[meta["model"]](**model), calibration)
