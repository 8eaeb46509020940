"""Checks that run with every training and refuse a model that knows what it cannot know, by the name of the feature.

Labels shuffled within their day must be as hard to tell as a coin; no column alone may nearly tell the label; features
must be the same when they are made again from nothing but what happened before their instant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from features.errors import Leakage
from features.events import US_PER_DAY
from training.encoder import Encoder
from training.evaluate import Interval, auc

TOO_GOOD = 0.95  # AUC of one column alone
STANDARD_ERRORS = 4.0  # from a half: one training in 16,000 is refused by chance
MOST_ROWS = 20_000  # of each part
N_BINS = 32  # of a column
SMOOTHED = 20.0  # rows that a bin's rate starts from
CLOSE = 1e-6  # relative, of two numbers that are the same


@dataclass(frozen=True, slots=True)
class Watched:
    """Encoded rows (n, n_columns), labels, instants, and what each row is about, the same in every part; (n,)."""

    rows: NDArray[np.float64]
    y: NDArray[np.bool_]
    us: NDArray[np.int64]
    ids: NDArray[np.int64]

    def thinned(self, at_most: int = MOST_ROWS) -> Watched:
        """At most so many rows, evenly spread."""
        n = len(self.y)
        at = np.arange(n) if n <= at_most else (np.arange(at_most) * n) // at_most
        return Watched(self.rows[at], self.y[at], self.us[at], self.ids[at])


@dataclass(frozen=True)
class Canaries:
    """What the checks found, when they refused nothing."""

    shuffled: Interval  # AUC within days on shuffled labels, with what chance allows around a half; NaN: not judged
    alone: pd.DataFrame  # column, auc: the strongest columns alone
    n_made_again: int = 0  # rows whose features were made again
    n_compared: int = 0  # features that were compared
    said: tuple[str, ...] = field(default=())  # what could not be checked, and why

    @property
    def metrics(self) -> dict[str, float]:
        strongest = float(self.alone["auc"].iloc[0]) if len(self.alone) else float("nan")
        found = {
            "canary_shuffled_auc": self.shuffled.estimate,
            "canary_shuffled_auc_low": self.shuffled.low,
            "canary_shuffled_auc_high": self.shuffled.high,
            "canary_strongest_column_auc": strongest,
            "canary_rows_made_again": float(self.n_made_again),
        }
        return {name: value for name, value in found.items() if np.isfinite(value)}


def check_canaries(model: str, encoder: Encoder, train: Watched, judge: Watched, seed: int) -> Canaries:
    """`Leakage` where shuffled labels can be told, or one column alone tells the label; seconds at any size."""
    train, judge = train.thinned(), judge.thinned()
    alone = alone_aucs(encoder, train)
    for column, value in zip(alone["column"], alone["auc"], strict=True):
        if value > TOO_GOOD:
            raise Leakage(
                model,
                f"{column} alone tells the label with an AUC of {value:.4f}, above {TOO_GOOD}: it is made of what is "
                f"to be predicted, or only known afterwards",
                column,
            )
    shuffled = shuffled_auc(encoder, train, judge, seed)
    far = STANDARD_ERRORS / 1.96
    if abs(shuffled.estimate - 0.5) > far * (shuffled.high - 0.5):
        raise Leakage(
            model,
            f"labels shuffled within their day were told with an AUC of {shuffled.estimate:.4f}, where chance gives "
            f"{shuffled.low:.4f} to {shuffled.high:.4f}: rows of the training part stand in the judged part too",
        )
    said = (
        () if np.isfinite(shuffled.estimate) else ("shuffled labels: no day has rows of both classes to be told apart",)
    )
    return Canaries(shuffled, alone.head(10), said=said)


def alone_aucs(encoder: Encoder, of: Watched) -> pd.DataFrame:
    """column, auc: how well each column tells the label by its bins' rates, the best first.

    Half of the rows gives the rates of quantiles, categories and what is missing, the other half is judged: no shape is
    assumed, and a column of names gains nothing.
    """
    half = of.ids % 2 == 0
    rows = []
    for at, column in enumerate(encoder.columns):
        values, p = of.rows[:, at], np.empty(len(of.y))
        for fitted, judged in ((half, ~half), (~half, half)):
            p[judged] = _rates(values[fitted], of.y[fitted], values[judged], category=column.values is not None)
        halves = [auc(of.y[m], p[m], np.ones(int(m.sum()))) for m in (half, ~half) if m.any()]
        known = [one for one in halves if np.isfinite(one)]
        rows.append({"column": column.name, "auc": float(np.mean(known)) if known else 0.5})
    found = pd.DataFrame(rows, columns=["column", "auc"])
    return found.sort_values("auc", ascending=False, kind="stable").reset_index(drop=True)


def _rates(
    values: NDArray[np.float64], y: NDArray[np.bool_], asked: NDArray[np.float64], *, category: bool
) -> NDArray[np.float64]:
    """The smoothed rate of the bin of each asked value."""
    known = values[~np.isnan(values)]
    if category:
        edges = np.unique(known)
    elif len(known):
        edges = np.unique(np.quantile(known, np.arange(1, N_BINS) / N_BINS, method="lower"))
    else:
        edges = np.zeros(0)
    missing = 2 * len(edges) + 1
    # Each edge is a bin of its own, as are the values between two: a number that many rows share is told apart.
    bins = [
        np.where(np.isnan(v), missing, np.searchsorted(edges, v, "left") + np.searchsorted(edges, v, "right"))
        for v in (values, asked)
    ]
    n, hits = (np.bincount(bins[0], weights=w, minlength=missing + 1) for w in (np.ones(len(y)), y))
    overall = float(y.mean()) if len(y) else 0.5
    rates: NDArray[np.float64] = (hits + SMOOTHED * overall) / (n + SMOOTHED)
    return rates[bins[1]]


def shuffled_auc(encoder: Encoder, train: Watched, judge: Watched, seed: int) -> Interval:
    """AUC within days of a small forest on labels shuffled within days, and the 95 % that chance allows around .5.

    What a row is about keeps one shuffled label in all parts, so that a row in both is recognised. Pairs of different
    days are not compared: the rate of a day survives the shuffling. NaN where no day has both classes.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(seed)
    n = len(train.y)
    y = _shuffled(np.concatenate([train.ids, judge.ids]), np.concatenate([train.us, judge.us]),
                  np.concatenate([train.y, judge.y]), rng)  # fmt: skip
    of_train, of_judge = y[:n], y[n:]
    if of_train.all() or not of_train.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    forest = HistGradientBoostingClassifier(
        max_iter=20, max_leaf_nodes=15, min_samples_leaf=5, early_stopping=False,
        categorical_features=encoder.categorical or None, random_state=seed,
    )  # fmt: skip
    with threadpool_limits(1, user_api="openmp"):
        forest.fit(train.rows, of_train)
        score = forest.decision_function(judge.rows)
    return _within_days(of_judge, score, judge.us // US_PER_DAY)


def _shuffled(
    ids: NDArray[np.int64], us: NDArray[np.int64], y: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_]:
    _, first, of = np.unique(ids, return_index=True, return_inverse=True)
    label, day = y[first], us[first] // US_PER_DAY
    dealt = np.lexsort((rng.random(len(day)), day))
    new = np.empty_like(label)
    new[np.argsort(day, kind="stable")] = label[dealt]
    return new[of]


def _within_days(y: NDArray[np.bool_], score: NDArray[np.float64], day: NDArray[np.int64]) -> Interval:
    """Mann and Whitney's U, added up over days, over the number of pairs; the interval is that of no knowledge."""
    from scipy.stats import rankdata

    above = pairs = variance = 0.0
    for one in np.unique(day):
        inside = day == one
        positive, total = float(y[inside].sum()), float(inside.sum())
        both = positive * (total - positive)
        if both:
            above += float(rankdata(score[inside])[y[inside]].sum()) - positive * (positive + 1) / 2
            pairs += both
            variance += both * (total + 1) / 12
    if not pairs:
        return Interval(float("nan"), float("nan"), float("nan"))
    wide = 1.96 * float(np.sqrt(variance)) / pairs
    return Interval(above / pairs, 0.5 - wide, 0.5 + wide)


def refuse_future(model: str, given: Mapping[str, Sequence[object]], made_again: Mapping[str, Sequence[object]]) -> int:
    """How many features were compared: those of `given` with those made again of the same rows, without the future.

    `Leakage` names the first that differs, and in how many rows: it holds what was not known at the row's instant.
    Features that cannot be made again are named too: nobody knows when they were known.
    """
    for name, values in given.items():
        if name not in made_again:
            raise Leakage(model, f"{name} is not among the features that can be made again as of an instant", name)
        differs = [not _same(a, b) for a, b in zip(values, made_again[name], strict=True)]
        if any(differs):
            at = differs.index(True)
            raise Leakage(
                model,
                f"{name} differs in {sum(differs)} of {len(differs)} rows from what it is when made from nothing but "
                f"what happened before the row's instant (first: {values[at]!r}, as of then {made_again[name][at]!r})",
                name,
            )
    return len(given)


def _same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, int | float | np.number) and isinstance(other, int | float | np.number):
        a, b = float(one), float(other)
        return a == b or (a != a and b != b) or abs(a - b) <= CLOSE * max(abs(a), abs(b), 1.0)
    return one == other or (_missing(one) and _missing(other))


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def row_ids(*columns: Sequence[object] | NDArray[np.generic]) -> NDArray[np.int64]:
    """Rows with the same values in all columns have the same number, (n,)."""
    frame = pd.DataFrame({str(at): np.asarray(values, dtype=object) for at, values in enumerate(columns)})
    found: NDArray[np.int64] = frame.groupby(list(frame.columns), sort=False, dropna=False).ngroup().to_numpy(np.int64)
    return found
