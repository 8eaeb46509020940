"""What was shown was chosen: the weights that undo it, and the draws at random that it can be judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import Offer
from training.choices import effective_size, selection_weights
from training.models.classifiers import Part
from training.split import Split

MIN_KNOWN = 0.5  # share of the training impressions whose chance must be logged
MIN_EFFECTIVE = 0.1  # effective size of the weighted training part, as a share of its rows
MIN_RANDOM, MIN_RANDOM_POSITIVES = 200, 20  # impressions drawn at random, before anything is said of them


class Shown(Protocol):
    """What is read of a table of impressions."""

    @property
    def offers(self) -> Sequence[Offer]: ...
    @property
    def chance(self) -> NDArray[np.float64] | None: ...
    @property
    def at_random(self) -> NDArray[np.bool_] | None: ...


@dataclass(frozen=True)
class Selection:
    """By part (train, validation, test), shapes (n_part,)."""

    weights: Mapping[str, NDArray[np.float64]]
    at_random: Mapping[str, NDArray[np.bool_]]
    known: float  # share of the training impressions whose chance is logged
    effective: float  # size of the weighted training part, as a share of its rows

    @property
    def usable(self) -> bool:
        return self.known >= MIN_KNOWN and self.effective >= MIN_EFFECTIVE

    def judged(self, validation: Part) -> Part:
        """The draws at random, each counted once; all rows by weight where these are too few to tell."""
        drawn = validation.of(self.at_random["validation"])
        if enough(drawn.y):
            return Part(drawn.rows, drawn.y)
        return Part(validation.rows, validation.y, self.weights["validation"])


def enough(y: NDArray[np.bool_]) -> bool:
    """Whether so many draws at random say something."""
    return len(y) >= MIN_RANDOM and min(int(y.sum()), int((~y).sum())) >= MIN_RANDOM_POSITIVES


def selection_of(table: Shown, split: Split) -> Selection | None:
    """None where no chance is logged."""
    if table.chance is None or not np.isfinite(table.chance).any():
        return None
    offer = pd.factorize(np.array([one.offer_id for one in table.offers], dtype=object))[0].astype(np.int64)
    at_random = np.zeros(len(offer), np.bool_) if table.at_random is None else table.at_random
    masks = {"train": split.train, "validation": split.validation, "test": split.test}
    weights = {name: selection_weights(table.chance[mask], offer[mask]) for name, mask in masks.items()}
    return Selection(
        weights=weights,
        at_random={name: at_random[mask] for name, mask in masks.items()},
        known=float(np.isfinite(table.chance[split.train]).mean()),
        effective=effective_size(weights["train"]) / max(int(split.train.sum()), 1),
    )
