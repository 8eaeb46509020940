"""Do the models keep what they promised? Judged on impressions whose outcome is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.evaluate import Interval, bootstrap, ece
from training.evaluation.intervals import mean_interval
from training.monitoring.line import Line, above, shown, unknown
from training.monitoring.seen import Seen
from training.monitoring.thresholds import Thresholds

SEED = 0  # of the bootstraps: the same log says the same
MIN_OF_EACH = 20


def matured(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """Calibration and AUC of the champion; other releases are shown beside it."""
    for release, rows in seen.outcomes.groupby("release", sort=True):
        champion = seen.champion is not None and release == seen.champion.number
        yield from _of_release(str(release), rows, seen, held, judged=champion)
    champion_number = None if seen.champion is None else seen.champion.number
    if champion_number is None or champion_number not in set(seen.outcomes["release"]):
        yield unknown("calibration", champion_number or "", "no impression of the champion has a known outcome yet")


def _of_release(release: str, rows: pd.DataFrame, seen: Seen, held: Thresholds, *, judged: bool) -> Iterator[Line]:
    y, p = rows["accepted"].to_numpy(np.bool_), rows["p"].to_numpy(np.float64)
    n, n_accepted = len(y), int(y.sum())
    said = f"release {release}: {n:,} matured impressions, {n_accepted:,} accepted"
    if n < held.min_outcomes or min(n_accepted, n - n_accepted) < MIN_OF_EACH:
        yield unknown("calibration", release, f"{said}; {held.min_outcomes} with {MIN_OF_EACH} of each are needed")
        return
    if seen.champion is not None and release == seen.champion.number and not seen.champion.calibrated:
        yield unknown("calibration", release, f"{said}; the release has no acceptance model")
        return
    clusters = pd.factorize(rows["customer_id"])[0].astype(np.int64)
    rng = np.random.default_rng(SEED)
    found = bootstrap(y, p, np.full(n, y.mean()), clusters, rng)
    ratio = _ratio(y.astype(float), p, clusters, rng)
    off = f"{said}; mean P(accept) {p.mean():.4f}, rate {y.mean():.4f}"
    if not judged:
        yield shown("calibration", release, ratio.estimate - 1.0, off, low=ratio.low - 1.0, high=ratio.high - 1.0)
        yield shown("auc", release, found["auc"].estimate, said, low=found["auc"].low, high=found["auc"].high)
        return
    yield _either_way(release, ratio, held.calibration, off)
    yield above("ece", release, ece(y, p, np.ones(n)), held.ece, f"{said}; expected calibration error")
    assert seen.champion is not None
    trained = seen.champion.manifest["metrics"].get("acceptance", {}).get("auc")
    estimate = found["auc"]
    told = f"{said}; AUC {estimate.estimate:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
    yield shown("auc", release, estimate.estimate, told, low=estimate.low, high=estimate.high)
    if trained is None:
        yield unknown("auc_loss", release, f"{told}; its training logged no AUC")
        return
    yield above(
        "auc_loss", release, trained - estimate.estimate, held.auc_loss, f"{told}, {trained:.3f} when trained",
        low=trained - estimate.high, high=trained - estimate.low,
    )  # fmt: skip


def _ratio(
    y: NDArray[np.float64],
    p: NDArray[np.float64],
    clusters: NDArray[np.int64],
    rng: np.random.Generator,
    n_draws: int = 200,
) -> Interval:
    """Mean probability over rate, with the interval of a bootstrap over customers."""
    n = int(clusters.max()) + 1
    of_p, of_y = np.bincount(clusters, weights=p, minlength=n), np.bincount(clusters, weights=y, minlength=n)
    drawn = rng.integers(0, n, (n_draws, n))
    ratios = of_p[drawn].sum(axis=1) / np.maximum(of_y[drawn].sum(axis=1), 0.5)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(float(p.mean() / y.mean()), float(low), float(high))


def _either_way(release: str, ratio: Interval, bound: float, said: str) -> Line:
    """Crossed when the whole interval of probability over rate lies beyond 1 ± bound."""
    beyond = ratio.low - 1.0 > bound or ratio.high - 1.0 < -bound
    return Line(
        check="calibration", of=release, verdict="crossed" if beyond else "ok", said=said, figure=ratio.estimate - 1.0,
        bound=bound, low=ratio.low - 1.0, high=ratio.high - 1.0,
    )  # fmt: skip


def acceptance_by_policy(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """What each policy's own choices brought, and what chance's did beside them: shown, not judged."""
    rows = seen.outcomes[seen.outcomes["rank"] == 1]
    if not len(rows):
        yield unknown("acceptance", "", "no first offer in the window has a known outcome yet")
        return
    named = rows["policy"].where(~rows["at_random"], "at random")
    for policy, part in rows.groupby(named, sort=True):
        per_customer = part.groupby("customer_id")["accepted"].agg(["sum", "count"]).to_numpy(np.float64)
        interval = _rate(per_customer)
        said = f"{len(part):,} first offers seen, {int(part['accepted'].sum()):,} accepted"
        yield shown("acceptance", str(policy), interval.estimate, said, low=interval.low, high=interval.high)


def _rate(per_customer: NDArray[np.float64], n_draws: int = 500) -> Interval:
    """Accepted over seen, customers drawn; `per_customer` has both, (n_customers, 2)."""
    if (per_customer[:, 1] == 1).all():
        return mean_interval(per_customer[:, 0], np.random.default_rng(SEED), n_draws)
    n = len(per_customer)
    drawn = np.random.default_rng(SEED).integers(0, n, (n_draws, n))
    sums = per_customer[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    accepted, count = per_customer.sum(axis=0)
    return Interval(float(accepted / count), float(low), float(high))
