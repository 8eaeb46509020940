"""The main job on real data: raw tables to a decision over HTTP, with the tables and proofs that the docs quote.

`make prove-main`. Each data set gets a scratch NBO_HOME and is served as of the end of its data. Exit 1 when a step
fails, a proof fails, or a decision was degraded. Real data are read from ../shared/data, or from NBO_SHARED_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
NBO = Path(sys.executable).with_name("nbo")
WAIT_S = 60.0
console = Console(stderr=True)


@dataclass(frozen=True)
class DataSet:
    """One real data set and what its service is asked."""

    name: str
    recipe: str
    folder: str
    placement: str
    calibrated: bool  # whether it has impressions to learn acceptance from


DATA_SETS = (
    DataSet("Starbucks offers", "starbucks", "starbucks_offers", "app-offers", calibrated=True),
    DataSet("Online Retail", "online_retail", "online_retail", "shop-home", calibrated=False),
)
PROOFS = {
    "a planted feature that looks into the future is caught": "future",
    "snapshot + live equals a full recomputation at that instant (random histories)": "recomputation",
    "the direct read equals get_online_features": "get_online_features",
}


class Failed(Exception):
    """A step or a proof that did not hold."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[d.folder for d in DATA_SETS], help="one data set")
    parser.add_argument("--keep", type=Path, help="keep each NBO_HOME under this folder")
    args = parser.parse_args()
    shared = Path(os.environ.get("NBO_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not shared.is_dir():
        print(f"no real data at {shared}; set NBO_SHARED_DATA", file=sys.stderr)
        return 1
    failures = []
    for data_set in DATA_SETS:
        if args.only in (None, data_set.folder):
            with _folder(args.keep, data_set.folder) as home:
                failures += _guarded(lambda d=data_set, h=home: prove(d, shared / d.folder, h))
    failures += _guarded(prove_features)
    for failure in failures:
        print(f"FAILED  {failure}")
    print("all proofs hold" if not failures else f"{len(failures)} of the proofs failed")
    return int(bool(failures))


def _guarded(step: Any) -> list[str]:
    try:
        step()
    except (Failed, httpx.HTTPError) as error:
        return [str(error)]
    return []


@contextmanager
def _folder(keep: Path | None, name: str) -> Iterator[Path]:
    if keep is not None:
        (keep / name).mkdir(parents=True, exist_ok=True)
        yield keep / name
        return
    with tempfile.TemporaryDirectory(prefix="nbo-prove-") as folder:
        yield Path(folder)


def prove(data_set: DataSet, source: Path, home: Path) -> None:
    """From raw files to a decision for a real customer."""
    print(f"\n## {data_set.name}\n")
    environ = {**os.environ, "NBO_HOME": str(home)}
    _run(environ, "ingest", data_set.recipe, "--source", str(source))
    environ["NBO_AS_OF"] = _end_of_data(home)
    print(f"as of {environ['NBO_AS_OF']}, the end of its data\n")
    for command in ("features build", "features apply", "features materialize", "train all", "models promote"):
        _run(environ, *command.split())
    from features.home import Home
    from training.report import results_table

    print(results_table(Home(home)))
    checked = json.loads(_run(environ, "features", "check", "--customers", "1000", "--json"))
    _line(checked["ok"], f"online equals offline for every feature of {checked['n_customers']:,} real customers")
    _decide(data_set, home, environ)


def _decide(data_set: DataSet, home: Path, environ: dict[str, str]) -> None:
    key = _run(environ, "keys", "create", "--scope", "decide,events").strip()
    with _service(environ) as url, httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
        customer = _a_customer(home)
        question = {"customer_id": customer, "placements": [{"placement_id": data_set.placement, "limit": 3}]}
        before = client.post("/v1/decisions", json=question)
        _line(before.status_code == 200, f"a decision over HTTP for {customer}: {before.status_code}")
        answer = before.json()
        print(json.dumps(answer, indent=1))
        offers = answer["placements"][0]["offers"]
        _line(len(offers) == 3, f"{len(offers)} offers in the answer")
        _line(not answer["degraded"], f"not degraded: {answer['degraded']}")
        _line(all(0 < o["selection_probability"] <= 1 for o in offers), "every offer has its selection probability")
        _line(
            (answer["model_versions"]["acceptance"] is not None) == data_set.calibrated,
            "acceptance is calibrated" if data_set.calibrated else "no impressions, so no acceptance model is claimed",
        )
        _event_counts(client, question, customer, answer)


def _event_counts(client: httpx.Client, question: dict[str, Any], customer: str, answer: dict[str, Any]) -> None:
    """An accepted event is in the next decision's features."""
    offer = answer["placements"][0]["offers"][0]["offer_id"]
    events = [
        {
            "event_id": f"prove-{i}",
            "event_type": "impression",
            "customer_id": customer,
            "occurred_at": answer["decided_at"],
            "offer_id": offer,
            "decision_id": answer["decision_id"],
        }
        for i in range(3)
    ]
    told = client.post("/v1/events", json={"events": events})
    _line(told.status_code == 202 and told.json()["accepted"] == 3, f"3 impressions sent: {told.json()}")
    again = client.post("/v1/events", json={"events": events})
    _line(again.json()["duplicates"] == 3, f"the same 3 again are duplicates: {again.json()}")
    seen = client.get(f"/v1/customers/{customer}").json()
    recent = [e["event_id"] for e in seen["recent_interactions"]]
    _line("prove-0" in recent, "the impressions are in the customer's recent interactions")
    after = client.post("/v1/decisions", json=question)
    _line(after.status_code == 200 and not after.json()["degraded"], "the next decision answers, not degraded")


def prove_features() -> None:
    """The laws of the features, from the test suite."""
    print("\n## Features\n")
    for sentence, word in PROOFS.items():
        command = [sys.executable, "-m", "pytest", "-q", "tests/features", "-k", word, "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        _line(done.returncode == 0, f"{sentence} ({done.stdout.strip().splitlines()[-1]})")


def _line(holds: bool, sentence: str) -> None:
    print(f"{'ok     ' if holds else 'FAILED '} {sentence}", flush=True)
    if not holds:
        raise Failed(sentence)


def _run(environ: dict[str, str], *arguments: str) -> str:
    started = time.perf_counter()
    console.print(f"nbo {' '.join(arguments)}", style="dim")
    done = subprocess.run([NBO, *arguments], env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"nbo {' '.join(arguments)} exited {done.returncode}: {done.stderr.strip()[-2000:]}")
    shown = "nbo " + " ".join(a for a in arguments if not a.startswith("/"))
    if "create" not in arguments:
        print(f"ok      {shown} ({time.perf_counter() - started:.1f} s)", flush=True)
    return done.stdout


def _end_of_data(home: Path) -> str:
    """One second after the last event."""
    last: datetime = _from_lake(home, "SELECT max(occurred_at) FROM read_parquet(?)")
    return (last + timedelta(seconds=1)).isoformat()


def _a_customer(home: Path) -> str:
    """The customer with the most offers taken or bought; ties by id."""
    query = (
        "SELECT customer_id FROM read_parquet(?) WHERE event_type IN ('accept', 'purchase') "
        "GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
    )
    return str(_from_lake(home, query))


def _from_lake(home: Path, query: str) -> Any:
    """The first value of a query over all events."""
    import duckdb

    from features.facts import Facts
    from features.home import Home

    facts = Facts(Home(home).facts_db)
    files = [str(Home(home).lake / file.path) for file in facts.lake_files("events")]
    facts.close()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        row = connection.execute(query, [files]).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def _service(environ: dict[str, str]) -> Iterator[str]:
    """A real `nbo serve` on a free port, ended at the end."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([NBO, "serve", "--port", str(port)], env=environ, stdout=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_ready(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"nbo serve exited {process.returncode}")
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise Failed(f"the service was not ready after {WAIT_S:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
