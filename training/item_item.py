"""Sums of item–item weights over what a customer took, compiled."""

from __future__ import annotations

import numpy as np

from training.compiled import compiled, unlocked


@compiled
def item_scores(  # type: ignore[no-untyped-def]
    out, row, tokens, prior, unseen, taken_start, taken, taken_weight, weight_start, weight_to, weight, popular,
    token_popular, trained_of, like_start, like_row, like_weight,
):  # fmt: skip
    """Scores of a catalogue's offers (n,) for one customer into `out`; `row` is the customer's, -1 if unknown."""
    n_trained = len(popular)
    scores = np.zeros(n_trained, np.float32)
    by = np.float32(prior if row >= 0 else 1.0)
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
    _of_catalogue(out, scores, unseen, trained_of, like_start, like_row, like_weight)


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
