"""The phases of the global holdout: since when which share was held out, as its setting said."""

from __future__ import annotations

from datetime import datetime

import msgspec

from features.experiment import HELD_OUT, HOLDOUT, SERVED, Experiment, Phase, Variant
from features.facts import Facts

PHASES = "holdout_phases"  # key in facts.db
METRIC = "offer_value_per_visitor"


def note_share(facts: Facts, share: float, now: datetime) -> int:
    """The number of the phase in which this share holds; another share than before begins the next one.

    Every worker says it when it starts. A share of 0 ends the phase; the number then stands for nothing.
    """
    with facts.transaction():
        phases = phases_of(facts)
        running = phases[-1] if phases and phases[-1].stops_at is None else None
        if running is not None and running.weights[HELD_OUT] == share:
            return running.number
        if running is not None:
            phases = (*phases[:-1], msgspec.structs.replace(running, stops_at=now))
        if share:
            weights = {HELD_OUT: share, SERVED: 1.0 - share}
            phases = (*phases, Phase(number=len(phases) + 1, starts_at=now, traffic=1.0, weights=weights))
        if phases:
            facts.set_meta(PHASES, msgspec.json.encode(phases).decode())
    return len(phases) or 1


def phases_of(facts: Facts) -> tuple[Phase, ...]:
    """All phases of the holdout, the oldest first; empty if there never was one."""
    text = facts.meta(PHASES)
    return msgspec.json.decode(text, type=tuple[Phase, ...]) if text else ()


def holdout_of(facts: Facts) -> Experiment | None:
    """The holdout as an experiment that can be analysed like any other, control being who is held out.

    None if there never was one. It stands in no catalogue and holds no buckets: its salt is its own.
    """
    phases = phases_of(facts)
    if not phases:
        return None
    last = phases[-1]
    return Experiment(
        experiment_id=HOLDOUT,
        hypothesis="What the service causes: everybody served, beside those who are kept free of it",
        variants=(
            Variant(name=HELD_OUT, weight=last.weights[HELD_OUT], is_control=True),
            Variant(name=SERVED, weight=last.weights[SERVED]),
        ),
        primary_metric=METRIC,
        layer=HOLDOUT,
        status="running" if last.stops_at is None else "stopped",
        phases=phases,
        started_at=phases[0].starts_at,
        stopped_at=last.stops_at,
    )
