"""How long a change of the catalogue takes until every worker decides with it, through the front door.

Each kind of change is made by PUT in turn, and readiness, which names the catalogue's version, is asked over one new
connection after the other: live is when the last worker has said the new version. `live_s` counts from before the PUT,
and holds the wait for the next look (0.2 s at most). Budget: under a second at 100,000 offers, on two free cores; both
workers prepare at once, and the asking takes its share of a core. `--prepare` measures what one worker does for it, in
process and in processor time, which a busy machine disturbs less. Left out: decisions going on meanwhile. Run it with
`.venv/bin/python -m bench.catalogue_change [--offers N …] [--workers N] [--rounds N] [--prepare]`, or with
`[--home DIR --key KEY]` of bench.synthetic; a line of JSON per size and kind.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from msgspec.structs import replace

from bench.servers import ours, running
from bench.synthetic import AT, Made, make_customers, with_offers
from features.catalogue import Cap, Offer
from features.home import Home

CUSTOMERS = 2_000
IN_A_ROW = 40  # answers of the new version, after which no worker is taken to have the old one
PATIENCE_S = 120.0
Body = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--offers", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--prepare", action="store_true")
    options.add_argument("--home", type=Path)
    options.add_argument("--key")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for made in homes(given, Path(folder)):
            log = Path(folder) / "server.log"
            lines = prepared(made, given.rounds) if given.prepare else measure(made, given.workers, given.rounds, log)
            for line in lines:
                print(json.dumps(line), flush=True)


def homes(given: argparse.Namespace, folder: Path) -> Iterator[Made]:
    if given.home is not None:
        yield Made(Home(given.home), given.key, given.offers[-1], CUSTOMERS)
        return
    make_customers(folder / "customers", CUSTOMERS)
    for n in given.offers:
        yield with_offers(folder / "customers", folder / f"offers-{n}", n, CUSTOMERS)


def measure(made: Made, workers: int, rounds: int, log: Path) -> Iterator[Body]:
    with running(ours(workers), made.environment(), log, ready="/readyz") as server:
        base, headers = f"http://127.0.0.1:{server.port}", {"Authorization": f"Bearer {made.key}"}
        with httpx.Client(base_url=base, headers=headers, timeout=60.0) as client:
            for kind, change in KINDS.items():
                took: list[tuple[float, float]] = []
                for n in range(rounds + 1):
                    version = change(client, n)
                    took.append(until_live(client, *version, base))
                took = took[1:]  # the first one may still compile
                yield {
                    "offers": made.n_offers,
                    "workers": workers,
                    "change": kind,
                    "live_s": round(median(live for _, live in took), 2),
                    "worst_live_s": round(max(live for _, live in took), 2),
                    "put_s": round(median(put for put, _ in took), 3),
                    "load": round(os.getloadavg()[0], 1),
                }


def prepared(made: Made, rounds: int) -> Iterator[Body]:
    """Processor time of one worker between a change and the edition that has it."""
    from serving.settings import Settings
    from serving.wiring import build

    service = build(Settings(home=made.home, as_of=AT, refresh_s=3600.0), alone=True)
    service.start()
    try:
        for kind, change in OF_OFFERS.items():
            took: list[float] = []
            for n in range(rounds + 1):
                service.facts.put(change(service.facts.get(Offer, f"o-{100 + n:06}").body, n), AT)
                began = time.thread_time()
                service.refresh()
                took.append(time.thread_time() - began)
                assert service.decider.edition.view.version == service.facts.catalogue_version()
            cpu = {"prepare_cpu_s": round(median(took[1:]), 2), "worst_cpu_s": round(max(took[1:]), 2)}
            yield {"offers": made.n_offers, "change": kind, **cpu, "load": round(os.getloadavg()[0], 1)}
    finally:
        service.close()


OF_OFFERS: dict[str, Callable[[Offer, int], Offer]] = {
    "price": lambda offer, n: replace(offer, value=offer.value + 1),
    "rule": lambda offer, n: replace(offer, eligibility=f"age >= {20 + time.time_ns() % 60} and spent_30d >= {n}"),
    "caps": lambda offer, n: replace(offer, caps=(Cap(limit=2 + time.time_ns() % 50, window="7d"),)),
    "archived": lambda offer, n: replace(offer, status="draft" if offer.status == "archived" else "archived"),
    "new": lambda offer, n: replace(offer, offer_id=f"new-{time.time_ns()}"),
}


def until_live(client: httpx.Client, path: str, body: Body, base: str) -> tuple[float, float]:
    """Seconds of the PUT, and from before it until the last answer of an older version came."""
    began = time.perf_counter()
    answer = client.put(path, json=body)
    answer.raise_for_status()
    put_s, wanted = time.perf_counter() - began, answer.json()["version"]
    last_old, in_a_row = began + put_s, 0
    while in_a_row < IN_A_ROW:
        version = served(base)
        now = time.perf_counter()
        in_a_row, last_old = (in_a_row + 1, last_old) if version >= wanted else (0, now)
        if now - began > PATIENCE_S:
            raise SystemExit(f"after {PATIENCE_S:.0f} s a worker still has version {version}, not {wanted}")
    return put_s, last_old - began


def served(base: str) -> int:
    """The version that one of the workers, whichever accepts, decides with."""
    checks = httpx.get(f"{base}/readyz", headers={"Connection": "close"}, timeout=60.0).json()["checks"]
    detail: str = next(check["detail"] for check in checks if check["name"] == "catalogue")
    return int(detail.removeprefix("version ").split(",")[0])


def _stored(client: httpx.Client, n: int) -> tuple[str, Body]:
    path = f"/v1/offers/o-{n:06}"
    return path, client.get(path).raise_for_status().json()


def price(client: httpx.Client, n: int) -> tuple[str, Body]:
    path, body = _stored(client, 10 + n)
    return path, {**body, "value": body["value"] + 1}


def rule(client: httpx.Client, n: int) -> tuple[str, Body]:
    path, body = _stored(client, 30 + n)
    return path, {**body, "eligibility": f"age >= {20 + time.time_ns() % 60} and spent_30d >= {n}"}


def caps(client: httpx.Client, n: int) -> tuple[str, Body]:
    path, body = _stored(client, 50 + n)
    return path, {**body, "caps": [{"limit": 2 + time.time_ns() % 50, "window": "7d"}], "inventory": 5_000 + n}


def archived(client: httpx.Client, n: int) -> tuple[str, Body]:
    path, body = _stored(client, 70 + n)
    return path, {**body, "status": "approved" if body["status"] == "archived" else "archived"}


def new(client: httpx.Client, n: int) -> tuple[str, Body]:
    _, body = _stored(client, 90)
    name = f"new-{time.time_ns()}-{n}"
    return f"/v1/offers/{name}", {**body, "treatments": [{"treatment_id": f"{name}/a"}], "starts_at": AT.isoformat()}


KINDS: dict[str, Callable[[httpx.Client, int], tuple[str, Body]]] = {
    "price": price,
    "rule": rule,
    "caps": caps,
    "archived": archived,
    "new": new,
}


if __name__ == "__main__":
    main()
