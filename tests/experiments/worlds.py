"""Little worlds for tests of metrics: a few events and exposures, written as rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from experiments.tables import Tables, tables_of
from features.catalogue import Offer, Treatment
from features.lake import EVENT_SCHEMA
from features.log_export import EXPOSURE_SCHEMA

START = datetime.fromisoformat("2026-03-02T00:00:00+00:00")  # a Monday


def day(days: float) -> datetime:
    """That many days after the start of the world; negative before it."""
    return START + timedelta(days=days)


def event(customer: str, kind: str, at: float, **fields: Any) -> dict[str, Any]:
    """One event of a customer on a day of the world."""
    if "value" in fields:
        fields["value"] = Decimal(str(fields["value"])).quantize(Decimal("0.0001"))
    return {"event_type": kind, "customer_id": customer, "occurred_at": day(at), **fields}


def exposure(
    unit: str, variant: str, at: float = 0.0, *, phase: int = 1, experiment: str = "e", **fields: Any
) -> dict[str, Any]:
    """That a unit was exposed to a variant on a day of the world; more fields become columns."""
    return {
        "experiment_id": experiment, "phase": phase, "unit_id": unit, "customer_id": unit, "variant": variant,
        "exposed_at": day(at), **fields,
    }  # fmt: skip


def offer(offer_id: str, value: float = 10.0, **attributes: Any) -> Offer:
    return Offer(
        offer_id=offer_id,
        name=offer_id,
        value=value,
        currency="EUR",
        treatments=(Treatment(treatment_id=f"{offer_id}/a"),),
        status="approved",
        attributes=attributes,
    )


def events_table(rows: list[dict[str, Any]]) -> pa.Table:
    filled = [{"event_id": f"ev-{n:06d}", "properties": "{}", **row} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, EVENT_SCHEMA)


def exposures_table(rows: list[dict[str, Any]]) -> pa.Table:
    extra = sorted({name for row in rows for name in row} - set(EXPOSURE_SCHEMA.names))
    schema = pa.schema([*EXPOSURE_SCHEMA, *((name, pa.string()) for name in extra)])
    return pa.Table.from_pylist(rows, schema)


def world(events: list[dict[str, Any]], exposures: list[dict[str, Any]] | None = None, **others: Any) -> Tables:
    """Tables of these rows."""
    given = None if exposures is None else exposures_table(exposures)
    return tables_of(events=events_table(events), exposures=given, n_threads=1, **others)
