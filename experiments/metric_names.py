"""The names of the metrics that an experiment may be judged by, apart from how they are computed.

Whoever checks an experiment needs the names alone, on the request path, where the libraries of `metrics` are not loaded.
"""

METRIC_NAMES: tuple[str, ...] = (
    "acceptance_rate",
    "click_through_rate",
    "offer_value_per_visitor",
    "revenue_per_customer",
    "dismissal_rate",
    "opt_out_rate",
    "churn_rate",
    "visit_frequency",
    "active_customers",
    "customer_engagement",
    "stickiness",
    "retention",
    "nps",
    "csat",
    "ces",
    "latency_p50",
    "latency_p99",
)
