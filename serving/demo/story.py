"""The demo's way: a history, ingested, made into features and models, promoted and served, as a user would do it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import numpy as np
from rich.console import Console

from features.errors import Conflict, PromotionRefused
from features.facts import Facts
from features.home import Home
from serving.demo.history import ACCEPT, IMPRESSION, make_history
from serving.demo.panel import Level, line, watch
from serving.demo.response import Crowd
from serving.demo.service import running_service
from serving.demo.tables import write_tables
from serving.demo.visitors import Visitors
from serving.demo.world import Size, World, make_world
from serving.keys import PUBLIC_SCOPES, SCOPES, Keys

FULL = Size()
SMOKE = Size(n_customers=450, n_offers=24, n_days=30)
BORN = "demo_world"  # key in facts.db
SEED = 7


class Born(msgspec.Struct, frozen=True):
    """What a kept demo needs to make its world again."""

    seed: int
    n_customers: int
    n_offers: int
    n_days: int
    now: datetime


@dataclass(frozen=True, slots=True)
class Shop:
    """The simulated shop as it stands at the end of its history."""

    world: World
    crowd: Crowd
    level: Level  # of the history


def tell(home: Home, *, smoke: bool, n_visits: int | None, kept: bool, noted: threading.Event) -> int:
    """The whole demo in `home`; the exit code. Everything started is ended, also by Ctrl-C."""
    console = Console(stderr=True, highlight=False)
    step = _stepper(console, noted)
    with _as_user_of(home):
        with _stdout_to_stderr():  # stdout is for what the caller may want to read
            shop = _live_through(home, SMOKE if smoke else FULL, step)
            _learn(home, step)
            secret, public = _keys(home)
        step("serving: nbo serve")
        headers = {"Authorization": f"Bearer {secret}"}
        with (
            running_service(home, home.root / "demo" / "serve.log") as url,
            httpx.Client(base_url=url, headers=headers, timeout=30.0) as client,
        ):
            if smoke:
                print(json.dumps(_first_decision(client), indent=1))
                step(f"done; the state is in {home.root}, its secret key is {secret}" if kept else "done")
                return 0
            step("the service answers")
            _introduce(home, url, secret, public, kept)
            visitors = Visitors(shop.world, shop.crowd, client, np.random.default_rng())
            tally = watch(visitors.come(n_visits), shop.level, console)
            if tally.n_visits:
                console.print(line(tally), soft_wrap=True)
    step("everything is stopped" + (f"; the state is in {home.root}" if kept else ""))
    return 0


def _live_through(home: Home, size: Size, step: Callable[[str], None]) -> Shop:
    """The world, its history, and the history in the lake."""
    from serving.commands import ingest

    born = _born(home, size)
    size = Size(n_customers=born.n_customers, n_offers=born.n_offers, n_days=born.n_days)
    step(f"a shop: {size.n_customers:,} customers, {size.n_offers} offers, {size.n_days} days of history until now")
    world = make_world(born.seed, size, born.now)
    rows, crowd = make_history(world)
    tables = home.root / "demo" / "tables"
    write_tables(world, rows, tables)
    n_seen, n_accepted = int((rows.kind == IMPRESSION).sum()), int((rows.kind == ACCEPT).sum())
    earned = float(world.value[rows.offer[rows.kind == ACCEPT]].sum())
    step(f"{len(rows.us):,} events happened, {n_accepted:,} of {n_seen:,} shown offers were accepted: nbo ingest")
    code = ingest.run(str(tables), source=None, max_refused=None, as_json=False)
    if code:
        raise SystemExit(code)
    return Shop(world, crowd, Level(n_accepted / n_seen, earned / n_seen))


def _learn(home: Home, step: Callable[[str], None]) -> None:
    from serving.commands import features, models, train

    step("daily aggregates and snapshots: nbo features build")
    features.build(as_json=False)
    step("Feast's registry: nbo features apply")
    features.apply(as_json=False)
    step("into the online store: nbo features materialize")
    features.materialize(as_json=False)
    step("recommender, acceptance and churn: nbo train all")
    train.run("all", seed=SEED, as_json=False)
    step("the release: nbo models promote")
    try:
        models.promote("challenger", force=False, reason=None, as_json=False)
    except PromotionRefused as refusal:
        step(
            f"refused ({refusal}); promoted all the same, so that there is something to see: nbo models promote --force"
        )
        models.promote("challenger", force=True, reason=f"the demo shows what it has: {refusal}", as_json=False)


def _born(home: Home, size: Size) -> Born:
    """The world of a kept demo, or a new one; `Conflict` if the folder holds somebody's real data."""
    facts = Facts(home.facts_db)
    try:
        text = facts.meta(BORN)
        if text is not None:
            return msgspec.json.decode(text, type=Born)
        if facts.lake_files("events"):
            raise Conflict(f"{home.root} holds the data of a service that is not a demo; choose another folder")
        now = datetime.now(UTC).replace(microsecond=0)
        born = Born(SEED, size.n_customers, size.n_offers, size.n_days, now)
        facts.set_meta(BORN, msgspec.json.encode(born).decode())
        return born
    finally:
        facts.close()


def _keys(home: Home) -> tuple[str, str]:
    keys = Keys(home.facts_db)
    try:
        now = datetime.now(UTC)
        return keys.create("secret", SCOPES, "demo", now), keys.create("public", PUBLIC_SCOPES, "demo", now)
    finally:
        keys.close()


def _first_decision(client: httpx.Client) -> Any:
    question = {"customer_id": "c-00001", "placements": [{"placement_id": "home-hero", "limit": 1}]}
    answer = client.post("/v1/decisions", json=question)
    answer.raise_for_status()
    return answer.json()


def _introduce(home: Home, url: str, secret: str, public: str, kept: bool) -> None:
    """Addresses, keys, and three lines to paste."""
    post = f"curl -s {url}/v1/decisions -H 'Authorization: Bearer {secret}' -H 'Content-Type: application/json' -d"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    event = {"event_id": "mine-1", "event_type": "dismiss", "customer_id": "c-00017", "occurred_at": now}
    lines = (
        "",
        f"  service     {url}",
        f"  its docs    {url}/docs",
        f"  secret key  {secret}",
        f"  public key  {public}",
        *((f"  state       NBO_HOME={home.root}",) if kept else ()),
        "",
        "What should c-00017 be offered now? Somebody new? And after closing the first offer?",
        "",
        f"""{post} '{{"customer_id": "c-00017", "placements": [{{"placement_id": "home-strip", "limit": 3}}]}}'""",
        f"""{post} '{{"anonymous_id": "me", "placements": [{{"placement_id": "home-hero", "limit": 1}}]}}'""",
        f"{post.replace('/v1/decisions', '/v1/events')} '{json.dumps({'events': [event | {'offer_id': 'shoes-01'}]})}'",
        "",
    )
    print("\n".join(lines), flush=True)


@contextmanager
def _as_user_of(home: Home) -> Iterator[None]:
    """The environment in which `nbo` commands work on this home, at the real time."""
    before = dict(os.environ)
    os.environ["NBO_HOME"] = str(home.root)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads of small fits cost more than they save
    os.environ.pop("NBO_AS_OF", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """What Python and the libraries below it print to stdout goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _stepper(console: Console, noted: threading.Event) -> Callable[[str], None]:
    began = time.monotonic()

    def step(words: str) -> None:
        if noted.is_set():
            raise KeyboardInterrupt
        console.print(f"[{time.monotonic() - began:5.1f} s] {words}", markup=False, style="bold", soft_wrap=True)

    return step
