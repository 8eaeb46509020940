"""The scorer of uplift: by how much a retention contact moves the chance that a customer stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.errors import BrokenRelease
from training.encoder import Encoder
from training.scorers.base import Arrays
from training.scorers.classifier import RAW, Raw, logistic

Numbers = NDArray[np.float64]
N_PARTS = {"constant": 0, "direct": 1, "difference": 2, "weighted": 2}  # models that each form is made of


@dataclass(frozen=True, slots=True)
class Effect:
    """A function of encoded rows (n, n_columns) -> effects (n,), made of models that walk them.

    constant: none, the effect is 0 for all. direct: the model's value. difference: the chance of the second (treated)
    model less that of the first (control). weighted: share x first + (1 - share) x second.
    """

    form: str  # of N_PARTS
    models: tuple[tuple[str, Raw], ...] = ()  # (kind of RAW, model)
    share: float = 0.5  # weighted: how much of the first

    def __post_init__(self) -> None:
        if len(self.models) != N_PARTS.get(self.form, -1):
            raise BrokenRelease(f"an effect {self.form!r} of {len(self.models)} models")

    def __call__(self, rows: Numbers) -> Numbers:
        return self._of([model.raw(rows) for _, model in self.models], np.zeros(len(rows)))

    def one(self, row: Numbers) -> float:
        """The effect of one row, (n_columns,)."""
        return float(self._of([np.array(model.one(row)) for _, model in self.models], np.zeros(()))[()])

    def _of(self, raws: Sequence[Numbers], nothing: Numbers) -> Numbers:
        if self.form == "constant":
            return nothing
        if self.form == "direct":
            return raws[0]
        if self.form == "difference":
            return logistic(raws[1]) - logistic(raws[0])
        return self.share * raws[0] + (1.0 - self.share) * raws[1]


@dataclass(frozen=True, slots=True)
class UpliftScorer:
    """P(stays | contacted) - P(stays | not contacted) of one customer, within [-1, 1]."""

    KIND: ClassVar[str] = "uplift"
    version: str
    encoder: Encoder
    effect: Effect
    slope: float  # of the effect, as held-out customers bear it out
    intercept: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.slope) and np.isfinite(self.intercept)):
            raise BrokenRelease(f"uplift is {self.slope} x effect + {self.intercept}, which is not finite")

    def uplift(self, features: Mapping[str, Any]) -> float:
        found = self.intercept + self.slope * self.effect.one(self.encoder.of_customer(features, {}))
        return min(max(found, -1.0), 1.0)

    def many(self, rows: Numbers) -> Numbers:
        """Encoded rows (n, n_columns) -> (n,)."""
        return np.clip(self.intercept + self.slope * self.effect(rows), -1.0, 1.0)

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        effect = self.effect
        meta = {
            "columns": msgspec.to_builtins(self.encoder.columns),
            "form": effect.form,
            "models": [kind for kind, _ in effect.models],
            "share": effect.share,
            "slope": self.slope,
            "intercept": self.intercept,
        }
        arrays = {
            f"model_{at}_{name}": array
            for at, (_, model) in enumerate(effect.models)
            for name, array in model.arrays().items()
        }
        return meta, arrays

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> UpliftScorer:
        encoder = msgspec.convert({"columns": meta["columns"]}, Encoder)
        models = tuple((kind, _model(kind, at, arrays, encoder)) for at, kind in enumerate(meta["models"]))
        effect = Effect(meta["form"], models, meta["share"])
        return cls(meta["version"], encoder, effect, meta["slope"], meta["intercept"])


def _model(kind: str, at: int, arrays: Arrays, encoder: Encoder) -> Raw:
    prefix = f"model_{at}_"
    mine = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    read: Sequence[NDArray[Any]] = [mine[name] for name in ("column", "numbers", "categories") if name in mine]
    used = max((int(columns.max()) for columns in read if columns.size), default=-1)
    if used >= len(encoder.columns):
        raise BrokenRelease(f"the model reads column {used}, its encoder has {len(encoder.columns)}")
    return RAW[kind](**mine)
