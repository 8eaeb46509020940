"""Pictures of two releases side by side: ranking by cut-off, reliability, and slices."""

from __future__ import annotations

import re
from typing import Any

from experiments.report import plots
from experiments.report.document import Picture, Section
from training.comparison import Comparison, SliceOfBoth
from training.gates import ModelRun, Standing

CLASSIFIERS = ("acceptance", "churn")
COMPARED = ("ndcg_at_10", "auc", "brier")
MOST_SLICES = 14  # of one picture: more cannot be read
AT_K = re.compile(r"ndcg_at_(\d+)")


def pictures(found: Comparison, first: Standing, second: Standing) -> list[Section]:
    """What can be drawn, as one section; none if nothing can."""
    drawn = [_differences(found), _ranking(first, second), *(_reliability(name, first, second) for name in CLASSIFIERS)]
    drawn += [_slices(model, found, first, second) for model in ("recommender", *CLASSIFIERS)]
    shown = tuple(one for one in drawn if one is not None)
    return [Section(title="Pictures", blocks=shown)] if shown else []


def _differences(found: Comparison) -> Picture | None:
    """Of the figures that models are compared by, where an interval is known."""
    shown = [m for m in found.metrics if m.name in COMPARED and m.difference.low is not None]
    if not shown:
        return None
    made, (axes,) = plots.figure(1.2 + 0.36 * len(shown))
    plots.title(axes, f"Release {found.second.release} minus release {found.first.release}")
    axes.axvline(0.0, color=plots.colour("quiet"), lw=1, ls=":")
    said = []
    for y, m in enumerate(shown):
        value, low, high = (float(one or 0.0) for one in (m.difference.value, m.difference.low, m.difference.high))
        axes.plot([low, high], [y, y], color=plots.series(0), lw=2)
        axes.plot([value], [y], plots.marker(0), color=plots.series(0))
        said.append(f"{m.model}: {m.name} {value:+.4f} ({low:+.4f} … {high:+.4f})")
    labels = [f"{m.model}: {m.name}{', less is better' if m.lower_is_better else ''}" for m in shown]
    axes.set_yticks(range(len(shown)), [plots.fill_lines(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlabel("difference, with 95 % interval")
    return Picture(
        name="differences",
        svg=plots.svg(made, "differences"),
        alt="; ".join(said),
        caption="An interval on one side of the dotted line is a difference beyond chance.",
    )


def _ranking(first: Standing, second: Standing) -> Picture | None:
    curves = [_by_cutoff(one.models.get("recommender")) for one in (first, second)]
    if not any(curves):
        return None
    made, (axes,) = plots.figure(3.2)
    plots.title(axes, "Ranking by cut-off")
    for at, (one, curve) in enumerate(zip((first, second), curves, strict=True)):
        _line(axes, at, list(curve), list(curve.values()), f"release {one.release}")
    ks = sorted(set(curves[0]) | set(curves[1]))
    axes.set_xscale("log")
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.set_xlabel("cut-off k")
    axes.set_ylabel("NDCG@k")
    plots.legend(axes)
    both = zip((first, second), curves, strict=True)
    said = (f"release {one.release}: NDCG@10 {curve[10]:.4f}" for one, curve in both if 10 in curve)
    return Picture(name="ranking", svg=plots.svg(made, "ranking"), alt="; ".join(said) or "NDCG by cut-off")


def _by_cutoff(run: ModelRun | None) -> dict[int, float]:
    metrics = run.metrics if run is not None else {}
    found = {int(match[1]): value for name, value in metrics.items() if (match := AT_K.fullmatch(name))}
    return dict(sorted(found.items()))


def _reliability(model: str, first: Standing, second: Standing) -> Picture | None:
    tables = [one.models[model].tables.get("reliability", []) if model in one.models else [] for one in (first, second)]
    if not any(tables):
        return None
    made, (axes,) = plots.figure(3.6)
    plots.title(axes, f"Reliability of {model}")
    top = max(max(row["mean_p"], row["rate"]) for table in tables for row in table) * 1.05
    axes.plot([0, top], [0, top], color=plots.colour("quiet"), lw=1, ls=":")
    for at, (one, table) in enumerate(zip((first, second), tables, strict=True)):
        _line(axes, at, [row["mean_p"] for row in table], [row["rate"] for row in table], f"release {one.release}")
    axes.set_xlabel("mean probability")
    axes.set_ylabel("rate")
    plots.legend(axes)
    both = zip((first, second), tables, strict=True)
    gaps = (f"release {one.release}: mean gap {_gap(table):.4f}" for one, table in both if table)
    return Picture(
        name=f"reliability-{model}",
        svg=plots.svg(made, f"reliability-{model}"),
        alt="; ".join(gaps),
        caption="Dotted: probabilities are what happens.",
    )


def _gap(table: list[dict[str, Any]]) -> float:
    n = sum(row["n_rows"] for row in table)
    return float(sum(abs(row["mean_p"] - row["rate"]) * row["n_rows"] for row in table) / max(n, 1))


def _slices(model: str, found: Comparison, first: Standing, second: Standing) -> Picture | None:
    of = [one for one in found.slices if one.model == model]
    shown = sorted(of, key=lambda one: -min(one.n_first, one.n_second))[:MOST_SLICES]
    if not shown:
        return None
    metric = shown[0].metric
    shown = [one for one in shown if one.metric == metric]
    made, (axes,) = plots.figure(1.2 + 0.32 * len(shown))
    plots.title(axes, f"Slices of {model}: {metric}")
    for y, one in enumerate(shown):
        axes.plot([one.first, one.second], [y, y], color=plots.colour("line"), lw=3, zorder=1)
    for at, (release, values) in enumerate(
        ((first.release, [one.first for one in shown]), (second.release, [one.second for one in shown]))
    ):
        axes.plot(values, range(len(shown)), plots.marker(at), color=plots.series(at), label=f"release {release}")
    axes.set_yticks(range(len(shown)), [plots.fill_lines(f"{one.slice} {one.value}") for one in shown])
    axes.invert_yaxis()
    axes.set_xlabel(metric)
    plots.legend(axes)
    alt = _largest(shown)
    caption = f"The largest {len(shown)} of {len(of)}." if len(shown) < len(of) else ""
    return Picture(name=f"slices-{model}", svg=plots.svg(made, f"slices-{model}"), alt=alt, caption=caption)


def _largest(shown: list[SliceOfBoth]) -> str:
    one = max(shown, key=lambda s: abs(s.second - s.first))
    return f"The largest difference is that of {one.slice} {one.value}: {one.first:.4f} and {one.second:.4f}"


def _line(axes: Any, at: int, x: list[float] | list[int], y: list[float], label: str) -> None:
    axes.plot(x, y, marker=plots.marker(at), ms=5, lw=1.6, color=plots.series(at), label=label)
