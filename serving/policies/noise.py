"""Random numbers from a counter, for compiled code: equal seeds give equal numbers, on every thread."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled

# Numba's cache on disk looks only at the file of the function that is called: who changes this one, touches race.py.

STEP = np.uint64(0x9E3779B97F4A7C15)  # from one number to the next: add it to the seed
N_LAYERS, EDGE, AREA = 128, 3.442619855899, 9.91256303526217e-3


def _layers() -> NDArray[Any]:
    """Right edges of the layers of equal area under exp(-x^2 / 2), the lowest first; (N_LAYERS + 1,)."""
    edges = [AREA * exp(0.5 * EDGE * EDGE), EDGE]
    while len(edges) < N_LAYERS:
        edges.append(sqrt(-2.0 * log(AREA / edges[-1] + exp(-0.5 * edges[-1] ** 2))))
    return np.array([*edges, 0.0])


EDGES = _layers()


@compiled
def bits(seed):  # type: ignore[no-untyped-def]
    """64 of them. Source: SplitMix64, https://doi.org/10.1145/2660193.2660195"""
    z = (seed ^ (seed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def unit(seed):  # type: ignore[no-untyped-def]
    """Uniform in (0, 1), never at an end."""
    return (float(bits(seed) >> np.uint64(12)) + 0.5) * 2.0**-52


@compiled
def normal(seed):  # type: ignore[no-untyped-def]
    """Standard normal, and the seed from which to go on.

    Source: the ziggurat of Marsaglia and Tsang (2000), https://doi.org/10.18637/jss.v005.i08, in Doornik's form.
    """
    while True:
        seed += STEP
        b = bits(seed)
        layer = int(b & np.uint64(N_LAYERS - 1))
        u = (float(b >> np.uint64(12)) + 0.5) * 2.0**-51 - 1.0
        x = u * EDGES[layer]
        if abs(x) < EDGES[layer + 1]:
            return x, seed
        seed += STEP
        if layer == 0:
            x = sqrt(EDGE * EDGE - 2.0 * log(unit(seed)))
            seed += STEP
            if unit(seed) * x < EDGE:
                return (x if u > 0.0 else -x), seed
            continue
        upper = exp(-0.5 * (EDGES[layer] * EDGES[layer] - x * x))
        lower = exp(-0.5 * (EDGES[layer + 1] * EDGES[layer + 1] - x * x))
        if lower + unit(seed) * (upper - lower) < 1.0:
            return x, seed
