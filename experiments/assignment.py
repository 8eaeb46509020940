"""Which variant of which experiment a unit meets: a pure function of its id and the catalogue, the same for ever.

A unit falls into one bucket of each layer; experiments that run hold ranges of a layer's buckets that do not overlap.
Within an experiment another bucket, of another salt, names the variant. The global holdout has a salt of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.experiment import HELD_OUT, HOLDOUT, SERVED, Experiment, Unit, Variant

N_BUCKETS = 10_000
Ranges = tuple[tuple[int, int], ...]  # [from, to), ascending, none touching the next
MOST_KEPT = 10_000  # combinations of variants of different layers
ROUNDING = 1e-6  # a share that is a whole number of buckets but for floating point comes to that number


def bucket(salt: str, unit: str) -> int:
    """The bucket of a unit under a salt: SHA-256 of `salt:unit`, its first 8 bytes big-endian, modulo 10,000."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{unit}".encode()).digest()[:8], "big") % N_BUCKETS


def buckets(salt: str, units: Iterable[str]) -> NDArray[np.int64]:
    """`bucket` of many units, shape (n_units,)."""
    salted = hashlib.sha256(f"{salt}:".encode())
    heads = bytearray()
    for unit in units:
        one = salted.copy()
        one.update(unit.encode())
        heads += one.digest()[:8]
    return (np.frombuffer(bytes(heads), ">u8") % N_BUCKETS).astype(np.int64)


def layer_salt(layer: str) -> str:
    return f"layer:{layer}"


def variant_salt(experiment_id: str) -> str:
    return f"experiment:{experiment_id}"


def n_buckets(share: float) -> int:
    """How many whole buckets a share comes to, rounded down, so that shares of at most 1 together never exceed all."""
    return int(share * N_BUCKETS + ROUNDING)


def n_held(held: Ranges) -> int:
    return sum(end - start for start, end in held)


def first_free(n: int, held: Iterable[Ranges]) -> Ranges:
    """The first `n` buckets of a layer that nobody holds; fewer if there are not as many."""
    free = np.ones(N_BUCKETS, bool)
    for ranges in held:
        for start, end in ranges:
            free[start:end] = False
    return _ranges(np.flatnonzero(free)[:n])


def together(one: Ranges, other: Ranges) -> Ranges:
    """The union of ranges that do not overlap."""
    taken = [np.arange(start, end) for start, end in (*one, *other)]
    return _ranges(np.sort(np.concatenate(taken))) if taken else ()


def _ranges(ordered: NDArray[np.int64]) -> Ranges:
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
    return tuple((int(run[0]), int(run[-1]) + 1) for run in runs if len(run))


def variant_table(experiment: Experiment) -> NDArray[np.uint8]:
    """The position of the variant that each variant bucket meets in the last phase, shape (N_BUCKETS,).

    In the first phase the variants other than control lie behind one another from bucket 0, in their order, and control
    has the rest. From phase to phase a variant that shrinks gives its last buckets to control, then one that grows
    takes the first ones of control: who is in a variant whose weight does not shrink stays in it.
    """
    control = next(at for at, variant in enumerate(experiment.variants) if variant.is_control)
    table = np.full(N_BUCKETS, control, np.uint8)
    for phase in experiment.phases:
        wanted = {
            at: n_buckets(phase.weights[variant.name])
            for at, variant in enumerate(experiment.variants)
            if at != control
        }
        for at, n in wanted.items():
            table[np.flatnonzero(table == at)[n:]] = control
        for at, n in wanted.items():
            missing = n - int(np.count_nonzero(table == at))
            table[np.flatnonzero(table == control)[:missing]] = at
    return table


def variants_of(experiment: Experiment, units: Sequence[str]) -> NDArray[np.int16]:
    """The position of each unit's variant in the last phase, -1 outside of the traffic; shape (n_units,).

    The audience and the holdout are left out of account.
    """
    inside = np.zeros(N_BUCKETS, bool)
    for start, end in experiment.buckets:
        inside[start:end] = True
    variant = variant_table(experiment).astype(np.int16)[buckets(variant_salt(experiment.experiment_id), units)]
    return np.where(inside[buckets(layer_salt(experiment.layer), units)], variant, np.int16(-1))


class Entry(NamedTuple):
    """That a unit takes part in an experiment."""

    experiment_id: str
    variant: str
    phase: int
    is_control: bool
    unit_id: str


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """What experiments and the holdout say of one request. A policy or release of None: the service's own."""

    holdout: bool = False
    entries: tuple[Entry, ...] = ()  # by layer; a unit of the holdout has none
    policy: str | None = None
    release: str | None = None
    levers_off: frozenset[str] = frozenset()  # named by a running experiment, but not by a variant that is met here
    treatments: dict[str, str] = {}  # offer_id -> treatment_id; not to be written to
    holdout_entry: Entry | None = None  # None where there is no holdout

    @property
    def exposures(self) -> tuple[Entry, ...]:
        """What is to be logged once the unit was answered."""
        return self.entries if self.holdout_entry is None else (*self.entries, self.holdout_entry)


class _Arm(NamedTuple):
    """One variant of a running experiment."""

    experiment_id: str
    phase: int
    variant: Variant


class _Running(NamedTuple):
    """One running experiment, ready to be asked."""

    experiment: Experiment
    salt: str
    arms: tuple[_Arm, ...]
    table: bytes  # position of the arm by variant bucket


class _Layer(NamedTuple):
    salt: str
    unit: Unit
    holder: tuple[_Running | None, ...]  # by layer bucket


class Plan:
    """All running experiments of one version of the catalogue, and the holdout; made once, asked by every request."""

    def __init__(self, experiments: Iterable[Experiment], holdout_share: float = 0.0, holdout_phase: int = 1) -> None:
        if not 0.0 <= holdout_share < 1.0:
            raise ValueError(f"holdout_share is {holdout_share}, expected 0 <= holdout_share < 1")
        self._holdout_below = n_buckets(holdout_share)
        self._holdout_phase = holdout_phase
        by_layer: dict[str, list[_Running]] = {}
        for one in sorted(experiments, key=lambda one: one.experiment_id):
            if one.status == "running":
                by_layer.setdefault(one.layer, []).append(_running(one))
        self._layers = tuple(_layer(name, running) for name, running in sorted(by_layer.items()))
        everything = [one for running in by_layer.values() for one in running]
        self._levers = frozenset(
            lever for one in everything for variant in one.experiment.variants for lever in variant.levers
        )
        self._nothing = Assigned(levers_off=self._levers)
        variants = [variant for runs in by_layer.values() for one in runs for variant in one.experiment.variants]
        self._releases = frozenset([variant.release for variant in variants if variant.release is not None])
        self._held_out = Assigned(holdout=True, levers_off=self._levers)
        self._met: dict[tuple[int, ...], Assigned] = {}  # by the ids of the arms: what they come to together

    @property
    def releases(self) -> frozenset[str]:
        """Those that variants of running experiments name."""
        return self._releases

    @property
    def empty(self) -> bool:
        """Whether every request is answered as if there were neither experiments nor a holdout."""
        return not self._layers and not self._holdout_below

    def assign(self, unit_of: Mapping[Unit, str], allowed: Callable[[Experiment], bool]) -> Assigned:
        """What this request's units meet. `allowed` says whether the audience of an experiment holds.

        It is asked only about experiments whose buckets the unit is in.
        """
        if self.empty:
            return self._nothing
        holdout = None
        if self._holdout_below:
            unit = unit_of["customer"]
            held_out = bucket(HOLDOUT, unit) < self._holdout_below
            holdout = Entry(HOLDOUT, HELD_OUT if held_out else SERVED, self._holdout_phase, held_out, unit)
            if held_out:
                return msgspec.structs.replace(self._held_out, holdout_entry=holdout)
        entries, arms = [], []
        for layer in self._layers:
            unit = unit_of[layer.unit]
            running = layer.holder[bucket(layer.salt, unit)]
            if running is not None and allowed(running.experiment):
                arm = running.arms[running.table[bucket(running.salt, unit)]]
                arms.append(arm)
                variant = arm.variant
                entries.append(Entry(arm.experiment_id, variant.name, arm.phase, variant.is_control, unit))
        together = self._together(arms)
        return Assigned(
            entries=tuple(entries),
            policy=together.policy,
            release=together.release,
            levers_off=together.levers_off,
            treatments=together.treatments,
            holdout_entry=holdout,
        )

    def _together(self, arms: Sequence[_Arm]) -> Assigned:
        key = tuple(map(id, arms))  # they live as long as the plan
        found = self._met.get(key)
        if found is None:
            found = _come_to([arm.variant for arm in arms], self._levers)
            if len(self._met) >= MOST_KEPT:
                self._met = {}
            self._met[key] = found
        return found


def _come_to(variants: Sequence[Variant], levers: frozenset[str]) -> Assigned:
    return Assigned(
        policy=next((variant.policy for variant in variants if variant.policy is not None), None),
        release=next((variant.release for variant in variants if variant.release is not None), None),
        levers_off=levers.difference(*(variant.levers for variant in variants)),
        treatments={offer: one for variant in variants for offer, one in variant.treatments.items()},
    )


def _running(experiment: Experiment) -> _Running:
    phase = experiment.phases[-1].number
    arms = tuple(_Arm(experiment.experiment_id, phase, variant) for variant in experiment.variants)
    table = variant_table(experiment).tobytes()
    return _Running(experiment, variant_salt(experiment.experiment_id), arms, table)


def _layer(name: str, running: Sequence[_Running]) -> _Layer:
    holder: list[_Running | None] = [None] * N_BUCKETS
    for one in running:
        for start, end in one.experiment.buckets:
            holder[start:end] = [one] * (end - start)
    return _Layer(layer_salt(name), running[0].experiment.unit, tuple(holder))
