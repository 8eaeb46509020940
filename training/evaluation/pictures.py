"""Pictures of how recommenders rank: by cut-off, by segment, by candidate, by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from training.evaluate import Interval
from training.evaluation.ranking import RankingReport
from training.plots import new_figure


def by_cutoff(reports: Mapping[str, RankingReport], metric: str) -> Any:
    """One line per recommender, with the band of its 95 % intervals."""
    first = next(iter(reports.values()))
    title = {"ndcg": "NDCG", "recall": "Recall"}.get(metric, metric)
    figure, axes = new_figure(f"{title}@k", "k", title)
    for name, report in reports.items():
        found = [report.interval(metric, k) for k in report.cutoffs]
        (line,) = axes.plot(report.cutoffs, [one.estimate for one in found], marker="o", label=name)
        axes.fill_between(
            report.cutoffs, [one.low for one in found], [one.high for one in found], color=line.get_color(), alpha=0.15
        )
    axes.set_xscale("log")
    axes.set_xticks(first.cutoffs, [str(k) for k in first.cutoffs])
    axes.legend()
    return figure


def by_candidate(intervals: Mapping[str, Interval], title: str, x: str) -> Any:
    """One row per name, best on top."""
    figure, axes = new_figure(title, x, "")
    ordered = sorted(intervals.items(), key=lambda item: item[1].estimate)
    for at, (_, interval) in enumerate(ordered):
        error = [[interval.estimate - interval.low], [interval.high - interval.estimate]]
        axes.errorbar([interval.estimate], [at], xerr=error, marker="o", capsize=3, color="C0")
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    return figure


def by_segment(table: pd.DataFrame, figure_name: str = "ndcg_at_10", other: str = "baseline") -> Any:
    """The figure of each segment with its interval, and the baseline's as a mark; the whole on top."""
    title = figure_name.replace("ndcg_at_", "NDCG@").replace("recall_at_", "Recall@")
    figure, axes = new_figure(f"{title} by segment", title, "")
    rows = table.to_dict("records")[::-1]
    for at, row in enumerate(rows):
        estimate = row[figure_name]
        error = [[estimate - row[f"{figure_name}_low"]], [row[f"{figure_name}_high"] - estimate]]
        label = "95 % interval" if at == 0 else None
        axes.errorbar([estimate], [at], xerr=error, marker="o", capsize=3, color="C0", label=label)
        if f"baseline_{figure_name}" in row:
            mark = {"marker": "|", "markersize": 14, "color": "C1", "linestyle": ""}
            axes.plot([row[f"baseline_{figure_name}"]], [at], label=other if at == 0 else None, **mark)
    axes.set_yticks(range(len(rows)), [f"{row['value']} {row['slice']} ({row['n_customers']:,})" for row in rows])
    axes.legend()
    return figure


def by_epoch(curve: Sequence[float], name: str) -> Any:
    figure, axes = new_figure(f"{name}: validation NDCG@10 by epoch", "epoch", "NDCG@10")
    axes.plot(range(1, len(curve) + 1), curve, marker=".")
    return figure
