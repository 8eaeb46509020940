"""What the service caused in a week: everybody served beside those held out, whom it leaves alone.

Only the holdout's phase at the week's end counts: within it everybody's chance to be held out was the same. A customer
belongs to it from the first decision in that phase on, whether or not anything was done in the week.
"""

from __future__ import annotations

import msgspec

from experiments.analysis import analyse
from experiments.digest.measures import Data, why_not
from experiments.digest.running import alarms_of
from experiments.digest.week import Week
from experiments.metrics import Metric, experiment_metrics
from experiments.moments import answering
from experiments.statistics.arms import kind_of
from experiments.statistics.corrections import corrected
from experiments.statistics.effect import Effect, compare
from experiments.statistics.sample_ratio import SampleRatio
from experiments.statistics.verdict import in_points, in_words
from experiments.tables import Tables
from experiments.units import Made, Question
from features.events import to_us
from features.experiment import HELD_OUT, HOLDOUT, SERVED, Experiment, Phase

METRICS = (
    "offer_value_per_visitor",
    "revenue_per_customer",
    "customer_engagement",
    "active_customers",
    "opt_out_rate",
)  # per customer, whether or not they came: coming is what the service may have caused
NONE = "No holdout is set, so nobody can say what the service caused: every customer meets it."


class Caused(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of the week. What was caused in sum is the difference times those served; None: not computed."""

    metric: str
    title: str
    unit: str
    better: str
    effect: Effect | None  # served against held out; `p_adjusted` over these metrics
    total: float | None = None
    total_low: float | None = None
    total_high: float | None = None
    why: str | None = None


class Holdout(msgspec.Struct, frozen=True, kw_only=True):
    """`why` says what is missing; then nothing else is known."""

    why: str | None = None
    share: float | None = None  # of customers held out, in the phase
    phase: int | None = None
    n_held_out: int = 0
    n_served: int = 0
    n_crossed: int = 0  # served and held out in one phase; left out
    week: tuple[Caused, ...] = ()
    since_start: str | None = None  # the change of the primary metric since the holdout began, in words
    primary_title: str = ""
    sample_ratio: SampleRatio | None = None
    alarms: tuple[str, ...] = ()


def caused(tables: Tables, holdout: Experiment | None, week: Week, data: Data) -> Holdout:
    """Of one week; `holdout` as `features/holdout.py` tells it."""
    if holdout is None:
        return Holdout(why=NONE)
    phase = _phase_of(holdout, week)
    if phase is None:
        return Holdout(why=f"There was no holdout in {week.name}, so nobody can say what the service caused in it.")
    since_start = analyse(holdout, tables, week.until)
    made, n_crossed, counts = _make_units(tables, phase, week)
    if not all(counts.get(name) for name in (HELD_OUT, SERVED)):
        tables.db.execute("DROP TABLE IF EXISTS units")
        seen = ", ".join(f"{counts.get(name, 0):,} {name}" for name in (HELD_OUT, SERVED))
        return Holdout(why=f"Too few customers to say what the service caused: {seen}.", share=phase.weights[HELD_OUT])
    looks = since_start.paths[0].looks
    found = _effects(tables, made, n_crossed, counts, week, data, phase)
    return msgspec.structs.replace(
        found,
        since_start=in_words(looks[-1], in_points(since_start.metrics[0].unit)) if looks else None,
        primary_title=since_start.metrics[0].title,
        sample_ratio=since_start.sample_ratio,
        alarms=alarms_of(since_start) if since_start.sample_ratio.mismatch else (),
    )


def _effects(
    tables: Tables, made: Made, n_crossed: int, counts: dict[str, int], week: Week, data: Data, phase: Phase
) -> Holdout:
    wanted = experiment_metrics(METRICS)
    why = {one.name: why_not(one, week.since, data, tables.settings) for one in wanted}
    metrics = [one for one in wanted if why[one.name] is None]
    with answering(tables, Question(experiment_id=HOLDOUT, until=week.until, pre_days=0.0), made, metrics) as answer:
        cells = answer.cells()
    effects = corrected(
        [compare(cells, one.name, HELD_OUT, SERVED, kind=kind_of(one.kind), cuped=False) for one in metrics],
        "secondary",
    )
    by_name = {one.metric: one for one in effects}
    return Holdout(
        share=phase.weights[HELD_OUT],
        phase=phase.number,
        n_held_out=counts[HELD_OUT],
        n_served=counts[SERVED],
        n_crossed=n_crossed,
        week=tuple(_caused(one, by_name.get(one.name), counts[SERVED], why[one.name]) for one in wanted),
    )


def _caused(metric: Metric, effect: Effect | None, n_served: int, why: str | None) -> Caused:
    known = Caused(
        metric=metric.name, title=metric.title, unit=metric.unit, better=metric.better, effect=effect, why=why
    )
    if effect is None or effect.absolute is None:
        return msgspec.structs.replace(known, why=why or "; ".join(effect.flags if effect is not None else ()))
    return msgspec.structs.replace(
        known,
        total=effect.absolute * n_served,
        total_low=None if effect.absolute_low is None else effect.absolute_low * n_served,
        total_high=None if effect.absolute_high is None else effect.absolute_high * n_served,
    )


def _phase_of(holdout: Experiment, week: Week) -> Phase | None:
    """The last one that began before the week's end, if it was still there in the week."""
    begun = [one for one in holdout.phases if one.starts_at < week.until]
    last = begun[-1] if begun else None
    return last if last is not None and (last.stops_at is None or last.stops_at > week.since) else None


def _make_units(tables: Tables, phase: Phase, week: Week) -> tuple[Made, int, dict[str, int]]:
    """Temporary table `units` of the phase's customers over the week, how many crossed, and units by variant."""
    since_us, until_us = to_us(week.since), to_us(week.until)
    if phase.stops_at is not None:
        until_us = min(until_us, to_us(phase.stops_at))
    tables.db.execute(
        "CREATE OR REPLACE TEMP TABLE met AS SELECT coalesce(i.known, e.unit_id) AS key, min(e.unit_id) AS unit_id, "
        "min(e.variant) AS variant, min(e.us) AS us, count(DISTINCT e.variant) AS n_variants FROM exposures e "
        f"LEFT JOIN identities i ON e.unit_id = i.alias AND i.joined_us <= {until_us} "
        f"WHERE e.experiment_id = '{HOLDOUT}' AND coalesce(e.phase, 1) = {phase.number:d} AND e.us < {until_us} "
        "GROUP BY 1"
    )
    tables.db.execute(
        "CREATE OR REPLACE TEMP TABLE units AS SELECT CAST(row_number() OVER () AS INTEGER) AS uid, key, unit_id, "
        f"variant, {phase.number:d} AS phase, greatest(us, {since_us}) AS start_us, "
        f"CAST({until_us} AS BIGINT) AS end_us, {until_us} - greatest(us, {since_us}) AS observed_us "
        "FROM met WHERE n_variants = 1"
    )
    ((n_crossed,),) = tables.db.execute("SELECT count(*) FROM met WHERE n_variants > 1").fetchall()
    counts = dict(tables.db.execute("SELECT variant, count(*) FROM units GROUP BY 1").fetchall())
    tables.db.execute("DROP TABLE met")
    return Made(sum(counts.values()), n_crossed, 0, 0, "customer", ()), n_crossed, counts
