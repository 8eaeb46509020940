"""HTTP: the only place that knows requests, statuses and pydantic."""
