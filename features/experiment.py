"""What an experiment is: variants that units are split over, what is measured, and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

HOLDOUT = "holdout"  # reserved: under this id the exposures of the global holdout are logged
HELD_OUT, SERVED = "holdout", "served"  # the two variants of the global holdout
Unit = Literal["customer", "session"]
ExperimentStatus = Literal["draft", "running", "stopped", "decided"]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """What its share of the units meets. What it leaves out is as it is outside of the experiment."""

    name: str
    weight: float  # share of the experiment's units; those of all variants sum to 1
    is_control: bool = False
    policy: str | None = None
    release: str | None = None  # of the folder `releases`; None: the champion
    levers: tuple[str, ...] = ()  # levers that an experiment names weigh only where the variant names them
    treatments: dict[str, str] = msgspec.field(default_factory=dict)  # offer_id -> treatment_id


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """How far a variant's metric may be from control's, as variant / control - 1."""

    metric: str
    max_relative: float | None = None
    min_relative: float | None = None


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A span of a running experiment in which traffic and weights stood; exposures are logged once in each."""

    number: int  # from 1
    starts_at: datetime  # UTC, inclusive
    traffic: float
    weights: dict[str, float]  # by variant
    stops_at: datetime | None = None  # UTC, exclusive; None: it is the running one


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """How an experiment ended."""

    variant: str
    reason: str
    at: datetime
    by: str | None = None  # None: nobody said


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment of the catalogue; from `status` on, the fields are written by its lifecycle alone."""

    experiment_id: str
    hypothesis: str
    variants: tuple[Variant, ...]
    primary_metric: str
    unit: Unit = "customer"
    layer: str = "default"  # experiments of one layer share no unit
    audience: str | None = None  # a rule over the customer and the context; None: everybody
    traffic: float = 1.0  # share of all units, (0, 1]
    secondary_metrics: tuple[str, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    planned_units: int | None = None
    alpha: float = 0.05
    status: ExperimentStatus = "draft"
    phases: tuple[Phase, ...] = ()
    buckets: tuple[tuple[int, int], ...] = ()  # ranges [from, to) of its layer's; held while it runs
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    stop_reason: str | None = None
    decided: Decided | None = None

    @property
    def control(self) -> Variant:
        """The variant that others are compared with; there is exactly one."""
        return next(variant for variant in self.variants if variant.is_control)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric it names once: the primary, the secondary ones, those of guardrails."""
        named = (self.primary_metric, *self.secondary_metrics, *(one.metric for one in self.guardrails))
        return tuple(dict.fromkeys(named))
