"""How fast exported releases score, how much memory they take, and how much of the catalogue they recommend.

Measured in a process of its own that loads nothing but scorers, as a worker of the service does; releases take turns,
and times are those of the processor, so that what else the machine does refuses nobody. Run as
`python -m training.gates.measure SPEC`.
"""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.errors import BrokenRelease
from features.events import parse_time, to_us
from training.scorers import Release, load_release

ROUNDS = 3  # the quickest one counts: what else the machine does only ever adds, to caches too
MOST_CALLS, SECONDS = 1_000, 0.4  # of one release in one round
FEWEST_CALLS = 100
LISTED, DEPTH = 300, 10  # customers whose best offers are looked at, and how many of these
PATIENCE_S = 600.0
MB = 1_000_000


class Times(msgspec.Struct, frozen=True):
    """Affinity and P(accept) of every offer for one customer, features left at their defaults; processor time."""

    p50_ms: float
    p99_ms: float
    n_calls: int  # of each round
    n_offers: int


class Lists(msgspec.Struct, frozen=True):
    """What the release would recommend."""

    n_customers: int  # whose ten best offers were looked at
    share: float  # of the catalogue that is among them
    known: float  # share of the catalogue that the release was trained with


class Measured(msgspec.Struct, frozen=True):
    """Of each release, in the order asked for; memory is that of the first alone."""

    times: list[Times]
    lists: list[Lists]
    size_mb: list[float]  # of its files
    memory_mb: float  # by which the process grew in loading the first and preparing it for the catalogue


class Spec(msgspec.Struct, frozen=True):
    folders: list[str]
    offers: list[Offer]  # none: those that the first was trained with


def measure(folders: Sequence[Path], offers: Sequence[Offer] = ()) -> Measured:
    """`BrokenRelease` if one cannot be loaded or does not answer."""
    spec = Spec([str(folder) for folder in folders], list(offers))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "spec.json"
        path.write_bytes(msgspec.json.encode(spec))
        command = [sys.executable, "-m", "training.gates.measure", str(path)]
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environ)
    if done.returncode:
        raise BrokenRelease(f"{folders[0].name} cannot be measured: {done.stderr.strip().splitlines()[-1:]}")
    return msgspec.json.decode(done.stdout, type=Measured)


def main(path: str) -> None:
    spec = msgspec.json.decode(Path(path).read_bytes(), type=Spec)
    folders = [Path(folder) for folder in spec.folders]
    before = _resident()
    first = load_release(folders[0])
    offers = tuple(spec.offers) or tuple(map(_bare, first.offer_map))
    asks = [_Asked(first, offers)]
    asks[0].call(0)
    grown = _resident() - before
    asks += [_Asked(load_release(folder), offers) for folder in folders[1:]]
    sizes = [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MB for folder in folders]
    found = Measured(_timed(asks), [one.lists() for one in asks], sizes, max(grown, 0) / MB)
    sys.stdout.write(msgspec.json.encode(found).decode())


class _Asked:
    """A release prepared for the catalogue, and the customers it is asked about."""

    def __init__(self, release: Release, offers: tuple[Offer, ...]) -> None:
        self.release, self.offers = release, offers
        self.customers = _customers(release)
        self._side: Any = release.recommender.prepare(offers)
        self._acceptance: Any = release.acceptance.prepare(offers, {}, 0)
        self._context = {"channel": "web", "placement_id": "", "hour": 12, "weekday": 2, "us": _instant(release)}

    def call(self, at: int) -> NDArray[np.float64]:
        customer, recommender = self.customers[at % len(self.customers)], self.release.recommender
        ask = recommender.taste if self.release.calibrated else recommender.affinity
        affinity = ask(customer, {}, self._side)
        return self.release.acceptance.p_accept({}, self._context, affinity, self._acceptance)

    def lists(self) -> Lists:
        seen: set[int] = set()
        step = max(len(self.customers) // LISTED, 1)
        asked = self.customers[::step][:LISTED]
        for customer in asked:
            affinity = self.release.recommender.affinity(customer, {}, self._side)
            seen |= set(np.argsort(-affinity, kind="stable")[:DEPTH].tolist())
        trained = set(self.release.offer_map)
        n = max(len(self.offers), 1)
        known = sum(offer.offer_id in trained for offer in self.offers) / n
        return Lists(len(asked), len(seen) / n, known)


def _instant(release: Release) -> int | None:
    """The end of its data, so that totals per day of the log are read as decisions read them; None if not on record."""
    as_of = release.manifest.get("as_of")
    return None if as_of is None else to_us(parse_time(as_of, "as_of"))


def _customers(release: Release) -> list[str]:
    """Those whom the recommender knows, in the order of their rows, then enough whom it does not."""
    known = list(getattr(release.recommender, "customers", ()))[: MOST_CALLS * ROUNDS]
    return [*known, *(f"nobody-{n}" for n in range(MOST_CALLS - len(known)))]


def _bare(offer_id: str) -> Offer:
    return Offer(offer_id=offer_id, name=offer_id, value=0.0, currency="", treatments=())


def _timed(asks: Sequence[_Asked]) -> list[Times]:
    rounds: list[list[NDArray[np.float64]]] = [[] for _ in asks]
    gc.collect()
    gc.disable()
    for n in range(ROUNDS):
        for at, one in enumerate(asks):
            rounds[at].append(_round(one, n * MOST_CALLS))
    gc.enable()
    found = []
    for of, one in zip(rounds, asks, strict=True):
        p50, p99 = (min(float(np.quantile(times, q)) for times in of) for q in (0.5, 0.99))
        found.append(Times(p50, p99, min(map(len, of)), len(one.offers)))
    return found


def _round(one: _Asked, start: int) -> NDArray[np.float64]:
    """Milliseconds of each call."""
    times, ends = [], time.perf_counter() + SECONDS
    for n in range(MOST_CALLS):
        began = time.thread_time_ns()
        one.call(start + n)
        times.append((time.thread_time_ns() - began) / 1e6)
        if time.perf_counter() > ends and n + 1 >= FEWEST_CALLS:
            break
    return np.array(times)


def _resident() -> int:
    """Bytes of this process in memory; where the system does not say, the most they have been."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(sys.argv[1])
