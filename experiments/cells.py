"""Cells: what statistics need to know of a metric in one variant, so that no unit's row leaves the database.

A cell holds the count, the means and the sample covariances of four numbers per unit: the metric's numerator and
denominator since exposure, and the same two in the days before it. Means, proportions, ratios, CUPED and their merging
over phases or segments need nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUMBERS = ("num", "den", "pre_num", "pre_den")  # of one unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Moments of one metric over the units of one variant, phase and segment.

    Variances and covariances are sample ones (divided by n - 1), 0 when n < 2. A metric without a denominator has
    `mean_den` 1 and no variance in it. Without a pre-period all `pre` fields are NaN. SQL: `avg`, `var_samp`,
    `covar_samp`, with `coalesce(…, 0)` for groups of one.
    """

    metric: str
    variant: str
    n: int  # units
    phase: int | None = None  # None: over all phases
    segment: tuple[str, str] | None = None  # (name, value); None: everybody
    day_since_exposure: int | None = None  # 0 is the day of the first exposure; None: the whole window
    mean_num: float
    mean_den: float = 1.0
    mean_pre_num: float = math.nan
    mean_pre_den: float = math.nan
    var_num: float
    var_den: float = 0.0
    var_pre_num: float = math.nan
    var_pre_den: float = math.nan
    cov_num_den: float = 0.0
    cov_num_pre_num: float = math.nan
    cov_num_pre_den: float = math.nan
    cov_den_pre_num: float = math.nan
    cov_den_pre_den: float = math.nan
    cov_pre_num_pre_den: float = math.nan
    n_den: int | None = None  # units with a denominator above 0; None: all of them
    unknown: str | None = None  # why its numbers mean nothing, such as that nobody writes down what they count

    @property
    def n_informative(self) -> int:
        """Units that say anything: of a ratio over answers, who answered, which may be few of many."""
        return self.n if self.n_den is None else self.n_den

    @property
    def has_pre(self) -> bool:
        """Whether the days before exposure are known."""
        return not math.isnan(self.mean_pre_num)

    def mean(self, name: str) -> float:
        """The mean of one of `NUMBERS`."""
        return float(getattr(self, f"mean_{name}"))

    def cov(self, left: str, right: str) -> float:
        """The sample covariance of two of `NUMBERS`, in either order; the variance when they are the same."""
        return float(getattr(self, _cov_field(left, right)))


def cells_of(
    metric: str,
    variant: ArrayLike,
    num: ArrayLike,
    den: ArrayLike | None = None,
    pre_num: ArrayLike | None = None,
    pre_den: ArrayLike | None = None,
    *,
    phase: ArrayLike | None = None,
    segments: Mapping[str, ArrayLike] | None = None,
    day: ArrayLike | None = None,
) -> list[Cell]:
    """Cells of one row per unit (or unit and day), all arrays of shape (n_units,).

    One cell for everybody per variant and phase (and day), and one more for each value of each segment. A missing
    denominator is the constant 1.
    """
    groups = [np.asarray(variant).astype(str)]
    groups.append(np.zeros(len(groups[0]), dtype=np.int64) if phase is None else np.asarray(phase))
    groups.append(np.zeros(len(groups[0]), dtype=np.int64) if day is None else np.asarray(day))
    rows = _rows(len(groups[0]), num, den, pre_num, pre_den)
    cells = []
    axes: list[tuple[str, NDArray[Any]] | None] = [None]
    axes += [(name, np.asarray(values).astype(str)) for name, values in (segments or {}).items()]
    for axis in axes:
        for key, index in _grouped(groups if axis is None else [*groups, axis[1]]):
            cell = cell_of(metric, key[0], rows[:, index])
            cells.append(
                replace(
                    cell,
                    phase=None if phase is None else int(key[1]),
                    day_since_exposure=None if day is None else int(key[2]),
                    segment=None if axis is None else (axis[0], key[3]),
                )
            )
    return cells


def cell_of(metric: str, variant: str, rows: NDArray[np.float64]) -> Cell:
    """The cell of rows of shape (4, n_units) in the order of `NUMBERS`; NaN rows where there is no pre-period."""
    n = rows.shape[1]
    with np.errstate(invalid="ignore"):
        covs = np.cov(rows) if n > 1 else rows[:, :1] * rows[:, :1].T * 0.0  # NaN where either is
    fields: dict[str, Any] = {f"mean_{name}": float(rows[i].mean()) for i, name in enumerate(NUMBERS)}
    for (i, left), (j, right) in combinations_with_replacement(enumerate(NUMBERS), 2):
        fields[_cov_field(left, right)] = float(covs[i, j])
    n_den = int((rows[1] > 0).sum())
    return Cell(metric=metric, variant=variant, n=n, n_den=n_den if n_den < n else None, **fields)


def merge(cells: Iterable[Cell]) -> Cell:
    """The cell of all units together; metric, variant and so on are kept where they agree, else None.

    Only for units that were drawn alike: over phases with different weights this is how Simpson's paradox is made.
    Raises ValueError when there is no cell, or metric or variant differ.
    Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1.
    """
    parts = [cell for cell in cells if cell.n] or list(cells)
    if not parts:
        raise ValueError("no cells to merge")
    if len({(cell.metric, cell.variant) for cell in parts}) > 1:
        raise ValueError("cells of different metrics or variants cannot be merged")
    n = np.array([cell.n for cell in parts], dtype=float)
    total = n.sum()
    means = {name: np.array([cell.mean(name) for cell in parts]) for name in NUMBERS}
    whole = {name: float((n * values).sum() / total) if total else math.nan for name, values in means.items()}
    fields: dict[str, Any] = {f"mean_{name}": value for name, value in whole.items()}
    for left, right in combinations_with_replacement(NUMBERS, 2):
        within = (n - 1) * np.array([cell.cov(left, right) for cell in parts])
        between = n * (means[left] - whole[left]) * (means[right] - whole[right])
        fields[_cov_field(left, right)] = float((within + between).sum() / (total - 1)) if total > 1 else 0.0
    first = parts[0]
    same: dict[str, Any] = {
        name: getattr(first, name) if len({getattr(cell, name) for cell in parts}) == 1 else None
        for name in ("phase", "segment", "day_since_exposure", "unknown")
    }
    n_den = sum(cell.n_informative for cell in parts)
    fields["n_den"] = n_den if n_den < total else None
    return Cell(metric=first.metric, variant=first.variant, n=int(total), **same, **fields)


def _rows(
    n: int, num: ArrayLike, den: ArrayLike | None, pre_num: ArrayLike | None, pre_den: ArrayLike | None
) -> NDArray[np.float64]:
    rows = np.full((4, n), math.nan)
    rows[0] = num
    rows[1] = 1.0 if den is None else den
    if pre_num is not None:
        rows[2] = pre_num
        rows[3] = 1.0 if pre_den is None else pre_den
    return rows


def _grouped(keys: Sequence[NDArray[Any]]) -> Iterator[tuple[list[str], NDArray[np.intp]]]:
    """Each distinct combination of the keys with the rows that have it, in order of the keys."""
    codes = np.zeros(len(keys[0]), dtype=np.int64)
    levels = []
    for key in keys:
        values, code = np.unique(key, return_inverse=True)
        codes = codes * len(values) + code
        levels.append(values)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for index in np.split(order, starts[1:]) if len(order) else []:
        first = index[0]
        yield [str(key[first]) for key in keys], index


def _cov_field(left: str, right: str) -> str:
    if left == right:
        return f"var_{left}"
    first, second = sorted((left, right), key=NUMBERS.index)
    return f"cov_{first}_{second}"
