"""What a key in a web page may do: ask and tell for the browser's own visitor, and see a shorter answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from features.errors import BadEvent
from features.events import check_id, is_anonymous, visitor_key
from serving import customer_token
from serving.keys import Key
from serving.problems import Forbidden

HIDDEN = frozenset({"model_versions", "experiments"})
HIDDEN_OF_OFFER = frozenset({"score", "p_accept", "value"})
SHOWN_REASONS = frozenset({"similar_customers", "popular", "new_offer", "best_value"})  # fit for a customer's eyes


def shorter(answer: Mapping[str, Any]) -> dict[str, Any]:
    """A decision's answer as anybody may see it: without scores, worth, models, experiments and internal reasons."""
    kept: dict[str, Any] = msgspec.to_builtins({name: value for name, value in answer.items() if name not in HIDDEN})
    for placement in kept["placements"]:
        placement["offers"] = [_shorter_offer(offer) for offer in placement["offers"]]
    return kept


def _shorter_offer(offer: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in offer.items() if name not in HIDDEN_OF_OFFER}
    return kept | {"reason_codes": [code for code in offer["reason_codes"] if code in SHOWN_REASONS]}


def check_decision(
    key: Key, customer_id: str | None, token: str | None, now_s: float, *, explain: bool, dry_run: bool
) -> None:
    """`Forbidden` for a question that a public key may not ask. A secret key may ask any."""
    if key.kind != "public":
        return
    if explain or dry_run:
        raise Forbidden(f"{'explain' if explain else 'dry_run'} is for secret keys")
    if customer_id is not None:
        customer_token.check(key, customer_id, token, now_s)


class EventSender:
    """Whose events a caller may send: anybody's with a secret key, else the browser's own visitor's."""

    def __init__(self, key: Key, token: str | None, now_s: float) -> None:
        self._key, self._token, self._now_s = key, token, now_s
        self._checked: dict[str, Forbidden | None] = {}

    def check(self, visitor: str) -> None:
        """`BadEvent` for an event of a customer, given by visitor key, whom the request's token is not for."""
        if self._key.kind != "public" or is_anonymous(visitor):
            return
        customer_id = visitor
        if customer_id not in self._checked:
            self._checked[customer_id] = self._fault(customer_id)
        fault = self._checked[customer_id]
        if fault is not None:
            raise BadEvent(fault.code, str(fault), "customer_id")

    def _fault(self, customer_id: str) -> Forbidden | None:
        try:
            customer_token.check(self._key, customer_id, self._token, self._now_s)
        except Forbidden as error:
            return error
        return None


def visitor_of(raw: Any) -> str | None:
    """The visitor of an event as sent; None if it names none."""
    if not isinstance(raw, dict):
        return None
    customer_id, anonymous_id = raw.get("customer_id"), raw.get("anonymous_id")
    try:
        given = check_id(customer_id if customer_id is not None else anonymous_id, "customer_id")
    except BadEvent:
        return None
    return visitor_key(given, None) if customer_id is not None else visitor_key(None, given)
