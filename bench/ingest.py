"""Ingest of a generated log from Parquet: rows per second and peak memory.

Budget: 10 million events at 300,000 rows/s in under 2 GB on 2 cores. The events are in random order over 90 days, of
100,000 customers and 1,000 offers, with random 36-character ids: nothing that a real export would make slower to sort.
Left out: making the events. The ingest runs in a process of its own, whose peak memory is what is reported.
Run it with `.venv/bin/python -m bench.ingest [--rows N] [--again]`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

GENERATE = """COPY (
    SELECT
        uuid()::VARCHAR AS event_id,
        CASE WHEN u < 0.35 THEN 'visit' WHEN u < 0.60 THEN 'view' WHEN u < 0.85 THEN 'impression'
             WHEN u < 0.92 THEN 'click' WHEN u < 0.95 THEN 'accept' ELSE 'purchase' END AS event_type,
        'c-' || (random() * 100000)::INTEGER AS customer_id,
        TIMESTAMPTZ '2026-01-01 00:00:00Z' + to_microseconds((random() * 90 * 86400e6)::BIGINT) AS occurred_at,
        CASE WHEN u BETWEEN 0.60 AND 0.95 THEN 'o-' || (random() * 999)::INTEGER END AS offer_id,
        CASE WHEN u BETWEEN 0.60 AND 0.95 THEN 'home-hero' END AS placement_id,
        's-' || (random() * 3000000)::INTEGER AS session_id,
        CASE WHEN random() < 0.6 THEN 'web' ELSE 'app' END AS channel,
        CASE WHEN u >= 0.95 THEN round(random() * 100, 2) END AS value,
        CASE WHEN u >= 0.95 THEN 'EUR' END AS currency
    FROM (SELECT random() AS u FROM range({rows}))
) TO '{folder}/events.parquet' (FORMAT parquet)"""
OFFERS = """COPY (
    SELECT 'o-' || i AS offer_id, 'offer ' || i AS name, 1.0 AS value FROM range(1000) AS numbers(i)
) TO '{folder}/offers.parquet'"""
RUN = """
import json, resource, sys, time
from datetime import UTC, datetime
from pathlib import Path
from features.facts import Facts
from features.home import Home
from features.ingest import ingest
home, source = Home(Path(sys.argv[1])), Path(sys.argv[2])
facts = Facts(home.facts_db)
started, cpu = time.perf_counter(), time.process_time()
report = ingest(home, facts, source, now=datetime(2026, 4, 1, tzinfo=UTC))
seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
events = report.tables[-1]
print(json.dumps({
    "rows": events.n_rows, "kept": events.kept, "duplicates": events.duplicates, "seconds": round(seconds, 1),
    "rows_per_s": round(events.n_rows / seconds), "cpu_s": round(cpu, 1),
    "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
}))
"""


def main() -> None:
    """Print one line of JSON per run; the second, with --again, finds every row known."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--again", action="store_true", help="ingest the same file a second time")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), given.rows)
        for run in ("first", "again") if given.again else ("first",):
            print(
                json.dumps({"run": run, "cores": os.cpu_count(), "load": os.getloadavg()[0], **measure(Path(folder))})
            )


def generate(folder: Path, rows: int) -> None:
    import duckdb

    (folder / "source").mkdir()
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET memory_limit = '1GB'")
        con.execute(OFFERS.format(folder=folder / "source"))
        con.execute(GENERATE.format(folder=folder / "source", rows=rows))


def measure(folder: Path) -> dict[str, float]:
    command = [sys.executable, "-c", RUN, str(folder / "home"), str(folder / "source")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
