"""A full retraining on a generated log: features, three models, evaluation and registration; seconds and peak memory.

Budget: 10 million events of 100,000 customers and 1,000 offers over 90 days in under 15 minutes and 8 GB on 2 cores.
Each step is the command that a data scientist gives, in a process of its own; its peak memory is what is reported.
One customer in twenty makes a third of the events; one in eight leaves for good, on a day of its own; each has a
favourite among 20 categories, whose offers are accepted in 14 of 100 impressions, others in 2; an accept follows its
impression by a minute and names its decision. A step that leaves a model out fails. Left out: making the events, and
copying them into the lake. Run it with
`.venv/bin/python -m bench.retrain [--events N] [--customers N] [--offers N] [--keep DIR]`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

FIRST = date(2026, 1, 1)
DAYS = 90
BUDGET_S, BUDGET_GB = 900.0, 8.0
STEPS = (
    ("features build", ["features", "build"]),
    ("features apply", ["features", "apply"]),
    ("features materialize", ["features", "materialize"]),
    ("train all", ["train", "all"]),
    ("promote", ["models", "promote", "--force", "--reason", "bench"]),
)
GENERATE = """COPY (
    WITH anybody AS (
        SELECT random() AS u, random() AS taken, floor(random() ** 2 * {offers})::INTEGER AS o,
               CASE WHEN random() < 0.33 THEN floor(random() * {customers} / 20)::INTEGER
                    ELSE floor(random() * {customers})::INTEGER END AS c,
               uuid()::VARCHAR AS id,
               TIMESTAMPTZ '{day} 00:00:00Z' + to_microseconds((random() * 86300e6)::BIGINT) AS happened
        FROM range({rows})
    ), drawn AS (
        SELECT * REPLACE (CASE WHEN c % 8 = 3 AND {n} > 5 + c // 8 % 85 THEN (c + 1) % {customers} ELSE c END AS c)
        FROM anybody
    ), typed AS (
        SELECT *, CASE WHEN u < 0.30 THEN 'visit' WHEN u < 0.50 THEN 'view' WHEN u < 0.95 THEN 'impression'
                       ELSE 'purchase' END AS kind FROM drawn
    ), followed AS (
        SELECT id || '-a' AS event_id, 'accept' AS event_type, u, c, o, happened + INTERVAL 1 MINUTE AS happened,
               'd-' || id AS decision_id FROM typed
        WHERE kind = 'impression' AND taken < CASE WHEN o % 20 = c % 20 THEN 0.14 ELSE 0.02 END
    ), everything AS (
        SELECT id AS event_id, kind AS event_type, u, c, o, happened,
               CASE WHEN kind = 'impression' THEN 'd-' || id END AS decision_id FROM typed
        UNION ALL SELECT * FROM followed
    )
    SELECT
        event_id, event_type, 'c-' || c AS customer_id, happened AS occurred_at, happened AS received_at,
        decision_id,
        CASE WHEN event_type IN ('impression', 'accept') THEN 'o-' || o END AS offer_id,
        CASE WHEN event_type IN ('impression', 'accept') THEN 'home-hero' END AS placement_id,
        NULL::VARCHAR AS session_id,
        CASE WHEN c % 5 < 3 THEN 'web' ELSE 'app' END AS channel,
        CASE WHEN event_type <> 'visit' AND event_type <> 'purchase' THEN 'category-' || (o % 20) END AS category,
        CASE WHEN event_type = 'purchase' THEN (u * 100)::DECIMAL(18, 4) END AS value,
        CASE WHEN event_type = 'purchase' THEN 'EUR' END AS currency,
        '{{}}' AS properties
    FROM everything ORDER BY occurred_at, event_id
) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"""


def main() -> int:
    """One line of JSON per step and one for all of them; 1 where the budget is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=10_000_000)
    options.add_argument("--customers", type=int, default=100_000)
    options.add_argument("--offers", type=int, default=1_000)
    options.add_argument("--keep", type=Path, help="where to leave the home, for another look")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = given.keep or Path(scratch)
        n_events = generate(root, given.events, given.customers, given.offers)
        done = [run(root, name, arguments) for name, arguments in STEPS]
    total = {
        "step": "everything", "events": n_events, "seconds": round(sum(step["seconds"] for step in done), 1),
        "peak_rss_gb": max(step["peak_rss_gb"] for step in done), "cores": os.cpu_count(),
    }  # fmt: skip
    holds = total["seconds"] <= BUDGET_S and total["peak_rss_gb"] <= BUDGET_GB
    print(json.dumps({**total, "holds": holds}), flush=True)
    return int(not holds)


def generate(root: Path, events: int, customers: int, offers: int) -> int:
    """A home whose lake holds about `events` events of `DAYS` days; how many they are."""
    import duckdb

    from features.catalogue import Offer
    from features.data_settings import DataSettings
    from features.facts import Facts, LakeFile
    from features.home import Home

    home = Home(root)
    facts = Facts(home.facts_db)
    facts.set_data_settings(DataSettings(snapshot_days=DAYS))
    for o in range(offers):
        category, name = f"category-{o % 20}", f"o-{o}"
        offer = Offer(offer_id=name, name=name, value=1.0 + o % 7, currency="EUR", treatments=(), category=category)
        facts.put(offer, datetime.combine(FIRST, datetime.min.time(), UTC))
    rows = round(events / DAYS / 1.0117)  # 0.45 impressions of which 2.6 % are followed by an accept
    n_events = 0
    with duckdb.connect() as db:
        db.execute("SET enable_progress_bar = false")  # it would write to stdout
        db.execute("SET TimeZone = 'UTC'")
        for n in range(DAYS):
            day = (FIRST + timedelta(days=n)).isoformat()
            path = home.lake / "events" / f"day={day}" / "bench.parquet"
            path.parent.mkdir(parents=True)
            db.execute(GENERATE.format(customers=customers, offers=offers, rows=rows, n=n, day=day, path=path))
            kept = db.execute("SELECT count(*) FROM read_parquet($1)", [str(path)]).fetchall()[0][0]
            name = path.relative_to(home.lake).as_posix()
            facts.add_lake_files([LakeFile("events", name, day, kept, f"bench-{day}", "bench")])
            n_events += kept
    facts.close()
    return n_events


def run(root: Path, name: str, arguments: list[str]) -> dict[str, Any]:
    """One command on this home; `RuntimeError` with what it said if it fails."""
    at = f"{FIRST + timedelta(days=DAYS)}T00:00:00Z"
    environment = {**os.environ, "NBO_HOME": str(root), "NBO_AS_OF": at}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        command = [str(Path(sys.executable).with_name("nbo")), *arguments]
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode()
        if process.returncode or "not trainable:" in text:
            raise RuntimeError(f"nbo {' '.join(arguments)} ended with {process.returncode}: {text}")
    step = {
        "step": name, "seconds": round(time.perf_counter() - started, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1), "peak_rss_gb": round(used.ru_maxrss / 1e6, 2),
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    print(json.dumps(step), flush=True)
    return step


if __name__ == "__main__":
    sys.exit(main())
