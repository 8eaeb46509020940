"""Who wins how many of M draws of all scores, without drawing the many that cannot win.

A score is fixed + moved x factor, the factor being gamma distributed with mean 1. Marsaglia and Tsang draw a gamma
of shape d + 1/3 as d (1 + x / w)^3, w = 3 sqrt(d), from a normal x that is kept with probability A(x). So a score
above a threshold is an x above some z. Such an x is rare for most offers, and what is rare can be drawn directly:
in which of the M draws it happens (by the gaps between them), and x itself, from the tail of the normal. Draws in
which no offer passed the threshold are done again with a lower one, given that all are below the former. Nothing is
approximated: the wins have the law of M plain draws of n scores, at the cost of those that pass instead of M x n.

Source: Marsaglia and Tsang (2000), https://doi.org/10.1145/358407.358414; the normal's tail: Marsaglia (1964),
https://doi.org/10.1080/00401706.1964.10490150.
"""

from __future__ import annotations

from math import exp, lgamma, log, log1p, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled, quickly
from serving.policies.noise import STEP, normal, unit

PASSING = 3.0  # how many offers should pass the threshold in a draw: more cost time, fewer leave more draws open
FAR = 9.0  # a normal is further out once in 10^18 times, which counts as never
LEAST_KEPT = 0.95  # A(x) on average, at least: .952 at shape 1, towards 1 for larger ones
SMALLEST_SHAPE = 1e-6
TAIL = 1.0 / (sqrt(2.0 * pi) * LEAST_KEPT)


def wins(
    scores: NDArray[np.float64],
    moved: NDArray[np.float64],
    shape: NDArray[np.float64],
    eligible: NDArray[np.bool_],
    draws: int,
    seed: int,
) -> NDArray[np.float64]:
    """Share of `draws` that each eligible offer wins; shapes (n,) -> (n,). `scores` are means: moved + fixed.

    Offers whose score does not move share the draws that they win together.
    """
    won: NDArray[np.float64] = np.zeros(len(scores))
    shape = shape.view()
    shape.flags.writeable = False  # as learned ones are: to numba another type, which it would compile anew
    _race(scores, moved, shape, eligible, draws, np.uint64(seed), won)
    return won


@compiled
def _race(scores, moved, shape, eligible, draws, seed, won):  # type: ignore[no-untyped-def]
    scale = _scale(scores, moved, eligible)
    rows, n_racing, surest, best = _line_up(scores, moved, shape, eligible, scale)
    fixed, step, w, alpha, reach, low = _lanes(scores, moved, shape, rows[:n_racing], scale)
    low = max(low, surest)
    n_hot, n_lanes = _sort_out(best, low, rows, fixed, step, w, alpha, reach)
    z, rare = np.empty(n_lanes), np.empty(n_lanes)
    open_draws, n_open = np.arange(draws), draws
    top, who = np.empty(draws), np.full(draws, -1)
    z_most, below, wanted = FAR, np.inf, PASSING
    while n_open > 0 and n_lanes > 0:
        z_most, threshold, n = _threshold(z_most, low, wanted, best, n_hot, n_lanes, fixed, step, w, z, rare)
        last = threshold == low
        top[:] = -np.inf if last and surest < low else threshold
        seed = _draw_above(below, n, fixed, step, w, alpha, z, rare, open_draws, n_open, top, who, seed)
        n_left = 0
        for j in range(n_open):
            m = open_draws[j]
            if who[m] < 0:
                open_draws[n_left] = m
                n_left += 1
            else:
                won[rows[who[m]]] += 1.0
        n_open = n_left
        if last:
            break
        below, wanted = threshold, 4.0 * wanted
    n_surest = len(rows) - n_racing
    for k in range(n_racing, len(rows)):
        won[rows[k]] = n_open / n_surest
    for k in range(len(rows)):
        won[rows[k]] /= draws


@quickly
def _scale(scores, moved, eligible):  # type: ignore[no-untyped-def]
    """What brings the scores near enough to 1 that products and ratios neither overflow nor vanish."""
    largest = 0.0
    for i in range(len(scores)):
        largest = max(largest, max(abs(scores[i]), abs(moved[i])) if eligible[i] else 0.0)
    if 1e-50 < largest < 1e50 or largest == 0.0:
        return 1.0
    return min(1.0 / largest, 1e300)


@compiled
def _line_up(scores, moved, shape, eligible, scale):  # type: ignore[no-untyped-def]
    """Rows of the offers that move, and after them those of the best that do not; how many move; the best of the
    latter; the best of all."""
    rows = np.empty(len(scores), np.int64)
    n_racing, n_surest, surest, best = 0, 0, -np.inf, -np.inf
    for i in range(len(scores)):
        if not eligible[i]:
            continue
        score, mover = scores[i] * scale, moved[i] * scale
        best = max(best, score)
        if _moves(score, mover, shape[i]):
            rows[n_racing] = i
            n_racing += 1
        elif score >= surest:
            n_surest = n_surest + 1 if score == surest else 1
            surest = score
    if n_surest > 0:
        k = n_racing
        for i in range(len(scores)):
            score, mover = scores[i] * scale, moved[i] * scale
            if eligible[i] and score == surest and not _moves(score, mover, shape[i]):
                rows[k] = i
                k += 1
    return rows[: n_racing + n_surest], n_racing, surest, best


@compiled
def _moves(score, mover, alpha):  # type: ignore[no-untyped-def]
    """Whether the score's standard deviation is more than its rounding."""
    return mover * mover > 1e-28 * max(score * score, mover * mover) * alpha


@quickly
def _lanes(scores, moved, shape, rows, scale):  # type: ignore[no-untyped-def]
    """A score is fixed + step (1 + x / |w|)^3, w having the sign of step; none is above its `reach`. The best score
    of a draw is above `low`. Where shape < 1, the step is smaller still, see `_score`."""
    n = len(rows)
    fixed, step, w, alpha, reach = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    low = -np.inf
    for k in range(n):
        mover, a = moved[rows[k]] * scale, max(shape[rows[k]], SMALLEST_SHAPE)
        d = (a if a >= 1.0 else a + 1.0) - 1.0 / 3.0
        root = 3.0 * sqrt(d)
        out = FAR / root
        up, down = 1.0 + out, max(1.0 - out, 0.0)
        up, down = up * up * up, down * down * down if a >= 1.0 else 0.0
        alpha[k], fixed[k], step[k] = a, scores[rows[k]] * scale - mover, mover * d / a
        w[k] = root if mover > 0.0 else -root
        reach[k] = fixed[k] + step[k] * (up if mover > 0.0 else down)
        low = max(low, fixed[k] + step[k] * (down if mover > 0.0 else up))
    return fixed, step, w, alpha, reach, low


@compiled
def _sort_out(best, low, rows, fixed, step, w, alpha, reach):  # type: ignore[no-untyped-def]
    """Lanes that reach above the best mean come first, those that never win last; how many the first are, and how
    many all but the last."""
    n = 0
    n_hot = 0
    for bound in (best, low):
        for k in range(n, len(reach)):
            if reach[k] >= bound:
                fixed[k], fixed[n] = fixed[n], fixed[k]
                step[k], step[n] = step[n], step[k]
                w[k], w[n] = w[n], w[k]
                alpha[k], alpha[n] = alpha[n], alpha[k]
                reach[k], reach[n] = reach[n], reach[k]
                rows[k], rows[n] = rows[n], rows[k]
                n += 1
        if bound == best:
            n_hot = n
    return n_hot, n


@compiled
def _threshold(z_most, low, wanted, best, n_hot, n_lanes, fixed, step, w, z, rare):  # type: ignore[no-untyped-def]
    """A threshold, not below `low`, that `wanted` to twice as many offers pass in a draw; `low` if not more pass it.

    It is looked for as the z that the offer which passes it most easily has to pass, at most `z_most`. Returned with
    that z, and with how many lanes matter, of which `z` and `rare` are filled in.
    """
    least, most, middle = -FAR, z_most, min(sqrt(2.0 * log(1.0 + n_hot / 40.0)), z_most - 0.6)
    for _ in range(12 if n_lanes > 2.0 * wanted else 0):
        threshold = max(_easiest(middle, n_lanes, fixed, step, w), low)
        n = n_hot if threshold >= best else n_lanes
        passing = _rarity(threshold, n, fixed, step, w, z, rare)
        if passing <= 2.0 * wanted and (passing >= wanted or threshold == low):
            return middle, threshold, n
        if passing > wanted:
            least = middle
        else:
            most = middle
        middle += log(max(passing, 1e-9) / (1.4 * wanted)) / max(middle, 1.0)  # as in a normal's tail
        if not least < middle < most:
            middle = 0.5 * (least + most)
    threshold = low if least == -FAR else max(_easiest(least, n_lanes, fixed, step, w), low)
    _rarity(threshold, n_lanes, fixed, step, w, z, rare)
    return least, threshold, n_lanes


@quickly
def _easiest(z, n, fixed, step, w):  # type: ignore[no-untyped-def]
    """The threshold that is passed by an x above z in at least one lane."""
    threshold = fixed[0] + step[0] * max(1.0 + z / w[0], 0.0) ** 3
    for k in range(n):
        v = max(1.0 + z / w[k], 0.0)
        threshold = max(threshold, fixed[k] + step[k] * v * v * v)
    return threshold


@quickly
def _rarity(threshold, n, fixed, step, w, z, rare):  # type: ignore[no-untyped-def]
    """The z that x has to pass, not more than it is, and the chance of that, not less than it is; 1 where z < 1.

    The cube root is two of Halley's steps, from below; exp(-y) is (1 + y / 256)^-256, from above; both for speed.
    Returns about how many pass.
    """
    total = 0.0
    for k in range(n):
        r = min(max((threshold - fixed[k]) / step[k], 0.0), 1e30)
        y = (1.0 + 2.0 * r) / (2.0 + r)
        c = y * y * y
        z[k] = w[k] * (y * (c + 2.0 * r) / (2.0 * c + r) - 1.0)
        x = max(z[k], 1.0)
        p = 1.0 + x * x / 512.0
        p *= p
        p *= p
        p *= p
        p *= p
        p *= p
        p *= p
        p *= p
        p *= p
        chance = TAIL / (x * p)
        rare[k] = chance if z[k] >= 1.0 and step[k] > 0.0 else 1.0
        total += chance if z[k] >= 1.0 else min(max(0.5 - 0.34 * z[k], 0.16), 1.0)
    return total


@compiled
def _draw_above(  # type: ignore[no-untyped-def]
    below, n, fixed, step, w, alpha, z, rare, open_draws, n_open, top, who, seed
):
    """Every score above the threshold of `z` in the open draws, given that none is above `below`; `top` and `who`
    keep the largest. Returns the seed for what comes next."""
    same_d, mean_kept = 0.0, 1.0
    for k in range(n):
        d = (alpha[k] if alpha[k] >= 1.0 else alpha[k] + 1.0) - 1.0 / 3.0
        if rare[k] < 1.0:
            seed += STEP
            u = unit(seed)
            if u <= 1.0 - n_open * rare[k]:
                continue
            if d != same_d:  # offers without evidence of their own are all alike
                same_d, mean_kept = d, _mean_kept(d)
            base, log_none = exp(-0.5 * z[k] * z[k]) / (rare[k] * mean_kept * sqrt(2.0 * pi)), log1p(-rare[k])
            j = 0.0
            while u > 1.0 - (n_open - j) * rare[k]:  # else there is none in the draws that are left
                at = int(j + log(u) / log_none)  # so many draws are passed over
                if at >= n_open:
                    break
                j = at + 1.0
                x, seed = _x_above(z[k], base, d, seed)
                if x > 0.0:
                    score, seed = _score(x, fixed[k], step[k], w[k], alpha[k], seed)
                    if score > below:
                        j = float(at)  # not this one, then: the same draw once more
                    elif score > top[open_draws[at]]:
                        top[open_draws[at]], who[open_draws[at]] = score, k
                seed += STEP
                u = unit(seed)
            continue
        limit = np.inf  # of x, where x alone decides
        if step[k] > 0.0 and alpha[k] >= 1.0 and below < np.inf:
            limit = (np.cbrt((below - fixed[k]) / step[k]) - 1.0) * w[k]
        for j in range(n_open):
            while True:
                x, seed = _x_up_to(limit, d, seed)
                score, seed = _score(x, fixed[k], step[k], w[k], alpha[k], seed)
                if score <= below or limit < np.inf:
                    break
            if score > top[open_draws[j]]:
                top[open_draws[j]], who[open_draws[j]] = score, k
    return seed


@compiled
def _score(x, fixed, step, w, alpha, seed):  # type: ignore[no-untyped-def]
    """The score of an x, and the next seed. A gamma of shape < 1 is one of shape + 1 times a power of a uniform."""
    v = 1.0 + x / abs(w)
    factor = v * v * v
    if alpha < 1.0:
        seed += STEP
        factor *= unit(seed) ** (1.0 / alpha)
    return fixed + step * factor, seed


@compiled
def _x_above(z, base, d, seed):  # type: ignore[no-untyped-def]
    """An x above z >= 1 with chance base x A(x) / x, else 0; and the next seed."""
    x = sqrt(z * z - 2.0 * log(unit(seed + STEP)))
    seed += STEP + STEP
    u = unit(seed) * x / base
    if u < 1.0 - x * x * x * x / (108.0 * d):  # surely less than A(x), of which this is the first term
        return x, seed
    return (x if log(u) < _log_kept(x, d) else 0.0), seed


@compiled
def _x_up_to(limit, d, seed):  # type: ignore[no-untyped-def]
    """One x as Marsaglia and Tsang keep it, given that it is at most `limit`; and the next seed."""
    while True:
        kept = 0.0
        if limit > -1.0:
            x, seed = normal(seed)
            if x > limit:
                continue
        else:
            seed += STEP
            x = -sqrt(limit * limit - 2.0 * log(unit(seed)))
            kept = log(limit / x)
        seed += STEP
        u = unit(seed)
        if kept == 0.0 and u < 1.0 - 0.0331 * x * x * x * x:
            return x, seed
        if log(u) < kept + _log_kept(x, d):
            return x, seed


@compiled
def _log_kept(x, d):  # type: ignore[no-untyped-def]
    """log A(x), at most 0; -inf where 1 + x / w is not positive."""
    e = x / (3.0 * sqrt(d))
    if e <= -1.0:
        return -np.inf
    if d > 1e6:  # the terms below would cancel
        return -0.75 * d * e * e * e * e * (1.0 - 0.8 * e)
    v = 1.0 + e
    return 0.5 * x * x + d * (1.0 - v * v * v + 3.0 * log(v))


@compiled
def _mean_kept(d):  # type: ignore[no-untyped-def]
    """A(x) on average over normal x: the gamma density integrated in the variable x."""
    if d > 15.0:  # Stirling's series of what follows
        i = 1.0 / d
        return exp(-i * (1 / 36 + i * (1 / 162 - i * (13 / 9720 + i * (1.0288066e-3 - i * 3.951927e-4)))))
    return exp(d + (1.0 / 6.0 - d) * log(d) + lgamma(d + 1.0 / 3.0)) / sqrt(2.0 * pi)
