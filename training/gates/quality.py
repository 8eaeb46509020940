"""Gates on what the models know: against their baselines, against the champion, calibration, and no slice left behind.

Two releases are mostly judged on different days. Where both judged the same customers of the same days, customers are
paired; else gains over popularity are compared, because a harder month lowers popularity and model alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Annotated, Any

from msgspec import Meta

from training.gates.case import Case, ModelRun, Rows
from training.gates.passage import Bounds, Check, at_least, at_most, silent

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1)]
FIGURE, SEEN = "ndcg_at_10", "exclude_seen"
GAINS = (f"{FIGURE}_gain_over_popularity", f"{FIGURE}_gain")  # the first that both runs have
CLASSIFIERS = ("acceptance", "churn")
ENDS = ("", "_low", "_high")
Z = NormalDist().inv_cdf(0.975)


class BaselineBounds(Bounds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No model of the release is credibly worse than its own baseline."""


def baseline(case: Case, bounds: BaselineBounds) -> Iterator[Check]:
    """By the verdict that each training gave: the whole interval of the difference to the baseline is below 0."""
    for name, verdict in sorted(case.challenger.verdicts.items()):
        words = {"lost": "lost to the baseline", "beats": "beats the baseline"}.get(verdict, verdict)
        yield Check(verdict != "lost", f"{name} {words}")


class RankingBounds(Bounds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """NDCG@10 of the recommender is not credibly below the champion's."""

    max_drop: Share = 0.0  # as a share of the champion's NDCG@10, that may be credible


def ranking(case: Case, bounds: RankingBounds) -> Iterator[Check]:
    assert case.champion is not None
    new, old = (one.models.get("recommender") for one in (case.challenger, case.champion))
    if new is None or old is None or FIGURE not in new.metrics or FIGURE not in old.metrics:
        yield silent("NDCG@10 of both releases is not on record")
        return
    if new.params.get(SEEN) != old.params.get(SEEN):
        yield silent("one release was judged with what customers took before, the other without")
        return
    allowed = bounds.max_drop * old.metrics[FIGURE]
    found = difference(new, old, case.champion.release)
    if found is None:
        yield silent("the runs hold no intervals to compare")
        return
    by, low, high, how = found
    figures = f"NDCG@10 {new.metrics[FIGURE]:.4f}, champion {old.metrics[FIGURE]:.4f}"
    yield at_least(high, 0.0 - allowed, f"{figures}; {how} {by:+.4f} [{low:+.4f}, {high:+.4f}]", shown=by)


def difference(new: ModelRun, old: ModelRun, champion: str) -> tuple[float, float, float, str] | None:
    """NDCG@10 of one run over another's with its 95 % interval, and how it was compared; None without intervals."""
    m = new.metrics
    asked = [f"champion_{FIGURE}_gain{end}" for end in ENDS]
    if new.tags.get("champion_release") == champion and all(name in m for name in asked):
        by, low, high = (m[name] for name in asked)
        return by, low, high, "on the same customers"
    if paired := _paired(new, old):
        return (*paired, "on the same customers")
    same_days = _same_days(new, old)
    names = (FIGURE,) if same_days else GAINS
    whole = (name for name in names if all(f"{name}{end}" in run.metrics for run in (new, old) for end in ENDS))
    if (name := next(whole, None)) is None:
        return None
    by = new.metrics[name] - old.metrics[name]
    half = math.hypot(*((run.metrics[f"{name}_high"] - run.metrics[f"{name}_low"]) / 2 for run in (new, old)))
    over = "popularity" if name == GAINS[0] else "the baselines"
    how = "on the same days, unpaired" if same_days else f"of other days, so gains over {over} compare"
    return by, by - half, by + half, how


def _same_days(new: ModelRun, old: ModelRun) -> bool:
    days = [tuple(run.params.get(name) for name in ("test_from_us", "until_us", SEEN)) for run in (new, old)]
    return days[0] == days[1] and None not in days[0][:2]


def _paired(new: ModelRun, old: ModelRun) -> tuple[float, float, float] | None:
    """The mean difference over customers whom both runs judged on the same days, with its interval."""
    if not _same_days(new, old):
        return None
    ours, theirs = new.per_customer, old.per_customer
    both = sorted(ours.keys() & theirs.keys())
    if len(both) < 2 or len(both) < 0.9 * max(len(ours), len(theirs)):
        return None
    differences = [ours[one] - theirs[one] for one in both]
    mean = sum(differences) / len(both)
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (len(both) - 1))
    half = Z * spread / math.sqrt(len(both))
    return mean, mean - half, mean + half


class CalibrationBounds(Bounds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Probabilities are what happens: over all, in each slice, and no less than with the champion."""

    max_ece: Share = 0.05  # beyond what chance makes of a calibrated model on so many rows
    max_ece_rise: Share = 0.02  # over the champion's, beyond both intervals
    max_gap_in_slice: Share = 0.1  # mean probability against rate, beyond chance
    min_rows: Count = 500


def calibration(case: Case, bounds: CalibrationBounds) -> Iterator[Check]:
    for name in CLASSIFIERS:
        run = case.challenger.models.get(name)
        if run is None or "ece" not in run.metrics:
            continue
        n, ece = run.metrics.get("n_test", 0.0), run.metrics["ece"]
        if n < bounds.min_rows:
            yield silent(f"{name} was judged on {n:,.0f} rows, fewer than min_rows")
            continue
        chance = _by_chance(run)
        said = f"{name}: ECE {ece:.4f} on {n:,.0f} rows, {chance:.4f} of it expected by chance"
        yield at_most(ece - chance, bounds.max_ece, said, shown=ece)
        before = case.champion.models.get(name) if case.champion is not None else None
        if before is not None and "ece_high" in before.metrics and "ece_low" in run.metrics:
            rise = run.metrics["ece_low"] - before.metrics["ece_high"]
            said = (
                f"{name}: ECE {ece:.4f}, the champion's {before.metrics['ece']:.4f}; at least {max(rise, 0.0):.4f} more"
            )
            yield at_most(rise, bounds.max_ece_rise, said)
        yield from _gaps(name, run.tables.get("slices", []), bounds)


def _by_chance(run: ModelRun) -> float:
    """The ECE to be expected of a model that is calibrated: the mean distance of each bin's rate, by the normal
    approximation of its binomial, √(2 p (1 − p) / (π n)); 0 where the run has no table of bins."""
    rows = run.tables.get("reliability", [])
    total = sum(row["n_rows"] for row in rows)
    by_bin = (
        row["n_rows"] / total * math.sqrt(2 * row["mean_p"] * (1 - row["mean_p"]) / (math.pi * row["n_rows"]))
        for row in rows
    )
    return float(sum(by_bin))


def _gaps(name: str, rows: Rows, bounds: CalibrationBounds) -> Iterator[Check]:
    large = [row for row in rows if (row.get("n_rows") or 0) >= bounds.min_rows and row.get("mean_p") is not None]
    z = _z_of(len(large))
    for row in large:
        rate, n = row["rate"], row["n_rows"]
        gap = abs(row["mean_p"] - rate)
        sure = gap - z * math.sqrt(max(rate * (1 - rate), 1 / n) / n)
        where = f"{name}, {row['slice']} {row['value']}"
        said = f"{where}: mean probability {row['mean_p']:.3f}, rate {rate:.3f} on {n:,} rows"
        if sure > bounds.max_gap_in_slice:
            yield Check(False, said, gap, bounds.max_gap_in_slice)


class SliceBounds(Bounds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No group of customers or offers is served credibly worse than by the champion."""

    max_auc_drop: Share = 0.05
    max_ndcg_drop: Share = 0.2  # as a share of the champion's
    min_rows: Count = 500  # customers, where rankings are judged


def slices(case: Case, bounds: SliceBounds) -> Iterator[Check]:
    """Slices that both runs have and that are large enough; chance is allowed for, the more the more there are."""
    assert case.champion is not None
    every = list(_common(case))
    pairs = [one for one in every if min(map(_size, one[2:])) >= bounds.min_rows]
    small = len(every) - len(pairs)
    left_out = f"; {small} more, of fewer than {bounds.min_rows:,} rows, were not judged" if small else ""
    z = _z_of(len(pairs))
    for name, metric, new, old in pairs:
        allowed = bounds.max_auc_drop if metric == "auc" else bounds.max_ndcg_drop * old[FIGURE]
        drop = old[metric] - new[metric]
        noise = z * math.hypot(_error(metric, new), _error(metric, old))
        what = {"auc": "AUC", FIGURE: "NDCG@10"}.get(metric, "NDCG@10 over the baseline's")
        said = f"{name}, {new['slice']} {new['value']}: {what} {new[metric]:.4f}, champion {old[metric]:.4f}"
        if drop - noise > allowed:
            yield Check(False, said, drop, allowed)
    if pairs:
        yield Check(True, f"{len(pairs)} slices of both releases were compared{left_out}")
    else:
        yield silent(f"no slice of both releases has {bounds.min_rows:,} rows{left_out.replace(' more', '')}")


def _common(case: Case) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Model, metric, and the slice of each; rankings of other days by their gain over the baseline, as over all."""
    assert case.champion is not None
    for name in ("recommender", *CLASSIFIERS):
        runs = [one.models.get(name) for one in (case.challenger, case.champion)]
        new, old = (_slices_of(run) for run in runs)
        metric = "auc"
        if name == "recommender" and runs[0] is not None and runs[1] is not None:
            metric = FIGURE if _same_days(runs[0], runs[1]) else f"{FIGURE}_gain"
        for key in sorted(new.keys() & old.keys()):
            if new[key].get(metric) is not None and old[key].get(metric) is not None:
                yield name, metric, new[key], old[key]


def _slices_of(run: ModelRun | None) -> Mapping[tuple[str, str], dict[str, Any]]:
    rows = run.tables.get("slices", []) if run is not None else []
    return {(str(row["slice"]), str(row["value"])): row for row in rows}


def _size(row: Mapping[str, Any]) -> float:
    return float(row.get("n_rows") or row.get("n_customers") or 0)


def _error(metric: str, row: Mapping[str, Any]) -> float:
    """The standard error of one slice's figure.

    AUC: Hanley and McNeil (1982), doi:10.1148/radiology.143.1.7063747. NDCG: by its own interval; without one, a
    mean m of values in [0, 1] has a variance of at most m (1 − m), so the error is no larger than this.
    """
    value, n = float(row[metric]), _size(row)
    if metric != "auc":
        low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
        if low is not None and high is not None:
            return float(high - low) / (2 * Z)
        return math.sqrt(max(abs(value) * (1 - abs(value)), 0.0) / n)
    positive = max(round(float(row["rate"]) * n), 1)
    negative = max(round(n) - positive, 1)
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (positive - 1) * (q1 - value**2) + (negative - 1) * (q2 - value**2)
    return math.sqrt(max(spread, 0.0) / (positive * negative))


def _z_of(n: int) -> float:
    """Of a two-sided 95 % family of n comparisons, by Bonferroni."""
    return NormalDist().inv_cdf(1 - 0.025 / max(n, 1))
