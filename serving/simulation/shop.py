"""Where a simulation takes place: the shop that a demo left, or a new one, and a copy of it for every policy."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from features.errors import BadInput
from features.events import from_us
from features.experiment import Experiment
from features.facts import Facts
from features.home import Home
from features.sqlite_log import SqliteLog
from serving.demo.history import make_history
from serving.demo.response import Crowd, new_crowd
from serving.demo.story import BORN, Born
from serving.demo.world import PLACEMENTS, Size, World, catalogue, make_world
from serving.experiment_lifecycle import stopped
from serving.simulation.arms import Arm, pointer_of

OPENING = datetime(2026, 1, 5, tzinfo=UTC)  # of a new shop: a Monday
COPIED = ("facts.db", "log.db", "learning.db")
NEWEST = 1_000  # rows of a log among which its newest event is looked for


@dataclass(frozen=True, slots=True)
class Shop:
    """A world, how its customers feel, and the home of its service, which is never written to."""

    world: World
    crowd: Crowd
    home: Home
    start_us: int  # when the simulation begins, in the world's time
    is_new: bool

    def people(self) -> Crowd:
        """The crowd as it is at the start; each life changes its own."""
        crowd = self.crowd
        return Crowd(crowd.fatigue.copy(), crowd.spent.copy(), crowd.felt_us.copy(), crowd.gone.copy())


def is_demo(home: Home) -> bool:
    return _born(home) is not None


def demo_shop(home: Home) -> Shop:
    """The shop that `nbo demo --keep` left, as it stands; `BadInput` if the home is none."""
    born = _born(home)
    if born is None:
        raise BadInput(f"{home.root} does not hold a demo's shop; make one with `nbo demo --keep DIR`", "home")
    world = make_world(
        born.seed, Size(n_customers=born.n_customers, n_offers=born.n_offers, n_days=born.n_days), born.now
    )
    _, crowd = make_history(world)
    return Shop(world, crowd, home, max(world.now_us, _newest_us(home) + 1), is_new=False)


def new_shop(folder: Path, *, seed: int, n_customers: int, n_offers: int, now: datetime = OPENING) -> Shop:
    """A shop that opens now: its catalogue is there, and nothing was trained or happened."""
    world = make_world(seed, Size(n_customers=n_customers, n_offers=n_offers, n_days=1), now)
    home = Home(folder)
    with closing(Facts(home.facts_db)) as facts:
        for placement in PLACEMENTS:
            facts.put(placement, now)
        for offer in catalogue(world):
            facts.put(offer, now)
    return Shop(world, new_crowd(world), home, world.now_us, is_new=True)


@contextmanager
def copy_of(shop: Shop, arm: Arm) -> Iterator[Home]:
    """A home of its own for one arm, whose champion is the arm's release, and where no experiment runs, for a variant
    may set another policy than the arm's; gone afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="nbo-simulate-", ignore_cleanup_errors=True) as folder:
        home = Home(Path(folder))
        for name in COPIED:
            if (shop.home.root / name).exists():
                _copy_database(shop.home.root / name, home.root / name)
        _stop_experiments(home, from_us(shop.start_us))
        if shop.home.feast.exists():
            home.feast.symlink_to(shop.home.feast)
        pointer = pointer_of(shop.home, arm)
        if pointer is not None:
            home.releases.mkdir()
            (home.releases / pointer.release).symlink_to(shop.home.releases / pointer.release)
            (home.releases / "champion.json").write_bytes(msgspec.json.encode(pointer))
        yield home


def running_in(home: Home) -> tuple[Experiment, ...]:
    """The experiments that run there, by id."""
    if not home.facts_db.exists():
        return ()
    with closing(Facts(home.facts_db)) as facts:
        running = [one for one in facts.catalogue().experiments if one.status == "running"]
    return tuple(sorted(running, key=lambda one: one.experiment_id))


def _stop_experiments(home: Home, at: datetime) -> None:
    running = running_in(home)
    if not running:
        return
    with closing(Facts(home.facts_db)) as facts:
        for one in running:
            facts.put(stopped(one, "policies are compared", at), at)


def _copy_database(source: Path, target: Path) -> None:
    """As of one moment, also while somebody writes."""
    reading = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)
    with closing(reading) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def _born(home: Home) -> Born | None:
    if not home.facts_db.exists():
        return None
    with closing(Facts(home.facts_db)) as facts:
        text = facts.meta(BORN)
    return msgspec.json.decode(text, type=Born) if text is not None else None


def _newest_us(home: Home) -> int:
    """When the newest thing in the log happened; 0 if nothing did."""
    if not home.log_db.exists():
        return 0
    with closing(SqliteLog(home.log_db)) as log:
        last = log.last_position()
        events = log.events_after(max(0, last - NEWEST), NEWEST)
        decisions = log.decided_after(max(0, last - NEWEST), NEWEST)
    return max((*(one.occurred_us for one in events), *(one.decided_us for one in decisions)), default=0)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """With these variables set."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
