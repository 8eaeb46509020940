"""In which direction a column may move acceptance, all else equal: what the business expects, as constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from features.definitions import EXPECTED_EFFECTS
from training.encoder import Encoder


def directions_of(encoder: Encoder, own: Mapping[str, int]) -> NDArray[np.int64]:
    """1 where acceptance may only rise with the number, -1 where it may only fall, else 0; (n_columns,).

    `own` are those of the data set: patterns of column names (`offer.value`, `customer.dismissed_*`) or of feature
    names; they go before the expectations that are declared with the features, and 0 takes one back. The last pattern
    that fits counts. Categories have no direction.
    """
    found = np.zeros(len(encoder.columns), np.int64)
    for at, column in enumerate(encoder.columns):
        if column.values is None:
            for pattern, direction in (*EXPECTED_EFFECTS.items(), *own.items()):
                if fnmatchcase(column.name, pattern) or fnmatchcase(column.key, pattern):
                    found[at] = direction
    return found


def named(encoder: Encoder, directions: Sequence[int] | NDArray[np.int64]) -> dict[str, int]:
    """The columns that have a direction."""
    return {
        column.name: int(direction)
        for column, direction in zip(encoder.columns, directions, strict=True)
        if direction != 0
    }
