"""The reference page of metrics, made from their definitions."""

from __future__ import annotations

import sys

from experiments.lifecycle import NEEDED_DAYS, STAGES
from experiments.metrics import METRICS, Metric

INTRO = """# Engagement metrics

Made from `experiments/metrics.py` by `python -m experiments.metrics_page`; a test holds the two together.
Experiments, dashboard and weekly digest compute from the same definitions.

A metric is computed per unit, then over units: its value is the mean of the numerator, or, with a denominator, the
sum of the numerators divided by the sum of the denominators. A *unit* of an experiment is a customer or a session; a
visitor who turns out to be a customer is one unit with him. Unless said otherwise:

- A unit belongs to the phase and the variant of its first exposure. What happened before does not count, but for the
  same numbers over the 14 days before (`pre_days`), which CUPED uses to narrow intervals.
- Its time ends, exclusively, at the moment asked about, at the end of its phase if the weights changed then, or after
  `window_days`; with a window, units that were not watched for all of it are left out and counted.
- Units seen in two variants within their time are left out and counted. Purchases in another currency than the
  deployment's are left out and counted, by currency.
- *Activity*, gap and horizon are the data settings' `churn`; which event is an acceptance, for how long after the
  impression, and which impression it belongs to, are their `attribution`, as the models are trained with.
- For customers at large, outside of experiments, a metric is about *all* seen before the end (from the beginning of
  the period), about *visitors* of the period (from their first event in it), or about those *active* in it (from
  their first activity in it).
- A metric that cannot be computed has no value and says why. It is never shown as zero.

Adding a metric is one entry in `experiments/metrics.py`; its expressions are plain SQL over the columns that its
docstring lists, read alike by DuckDB and Spark.
"""
POPULATIONS = {
    "all": "everybody seen before the end",
    "visitors": "visitors of the period",
    "active": "those active in the period, from then on",
    "decided": "those for whom something was decided in the period",
}
KINDS = {
    "mean": "mean per unit",
    "proportion": "share of units",
    "ratio": "ratio of sums",
    "quantile": "quantile",
    "breakdown": "breakdown",
}


def reference_page() -> str:
    """`docs/reference/engagement-metrics.md`."""
    rows = [
        f"| [`{m.name}`](#{m.name}) | {m.title} | {m.unit} | {KINDS[m.kind]} | {m.better} |" for m in METRICS.values()
    ]
    table = ["| metric | | unit | kind | better |", "|---|---|---|---|---|", *rows]
    return "\n".join([INTRO, *table, "", *(line for metric in METRICS.values() for line in _section(metric))])


def _section(metric: Metric) -> list[str]:
    lines = [f"## {metric.name}", "", f"{metric.title}: {metric.formula}.", ""]
    lines += [f"- Window: {metric.window}.", f"- Who counts: {metric.exposure_rule}."]
    lines += [f"- Of customers at large: {POPULATIONS[metric.population]}."]
    if not metric.in_experiments:
        lines += ["- Not for comparing variants: it has several values."]
    elif metric.kind == "quantile":
        lines += ["- Needs `latency_us` in the logged decisions."]
    elif metric.pre_numerator is not None:
        lines += ["- Before exposure, for CUPED, another number is used: this one is not known so early."]
    if not metric.daily and metric.in_experiments:
        lines += ["- Has no value by single days since exposure."]
    if metric.name == "lifecycle":
        lines += [
            "",
            "| stage | who | days of data it needs, else not known |",
            "|---|---|---|",
        ]
        lines += [f"| {stage} | {who} | {NEEDED_DAYS[stage] or '–'} |" for stage, who in STAGES.items()]
    if metric.numerator:
        sql = ["", "```sql", metric.numerator]
        lines += [*sql, *(["-- divided by", metric.denominator] if metric.denominator else []), "```"]
    return [*lines, ""]


if __name__ == "__main__":
    sys.stdout.write(reference_page())
