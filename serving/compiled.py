"""How the loops over offers are compiled: once per machine, division as in numpy.

They keep Python's lock: to give it up for some microseconds costs more, as its next holder may keep it for long.
"""

from __future__ import annotations

from numba import njit

compiled = njit(cache=True, error_model="numpy")

# For bounds only: sums in any order, which pays where the loop then does four offers at once.
quickly = njit(cache=True, error_model="numpy", fastmath={"reassoc", "nsz", "nnan", "contract"})
