"""The admin port: `/metrics` for Prometheus, `/livez` and `/readyz`, over all workers of one `nbo serve`.

It lives in the process that started the workers and reads what each of them wrote, so that a scrape disturbs nobody.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from features.home import Home
from serving.metrics import BUCKETS_S, METRICS, Metric
from serving.monitoring.prometheus import families as monitored
from serving.snapshots import Snapshot, read_snapshots
from training.monitoring.kept import last_watched

PATIENCE_S = 10.0  # with a caller who says nothing
TOGETHER: Mapping[str, Callable[[Sequence[float]], float]] = {"sum": sum, "max": max, "min": min}


class Answer(NamedTuple):
    status: int
    media_type: str
    body: bytes


class Admin:
    """Answers on a port of its own, in a thread of its own, until it is closed."""

    def __init__(self, folder: Path, listening: socket.socket, n_workers: int, home: Home | None = None) -> None:
        """`folder` is where workers write, `listening` is bound already, `home` has the last look of `nbo monitor`."""

        class Handler(_Handler):
            ask = staticmethod(lambda path, accept: answer(path, accept, read_snapshots(folder), n_workers, home))

        self._server = ThreadingHTTPServer(listening.getsockname()[:2], Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listening
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="admin", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server_version, sys_version = "nbo", ""
    protocol_version = "HTTP/1.1"

    @staticmethod
    def ask(path: str, accept: str) -> Answer:
        raise NotImplementedError

    def do_GET(self) -> None:
        found = self.ask(self.path.partition("?")[0], self.headers.get("Accept", ""))
        self.send_response(found.status)
        self.send_header("Content-Type", found.media_type)
        self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not worth a line."""


def answer(path: str, accept: str, snapshots: Sequence[Snapshot], n_workers: int, home: Home | None = None) -> Answer:
    """What the admin port says."""
    now = time.time()
    if path == "/metrics":
        registry = CollectorRegistry()
        watched = [] if home is None else list(monitored(last_watched(home), now))
        registry.register(_Collected([*families(snapshots, now), *watched]))
        encode, media_type = choose_encoder(accept)
        return Answer(HTTPStatus.OK, media_type, encode(registry))
    alive = [one for one in snapshots if one.is_alive(now)]
    if path == "/livez":
        return _json(HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE, {"status": _alive(len(alive))})
    if path == "/readyz":
        return readiness(alive, n_workers)
    known = "there are /metrics, /livez and /readyz"
    return _json(HTTPStatus.NOT_FOUND, {"code": "not_found", "detail": f"there is no {path[:200]}; {known}"})


def readiness(alive: Sequence[Snapshot], n_workers: int) -> Answer:
    """Each dependency by the worker that misses it, if one does; 503 if one cannot answer without it."""
    checks = {}
    for one in (one for snapshot in alive for one in snapshot.ready):
        if one.name not in checks or not one.ok:
            checks[one.name] = {"name": one.name, "ok": one.ok, "detail": one.detail, "needed": one.needed}
    counted = f"{len(alive)} of {n_workers} are alive"
    shown = [{"name": "workers", "ok": len(alive) >= n_workers, "detail": counted, "needed": False}, *checks.values()]
    cannot = not alive or any(one["needed"] and not one["ok"] for one in checks.values())
    if cannot:
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "not_ready", "checks": shown})
    status = "ready" if all(one["ok"] for one in shown) else "degraded"
    return _json(HTTPStatus.OK, {"status": status, "checks": shown})


def families(snapshots: Sequence[Snapshot], now: float) -> Iterator[Family]:
    """Every metric over all workers. Counters hold what ended workers counted too, gauges only those alive."""
    alive = [one for one in snapshots if one.is_alive(now)]
    counted, measured = _samples(snapshots), _samples(alive)
    for labels, n in _of_tables(snapshots).items():
        name, *rest = labels
        counted[name][tuple(rest)].append(n)
    for metric in METRICS:
        if metric.kind == "histogram":
            yield _histogram(metric, snapshots)
        elif metric.kind == "counter":
            yield _family(CounterMetricFamily(metric.name, metric.help, labels=metric.labels), metric, counted)
        else:
            yield _family(GaugeMetricFamily(metric.name, metric.help, labels=metric.labels), metric, measured)


def _samples(snapshots: Sequence[Snapshot]) -> dict[str, dict[tuple[str, ...], list[float]]]:
    found: dict[str, dict[tuple[str, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
    for snapshot in snapshots:
        for name, labels, value in snapshot.samples:
            found[name][tuple(labels)].append(value)
    return found


def _of_tables(snapshots: Sequence[Snapshot]) -> Mapping[tuple[str, ...], float]:
    """By metric and labels, what was dropped and shown."""
    found: dict[tuple[str, ...], float] = defaultdict(float)
    for table in (table for snapshot in snapshots for table in snapshot.tables):
        counts = np.frombuffer(table.counts, np.int64).reshape(len(table.rules) + 1, len(table.offers))
        for row, column in zip(*np.nonzero(counts), strict=True):
            offer_id, n = table.offers[column], float(counts[row, column])
            if row == len(table.rules):
                found["nbo_offers_shown", offer_id] += n
            else:
                found["nbo_offer_drops", offer_id, table.rules[row]] += n
    return found


def _family(family: Any, metric: Metric, found: Mapping[str, Mapping[tuple[str, ...], list[float]]]) -> Family:
    together = TOGETHER[metric.of_workers]
    values = found.get(metric.name, {})
    if not metric.labels:
        values = values or {(): [0.0]}
    for labels in sorted(values):
        family.add_metric(list(labels), together(values[labels]))
    return family  # type: ignore[no-any-return]


def _histogram(metric: Metric, snapshots: Sequence[Snapshot]) -> Family:
    counts = np.zeros(len(BUCKETS_S) + 1, np.int64)
    for snapshot in snapshots:
        counts += np.array(snapshot.buckets, np.int64)
    bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
    buckets = list(zip(bounds, np.cumsum(counts).tolist(), strict=True))
    total_s = sum(snapshot.total_s for snapshot in snapshots)
    return HistogramMetricFamily(metric.name, metric.help, buckets=buckets, sum_value=total_s)


class _Collected(Collector):
    def __init__(self, found: Sequence[Family]) -> None:
        self._found = found

    def collect(self) -> Iterator[Family]:
        yield from self._found


def _alive(n: int) -> str:
    return "alive" if n else "no worker answers"


def _json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(status, "application/json", json.dumps(body).encode())
