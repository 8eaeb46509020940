"""Effects by segment, corrected for having looked at all of them, and whether segments differ at all.

Slicing finds something somewhere: with twenty segments and no effect, one in twenty is "significant". So the p-values
of all values of all segments are one family (Benjamini-Hochberg), and each segment is first asked whether its values
differ from each other by more than chance.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from experiments.cells import Cell
from experiments.statistics.arms import Kind
from experiments.statistics.corrections import benjamini_hochberg, corrected
from experiments.statistics.effect import Effect, compare, p_same


class SegmentEffects(msgspec.Struct, frozen=True, kw_only=True):
    """One variant's effects over the values of one segment."""

    metric: str
    variant: str
    segment: str
    effects: tuple[Effect, ...]  # by value, `p_adjusted` over all segments and values of the metric
    p_differ: float | None = None  # Cochran's Q: the chance of such differences when the effect is everywhere the same
    p_differ_adjusted: float | None = None


def by_segment(
    cells: Iterable[Cell],
    metric: str,
    control: str,
    variants: Iterable[str],
    *,
    kind: Kind = "mean",
    alpha: float = 0.05,
    cuped: bool = True,
) -> list[SegmentEffects]:
    """Effects in every segment that the cells have; order of segments and values as sorted."""
    mine = [cell for cell in cells if cell.metric == metric and cell.segment is not None]
    axes = sorted({cell.segment for cell in mine if cell.segment is not None})
    keys = [(variant, axis) for variant in variants for axis in axes]
    effects = corrected(
        [
            compare(mine, metric, control, variant, kind=kind, alpha=alpha, cuped=cuped, segment=axis)
            for variant, axis in keys
        ],
        "secondary",
    )
    grouped: dict[tuple[str, str], list[Effect]] = {}
    for (variant, axis), effect in zip(keys, effects, strict=True):
        grouped.setdefault((variant, axis[0]), []).append(effect)
    differ = [p_same([_effect_and_variance(e) for e in group if e.known]) for group in grouped.values()]
    return [
        SegmentEffects(
            metric=metric,
            variant=variant,
            segment=name,
            effects=tuple(group),
            p_differ=p,
            p_differ_adjusted=adjusted,
        )
        for ((variant, name), group), p, adjusted in zip(
            grouped.items(), differ, benjamini_hochberg(differ), strict=True
        )
    ]


def _effect_and_variance(effect: Effect) -> tuple[float, float]:
    assert effect.absolute is not None
    assert effect.standard_error is not None
    return effect.absolute, effect.standard_error**2
