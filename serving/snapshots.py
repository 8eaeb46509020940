"""What each worker measured, in one small file per worker, written every second for whoever is asked."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from features.errors import StoreUnavailable
from features.events import to_us
from serving.metrics import MOST_OFFERS, Meter, Sample, Table
from serving.state.contacts import Level

if TYPE_CHECKING:
    from serving.wiring import Service

logger = logging.getLogger(__name__)
EVERY_S = 1.0
ALIVE_S = 5.0  # a worker whose file is older does not live any more, or does not answer


class Ready(msgspec.Struct, array_like=True):
    """One dependency, as `/readyz` of the worker has it."""

    name: str
    ok: bool
    detail: str
    needed: bool


class Snapshot(msgspec.Struct):
    """All that one worker has measured since it began."""

    pid: int
    at: float  # of the machine's clock
    ready: list[Ready]
    samples: list[Sample]
    tables: list[Table]
    buckets: list[int]
    total_s: float

    def is_alive(self, now: float) -> bool:
        return now - self.at <= ALIVE_S


class SnapshotWriter:
    """Writes this worker's file every second until it is closed; then once more, so that its counts stay."""

    def __init__(self, folder: Path, service: Service) -> None:
        self._file = folder / f"{os.getpid()}-{time.monotonic_ns()}.worker"
        self._service = service
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._write(time.time())
            self._stop.wait(EVERY_S)
        self._write(0.0)

    def _write(self, at: float) -> None:
        try:
            staged = self._file.with_suffix(".tmp")
            staged.write_bytes(msgspec.msgpack.encode(snapshot_of(self._service, at)))
            os.replace(staged, self._file)
            self._failing = False
        except Exception:  # a worker that cannot be watched still answers
            if not self._failing:
                logger.exception("what was measured could not be written")
            self._failing = True


def snapshot_of(service: Service, at: float) -> Snapshot:
    meter: Meter = service.meter
    buckets, total_s = meter.seconds()
    ready = [Ready(one.name, one.ok, one.detail, one.needed) for one in service.readiness()]
    return Snapshot(os.getpid(), at, ready, [*meter.samples(), *_observed(service)], meter.tables(), buckets, total_s)


def read_snapshots(folder: Path) -> list[Snapshot]:
    """Of all workers, those that ended too."""
    found = []
    for file in sorted(folder.glob("*.worker")):
        with suppress(FileNotFoundError, msgspec.DecodeError):
            found.append(msgspec.msgpack.decode(file.read_bytes(), type=Snapshot))
    return found


def _observed(service: Service) -> Iterator[Sample]:
    """What is read off the parts of a worker."""
    edition = service.decider.edition
    yield Sample("nbo_catalogue_version", (), edition.view.version)
    yield Sample("nbo_offers", (), len(edition.view))
    yield Sample("nbo_release", (edition.release_number,), 1.0)
    yield Sample("nbo_log_delay_seconds", (), service.log.delayed_s)
    yield Sample("nbo_log_lost", (), service.log.n_lost)
    yield Sample("nbo_learning_delay_seconds", (), service.learner.delay_s)
    for lane in service.answering.lanes:
        yield Sample("nbo_lane_stuck_seconds", (lane.name,), lane.stuck_s)
        yield Sample("nbo_lane_failures", (lane.name,), lane.n_failed)
    yield Sample("nbo_workers", (), 1.0)
    yield Sample("nbo_resident_bytes", (), resident_bytes())
    for check in service.readiness():
        yield Sample("nbo_not_ready", (check.name,), float(not check.ok))
    yield from _stock(service)


def _stock(service: Service) -> Iterator[Sample]:
    limits = service.decider.edition.limits
    limited = list(limits.takes.items())[:MOST_OFFERS]
    if not limited:
        return
    try:
        levels = service.contacts.stock(to_us(service.clock())).levels
    except StoreUnavailable:  # which its lane says
        return
    unused = Level()
    for offer_id, take in limited:
        level = levels.get(offer_id, unused)
        if take.inventory is not None:
            yield Sample("nbo_offer_units_left", (offer_id,), max(take.inventory - level.units, 0))
        if take.budget is not None:
            spent = level.spent_today if take.daily else level.spent
            yield Sample("nbo_offer_budget_left", (offer_id,), max(take.budget / 1e6 - spent, 0.0))


def resident_bytes() -> float:
    """Memory of this process; NaN where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return float("nan")
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
