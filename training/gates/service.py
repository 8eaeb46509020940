"""Gates on how a release serves: what of the catalogue it reaches, how fast and how large it is, and what the log says
it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from training.gates.case import Case
from training.gates.passage import Bounds, Check, at_least, at_most, silent
from training.gates.quality import Share

Positive = Annotated[float, Meta(gt=0.0)]
AtLeastOne = Annotated[float, Meta(ge=1.0)]


class CoverageBounds(Bounds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The release knows the catalogue, and recommends no much smaller part of it than the champion."""

    min_known: Share = 0.5  # of the live catalogue's offers
    min_share: Share = 0.0  # of the catalogue that is among somebody's ten best
    max_drop: Share = 0.5  # of that share, as a part of the champion's


def coverage(case: Case, bounds: CoverageBounds) -> Iterator[Check]:
    new, old = case.lists
    yield at_least(new.known, bounds.min_known, f"trained with {new.known:.0%} of the catalogue")
    said = f"{new.share:.1%} of the catalogue is among the ten best of {new.n_customers:,} customers"
    yield at_least(new.share, bounds.min_share, said)
    if old is not None:
        least = (1.0 - bounds.max_drop) * old.share
        yield at_least(new.share, least, f"{said}, the champion's {old.share:.1%}")


class LatencyBounds(Bounds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Affinity and P(accept) of the whole catalogue, measured now on the files that would serve."""

    max_p99_ms: Positive = 10.0
    max_times_champion: AtLeastOne = 2.0
    ignore_below_ms: Annotated[float, Meta(ge=0.0)] = 0.5  # no multiple of the champion's matters below it


def latency(case: Case, bounds: LatencyBounds) -> Iterator[Check]:
    new, old = case.times
    said = f"p99 {new.p99_ms:.3f} ms, median {new.p50_ms:.3f} ms at {new.n_offers:,} offers"
    yield at_most(new.p99_ms, bounds.max_p99_ms, said)
    if old is not None:
        most = max(bounds.max_times_champion * old.p99_ms, bounds.ignore_below_ms)
        yield at_most(new.p99_ms, most, f"{said}; the champion's p99 {old.p99_ms:.3f} ms in the same run")


class SizeBounds(Bounds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files and memory; every worker holds a release, and two while it changes."""

    max_files_mb: Positive = 2_000.0
    max_memory_mb: Positive = 4_000.0
    max_times_champion: AtLeastOne = 3.0
    ignore_below_mb: Annotated[float, Meta(ge=0.0)] = 50.0


def size(case: Case, bounds: SizeBounds) -> Iterator[Check]:
    measured = case.measured
    files, memory = measured.size_mb[0], measured.memory_mb
    yield at_most(memory, bounds.max_memory_mb, f"a worker grows by {memory:,.0f} MB")
    yield at_most(files, bounds.max_files_mb, f"files of {files:,.1f} MB")
    if len(measured.size_mb) > 1:
        most = max(bounds.max_times_champion * measured.size_mb[1], bounds.ignore_below_mb)
        yield at_most(files, most, f"files of {files:,.1f} MB, the champion's {measured.size_mb[1]:,.1f} MB")


class OffPolicyBounds(Bounds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log does not say that the release is worth less than the champion, with the policy that is configured."""


def off_policy(case: Case, bounds: OffPolicyBounds) -> Iterator[Check]:
    if case.value is None:
        yield silent("nobody asked the log; `nbo models promote` does")
        return
    found = case.value()
    interval = "" if found.low is None or found.high is None else f" [{found.low:+.4g}, {found.high:+.4g}]"
    said = found.said + (f"; difference {found.difference:+.4g}{interval}" if found.difference is not None else "")
    yield Check({"passes": True, "refused": False, "no verdict": None}[found.passage], said, found.difference, 0.0)
