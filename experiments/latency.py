"""Quantiles of how long decisions took, with the variance that customers who ask more than once leave them.

A quantile of decisions is not a mean over customers, but its error is: with density f at the quantile q, customer i
contributes (share · n_i − decisions of i up to q) / (f · mean n). A cell whose units are q plus these contributions has
q as its mean and the right variance.
Source: Deng, Knoblich and Lu 2018, "Applying the delta method in metric analytics", section 4.2; for the density
Woodruff 1952, "Confidence intervals for medians and other position measures".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.cells import Cell
from experiments.metrics import Metric
from experiments.tables import Tables
from experiments.units import Made, keyed

FEWEST_BEYOND = 10  # decisions on the rarer side of a quantile; with fewer it is not known


def latency_cells(tables: Tables, made: Made, metrics: Sequence[Metric], until_us: int) -> list[Cell]:
    """In milliseconds, per metric, phase, variant and segment; none where too few decisions state their latency.

    Read from `latency_us` in the decisions' payload.
    """
    columns = _read(tables, made, until_us)
    axes: list[tuple[str, NDArray[Any]] | None] = [None]
    axes += [(name, columns[f"segment_{n}"]) for n, name in enumerate(made.segments)]
    found = []
    for axis in axes:
        groups = (
            (columns["phase"], columns["variant"]) if axis is None else (columns["phase"], columns["variant"], axis[1])
        )
        for (phase, variant, *value), rows in _grouped(groups):
            for metric in metrics:
                assert metric.quantile is not None
                cell = quantile_cell(metric.name, metric.quantile, columns["uid"][rows], columns["ms"][rows])
                if cell is not None:
                    segment = None if axis is None else (axis[0], str(value[0]))
                    found.append(replace(cell, phase=int(phase), variant=str(variant), segment=segment))
    return found


def _read(tables: Tables, made: Made, until_us: int) -> dict[str, NDArray[Any]]:
    segments = "".join(f", u.segment_{n}" for n in range(len(made.segments)))
    table = tables.db.sql(
        f"SELECT u.uid, u.phase, u.variant{segments}, "
        "CAST(json_extract_string(e.payload, '$.latency_us') AS DOUBLE) / 1000 AS ms "
        f"FROM {keyed(tables, made.unit, until_us, 'decisions')} e JOIN units u ON e.key = u.key "
        "WHERE e.us >= u.start_us AND e.us < u.end_us AND json_extract_string(e.payload, '$.latency_us') IS NOT NULL"
    ).to_arrow_table()
    return {name: table[name].to_numpy() for name in table.column_names}


def _grouped(keys: Sequence[NDArray[Any]]) -> Iterator[tuple[list[Any], NDArray[np.intp]]]:
    """Each combination of keys with its rows."""
    if not len(keys[0]):
        return
    codes = np.zeros(len(keys[0]), np.int64)
    for key in keys:
        _, code = np.unique(key, return_inverse=True)
        codes = codes * (int(code.max()) + 1) + code
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        yield [key[rows[0]] for key in keys], rows


def quantile_cell(name: str, share: float, units: NDArray[np.int64], ms: NDArray[np.float64]) -> Cell | None:
    """None if the quantile is not known."""
    if len(ms) * min(share, 1 - share) < FEWEST_BEYOND:
        return None
    value = float(np.quantile(ms, share))
    _, unit = np.unique(units, return_inverse=True)
    n_of = np.bincount(unit).astype(np.float64)
    below = np.bincount(unit, weights=ms <= value)
    n = len(n_of)
    if n < 2:
        return None
    excess = (share * n_of - below) / n_of.mean()  # its mean is how far the share below `value` is off
    reach = 1.96 * math.sqrt(float(excess.var(ddof=1)) / n)
    low, high = max(share - reach, 0.0), min(share + reach, 1.0)
    width = float(np.quantile(ms, high) - np.quantile(ms, low))
    per_share = width / (high - low) if high > low else 0.0  # 1 / density, over the share's own interval (Woodruff)
    return Cell(metric=name, variant="", n=n, mean_num=value, var_num=per_share**2 * float(excess.var(ddof=1)))
