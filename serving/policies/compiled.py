"""How the loops over offers are compiled: once per machine, free of Python's lock, division as in numpy."""

from __future__ import annotations

from numba import njit

compiled = njit(nogil=True, cache=True, error_model="numpy")

# For bounds only: sums in any order, which pays where the loop then does four offers at once.
quickly = njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "nsz", "nnan", "contract"})
