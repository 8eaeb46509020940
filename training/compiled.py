"""How the loops of scorers are compiled: once per machine, division as in numpy.

They keep Python's lock: a decision that gave it up for some microseconds would wait for its next holder much longer.
"""

from __future__ import annotations

from numba import njit

compiled = njit(cache=True, error_model="numpy")
inlined = njit(cache=True, error_model="numpy", inline="always")
# Sums in any order, which makes them as fast as the memory is.
reordered = njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
# For blocks of customers, in threads beside each other; nothing that a decision waits for.
unlocked = njit(cache=True, error_model="numpy", nogil=True)
