"""Maps from a model's log-odds to probabilities, kept only where they make the probabilities better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.evaluate import log_loss
from training.scorers import Calibration
from training.scorers.classifier import POINTS, logistic

MIN_GAIN = 1e-3  # share of the log loss that a map must save on rows it was not fitted on
MIN_GAIN_AHEAD = 1e-2  # and on the next block of time: there are few blocks, and a step back and forth is no drift
SURE = 3.0  # standard errors that blocks must lie off, all to the same side, before log-odds are moved for it
STILL = 2.0  # and the newest of them by itself: what fades from block to block is not expected to be there in the next
MIN_ROWS = 200
KINDS = ("none", "sigmoid", "beta", "isotonic")
N_FOLDS = 5  # of customers
N_KNOTS = 201  # of a beta map, which is kept as points
STEPS = 20  # of Newton's, each at most 1
NEARLY = 1e-4  # no point of a map is nearer to 0 or 1

Numbers = NDArray[np.float64]


def fit_calibration(kind: str, raw: Numbers, y: NDArray[np.bool_], w: Numbers | None = None) -> Calibration:
    """`raw` are log-odds, (n,), `w` how much each row counts; None: all the same."""
    fit = {"sigmoid": _sigmoid, "beta": _beta, "isotonic": _isotonic}.get(kind)
    return Calibration() if fit is None else fit(raw, y, np.ones(len(y)) if w is None else w)


def _sigmoid(raw: Numbers, y: NDArray[np.bool_], w: Numbers) -> Calibration:
    """Platt's two parameters by maximum likelihood, falling back to the identity where the slope turns negative."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(raw[:, None], y, sample_weight=w)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return Calibration("sigmoid", slope, intercept) if slope > 0 else Calibration()


def _beta(raw: Numbers, y: NDArray[np.bool_], w: Numbers) -> Calibration:
    """Log-odds of a log p - b log(1 - p) + c: each end of the scale is stretched by its own amount.

    As a sigmoid where one of a and b turns negative. Source: Kull, Silva Filho and Flach, Beta calibration
    (AISTATS 2017), https://proceedings.mlr.press/v54/kull17a.html
    """
    from sklearn.linear_model import LogisticRegression

    def sides(z: Numbers) -> Numbers:
        return np.column_stack([-np.logaddexp(0.0, -z), np.logaddexp(0.0, z)])  # log p, -log(1 - p)

    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(sides(raw), y, sample_weight=w)
    if (fitted.coef_ < 0.0).any():
        return _sigmoid(raw, y, w)
    x = np.linspace(float(raw.min()) - 1.0, float(raw.max()) + 1.0, N_KNOTS)
    z = sides(x) @ fitted.coef_[0] + fitted.intercept_[0]
    return Calibration("beta", x=x, y=np.clip(0.5 * (1.0 + np.tanh(0.5 * z)), NEARLY, 1.0 - NEARLY))


def _isotonic(raw: Numbers, y: NDArray[np.bool_], w: Numbers) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, y, sample_weight=w)
    x, p = fitted.X_thresholds_.astype(np.float64), fitted.y_thresholds_.astype(np.float64)
    # The ends come from few rows: half an observation keeps them away from 0 and 1.
    return Calibration("isotonic", x=x, y=np.clip(p, 0.5 / len(y), 1.0 - 0.5 / len(y)))


def choose_calibration(
    raw: Numbers, y: NDArray[np.bool_], clusters: NDArray[np.int64], w: Numbers | None = None
) -> tuple[Calibration, dict[str, float]]:
    """The map that saves most log loss, and each map's log loss on rows it was not fitted on.

    `clusters` are customers, 0 … n - 1: each fifth of them is judged by maps fitted on the others; the winner is then
    fitted on all rows. No map, if none saves `MIN_GAIN` of the log loss, or there are too few rows.
    """
    weight = np.ones(len(y)) if w is None else w
    fold = clusters % N_FOLDS
    losses = {}
    for kind in KINDS:
        if kind != "none" and (len(y) < MIN_ROWS or any(len(np.unique(y[fold != f])) < 2 for f in np.unique(fold))):
            continue
        p = np.empty(len(y))
        for one in np.unique(fold):
            p[fold == one] = fit_calibration(kind, raw[fold != one], y[fold != one], weight[fold != one])(
                raw[fold == one]
            )
        losses[kind] = log_loss(y, p, weight)
    best = min(losses, key=lambda kind: losses[kind])
    if losses["none"] - losses[best] < MIN_GAIN * losses["none"]:
        best = "none"
    return fit_calibration(best, raw, y, weight), losses


@dataclass(frozen=True, slots=True)
class Ahead:
    """Log-odds of a block of time by a model that was fitted on what came before it; shapes (n,)."""

    raw: Numbers
    y: NDArray[np.bool_]
    w: Numbers | None = None
    customers: NDArray[np.int64] | None = None  # 0 … n - 1, whose rows go together; None: all are somebody else's


def calibration_ahead(blocks: Sequence[Ahead]) -> tuple[Calibration | None, dict[str, float]]:
    """The map that helps when time goes on, and each map's log loss on the block after the one it was fitted on.

    In validation on other customers of the same time a model that drifts looks calibrated; a block ahead it does not.
    None, if no map saves `MIN_GAIN_AHEAD` of the log loss, or there are not two blocks of `MIN_ROWS` rows and both
    classes.
    """
    if len(blocks) < 2 or not _usable(blocks):
        return None, {}
    losses = dict.fromkeys(KINDS, 0.0)
    n = sum(len(block.y) for block in blocks[1:])
    for before, after in pairwise(blocks):
        w = np.ones(len(after.y)) if after.w is None else after.w
        for kind in KINDS:
            p = fit_calibration(kind, before.raw, before.y, before.w)(after.raw)
            losses[kind] += log_loss(after.y, p, w) * len(after.y) / n
    best = min(losses, key=lambda kind: losses[kind])
    if losses["none"] - losses[best] < MIN_GAIN_AHEAD * losses["none"]:
        return None, losses
    last = blocks[-1]
    return fit_calibration(best, last.raw, last.y, last.w), losses


def level_ahead(blocks: Sequence[Ahead]) -> float:
    """What to add to log-odds, because later blocks came out lower, or higher, than what was predicted before them.

    The mean over the blocks of what would have made each right on average; 0, unless there are two at least, all are to
    the same side, it is `SURE` standard errors, and the newest block's is `STILL` of its own. A map of the same time
    cannot see this, and a map of one block needs more evidence, as it has more to learn: `calibration_ahead`.
    """
    if len(blocks) < 2 or not _usable(blocks):
        return 0.0
    levels, errors = zip(*(_level(block) for block in blocks), strict=True)
    mean, error = float(np.mean(levels)), float(np.sqrt(np.sum(np.square(errors))) / len(errors))
    sure = len({level > 0.0 for level in levels}) == 1 and abs(mean) >= SURE * error
    still = abs(levels[-1]) >= STILL * errors[-1]
    return mean if sure and still else 0.0


def _level(block: Ahead) -> tuple[float, float]:
    """What makes the mean probability of a block its rate, with its standard error over customers (a sandwich)."""
    w = np.ones(len(block.y)) if block.w is None else block.w
    level = 0.0
    for _ in range(STEPS):
        p = logistic(block.raw + level)
        level += float(np.clip((w * (block.y - p)).sum() / (w * p * (1.0 - p)).sum(), -1.0, 1.0))
    p = logistic(block.raw + level)
    left = w * (block.y - p)
    summed = left if block.customers is None else np.bincount(block.customers, weights=left)
    return level, float(np.sqrt((summed**2).sum()) / (w * p * (1.0 - p)).sum())


def moved(calibration: Calibration, by: float) -> Calibration:
    """The same map with its probabilities' log-odds moved."""
    if by == 0.0:
        return calibration
    if calibration.kind in POINTS:
        y = np.clip(calibration.y, NEARLY, 1.0 - NEARLY)
        return replace(calibration, y=logistic(np.log(y) - np.log1p(-y) + by))
    return replace(calibration, kind="sigmoid", intercept=calibration.intercept + by)


def _usable(blocks: Sequence[Ahead]) -> bool:
    return all(len(block.y) >= MIN_ROWS and len(np.unique(block.y)) == 2 for block in blocks)
