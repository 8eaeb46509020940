"""How a shadow release compares with what was shown, read back from the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from features.log import Log, ShadowRow

ROWS_AT_ONCE = 10_000


class Compared(msgspec.Struct, frozen=True):
    """One shadow beside one release that served. Means are over placements in which both offered something."""

    release: str
    served: str
    n_decisions: int
    n_placements: int
    same_first: float  # share of these placements whose first offer is the same
    p_own: float  # the shadow's P(accept) of its own first offer
    p_shown: float  # the shadow's P(accept) of the first offer that was shown


def compared(log: Log) -> list[Compared]:
    """Of each pair of releases; empty if nothing was scored."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    n_decisions: dict[tuple[str, str], int] = {}
    for row in _rows(log):
        body: dict[str, Any] = msgspec.json.decode(row.payload)
        key = row.release, body["served"]
        n_decisions[key] = n_decisions.get(key, 0) + 1
        of_pair = found.setdefault(key, [])
        for one in body["placements"]:
            if one["shadow"] and one["shown"]:
                own, shown = one["shadow"][0], one["shown"][0]
                of_pair.append([own["offer_id"] == shown["offer_id"], own["p_accept"], shown["p_accept"]])
    return [
        Compared(*key, n_decisions[key], len(rows), *np.mean(np.array(rows, float), axis=0).tolist())
        for key, rows in sorted(found.items())
        if rows
    ]


def _rows(log: Log) -> Iterator[ShadowRow]:
    position = 0
    while some := log.shadows_after(position, ROWS_AT_ONCE):
        yield from some
        position = some[-1].position
