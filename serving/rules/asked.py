"""What a rule may look at besides the catalogue: the question for one placement."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asked:
    """One placement of one request."""

    placement_id: str
    channel: str
    now_us: int
    exclude_offer_ids: frozenset[str]
    refused: frozenset[str] | None = frozenset()  # keys of consent that are refused; None: could not be read
