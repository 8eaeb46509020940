"""How well a recommender ranks the whole catalogue for the customers of a later time: one protocol for every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput
from training.evaluate import Interval
from training.evaluation.accuracy import ACCURACY, accuracy
from training.evaluation.intervals import N_DRAWS, mean_interval, mean_intervals
from training.evaluation.judged import Judged, judged_by, only
from training.evaluation.lists import catalogue_of, coverage, list_metrics
from training.evaluation.segments import customer_segments
from training.evaluation.top import ranked_lists
from training.interactions import Interactions
from training.scorers import FittedRecommender

CUTOFFS = (1, 3, 5, 10, 20, 50)
LIST_AT = 10  # the length of list whose novelty, diversity and coverage are measured

Values = NDArray[np.float64]


@dataclass(frozen=True)
class RankingReport:
    """Every figure per judged customer, so that means, segments, intervals and differences come from the same rows."""

    cutoffs: tuple[int, ...]
    exclude_seen: bool  # whether what a customer took before was neither ranked nor relevant
    customers: tuple[str, ...]  # (n,) judged, in the order of the rows below
    values: Mapping[str, Values]  # metric -> (n, n_cutoffs)
    on_offers: Mapping[str, Mapping[str, Values]]  # "new", "old" -> metric -> (n, n_cutoffs), NaN: took none of these
    of_list: Mapping[str, Values]  # novelty, diversity, … -> (n,), of the first LIST_AT; empty if not asked for
    lists: NDArray[np.int32]  # (n, LIST_AT) offer rows, -1 where a list ends
    segments: Mapping[str, NDArray[np.bool_]]  # "new", "light", "heavy" -> (n,)
    n_offers: int
    n_left_out: int  # customers of the future with nothing that may be ranked

    def __len__(self) -> int:
        return len(self.customers)

    def at(self, metric: str, k: int) -> Values:
        """(n,) one value per customer."""
        return self.values[metric][:, self.cutoffs.index(k)]

    def mean(self, metric: str, k: int) -> float:
        """NaN if nobody was judged."""
        return float(self.at(metric, k).mean()) if len(self) else float("nan")

    def interval(self, metric: str, k: int, seed: int = 0, n_draws: int = N_DRAWS) -> Interval:
        return mean_interval(self.at(metric, k), np.random.default_rng(seed), n_draws)

    def coverage(self) -> tuple[float, float]:
        """Share of the catalogue in somebody's first LIST_AT, and the Gini coefficient of how often."""
        return coverage(self.lists, self.n_offers)

    def metrics(self) -> dict[str, float]:
        """All means by name, as `ndcg_at_10`; empty if nobody was judged."""
        if not len(self):
            return {}
        found = {
            f"{name}_at_{k}": float(values[:, at].mean())
            for at, k in enumerate(self.cutoffs)
            for name, values in self.values.items()
        }
        found |= {f"{name}_at_{LIST_AT}": _mean(values) for name, values in self.of_list.items()}
        if self.of_list:
            found[f"coverage_at_{LIST_AT}"], found[f"gini_at_{LIST_AT}"] = self.coverage()
        return {name: value for name, value in found.items() if np.isfinite(value)}


def evaluate_ranking(
    scorer: FittedRecommender,
    past: Interactions,
    future: Interactions,
    *,
    exclude_seen: bool,
    cutoffs: Sequence[int] = CUTOFFS,
    at_most: int | None = None,
) -> RankingReport:
    """Rank all offers for every customer of `future`, through the very scorer that serves.

    `at_most` customers are judged, evenly spread over the customer axis. `BadInput` where the past and the future are
    not of one log.
    """
    return evaluate(scorer, judged_by(past, future, exclude_seen=exclude_seen).at_most(at_most), cutoffs)


def evaluate(
    scorer: FittedRecommender, judged: Judged, cutoffs: Sequence[int] = CUTOFFS, *, describe: bool = True
) -> RankingReport:
    """As `evaluate_ranking`, for customers who were picked before; without `describe` accuracy alone."""
    past = judged.past
    ks = np.array(check_cutoffs(cutoffs), np.int64)
    lists = ranked_lists(scorer, judged, max(int(ks.max()), LIST_AT))
    n_offers = len(past.offers)
    start, relevant = judged.relevant
    found = accuracy(lists, start, relevant, ks, n_offers)
    on_offers = {}
    if describe:
        for name, kind in (("new", judged.new_offer), ("old", ~judged.new_offer)):
            of_kind = accuracy(lists, *only(judged.relevant, kind[relevant]), ks, n_offers)
            on_offers[name] = dict(zip(ACCURACY, of_kind, strict=True))
    return RankingReport(
        cutoffs=tuple(int(k) for k in ks),
        exclude_seen=judged.exclude_seen,
        customers=tuple(past.customers[row] for row in judged.rows.tolist()),
        values=dict(zip(ACCURACY, found, strict=True)),
        on_offers=on_offers,
        of_list=list_metrics(lists[:, :LIST_AT], catalogue_of(past)) if describe else {},
        lists=lists[:, :LIST_AT].copy(),
        segments=customer_segments(judged.n_taken),
        n_offers=n_offers,
        n_left_out=judged.n_left_out,
    )


def check_cutoffs(cutoffs: Sequence[int]) -> tuple[int, ...]:
    if not cutoffs or any(k < 1 for k in cutoffs) or sorted(set(cutoffs)) != list(cutoffs):
        raise BadInput(f"{list(cutoffs)} is no list of cut-offs, expected rising numbers from 1 up", "cutoffs")
    return tuple(cutoffs)


def difference(one: RankingReport, other: RankingReport, metric: str, k: int, seed: int = 0) -> Interval:
    """The mean of one minus the other, customer by customer; `BadInput` unless both judged the same ones."""
    if one.customers != other.customers or one.exclude_seen != other.exclude_seen:
        raise BadInput("a paired difference needs the same customers and the same offers ranked on both sides", "other")
    return mean_interval(one.at(metric, k) - other.at(metric, k), np.random.default_rng(seed))


def pooled(reports: Sequence[RankingReport]) -> RankingReport:
    """Several windows as one: each customer once, with the mean of the windows in which they were judged."""
    first = reports[0]
    if len(reports) == 1:
        return first
    names = sorted({name for report in reports for name in report.customers})
    row_of = {name: row for row, name in enumerate(names)}
    rows = np.concatenate([[row_of[name] for name in report.customers] for report in reports]).astype(np.int64)
    newest = np.full(len(names), -1)  # of a customer's windows the first one given speaks for segments and lists
    newest[rows[::-1]] = np.arange(len(rows))[::-1]

    def meant(columns: Sequence[Values]) -> Values:
        stacked = np.concatenate(columns)
        there = np.isfinite(stacked)
        total = np.zeros((len(names), *stacked.shape[1:]))
        count = np.zeros_like(total)
        np.add.at(total, rows, np.where(there, stacked, 0.0))
        np.add.at(count, rows, there)
        np.divide(total, count, out=total, where=count > 0)
        total[count == 0] = np.nan
        return total

    return replace(
        first,
        customers=tuple(names),
        values={m: meant([report.values[m] for report in reports]) for m in first.values},
        on_offers={
            kind: {m: meant([report.on_offers[kind][m] for report in reports]) for m in of_kind}
            for kind, of_kind in first.on_offers.items()
        },
        of_list={m: meant([report.of_list[m] for report in reports]) for m in first.of_list},
        lists=np.concatenate([report.lists for report in reports])[newest],
        segments={s: np.concatenate([report.segments[s] for report in reports])[newest] for s in first.segments},
        n_left_out=sum(report.n_left_out for report in reports),
    )


def intervals(report: RankingReport, metrics: Sequence[tuple[str, int]], seed: int = 0) -> dict[str, Interval]:
    """Each (metric, k) with its interval, from the same draws of customers."""
    columns = np.stack([report.at(metric, k) for metric, k in metrics], axis=1)
    found = mean_intervals(columns, np.random.default_rng(seed))
    return {f"{metric}_at_{k}": found[at] for at, (metric, k) in enumerate(metrics)}


def _mean(values: Values) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")
