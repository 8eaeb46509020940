"""A home whose log holds an experiment: who met what, and what they bought."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import numpy as np

from features.catalogue import Offer, Treatment
from features.events import Event, to_us
from features.experiment import Experiment, Guardrail, Phase, Variant
from features.facts import Facts
from features.log import Batch, DecisionRow, Exposure
from features.sqlite_log import SqliteLog
from tests.conftest import NOW

DAYS = 9
START = NOW - timedelta(days=DAYS)
WEIGHTS = {"control": 0.5, "on": 0.5}


def planted(name="sampling", **more):
    """A running experiment whose variant sells more."""
    fields = {
        "experiment_id": name,
        "hypothesis": "Sampling sells more",
        "variants": (Variant(name="control", weight=0.5, is_control=True), Variant(name="on", weight=0.5, release="2")),
        "primary_metric": "revenue_per_customer",
        "guardrails": (Guardrail(metric="opt_out_rate", max_relative=0.5),),
        "planned_units": 400,
        "status": "running",
        "started_at": START,
        "phases": (Phase(number=1, starts_at=START, traffic=1.0, weights=WEIGHTS),),
    }
    return Experiment(**(fields | more))


def plant(home, experiment, *, n=400, lift=1.0, share=0.5, seed=1):
    """Stores the experiment, and logs `n` units of it, each with a purchase after its exposure."""
    rng = np.random.default_rng(seed)
    facts = Facts(home.facts_db)
    facts.put(offer(), START)
    facts.put(experiment, START)
    facts.close()
    events, rows = [], []
    for i in range(n):
        who, treated = f"c{i}", rng.random() < share
        at = START + timedelta(days=float(rng.uniform(0, DAYS - 1)))
        met = Exposure(experiment.experiment_id, 1, who, "on" if treated else "control")
        rows.append(DecisionRow(f"d{i}", who, to_us(at), b"{}", exposures=(met,)))
        events.append(
            Event(
                event_id=f"e{i}",
                event_type="purchase",
                customer_id=who,
                occurred_at=at + timedelta(hours=1),
                value=Decimal(f"{10 * (1 + lift * treated) + rng.gamma(2, 2):.2f}"),
                currency="EUR",
            )
        )
    log = SqliteLog(home.log_db)
    log.write([Batch(events, NOW, rows)])
    log.close()


def offer():
    return Offer(
        offer_id="o-1",
        name="one",
        value=10.0,
        currency="EUR",
        status="approved",
        treatments=(Treatment(treatment_id="o-1/a"),),
    )
