"""What units did on each day since their exposure: whether an effect is new, lasts, or wears off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from experiments.cells import Cell
from experiments.metrics import Metric, event_types, filled
from experiments.per_unit import NOW
from experiments.tables import Tables
from features.events import US_PER_DAY

MOST_DAYS = 60


def daily_cells(tables: Tables, metrics: Sequence[Metric]) -> list[Cell]:
    """By phase, day and variant, of metrics with a value by day; the tables `units` and `happened` must be there."""
    if not metrics:
        return []
    db, settings = tables.db, tables.settings
    exprs = ", ".join(
        f"coalesce(CAST({filled(text, settings, NOW)} AS DOUBLE), 0) AS {metric.name}_{number}"
        for metric in metrics
        for number, text in (("num", metric.numerator), ("den", metric.denominator))
        if text is not None
    )
    sums = ", ".join(f"{sql} AS {name}" for metric in metrics for name, sql in _day_sums(metric))
    full = f"CAST(floor(observed_us / {US_PER_DAY}) AS INTEGER)"
    types = ", ".join(f"'{name}'" for name in event_types(metrics, settings))
    rows = db.execute(
        f"SELECT u.phase, u.variant, h.day, {sums} FROM (SELECT uid, day, {exprs} FROM happened WHERE day >= 0 "
        f"AND day < {MOST_DAYS} AND event_type IN ({types}) GROUP BY uid, day) h "
        f"JOIN (SELECT uid, phase, variant, {full} AS full_days FROM units) u ON h.uid = u.uid "
        "WHERE h.day < u.full_days GROUP BY u.phase, u.variant, h.day"
    ).fetchall()
    by_day = {(int(phase), str(variant), int(day)): rest for phase, variant, day, *rest in rows}
    counts = db.execute(f"SELECT phase, variant, {full} AS days, count(*) FROM units GROUP BY 1, 2, 3").fetchall()
    watched: Counter[tuple[int, str, int]] = Counter()
    for phase, variant, days, n in counts:
        for day in range(min(int(days), MOST_DAYS)):
            watched[int(phase), str(variant), day] += int(n)
    sums_of = [name for metric in metrics for name, _ in _day_sums(metric)]
    found = []
    for place, n in sorted(watched.items(), key=lambda one: (one[0][0], one[0][2], one[0][1])):
        held = dict(zip(sums_of, by_day.get(place, [0.0] * len(sums_of)), strict=True))
        found += [_day_cell(metric, *place, n, held) for metric in metrics]
    return found


def _day_sums(metric: Metric) -> list[tuple[str, str]]:
    m = metric.name
    found = [(f"{m}_s", f"sum({m}_num)"), (f"{m}_ss", f"sum({m}_num * {m}_num)")]
    if metric.denominator is not None:
        found += [(f"{m}_d", f"sum({m}_den)"), (f"{m}_dd", f"sum({m}_den * {m}_den)")]
        found += [(f"{m}_sd", f"sum({m}_num * {m}_den)"), (f"{m}_nd", f"count(CASE WHEN {m}_den > 0 THEN 1 END)")]
    return found


def _day_cell(metric: Metric, phase: int, variant: str, day: int, n: int, held: Mapping[str, float]) -> Cell:
    """Units without a row that day count as 0, as they were watched."""
    m = metric.name
    s, d = held[f"{m}_s"], held.get(f"{m}_d", float(n))
    ratio = metric.denominator is not None
    return Cell(
        metric=m,
        variant=variant,
        phase=phase,
        day_since_exposure=day,
        n=n,
        n_den=int(held[f"{m}_nd"]) if ratio and held[f"{m}_nd"] < n else None,
        mean_num=s / n,
        mean_den=d / n,
        var_num=max(_covariance(n, held[f"{m}_ss"], s, s), 0.0),
        var_den=max(_covariance(n, held[f"{m}_dd"], d, d), 0.0) if ratio else 0.0,
        cov_num_den=_covariance(n, held[f"{m}_sd"], s, d) if ratio else 0.0,
    )


def _covariance(n: int, product: float, left: float, right: float) -> float:
    """From sums over n units."""
    return (product - left * right / n) / (n - 1) if n > 1 else 0.0
