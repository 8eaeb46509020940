"""Daily aggregates and 90 daily snapshots from a generated lake: seconds and peak memory.

Budget: 10 million events of 100,000 customers over 90 days in under 2 minutes and under 6 GB on 2 cores; a further day
costs a day. Activity and offers are skewed as in a shop (the busiest hundredth of the customers makes a tenth of the
events), hours and the 20 categories are not. Left out: making the events. The builds run in a process of their own,
whose memory and processor time are reported. Run it with
`.venv/bin/python -m bench.features [--events N] [--customers N] [--days N]`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

FIRST = date(2026, 1, 1)
GENERATE = """COPY (
    SELECT
        uuid()::VARCHAR AS event_id,
        CASE WHEN u < 0.30 THEN 'visit' WHEN u < 0.50 THEN 'view' WHEN u < 0.85 THEN 'impression'
             WHEN u < 0.92 THEN 'click' WHEN u < 0.95 THEN 'accept' ELSE 'purchase' END AS event_type,
        'c-' || floor(random() ** 2 * {customers})::INTEGER AS customer_id,
        happened AS occurred_at, happened AS received_at,
        NULL::VARCHAR AS decision_id,
        CASE WHEN u BETWEEN 0.50 AND 0.95 THEN 'o-' || o END AS offer_id,
        CASE WHEN u BETWEEN 0.50 AND 0.95 THEN 'home-hero' END AS placement_id,
        NULL::VARCHAR AS session_id,
        CASE WHEN random() < 0.6 THEN 'web' ELSE 'app' END AS channel,
        CASE WHEN u BETWEEN 0.30 AND 0.95 THEN 'category-' || (o % 20) END AS category,
        CASE WHEN u >= 0.95 THEN (random() * 100)::DECIMAL(18, 4) END AS value,
        CASE WHEN u >= 0.95 THEN 'EUR' END AS currency,
        '{{}}' AS properties
    FROM (
        SELECT random() AS u, floor(random() ** 2 * 1000)::INTEGER AS o,
               TIMESTAMPTZ '{day} 00:00:00Z' + to_microseconds((random() * 86399e6)::BIGINT) AS happened
        FROM range({rows})
    ) ORDER BY occurred_at, event_id
) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"""
RUN = """
import json, resource, sys, time
from datetime import date
from pathlib import Path
from features.compute import build
from features.facts import Facts
from features.home import Home
home = Home(Path(sys.argv[1]))
facts = Facts(home.facts_db)
started, cpu = time.perf_counter(), time.process_time()
report = build(home, facts, until=date.fromisoformat(sys.argv[2]))
print(json.dumps({
    "days_aggregated": report.n_daily, "snapshots": report.n_snapshots, "customers": report.n_customers,
    "stored_columns": len(report.features.stored("customer")), "seconds": round(time.perf_counter() - started, 1),
    "cpu_s": round(time.process_time() - cpu, 1),
    "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
}))
"""


def main() -> None:
    """One line of JSON for the whole history, and one for the day after it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=10_000_000)
    options.add_argument("--customers", type=int, default=100_000)
    options.add_argument("--days", type=int, default=90)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), given.events, given.customers, given.days + 1)
        for name, until in (("history", given.days), ("one more day", given.days + 1)):
            day = (FIRST + timedelta(days=until)).isoformat()
            load = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
            print(json.dumps({"build": name, "events": given.events, **measure(Path(folder), day), **load}), flush=True)


def generate(root: Path, events: int, customers: int, days: int) -> None:
    """A lake of `days` days, the last of them beyond the history that is measured first."""
    import duckdb

    from features.data_settings import DataSettings
    from features.facts import Facts, LakeFile
    from features.home import Home

    home = Home(root)
    facts = Facts(home.facts_db)
    facts.set_data_settings(DataSettings(snapshot_days=90))
    rows = events // (days - 1)
    with duckdb.connect() as db:
        db.execute("SET enable_progress_bar = false")  # it would write to stdout
        db.execute("SET TimeZone = 'UTC'")
        for n in range(days):
            day = (FIRST + timedelta(days=n)).isoformat()
            path = home.lake / "events" / f"day={day}" / "bench.parquet"
            path.parent.mkdir(parents=True)
            db.execute(GENERATE.format(customers=customers, rows=rows, day=day, path=path))
            listed = LakeFile("events", path.relative_to(home.lake).as_posix(), day, rows, f"bench-{day}", "bench")
            facts.add_lake_files([listed])
    facts.close()


def measure(root: Path, until: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", RUN, str(root), until], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
