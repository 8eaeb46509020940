"""The shop's raw tables, as a shop with our column names would export them: Parquet, ready for `nbo ingest DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.lake import EVENT_SCHEMA
from serving.demo.history import CANCEL, TYPES, Rows
from serving.demo.response import Bools
from serving.demo.world import CATEGORIES, CHANNELS, CURRENCY, PLACEMENTS, Floats, Ints, World, catalogue, observed

SETTINGS = """\
# What the shop's tables need that their rows do not say.
currency = "{currency}"
windows = [1, 7, 30]
snapshot_days = {n_days}

[attribution]
outcomes = ["accept"]
window_days = 1
matching = "decision"

[churn]
horizon_days = {horizon_days}
every_days = 7
active_within_days = 30

[recommender]
validation_days = {test_days}
test_days = {test_days}
repeats = true
"""
PLACEMENT = """
[[placements]]
placement_id = "{0.placement_id}"
name = "{0.name}"
channel = "{0.channel}"
max_offers = {0.max_offers}
"""


def write_tables(world: World, rows: Rows, folder: Path) -> None:
    """customers.parquet, offers.parquet, events.parquet, and recipe.toml beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    n_days = world.size.n_days
    settings = SETTINGS.format(
        currency=CURRENCY, n_days=n_days, horizon_days=max(n_days // 5, 5), test_days=max(n_days // 8, 3)
    )
    (folder / "recipe.toml").write_text(settings + "".join(PLACEMENT.format(one) for one in PLACEMENTS))
    pq.write_table(pa.table(observed(world)), folder / "customers.parquet")
    pq.write_table(offer_table(world), folder / "offers.parquet")
    pq.write_table(event_table(world, rows), folder / "events.parquet")


def offer_table(world: World) -> pa.Table:
    """One row per offer; attributes are further columns."""
    rows = [
        {
            "offer_id": offer.offer_id, "name": offer.name, "category": offer.category, "value": offer.value,
            "currency": offer.currency, "status": offer.status, "starts_at": offer.starts_at, "ends_at": offer.ends_at,
            "payload": msgspec.json.encode(offer.treatments[0].payload).decode(), **offer.attributes,
        }
        for offer in catalogue(world)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def event_table(world: World, rows: Rows) -> pa.Table:
    """The events in our columns, ordered by time; ids depend on the world and the order alone."""
    world_id = f"{world.seed}{world.now_us // 1_000_000:x}"
    has_decision = (rows.offer >= 0) & (rows.visit >= 0)
    columns: dict[str, pa.Array] = {
        "event_id": pa.array([f"e{world_id}-{n:07d}" for n in range(len(rows.us))]),
        "event_type": _named(TYPES, rows.kind),
        "customer_id": _named(world.customer_ids, rows.customer),
        "occurred_at": pa.array(rows.us, pa.timestamp("us", tz="UTC")),
        "decision_id": _numbered(f"d{world_id}-", rows.visit, has_decision),
        "offer_id": _named(world.offer_ids, rows.offer),
        "placement_id": _named([one.placement_id for one in PLACEMENTS], rows.placement),
        "session_id": _numbered(f"s{world_id}-", rows.visit, rows.visit >= 0),
        "channel": _named(CHANNELS, np.where(rows.kind == CANCEL, -1, rows.channel)),
        "category": _named(CATEGORIES, rows.category),
        "value": _money(rows.value),
        "currency": pc.if_else(pa.array(np.isnan(rows.value)), pa.scalar(None, pa.string()), CURRENCY),
        "properties": pa.array([_properties(*one) for one in zip(rows.rank, rows.chance, rows.score, strict=True)]),
    }
    return pa.table(columns).cast(pa.schema([EVENT_SCHEMA.field(name) for name in columns]))


def _named(names: Sequence[str], rows: Ints) -> pa.Array:
    """`names[row]`, null where the row is -1."""
    return pa.array(names).take(pa.array(rows, mask=rows < 0))


def _numbered(prefix: str, numbers: Ints, given: Bools) -> pa.Array:
    return pa.array([f"{prefix}{n:07d}" if there else None for n, there in zip(numbers, given, strict=True)])


def _money(value: Floats) -> pa.Array:
    """Decimals, null where NaN."""
    return pa.array(value, mask=np.isnan(value)).cast(pa.decimal128(18, 4))


def _properties(rank: int, chance: float, score: int) -> str:
    if rank >= 0:
        return f'{{"rank": {rank}, "selection_probability": {chance:.6f}}}'
    return f'{{"nps": {score}}}' if score >= 0 else "{}"
