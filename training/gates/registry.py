"""The gates that a release passes before it serves, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from training.gates import quality, service
from training.gates.case import Case
from training.gates.passage import Bounds, Check, Passage, passage_of


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate. `against_champion`: it has nothing to say before there is one."""

    checks: Callable[[Case, Any], Iterable[Check]]
    bounds: type[Bounds]
    against_champion: bool = False


GATES: Mapping[str, Gate] = {
    "baseline": Gate(quality.baseline, quality.BaselineBounds),
    "ranking": Gate(quality.ranking, quality.RankingBounds, against_champion=True),
    "calibration": Gate(quality.calibration, quality.CalibrationBounds),
    "slices": Gate(quality.slices, quality.SliceBounds, against_champion=True),
    "coverage": Gate(service.coverage, service.CoverageBounds),
    "latency": Gate(service.latency, service.LatencyBounds),
    "size": Gate(service.size, service.SizeBounds),
    "off_policy": Gate(service.off_policy, service.OffPolicyBounds, against_champion=True),
}


def asked(case: Case, bounds: Mapping[str, Bounds]) -> tuple[Passage, ...]:
    """What every gate says, in order."""
    return tuple(_asked(name, gate, case, bounds[name]) for name, gate in GATES.items())


def _asked(name: str, gate: Gate, case: Case, bounds: Bounds) -> Passage:
    if not bounds.enabled:
        return Passage(name, "not asked", f"{name}.enabled is false")
    if gate.against_champion and case.champion is None:
        return Passage(name, "not asked", "there is no champion to compare with")
    return passage_of(name, list(gate.checks(case, bounds)), bounds)
