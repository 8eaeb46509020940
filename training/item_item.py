"""Sums of item–item weights over what a customer took, and the best of them, compiled."""

from __future__ import annotations

import numpy as np

from training.best import best_of_row
from training.compiled import compiled, unlocked


@compiled
def item_scores(  # type: ignore[no-untyped-def]
    out, row, tokens, prior, unseen, taken_start, taken, taken_weight, weight_start, weight_to, weight, popular,
    token_popular, trained_of, like_start, like_row, like_weight,
):  # fmt: skip
    """Scores of a catalogue's offers (n,) for one customer into `out`; `row` is the customer's, -1 if unknown."""
    scores = np.empty(len(popular), np.float32)
    _of_trained(
        scores, row, tokens, prior, taken_start, taken, taken_weight, weight_start, weight_to, weight, popular,
        token_popular,
    )  # fmt: skip
    _of_catalogue(out, scores, unseen, trained_of, like_start, like_row, like_weight)


@compiled
def _of_trained(  # type: ignore[no-untyped-def]
    scores, row, tokens, prior, taken_start, taken, taken_weight, weight_start, weight_to, weight, popular,
    token_popular,
):  # fmt: skip
    """Scores by trained row (n_trained,), whatever they were before."""
    n_trained = len(popular)
    by = np.float32(prior if row >= 0 else 1.0)
    scores[:] = np.float32(0.0)
    if by != 0.0:
        for j in range(n_trained):
            scores[j] = by * popular[j]
        for token in tokens:
            for j in range(n_trained):
                scores[j] += by * token_popular[token, j]
    if row >= 0:
        for i in range(taken_start[row], taken_start[row + 1]):
            times, offer = taken_weight[i], taken[i]
            for at in range(weight_start[offer], weight_start[offer + 1]):
                scores[weight_to[at]] += times * weight[at]


@compiled
def _of_catalogue(out, scores, unseen, trained_of, like_start, like_row, like_weight):  # type: ignore[no-untyped-def]
    """Scores by trained row (n_trained,) as scores by row of the catalogue (n,).

    What nobody took scores as what is described alike, or as the mean if nothing is.
    """
    lowest = mean = np.float32(np.nan)
    for i in range(len(out)):
        if trained_of[i] >= 0:
            out[i] = scores[trained_of[i]]
            continue
        if np.isnan(mean):
            lowest, mean = _lowest_and_mean(scores)
        total = mean - lowest if like_start[i] == like_start[i + 1] else np.float32(0.0)
        for at in range(like_start[i], like_start[i + 1]):
            total += like_weight[at] * (scores[like_row[at]] - lowest)
        out[i] = lowest + np.float32(unseen) * total


@compiled
def _lowest_and_mean(scores):  # type: ignore[no-untyped-def]
    lowest, total = np.float32(0.0), np.float32(0.0)
    for score in scores:
        lowest = min(lowest, score)
        total += score
    return lowest, total / np.float32(max(len(scores), 1))


@unlocked
def item_scores_of_many(  # type: ignore[no-untyped-def]
    out, rows, token_start, tokens, prior, unseen, taken_start, taken, taken_weight, weight_start, weight_to, weight,
    popular, token_popular, trained_of, like_start, like_row, like_weight,
):  # fmt: skip
    """`item_scores` of each row of `out` (n_customers, n)."""
    for i in range(len(rows)):
        item_scores(
            out[i], rows[i], tokens[token_start[i] : token_start[i + 1]], prior, unseen, taken_start, taken,
            taken_weight, weight_start, weight_to, weight, popular, token_popular, trained_of, like_start, like_row,
            like_weight,
        )  # fmt: skip


@unlocked
def item_best_of_many(  # type: ignore[no-untyped-def]
    best, values, repeats, row_of_trained, rows, token_start, tokens, prior, unseen, taken_start, taken, taken_weight,
    weight_start, weight_to, weight, popular, token_popular, trained_of, like_start, like_row, like_weight,
):  # fmt: skip
    """The best k offers of each customer by `item_scores` into `best` and `values` (n_customers, k), best first.

    What the customer took gets the lowest score if it may not be repeated. The scores of one customer at a time are
    held: a block of them would be written to memory, and read back.
    """
    n_trained, n = len(popular), len(trained_of)
    scores, of_catalogue = np.empty(n_trained, np.float32), np.empty(n, np.float32)
    same = n == n_trained and (trained_of == np.arange(n)).all()
    out = scores if same else of_catalogue
    for i in range(len(rows)):
        row = rows[i]
        _of_trained(
            scores, row, tokens[token_start[i] : token_start[i + 1]], prior, taken_start, taken, taken_weight,
            weight_start, weight_to, weight, popular, token_popular,
        )  # fmt: skip
        if not same:
            _of_catalogue(out, scores, unseen, trained_of, like_start, like_row, like_weight)
        if row < 0 or repeats:
            best_of_row(out, best[i], values[i])
            continue
        mine = slice(taken_start[row], taken_start[row + 1])
        if not _best_of_untaken(out, row_of_trained, taken[mine], best[i], values[i]):
            best_of_row(out, best[i], values[i])


@unlocked
def _best_of_untaken(scores, row_of, taken, rows, values):  # type: ignore[no-untyped-def]
    """Whether the best k of who had not taken these are those of all, once what was taken has the lowest score.

    If so, `rows` and `values` have them; if not, `scores` are such. The lowest need not be looked for where it is seen
    to be below the k-th best.
    """
    before = np.empty(len(taken), np.float32)
    for at in range(len(taken)):
        row = row_of[taken[at]]
        if row >= 0:
            before[at] = scores[row]
            scores[row] = -np.inf
    best_of_row(scores, rows, values)
    least = values[len(values) - 1]
    for score in scores:
        if -np.inf < score < least:
            return True
    lowest = np.float32(np.inf)
    for score in scores:
        if score > -np.inf:
            lowest = min(lowest, score)
    for at in range(len(taken)):
        if row_of[taken[at]] >= 0:
            lowest = min(lowest, before[at])
    for at in range(len(taken)):
        if row_of[taken[at]] >= 0:
            scores[row_of[taken[at]]] = lowest
    return False
