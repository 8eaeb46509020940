"""An experiment of 10 million units analysed, from Parquet to the verdict: seconds and peak memory.

Budget: 10 million exposures and 20 million events, 5 metrics with the days before exposure (CUPED), two segments and
the effect by days since exposure, in under 60 s and under 4 GB on 2 cores; exit 1 when missed. Activity is skewed as in
a shop; half of the events lie before the exposure. Left out: making the tables, and looks at earlier moments, each of
which asks for the primary metric once more (`--looks`). The analysis runs in a process of its own, whose memory and
processor time are reported. Run it with
`.venv/bin/python -m bench.experiments [--units N] [--events N] [--looks N]`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BUDGET_S, BUDGET_GB = 60.0, 4.0
METRICS = (
    "offer_value_per_visitor", "acceptance_rate", "click_through_rate", "revenue_per_customer", "customer_engagement",
)  # fmt: skip
EXPOSURES = """COPY (
    SELECT 'e' AS experiment_id, 1 AS phase, 'c-' || n AS unit_id, 'c-' || n AS customer_id,
        CASE WHEN hash(n) % 2 = 0 THEN 'control' ELSE 'treatment' END AS variant,
        TIMESTAMPTZ '2026-03-01 00:00:00Z' + to_microseconds((random() * 14 * 86400e6)::BIGINT) AS exposed_at,
        'd-' || n || '-0' AS decision_id,
        CASE hash(n, 1) % 3 WHEN 0 THEN 'web' WHEN 1 THEN 'app' ELSE 'mail' END AS channel,
        CASE WHEN hash(n, 2) % 4 = 0 THEN 'new' ELSE 'returning' END AS tenure
    FROM range({units}) t(n)
) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"""
EVENTS = """COPY (
    SELECT uuid()::VARCHAR AS event_id,
        CASE WHEN u < 0.30 THEN 'visit' WHEN u < 0.50 THEN 'view' WHEN u < 0.85 THEN 'impression'
             WHEN u < 0.92 THEN 'click' WHEN u < 0.95 THEN 'accept' ELSE 'purchase' END AS event_type,
        'c-' || c AS customer_id, happened AS occurred_at, happened AS received_at,
        CASE WHEN u BETWEEN 0.50 AND 0.95 THEN 'd-' || c || '-' || o END AS decision_id,
        CASE WHEN u BETWEEN 0.50 AND 0.95 THEN 'o-' || o END AS offer_id,
        CASE WHEN u BETWEEN 0.50 AND 0.95 THEN 'home-hero' END AS placement_id,
        NULL::VARCHAR AS session_id, 'web' AS channel, NULL::VARCHAR AS category,
        CASE WHEN u >= 0.95 THEN (random() * 100)::DECIMAL(18, 4) END AS value,
        CASE WHEN u >= 0.95 THEN 'EUR' END AS currency, '{{}}' AS properties
    FROM (
        SELECT random() AS u, floor(random() ** 1.3 * {units})::BIGINT AS c, floor(random() * 5)::INTEGER AS o,
            TIMESTAMPTZ '2026-02-15 00:00:00Z' + to_microseconds((random() * 45 * 86400e6)::BIGINT) AS happened
        FROM range({rows})
    )
) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"""
RUN = """
import json, resource, sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from experiments.analysis import analyse
from experiments.tables import tables_of
from features.catalogue import Offer, Treatment
from features.experiment import Experiment, Variant
folder, names, n_looks = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
offers = [
    Offer(offer_id=f"o-{n}", name=str(n), value=10.0 + n, currency="EUR", treatments=(Treatment(treatment_id="a"),))
    for n in range(5)
]
started_at, at = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
experiment = Experiment(
    experiment_id="e", hypothesis="none: both variants are the same",
    variants=(Variant(name="control", weight=0.5, is_control=True), Variant(name="treatment", weight=0.5)),
    primary_metric=names[0], secondary_metrics=tuple(names[1:]), planned_units=10_000_000, status="running",
    started_at=started_at,
)
looks = [at - (n + 1) * timedelta(days=2) for n in reversed(range(n_looks))]
started, cpu = time.perf_counter(), time.process_time()
with tables_of(
    events=f"SELECT * FROM read_parquet('{folder}/events-*.parquet')",
    exposures=f"SELECT * FROM read_parquet('{folder}/exposures.parquet')",
    offers=offers, folder=folder,
) as tables:
    found = analyse(experiment, tables, at, segments=("channel", "tenure"), looks=[*looks, at])
seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
print(json.dumps({
    "units": found.n_units, "verdict": found.verdict.decision,
    "effects": {m.metric: [e.relative and round(e.relative, 4) for e in m.effects] for m in found.metrics},
    "segments": len(found.segments), "looks": n_looks,
    "seconds": round(seconds, 1), "cpu_s": round(cpu_s, 1),
    "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
}))
"""


def main() -> None:
    """One line of JSON; exit 1 when the budget is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--units", type=int, default=10_000_000)
    options.add_argument("--events", type=int, default=20_000_000)
    options.add_argument("--looks", type=int, default=0, help="earlier moments that are looked at too")
    options.add_argument("--keep", type=Path, help="a folder whose tables are used again")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        generate(folder, given.units, given.events)
        print("analysing", file=sys.stderr)
        command = [sys.executable, "-c", RUN, str(folder), ",".join(METRICS), str(given.looks)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    met = found["seconds"] < BUDGET_S and found["peak_rss_gb"] < BUDGET_GB
    load = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "met": met}
    print(json.dumps({"exposures": given.units, "events": given.events, **found, **load}), flush=True)
    if not met:
        sys.exit(1)


def generate(folder: Path, units: int, events: int, parts: int = 10) -> None:
    """Exposures in one file, events in several."""
    import duckdb

    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as db:
        db.execute("SET enable_progress_bar = false")  # it would write to stdout
        db.execute("SET TimeZone = 'UTC'")
        if not (folder / "exposures.parquet").exists():
            print("making exposures", file=sys.stderr)
            db.execute(EXPOSURES.format(units=units, path=folder / "exposures.parquet"))
        for n in range(parts):
            path = folder / f"events-{n}.parquet"
            if not path.exists():
                print(f"making events, part {n + 1} of {parts}", file=sys.stderr)
                db.execute(EVENTS.format(units=units, rows=events // parts, path=path))


if __name__ == "__main__":
    main()
