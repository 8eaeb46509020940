"""What each measure means, once: experiments, dashboard and weekly digest compute from these texts.

An expression is an aggregate over one unit's rows, in SQL that DuckDB and Spark read alike. The rows are what happened
to the unit (see `experiments/happened.py`): its events, and, for each impression that has an outcome, one more row of
type `accepted`, `clicked` or `dismissed` at the impression's time. `{now}` stands for "in the period asked about":
since the exposure or, for what is known beforehand, in the days before it.

| column | meaning |
|---|---|
| event_type | see above |
| since_us | microseconds since the unit's exposure; negative before it |
| to_end_us | microseconds until the end of the unit's window |
| day | whole days since exposure; negative before it |
| watched | 1 if the attribution window of this impression, or accepted row, had ended by the end |
| value | of a purchase in the deployment's currency; NULL otherwise |
| offer_value | of an accepted row: what the catalogue says one acceptance of the offer is worth |
| nps, csat, ces | scores of a feedback; NULL otherwise |
| observed_us | how long the unit was watched, the same on each of its rows |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from features.data_settings import DataSettings
from features.errors import BadInput
from features.events import US_PER_DAY

Kind = Literal["mean", "proportion", "ratio", "quantile", "breakdown"]
MetricUnit = Literal["share", "currency", "count", "score", "ms", "customers"]
Population = Literal["all", "visitors", "active", "decided"]
RETAINED_FROM, RETAINED_UNTIL = 7, 14  # days since exposure: the second week
MAU_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measure. Its value is mean(numerator) / mean(denominator) over units; no denominator counts as 1.

    kind: `mean` and `proportion` (numerator 0 or 1) are per unit, `ratio` divides two sums over the same units,
    `quantile` is over decisions (see `experiments/latency.py`), `breakdown` has several values and no moments.
    """

    name: str
    title: str
    unit: MetricUnit
    kind: Kind
    better: Literal["higher", "lower"]
    formula: str
    window: str  # which time counts
    exposure_rule: str  # which units count, and from when
    numerator: str = ""
    denominator: str | None = None
    takes_part: str | None = None  # a condition on the unit; None: everybody
    pre_numerator: str | None = None  # None: the numerator itself, over the days before exposure
    pre_denominator: str | None = None
    events: tuple[str, ...] = ()  # types of the rows that are read; empty: the deployment's activity
    columns: tuple[str, ...] = ()  # beyond event_type, since_us and day
    needs_currency: bool = False
    daily: bool = False  # whether a single day since exposure has a value
    population: Population = "visitors"  # whom it is about when no experiment is asked about
    quantile: float | None = None

    @property
    def in_experiments(self) -> bool:
        """Whether variants can be compared by it."""
        return self.kind != "breakdown"

    @property
    def signed(self) -> bool:
        """Whether it may be negative, so that relative changes mean nothing at or below 0; of values, only NPS is."""
        return self.name == "nps"


IMPRESSIONS = "sum(CASE WHEN {now} AND event_type = 'impression' THEN 1 ELSE 0 END)"
WATCHED = "sum(CASE WHEN {now} AND event_type = 'impression' THEN watched ELSE 0 END)"
ACTIVE = "max(CASE WHEN {now} AND event_type IN {activity} THEN 1 ELSE 0 END)"
ACTIVITIES = "sum(CASE WHEN {now} AND event_type IN {activity} THEN 1 ELSE 0 END)"
VISITS = "sum(CASE WHEN {now} AND event_type = 'visit' THEN 1 ELSE 0 END)"
ACTIVE_LAST = (
    "max(CASE WHEN {{now}} AND to_end_us <= {days} * {{day_us}} AND event_type IN {{activity}} THEN 1 ELSE 0 END)"
)
LEFT = (  # of whom no row is known: nothing was done
    "CASE WHEN coalesce(max(CASE WHEN {now} AND since_us > {gap_us} AND since_us <= {gap_us} + {horizon_us} "
    "AND event_type IN {activity} THEN 1 ELSE 0 END), 0) = 0 "
    "OR max(CASE WHEN {now} AND since_us <= {gap_us} + {horizon_us} AND event_type = 'cancel' THEN 1 ELSE 0 END) = 1 "
    "THEN 1 ELSE 0 END"
)
OBSERVED_HORIZON = "observed_us >= {gap_us} + {horizon_us}"
EXPOSED = "units exposed before the end; what they did from their first exposure on"
ATTRIBUTED = "as the data settings' `attribution`: same matching, windows and use of each outcome once as in training"


def _active_last(name: str, title: str, days: int) -> Metric:
    span = "day" if days == 1 else f"{days} days"
    return Metric(
        name=name,
        title=title,
        unit="customers",
        kind="proportion",
        better="higher",
        formula=f"customers active in the last {span} (in an experiment: their share among the units)",
        window=f"the last {span} of the period",
        exposure_rule=f"units watched for at least {span}",
        numerator=ACTIVE_LAST.format(days=days),
        takes_part=f"observed_us >= {days} * {{day_us}}",
        pre_numerator=ACTIVITIES,
        columns=("to_end_us",),
        population="all",
    )


def _feedback(
    name: str, title: str, unit: MetricUnit, better: Literal["higher", "lower"], formula: str, sql: str
) -> Metric:
    return Metric(
        name=name,
        title=title,
        unit=unit,
        kind="ratio",
        better=better,
        formula=formula,
        window="from exposure to the end",
        exposure_rule="units that answered; every answer counts",
        numerator=f"sum(CASE WHEN {{now}} AND {name} IS NOT NULL THEN {sql} ELSE 0 END)",
        denominator=f"sum(CASE WHEN {{now}} AND {name} IS NOT NULL THEN 1 ELSE 0 END)",
        events=("feedback",),
        columns=(name,),
        daily=True,
    )


def _latency(name: str, title: str, quantile: float) -> Metric:
    return Metric(
        name=name,
        title=title,
        unit="ms",
        kind="quantile",
        better="lower",
        formula=f"the {quantile:.0%} quantile of `latency_us` over logged decisions, in milliseconds",
        window="decisions within the period",
        exposure_rule="decisions that state their latency; the interval takes customers as independent",
        population="decided",
        quantile=quantile,
    )


_ALL: tuple[Metric, ...] = (
    Metric(
        name="acceptance_rate",
        title="Acceptance rate",
        unit="share",
        kind="ratio",
        better="higher",
        formula="accepted impressions ÷ impressions, over impressions whose attribution window has ended",
        window=ATTRIBUTED,
        exposure_rule=EXPOSED,
        numerator="sum(CASE WHEN {now} AND event_type = 'accepted' THEN watched ELSE 0 END)",
        denominator=WATCHED,
        events=("impression", "accepted"),
        columns=("watched",),
        daily=True,
    ),
    Metric(
        name="click_through_rate",
        title="Click-through rate",
        unit="share",
        kind="ratio",
        better="higher",
        formula="impressions with a click ÷ impressions",
        window="a click within the attribution window, without waiting for the window to end",
        exposure_rule=EXPOSED,
        numerator="sum(CASE WHEN {now} AND event_type = 'clicked' THEN 1 ELSE 0 END)",
        denominator=IMPRESSIONS,
        events=("impression", "clicked"),
        daily=True,
    ),
    Metric(
        name="offer_value_per_visitor",
        title="Offer value per visitor",
        unit="currency",
        kind="mean",
        better="higher",
        formula="Σ value of the offers accepted ÷ visitors; the value is the catalogue's, the margin of one acceptance",
        window="acceptances of impressions since exposure, each within its attribution window",
        exposure_rule=EXPOSED,
        numerator="sum(CASE WHEN {now} AND event_type = 'accepted' THEN offer_value ELSE 0 END)",
        events=("accepted",),
        columns=("offer_value",),
        daily=True,
    ),
    Metric(
        name="revenue_per_customer",
        title="Revenue per customer",
        unit="currency",
        kind="mean",
        better="higher",
        formula="Σ value of purchases ÷ customers",
        window="from exposure to the end",
        exposure_rule=EXPOSED,
        numerator="sum(CASE WHEN {now} AND event_type = 'purchase' THEN value ELSE 0 END)",
        events=("purchase",),
        columns=("value",),
        needs_currency=True,
        daily=True,
        population="all",
    ),
    Metric(
        name="dismissal_rate",
        title="Dismissal rate",
        unit="share",
        kind="ratio",
        better="lower",
        formula="impressions dismissed or rejected ÷ impressions",
        window="a dismissal within the attribution window, without waiting for the window to end",
        exposure_rule=EXPOSED,
        numerator="sum(CASE WHEN {now} AND event_type = 'dismissed' THEN 1 ELSE 0 END)",
        denominator=IMPRESSIONS,
        events=("impression", "dismissed"),
        daily=True,
    ),
    Metric(
        name="opt_out_rate",
        title="Opt-out rate",
        unit="share",
        kind="proportion",
        better="lower",
        formula="customers with at least one opt-out ÷ customers",
        window="from exposure to the end",
        exposure_rule=EXPOSED,
        numerator="max(CASE WHEN {now} AND event_type = 'opt_out' THEN 1 ELSE 0 END)",
        events=("opt_out",),
        daily=True,
    ),
    Metric(
        name="churn_rate",
        title="Churn rate",
        unit="share",
        kind="proportion",
        better="lower",
        formula="customers without activity in (gap, gap + horizon] after t, or who cancelled by then, ÷ customers",
        window="the data settings' `churn`: gap, horizon and what counts as activity; t is the exposure",
        exposure_rule="units watched for gap + horizon",
        numerator=LEFT,
        takes_part=OBSERVED_HORIZON,
        pre_numerator=ACTIVITIES,
        events=("cancel",),
        population="active",
    ),
    Metric(
        name="visit_frequency",
        title="Visits per active customer",
        unit="count",
        kind="ratio",
        better="higher",
        formula="visits ÷ active customers; active: at least one activity",
        window="from exposure to the end",
        exposure_rule=EXPOSED,
        numerator=VISITS,
        denominator=ACTIVE,
        events=("visit",),
        daily=True,
        population="all",
    ),
    Metric(
        name="active_customers",
        title="Active customers",
        unit="customers",
        kind="proportion",
        better="higher",
        formula="customers with at least one activity (in an experiment: their share among the units, active ÷ total)",
        window="from exposure to the end",
        exposure_rule=EXPOSED,
        numerator=ACTIVE,
        daily=True,
        population="all",
    ),
    Metric(
        name="customer_engagement",
        title="Customer engagement",
        unit="count",
        kind="mean",
        better="higher",
        formula="(active customers ÷ total customers) × visits per active customer, which is visits of active ÷ total",
        window="from exposure to the end",
        exposure_rule=EXPOSED,
        numerator=f"({VISITS}) * ({ACTIVE})",
        events=("visit",),
        daily=True,
        population="all",
    ),
    _active_last("dau", "Daily active customers", 1),
    _active_last("wau", "Weekly active customers", 7),
    _active_last("mau", "Monthly active customers", MAU_DAYS),
    Metric(
        name="stickiness",
        title="Stickiness (DAU ÷ MAU)",
        unit="share",
        kind="ratio",
        better="higher",
        formula=f"mean daily active ÷ active in {MAU_DAYS} days: Σ active days ÷ Σ days watched, over active customers",
        window=f"the first {MAU_DAYS} days since exposure",
        exposure_rule="active units; a day is 24 hours since exposure, the last one may be begun",
        numerator=f"count(DISTINCT CASE WHEN {{now}} AND day < {MAU_DAYS} AND event_type IN {{activity}} THEN day END)",
        denominator=(
            f"max(CASE WHEN {{now}} AND day < {MAU_DAYS} AND event_type IN {{activity}} THEN 1 ELSE 0 END) "
            f"* least({MAU_DAYS}, ceil(max(observed_us) / {{day_us}}))"
        ),
        pre_numerator="count(DISTINCT CASE WHEN {now} AND event_type IN {activity} THEN day END)",
        pre_denominator=ACTIVE,
        columns=("observed_us",),
        population="all",
    ),
    Metric(
        name="retention",
        title="Retention in the second week",
        unit="share",
        kind="proportion",
        better="higher",
        formula=f"customers active on days {RETAINED_FROM} to {RETAINED_UNTIL - 1} since exposure ÷ customers",
        window=f"days {RETAINED_FROM} to {RETAINED_UNTIL - 1}; the exposure is on day 0",
        exposure_rule=f"units watched for {RETAINED_UNTIL} days",
        numerator=(
            f"max(CASE WHEN {{now}} AND day >= {RETAINED_FROM} AND day < {RETAINED_UNTIL} "
            "AND event_type IN {activity} THEN 1 ELSE 0 END)"
        ),
        takes_part=f"observed_us >= {RETAINED_UNTIL} * {{day_us}}",
        pre_numerator=ACTIVITIES,
        population="active",
    ),
    Metric(
        name="lifecycle",
        title="Lifecycle",
        unit="share",
        kind="breakdown",
        better="higher",
        formula="share of customers in each stage: new, active, returned, at risk, lapsed, left (see `lifecycle.py`)",
        window="activity up to the end",
        exposure_rule="everybody ever active",
        population="all",
    ),
    _feedback(
        "nps",
        "Net promoter score",
        "score",
        "higher",
        "100 × (answers of 9 or 10 − answers of 0 to 6) ÷ answers",
        "CASE WHEN nps >= 9 THEN 100 WHEN nps <= 6 THEN -100 ELSE 0 END",
    ),
    _feedback(
        "csat",
        "Customer satisfaction",
        "share",
        "higher",
        "answers of 4 or 5 on the scale of 1 to 5 ÷ answers",
        "CASE WHEN csat >= 4 THEN 1 ELSE 0 END",
    ),
    _feedback(
        "ces", "Customer effort score", "score", "higher", "mean answer on the scale of 1 to 7; 7 is easy", "ces"
    ),
    Metric(
        name="clv",
        title="Customer lifetime value",
        unit="currency",
        kind="ratio",
        better="higher",
        formula="revenue per customer in gap + horizon ÷ share of customers who churn in it (a constant hazard)",
        window="the data settings' `churn`: gap + horizon after exposure; revenue, not margin, not discounted",
        exposure_rule="units watched for gap + horizon; no value where nobody churned",
        numerator=(
            "sum(CASE WHEN {now} AND since_us <= {gap_us} + {horizon_us} AND event_type = 'purchase' "
            "THEN value ELSE 0 END)"
        ),
        denominator=LEFT,
        takes_part=OBSERVED_HORIZON,
        pre_numerator="sum(CASE WHEN {now} AND event_type = 'purchase' THEN value ELSE 0 END)",
        pre_denominator=ACTIVITIES,
        events=("purchase", "cancel"),
        columns=("value",),
        needs_currency=True,
        population="active",
    ),
    _latency("latency_p50", "Latency, median", 0.5),
    _latency("latency_p99", "Latency, 99 of 100", 0.99),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
EXPERIMENT_METRICS: tuple[str, ...] = tuple(metric.name for metric in _ALL if metric.in_experiments)


def metric_of(name: str) -> Metric:
    """`BadInput` names those there are."""
    if name not in METRICS:
        raise BadInput(f"{name!r} is not a metric; expected one of {', '.join(METRICS)}", "metric")
    return METRICS[name]


def experiment_metrics(names: Sequence[str]) -> list[Metric]:
    """Metrics by which variants can be compared; `BadInput` for others."""
    found = [metric_of(name) for name in dict.fromkeys(names)]
    for metric in found:
        if not metric.in_experiments:
            raise BadInput(
                f"{metric.name} has no value per customer; expected one of {', '.join(EXPERIMENT_METRICS)}", "metric"
            )
    return found


def filled(expression: str, settings: DataSettings, now: str = "since_us >= 0") -> str:
    """The expression as SQL for one deployment and period."""
    churn = settings.churn
    return expression.format(
        now=now,
        activity=_listed(churn.activity),
        gap_us=churn.gap_days * US_PER_DAY,
        horizon_us=churn.horizon_days * US_PER_DAY,
        day_us=US_PER_DAY,
    )


def event_types(metrics: Iterable[Metric], settings: DataSettings) -> tuple[str, ...]:
    """The types of the rows that these metrics read, in order of the alphabet."""
    activity = {name for metric in metrics if _reads_activity(metric) for name in settings.churn.activity}
    return tuple(sorted(activity | {name for metric in metrics for name in metric.events}))


def _reads_activity(metric: Metric) -> bool:
    texts = (metric.numerator, metric.denominator, metric.pre_numerator, metric.pre_denominator)
    return any("{activity}" in text for text in texts if text)


def _listed(names: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{name}'" for name in names) + ")"
