"""One split of a tree."""

from __future__ import annotations

import numpy as np

from training.compiled import inlined

LEAF, NUMBER, CATEGORY = 0, 1, 2
MAX_CODES = 256  # category codes are 0 … 255


@inlined
def goes_left(x, kind, threshold, missing_left, codes, code_left):  # type: ignore[no-untyped-def]
    """Whether a value goes left; NaN and unknown categories go where `missing_left` says."""
    if np.isnan(x):
        return missing_left != 0
    if kind == NUMBER:
        return x <= threshold
    if 0 <= x < MAX_CODES:
        return code_left[codes, int(x)] != 0
    return missing_left != 0
