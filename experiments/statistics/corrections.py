"""Corrections for having looked at many comparisons: Holm where none may be wrong, Benjamini-Hochberg where a few may.

Both are tea-tasting's. What could not be computed, None or NaN, was not tested and does not count.

Source: Holm 1979, "A simple sequentially rejective multiple test procedure"; Benjamini and Hochberg 1995, "Controlling
the false discovery rate".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import tea_tasting as tt
from tea_tasting.experiment import ExperimentResult

from experiments.statistics.effect import Effect


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values that keep the chance of any false one under alpha; None stays None, NaN becomes it."""
    return _adjusted(p_values, lambda result: tt.adjust_fwer(result, arbitrary_dependence=True, method="bonferroni"))


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values that keep the expected share of false ones among the found under alpha; None stays None."""
    return _adjusted(p_values, tt.adjust_fdr)


def corrected(effects: Sequence[Effect], family: str) -> list[Effect]:
    """The effects with `p_adjusted`; `family` is "primary" (Holm) or "secondary" (Benjamini-Hochberg)."""
    adjust = {"primary": holm, "secondary": benjamini_hochberg}[family]
    found = adjust([effect.p_value for effect in effects])
    return [msgspec.structs.replace(effect, p_adjusted=p) for effect, p in zip(effects, found, strict=True)]


def _adjusted(p_values: Sequence[float | None], adjust: object) -> list[float | None]:
    tested = {str(i): {"pvalue": float(p)} for i, p in enumerate(p_values) if p is not None and not math.isnan(p)}
    if not tested:
        return [None] * len(p_values)
    assert callable(adjust)
    (result,) = adjust(ExperimentResult(tested)).values()
    return [min(1.0, float(result[str(i)]["pvalue_adj"])) if str(i) in tested else None for i in range(len(p_values))]
