"""Proof on real experiments: 78 of ASOS replayed over time, as a team would have watched them.

Each look sees counts, means and variances as they were then. The planned size is what the experiment came to in the
end, which nobody knew beforehand; looks are those of `planned_looks`, daily for two weeks and weekly after. The final
decision is the fixed test at the end.

Source: Liu, Cardoso, Couturier and McCoy 2021, "Datasets for online controlled experiments" (arXiv:2111.10198).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from bench.proof import Proof, shared_data
from experiments.cells import Cell
from experiments.gathered import planned_looks
from experiments.statistics.effect import compare
from experiments.statistics.sequential import FEWEST_UNITS, Path, Seen, path

START = datetime(2020, 1, 1, tzinfo=UTC)  # the data have days since start, no dates
ALPHA = 0.05
METRIC_NAMES = {1: "1, binary", 2: "2, counts", 3: "3, real-valued", 4: "4, real-valued"}


@dataclass(frozen=True, slots=True)
class Replayed:
    """One treatment and metric: what the fixed test said in the end, and what watching would have said, and when."""

    metric: int
    days: float
    looks: int
    final: int  # 1 better, -1 worse, 0 neither
    sequential: int
    sequential_day: float | None
    always: int  # the confidence sequence, tightest at the planned size
    naive: int  # the first p < 0.05


def asos(proof: Proof) -> None:
    """How often sequential decisions agree with the final ones, and how many days they save."""
    print("\n## ASOS: 78 experiments, watched\n")
    file = shared_data() / "asos_experiments" / "asos_digital_experiments_dataset.parquet"
    if not proof.line(file.is_file(), "the data of the 78 experiments are there"):
        return
    data = pd.read_parquet(file)
    groups = data.groupby(["experiment_id", "variant_id", "metric_id"], sort=True)
    proof.line(
        (data["experiment_id"].nunique(), data.groupby(["experiment_id", "variant_id"]).ngroups) == (78, 99),
        "78 experiments with 99 treatments, as published",
    )
    proof.progress(f"replaying {groups.ngroups} comparisons")
    replayed = [one for (_, _, metric), rows in groups if (one := replay(int(metric), rows)) is not None]
    left_out = groups.ngroups - len(replayed)
    print(f"{len(replayed)} comparisons of a treatment in a metric; {left_out} without variances or units left out\n")
    header = (
        "metric",
        "comparisons",
        "significant in the end",
        "sequential agrees",
        "decided early",
        "days saved by these, median",
        "days saved, of all days",
        "confidence sequence agrees",
        "stopping at the first p < 0.05 agrees",
    )
    parts = [_row(METRIC_NAMES[m], [r for r in replayed if r.metric == m]) for m in METRIC_NAMES]
    proof.table(header, [*parts, _row("all", replayed)])
    _lost(proof, replayed)
    agrees = _share(replayed, lambda r: r.sequential == r.final)
    naive = _share(replayed, lambda r: r.naive == r.final)
    proof.line(agrees >= 0.9, f"sequential decisions agree with the final one in {agrees:.1%} of the comparisons")
    proof.line(agrees > naive, f"more often than stopping at the first p < 0.05, which agrees in {naive:.1%}")
    opposite = sum(r.sequential * r.final < 0 for r in replayed)
    proof.line(opposite == 0, f"{opposite} times they decide for the other side")


def replay(metric: int, rows: Any) -> Replayed | None:
    """None where the end cannot be tested."""
    rows = rows[rows["variance_c"].notna() & rows["variance_t"].notna()].sort_values("time_since_start")
    if rows.empty or min(rows["count_c"].iloc[-1], rows["count_t"].iloc[-1]) < FEWEST_UNITS:
        return None
    last = float(rows["time_since_start"].iloc[-1])
    end = START + timedelta(days=last)
    ends = [*planned_looks(START, end), end]  # the plan is to end there, which these records know
    times = START + pd.to_timedelta(rows["time_since_start"], unit="D")
    at = sorted({int((times <= end).sum()) - 1 for end in ends} - {-1})
    seen = [_seen(rows.iloc[i]) for i in at]
    final = seen[-1].effect
    if final.p_value is None or final.absolute is None:
        return None
    watched = path(seen, better="higher", alpha=ALPHA, planned_units=seen[-1].n)
    naive = next((s for s in seen if s.effect.p_value is not None and s.effect.p_value < ALPHA), None)
    return Replayed(
        metric=metric,
        days=last,
        looks=len(seen),
        final=_sign(final.absolute) if final.p_value < ALPHA else 0,
        sequential=_outcome(watched),
        sequential_day=_day(watched.decided_at),
        always=_always(watched),
        naive=_sign(naive.effect.absolute or 0.0) if naive is not None else 0,
    )


def _seen(row: Any) -> Seen:
    cells = [
        Cell(
            metric="m",
            variant=arm,
            n=int(row[f"count_{arm}"]),
            mean_num=row[f"mean_{arm}"],
            var_num=row[f"variance_{arm}"],
        )
        for arm in ("c", "t")
    ]
    at = START + timedelta(days=float(row["time_since_start"]))
    return Seen(at, sum(cell.n for cell in cells), compare(cells, "m", "c", "t", cuped=False))


def _row(name: str, found: list[Replayed]) -> tuple[object, ...]:
    early = [r for r in found if r.sequential_day is not None and r.sequential_day < r.days]
    saved = [r.days - r.sequential_day for r in early if r.sequential_day is not None]
    return (
        name,
        len(found),
        sum(r.final != 0 for r in found),
        f"{_share(found, lambda r: r.sequential == r.final):.1%}",
        len(early),
        f"{pd.Series(saved).median():.1f}" if saved else "–",
        f"{sum(saved) / sum(r.days for r in found):.1%}",
        f"{_share(found, lambda r: r.always == r.final):.1%}",
        f"{_share(found, lambda r: r.naive == r.final):.1%}",
    )


def _lost(proof: Proof, found: list[Replayed]) -> None:
    """Where the two disagree, by kind."""
    proof.table(
        ("final decision", "sequential: better", "sequential: worse", "sequential: neither"),
        [
            (name, *(sum(r.final == final and r.sequential == other for r in found) for other in (1, -1, 0)))
            for name, final in (("better", 1), ("worse", -1), ("neither", 0))
        ],
    )


def _share(found: list[Replayed], holds: Any) -> float:
    return sum(map(holds, found)) / len(found)


def _outcome(one: Path) -> int:
    return {"better": 1, "worse": -1, "undecided": 0}[one.outcome]


def _always(one: Path) -> int:
    for look in one.looks:
        if look.always_low is not None and look.always_high is not None and look.always_low * look.always_high > 0:
            return _sign(look.always_low)
    return 0


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _day(at: datetime | None) -> float | None:
    return None if at is None else (at - START) / timedelta(days=1)
