"""Several recommenders on the same customers, as tables: figures, differences, what lists are like, segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from training.evaluate import Interval
from training.evaluation.document import json_interval, shown, table
from training.evaluation.intervals import mean_interval
from training.evaluation.judged import NEW_OFFER_DAYS
from training.evaluation.lists import HEAD
from training.evaluation.ranking import LIST_AT, RankingReport, difference, intervals
from training.evaluation.segments import EVERYBODY, segment_table

FIGURES = (("ndcg", 10), ("recall", 10), ("precision", 10), ("map", 10), ("mrr", 10), ("ndcg", 50), ("recall", 50))
TITLES = {"ndcg": "NDCG", "recall": "Recall", "precision": "Precision", "map": "MAP", "mrr": "MRR"}
LIST_TITLES = {
    "novelty": "novelty, bits",
    "diversity": "diversity, 1 − cosine of takers",
    "category_diversity": "pairs of different category",
    "popularity": "mean share of customers who took the offer",
    "head_share": f"of the most taken {HEAD:.0%} of offers",
}


def comparison(reports: Mapping[str, RankingReport], first: str, seed: int = 0) -> tuple[str, dict[str, Any]]:
    """Markdown and JSON of reports on the same customers; differences are of `first` over each other one."""
    report = reports[first]
    others = [name for name in reports if name != first]
    found = {name: intervals(of, FIGURES, seed) for name, of in reports.items()}
    gains = {
        other: {f"{m}_at_{k}": difference(report, reports[other], m, k, seed) for m, k in FIGURES} for other in others
    }
    head = ["", *(f"**{name}**" if name == first else name for name in reports), *(f"{first} − {o}" for o in others)]
    rows = [
        [
            f"{TITLES[metric]}@{k}",
            *(shown(found[name][f"{metric}_at_{k}"]) for name in reports),
            *(shown(gains[other][f"{metric}_at_{k}"], signed=True) for other in others),
        ]
        for metric, k in FIGURES
    ]
    lists, list_data = _lists(reports, seed)
    segments = segment_table(report, reports[others[0]] if others else None, seed)
    parts = [
        f"{protocol(report)}\n",
        table(head, rows),
        f"What the first {LIST_AT} offers are like:\n",
        lists,
        f"By segment, {first}{f' beside {others[0]}' if others else ''}:\n",
        _segments(segments.to_dict("records"), others[0] if others else None),
        f"New customers took nothing before, light ones up to the median number of different offers, heavy ones more. "
        f"New offers were first taken in the {NEW_OFFER_DAYS} days before the cut-off, or not yet; the whole catalogue "
        "is ranked either way. A customer who took nothing of a kind is left out of that line."
        f"{_of_everybody(segments.to_dict('records'))}\n",
    ]
    data = {
        "exclude_seen": report.exclude_seen,
        "n_customers": len(report),
        "n_left_out": report.n_left_out,
        "n_offers": report.n_offers,
        "metrics": {name: {m: json_interval(i) for m, i in of.items()} for name, of in found.items()},
        "differences": {name: {m: json_interval(i) for m, i in of.items()} for name, of in gains.items()},
        "lists": list_data,
        "segments": segments.to_dict("records"),
    }
    return "\n".join(parts), data


def protocol(report: RankingReport) -> str:
    seen = (
        "Offers that a customer took before are **excluded**: neither ranked nor relevant."
        if report.exclude_seen
        else "Offers that a customer took before are **not excluded**: repeats are ranked, and count."
    )
    return (
        f"{len(report):,} customers, the full catalogue of {report.n_offers:,} offers, binary relevance, means over "
        f"customers with 95 % bootstrap intervals over customers; differences are paired by customer. {seen} "
        f"{report.n_left_out:,} customers took nothing that may be ranked, and are not judged."
    )


def _lists(reports: Mapping[str, RankingReport], seed: int) -> tuple[str, dict[str, Any]]:
    rows: list[list[str]] = []
    data: dict[str, Any] = {name: {} for name in reports}
    covered = {name: of.coverage() for name, of in reports.items()}
    for at, title in enumerate(("coverage of the catalogue", "Gini of how often each is listed")):
        rows.append([title, *(shown(_bare(covered[name][at])) for name in reports)])
    for name, (share, gini) in covered.items():
        data[name] |= {"coverage": _or_none(share), "gini": _or_none(gini)}
    for metric, title in LIST_TITLES.items():
        found = {
            name: mean_interval(of.of_list[metric], np.random.default_rng(seed), 200) for name, of in reports.items()
        }
        rows.append([title, *(shown(found[name]) for name in reports)])
        for name, interval in found.items():
            data[name][metric] = json_interval(interval)
    return table(["", *reports], rows), data


def _bare(value: float) -> Interval:
    return Interval(value, float("nan"), float("nan"))


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _of_everybody(rows: list[dict[str, Any]]) -> str:
    """A sentence for each segment that tells nobody apart."""
    names = [f"{row['value']} {row['slice']}" for row in rows if EVERYBODY in row["definition"]]
    return "".join(f" Here the line of {name} holds everybody who was judged." for name in names)


def _segments(rows: list[dict[str, Any]], other: str | None) -> str:
    head = ["", "customers", "NDCG@10", "Recall@10", *([f"{other} NDCG@10", "difference"] if other else [])]

    def interval(row: dict[str, Any], name: str) -> Interval:
        return Interval(row[name], row[f"{name}_low"], row[f"{name}_high"])

    return table(
        head,
        [
            [
                f"{row['value']} {row['slice']}", f"{row['n_customers']:,}",
                shown(interval(row, "ndcg_at_10")), shown(interval(row, "recall_at_10")),
                *(
                    [f"{row['baseline_ndcg_at_10']:.4f}", shown(interval(row, "ndcg_at_10_gain"), signed=True)]
                    if other
                    else []
                ),
            ]
            for row in rows
        ],
    )  # fmt: skip
