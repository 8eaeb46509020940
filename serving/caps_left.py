"""What is left of a customer's caps, for whoever looks at the customer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

from serving.rules.limits import Limits
from serving.rules.tally import Capping, Tally
from serving.state.contacts import ContactHistory
from serving.state.keeping import FULL


def caps_left(limits: Limits, history: ContactHistory, now_us: int, zone: tzinfo) -> list[dict[str, Any]]:
    """Each cap that has counted something, and those on all contacts; plain JSON values.

    `of` and `counted` say what is counted, as ("category", "running"); None is all. A cap without an entry is unused.
    """
    full = len(history.contacts) >= FULL  # nothing limited is shown then, see `serving/decide.py`
    tally = Tally(history, now_us, zone, limits.categories)
    found = [left for cap in limits.of_policies for left in _left(cap, tally, None, full)]
    shown = {contact.offer_id for contact in history.contacts}
    for offer_id in sorted(shown & limits.of_offer.keys()):
        for cap in limits.of_offer[offer_id]:
            found += _left(cap, tally, offer_id, full)
    return found


def _left(cap: Capping, tally: Tally, offer_id: str | None, full: bool) -> Iterator[dict[str, Any]]:
    counted = dict(tally.by(cap)) or ({None: 0} if cap.of == "all" else {})
    if cap.of != "all":
        counted.pop(None, None)  # contacts without what the cap is of, such as a category, are limited by nothing
    for name, used in sorted(counted.items(), key=lambda one: one[0] or ""):
        if offer_id is None or _concerns(cap, name, offer_id):
            yield {
                "policy_id": cap.policy_id,
                "offer_id": offer_id,
                "channels": sorted(cap.channels) if cap.channels is not None else [],
                "of": cap.of,
                "counted": name,
                "window": cap.window.text,
                "limit": cap.limit,
                "used": used,
                "left": 0 if full else max(cap.limit - used, 0),
            }


def _concerns(cap: Capping, name: str | None, offer_id: str) -> bool:
    """An offer's own cap counts contacts with it; of others' only where it is of more than the offer."""
    return cap.of != "offer" or name == offer_id
