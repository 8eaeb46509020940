"""The speed of answers: our decision beside an empty endpoint, `mlflow models serve` and `feast serve`, in one run.

One worker unless said; the load comes from a process of its own on the same machine, over 16 connections in a closed
loop, and at fixed rates in an open loop with latencies counted from when a request was due. Every case is measured in
rounds, each beside the empty endpoint; `ratio` is the median over the rounds of its throughput to that of the empty
endpoint under the same load, `p99_ratio` the same of p99. The first seconds of every round are a warm-up and do not
count. A visit is five page views; of `closed_16_strangers` it is one. A row without offers does not depend on them.
Budget at 1,000 offers: ratio at least 0.7, p99_ratio at most 2; at least 10 times `mlflow models serve`; 2 workers at
least 1.7 times one on two free cores (the load generator needs a third). Left out: the network, TLS.

Run it with `.venv/bin/python -m bench.serving [--quick] [--only CASE …] [--out bench/results.json]`; it takes about
half an hour, with --quick about five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np

from bench import servers
from bench.load import post, write_requests
from bench.servers import Running, running
from bench.synthetic import AT, Made, customer_name, make_customers, with_offers
from features.events import to_us

CLOSED = "closed_16"
CASES = ("empty", "decision", "workers", "mlflow_serve", "feast_serve", "events", "memory")
N_REQUESTS = 40_000  # asked in turn, then from the beginning
PAGE_VIEWS, AT_A_TIME = 5, 500  # of a visit, and visits that go on beside each other
COMPARED = 1_000  # offers, where others are compared with
EVENTS_PER_BATCH = 100
MOST_BATCHES_PER_S = 500  # that are made in advance; a faster server would see some of them twice


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and how much."""

    offers: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    customers: int = 100_000
    rounds: int = 3
    seconds: float = 8.0
    warm_up_s: float = 3.0
    rates: tuple[int, ...] = (250, 500, 1_000, 2_000)
    customers_in_memory: int = 1_000_000


QUICK = Plan(
    offers=(100, 1_000), customers=5_000, rounds=2, seconds=2.0, warm_up_s=1.0, rates=(250,), customers_in_memory=50_000
)


Pair = tuple[dict[str, Any], dict[str, Any]]  # one round of a case, and the empty endpoint's round after it


@dataclass(slots=True)
class Bench:
    """What is there while measuring."""

    folder: Path
    plan: Plan
    rows: list[dict[str, Any]] = field(default_factory=list)
    homes: dict[Path, Made] = field(default_factory=dict)

    def row(
        self,
        case: str,
        offers: int | None,
        load: str,
        workers: int,
        pairs: Sequence[Pair],
        rss_mb: float | None,
        **more: Any,
    ) -> None:
        """The figures of the median round, and the medians of the ratios."""
        by = "p99_ms" if load.startswith("open") else "rps"
        middle = sorted((one for one, _ in pairs), key=lambda one: one.get(by, 0.0))[len(pairs) // 2]
        row: dict[str, Any] = {"case": case, "offers": offers, "load": load, "workers": workers}
        row |= {name: middle.get(name) for name in ("rps", "p50_ms", "p99_ms", "p999_ms")}
        row |= {"rss_mb": rss_mb, "ratio": _rps(pairs)}
        row["p99_ratio"] = median(one["p99_ms"] / other["p99_ms"] for one, other in pairs)
        row["over_50_ms"] = max(one["over_50_ms"] for one, _ in pairs)
        for name in ("errors", "lost", "degraded"):
            row[name] = sum(one[name] for one, _ in pairs)
        row = {name: _rounded(value) for name, value in {**row, **more}.items()}
        self.rows.append(row)
        print(json.dumps(row), flush=True)

    def load(self, asked: Asked, seed: int, rate: float | None = None) -> dict[str, Any]:
        command = [
            sys.executable, "-m", "bench.load", "--port", str(asked.server.port), "--requests", str(asked.requests),
            "--seconds", str(self.plan.seconds), "--warm-up", str(self.plan.warm_up_s), "--seed", str(seed),
        ]  # fmt: skip
        if rate is not None:
            command += ["--rate", str(rate)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, Any] = json.loads(done.stdout)
        if found["example"]:
            print(f"one of {found['errors']} errors: {found['example']}", file=sys.stderr)
        if not found["n"]:
            raise SystemExit(f"nothing was answered: {found}")
        return found

    def serve(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], ready: str
    ) -> AbstractContextManager[Running]:
        return running(command, environment, self.folder / f"{name}.log", ready)

    def requests(self, name: str, wire: Iterable[bytes]) -> Path:
        path = self.folder / f"{name}.requests"
        write_requests(path, wire)
        return path


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="short rounds, small catalogues, few customers")
    options.add_argument("--only", nargs="+", choices=CASES, default=CASES)
    options.add_argument("--offers", type=int, nargs="+", help="sizes of the catalogue")
    options.add_argument("--rates", type=int, nargs="+", help="requests per second of the open loops")
    options.add_argument("--customers", type=int)
    options.add_argument("--seconds", type=float, help="of each round")
    options.add_argument("--out", type=Path, default=Path("bench/results.json"))
    options.add_argument("--folder", type=Path, help="where homes and logs are kept; without it a temporary folder")
    given = options.parse_args()
    plan = QUICK if given.quick else Plan()
    given_of = {name: getattr(given, name) for name in ("customers", "seconds", "offers", "rates")}
    plan = replace(plan, **{name: tuple(v) if isinstance(v, list) else v for name, v in given_of.items() if v})
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder.resolve(), plan)
        run(bench, given.only)
    given.out.write_text(json.dumps(bench.rows, indent=1) + "\n")
    print(table(bench.rows))
    failed = sum(row["errors"] + row["lost"] for row in bench.rows)
    if failed:
        raise SystemExit(f"{failed} requests were answered with an error or not at all")


def run(bench: Bench, cases: Sequence[str]) -> None:
    """All cases, each beside an empty endpoint that is up all the time."""
    plan = bench.plan
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {plan}", flush=True)
    customers = bench.folder / "customers"
    if not (customers / "made").exists():
        make_customers(customers, plan.customers)
        (customers / "made").touch()
    with bench.serve("empty", servers.empty(), {}, "/openapi.json") as server:
        empty = Asked(server, bench.requests("of-empty", decisions(plan.customers, "")))
        if "empty" in cases:
            measure(bench, "empty", None, empty, empty, plan.rates)
        if "decision" in cases:
            for n in plan.offers:
                with ours(bench, home_with(bench, n)) as decision:
                    measure(bench, "decision", n, decision, empty, plan.rates if n == COMPARED else ())
                    if n == COMPARED:
                        measure_strangers(bench, decision, empty)
        if "mlflow_serve" in cases:
            with mlflow_serve(bench, home_with(bench, COMPARED)) as other:
                measure(bench, "mlflow_serve", COMPARED, other, empty)
        if "feast_serve" in cases:
            with feast_serve(bench, home_with(bench, COMPARED)) as other:
                measure(bench, "feast_serve", None, other, empty)
        if "events" in cases:
            measure_events(bench, empty)
    if "workers" in cases:
        measure_workers(bench)
    if "memory" in cases:
        measure_memory(bench)


@dataclass(frozen=True, slots=True)
class Asked:
    """A server, and what it is asked."""

    server: Running
    requests: Path


def measure(
    bench: Bench,
    case: str,
    offers: int | None,
    asked: Asked,
    beside: Asked,
    rates: Sequence[int] = (),
    workers: int = 1,
) -> None:
    """One row for the closed loop and one per rate: the figures of the median round."""
    for rate in (None, *rates):
        pairs = []
        for n in range(bench.plan.rounds):
            one = bench.load(asked, n, rate)
            pairs.append((one, one if asked is beside else bench.load(beside, n, rate)))
        load = CLOSED if rate is None else f"open_{rate}"
        bench.row(case, offers, load, workers, pairs, asked.server.rss_mb())


def measure_strangers(bench: Bench, decision: Asked, empty: Asked) -> None:
    """Nobody who asks was there a moment ago, so that nothing of them is in memory."""
    made = home_with(bench, COMPARED)
    new = bench.requests("strangers", decisions(bench.plan.customers, made.key, page_views=1))
    asked = Asked(decision.server, new)
    pairs = [(bench.load(asked, n), bench.load(empty, n)) for n in range(bench.plan.rounds)]
    bench.row("decision", COMPARED, f"{CLOSED}_strangers", 1, pairs, decision.server.rss_mb())


def measure_events(bench: Bench, empty: Asked) -> None:
    """Batches of 100, each on disk before it is answered; every round sends events that were not sent before."""
    made = home_with(bench, COMPARED)
    pairs = []
    with ours(bench, made) as asked:
        for n in range(bench.plan.rounds):
            n_batches = int((bench.plan.seconds + bench.plan.warm_up_s) * MOST_BATCHES_PER_S)
            sent = bench.requests(f"events-{n}", event_batches(made, n, n_batches))
            pairs.append((bench.load(Asked(asked.server, sent), 0), bench.load(empty, n)))
            sent.unlink()
        per_s = median(one["rps"] for one, _ in pairs) * EVENTS_PER_BATCH
        bench.row("events", COMPARED, CLOSED, 1, pairs, asked.server.rss_mb(), events_per_s=round(per_s))


def measure_workers(bench: Bench) -> None:
    """Two workers beside one of our own; then two empty ones beside one, which is what the machine allows."""
    made = home_with(bench, COMPARED)
    with ours(bench, made) as one, ours(bench, made, workers=2) as two:
        pairs = [(bench.load(two, n), bench.load(one, n)) for n in range(bench.plan.rounds)]
        rss_mb = two.server.rss_mb()
    requests = bench.requests("of-empty", decisions(bench.plan.customers, ""))
    with (
        bench.serve("empty-1", servers.empty(), {}, "/openapi.json") as least,
        bench.serve("empty-2", servers.empty(2), {}, "/openapi.json") as most,
    ):
        empties = [
            (bench.load(Asked(most, requests), n), bench.load(Asked(least, requests), n))
            for n in range(bench.plan.rounds)
        ]
        itself = [(both, both) for both, _ in empties]
        bench.row("empty", None, CLOSED, 2, itself, most.rss_mb(), to_one=_rps(empties))
    beside_empty = [(mine, other) for (mine, _), (other, _) in zip(pairs, empties, strict=True)]
    bench.row("decision", COMPARED, CLOSED, 2, beside_empty, rss_mb, to_one=_rps(pairs))


def measure_memory(bench: Bench) -> None:
    """One worker whose release knows a million customers, after it has answered some of them."""
    made = home_with(bench, COMPARED, in_release=bench.plan.customers_in_memory)
    with ours(bench, made) as asked:
        before = asked.server.rss_mb()
        found = bench.load(asked, 0)
        n = bench.plan.customers_in_memory
        more = {"customers": n, "rss_at_start_mb": _rounded(before)}
        bench.row("memory", COMPARED, f"customers_{n}", 1, [(found, found)], asked.server.rss_mb(), **more)


# Who is asked, and what


def home_with(bench: Bench, n_offers: int, in_release: int | None = None) -> Made:
    """Made once per run; the release knows all customers of the store, or as many as said."""
    known = in_release or bench.plan.customers
    root = bench.folder / f"offers-{n_offers}-customers-{known}"
    if root not in bench.homes:
        shutil.rmtree(root, ignore_errors=True)  # of an earlier run in the same folder
        bench.homes[root] = with_offers(bench.folder / "customers", root, n_offers, known)
    return bench.homes[root]


@contextmanager
def ours(bench: Bench, made: Made, workers: int = 1) -> Iterator[Asked]:
    name = f"nbo-{made.n_offers}-{workers}"
    with bench.serve(name, servers.ours(workers), made.environment(), "/livez") as server:
        yield Asked(server, bench.requests(name, decisions(min(bench.plan.customers, made.n_customers), made.key)))


@contextmanager
def mlflow_serve(bench: Bench, made: Made) -> Iterator[Asked]:
    """The same models over the same offers; the caller sends the features, because it reads none."""
    model, environment = bench.folder / "mlflow-model", {"MLFLOW_DISABLE_TELEMETRY": "true"}
    if not model.exists():
        save_mlflow_model(made, model)
    with bench.serve("mlflow", servers.mlflow_serve(model), environment, "/ping") as server:
        yield Asked(server, bench.requests("mlflow", invocations(made)))


@contextmanager
def feast_serve(bench: Bench, made: Made) -> Iterator[Asked]:
    """The stored features of one customer, as Feast's own server reads them; no model."""
    bodies = (
        {"feature_service": "customer_features", "entities": {"customer_id": [customer_name(n)]}}
        for n in range(min(made.n_customers, N_REQUESTS))
    )
    wire = (post("/get-online-features", json.dumps(body).encode()) for body in bodies)
    environment = {"FEAST_USAGE": "False"}
    with bench.serve("feast", servers.feast_serve(made.home.feast), environment, "/health") as server:
        yield Asked(server, bench.requests("feast", wire))


def decisions(n_customers: int, key: str, page_views: int = PAGE_VIEWS) -> Iterator[bytes]:
    """Three offers for one placement, page view by page view of visits of that many each, many visits at a time; one
    visitor in twenty is unknown."""
    headers = [("authorization", f"Bearer {key}")] if key else []
    for n in visits(n_customers, page_views):
        who = {"customer_id": customer_name(n)} if n % 20 else {"anonymous_id": f"visitor-{n}"}
        body = {
            **who,
            "placements": [{"placement_id": "home-hero", "limit": 3}],
            "context": {"page": "/", "device": "mobile"},
        }
        yield post("/v1/decisions", json.dumps(body).encode(), headers)


def visits(n_customers: int, page_views: int) -> Iterator[int]:
    """Whose page views follow each other, N_REQUESTS of them."""
    rng = np.random.default_rng(1)
    visitors = rng.integers(0, n_customers, N_REQUESTS // page_views + AT_A_TIME).tolist()
    for first in range(0, N_REQUESTS // page_views, AT_A_TIME):
        there = visitors[first : first + AT_A_TIME]
        for _ in range(page_views):
            yield from rng.permutation(there).tolist()


def event_batches(made: Made, part: int, n_batches: int) -> Iterator[bytes]:
    kinds = ("view", "impression", "click", "visit")
    for batch in range(n_batches):
        events = [
            {
                "event_id": f"bench-{part}-{batch}-{n}",
                "event_type": kinds[n % len(kinds)],
                "customer_id": customer_name((batch * EVENTS_PER_BATCH + n) % made.n_customers),
                "occurred_at": AT.isoformat(),
                "offer_id": f"o-{n % made.n_offers:06}",
                "placement_id": "home-hero",
                "channel": "web",
            }
            for n in range(EVENTS_PER_BATCH)
        ]
        body = json.dumps({"events": events}).encode()
        yield post("/v1/events", body, [("authorization", f"Bearer {made.key}")])


def invocations(made: Made) -> Iterator[bytes]:
    from features.facts import Facts
    from features.live import features_of
    from features.online import open_online

    with closing(Facts(made.home.facts_db)) as facts:
        online = open_online(made.home, facts)
        assert online is not None
        for n in range(min(made.n_customers, 500)):
            name = customer_name(n)
            stored, profile = online.customer(name), facts.profile(name)
            features = features_of(online.feature_set, stored, (), profile, to_us(AT))
            record = {"customer_id": name, "features": json.dumps(features)}
            yield post("/invocations", json.dumps({"dataframe_records": [record]}).encode())
        online.close()


def save_mlflow_model(made: Made, path: Path) -> None:
    """In a process of its own, because MLflow takes its time to load and to go."""
    from features.facts import Facts

    offers = path.parent / "mlflow-offers.json"
    with closing(Facts(made.home.facts_db)) as facts:
        offers.write_bytes(msgspec.json.encode(facts.catalogue().offers))
    artifacts = {"release": str(made.home.releases / "1"), "offers": str(offers)}
    code = (
        "import mlflow, json, sys; mlflow.pyfunc.save_model(sys.argv[1], python_model='bench/mlflow_model.py', "
        "artifacts=json.loads(sys.argv[2]), pip_requirements=[])"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), json.dumps(artifacts)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"the model could not be saved for MLflow: {done.stderr[-2000:]}")


def _rps(pairs: Sequence[Pair]) -> float:
    """How many times as many requests per second the first answered; the median over the rounds."""
    return round(median(one["rps"] / other["rps"] for one, other in pairs), 3)


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown, for docs/explanation/performance.md."""
    columns = ("case", "offers", "load", "workers", "rps", "p50_ms", "p99_ms", "p999_ms", "rss_mb", "ratio")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        shown = ["" if row.get(name) is None else str(row[name]) for name in columns]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
