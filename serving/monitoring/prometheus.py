"""The last look of `nbo monitor` as Prometheus metrics: for the admin port, and as a file for the node exporter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CollectorRegistry, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from training.monitoring.kept import Watched


def families(watched: Watched | None, now: float) -> Iterator[GaugeMetricFamily]:
    """Nothing where nobody watched. `now` in seconds since 1970."""
    if watched is None:
        return
    labels = ["check", "of"]
    figure = GaugeMetricFamily("nbo_monitor_figure", "What nbo monitor measured last.", labels=labels)
    bound = GaugeMetricFamily("nbo_monitor_threshold", "What the figure is held against.", labels=labels)
    crossed = GaugeMetricFamily("nbo_monitor_crossed", "1 where the threshold is crossed.", labels=labels)
    for line in watched.lines:
        if line.figure is None:
            continue
        named = [line.check, line.of]
        figure.add_metric(named, line.figure)
        if line.bound is not None:
            bound.add_metric(named, line.bound)
            crossed.add_metric(named, float(line.verdict == "crossed"))
    yield from (figure, bound, crossed)
    unknown = sum(line.verdict == "unknown" for line in watched.lines)
    for name, said, value in (
        ("nbo_monitor_unknown", "Checks that could not be made.", float(unknown)),
        ("nbo_monitor_decisions", "Decisions in the window.", float(watched.n_decisions)),
        ("nbo_monitor_age_seconds", "Since nbo monitor looked last.", max(now - watched.at.timestamp(), 0.0)),
    ):
        yield GaugeMetricFamily(name, said, value=value)


def write_textfile(path: Path, watched: Watched, now: float) -> None:
    """Whole or not at all, as the node exporter's textfile collector wants it."""
    found = list(families(watched, now))

    class Found(Collector):
        def collect(self) -> Iterator[GaugeMetricFamily]:
            yield from found

    registry = CollectorRegistry()
    registry.register(Found())
    staged = path.with_name(f"{path.name}.{os.getpid()}")
    staged.write_bytes(generate_latest(registry))
    os.replace(staged, path)
