"""Erasing a customer from everything a deployment holds, while it serves."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from features.erasure import ErasableLog, Place, begin, erase_stores, finish
from features.facts import Facts
from features.home import Home
from serving.state.contacts import Contacts
from serving.state.idempotency import Idempotency

MODELS = (
    "Models are made of all customers together and are not changed. The recommender of a release that was trained "
    "before this may hold a row for the id until the next `nbo train` and promotion, which no longer know it."
)
LEARNING = "What was learned since the last training is kept per offer and segment only, and stays."


class Stores(NamedTuple):
    """Where something of a customer may be."""

    home: Home
    facts: Facts
    log: ErasableLog
    idempotency: Idempotency
    contacts: Contacts | None


def erase(stores: Stores, customer_id: str, now: datetime) -> list[Place]:
    """The customer and all anonymous ids joined to them, everywhere; what each place held. Again: finishes or finds 0.

    `StoreUnavailable` if a store could not be had: the id is refused from then on, and the rest waits for another call.
    """
    keys = begin(stores.facts, customer_id, now)
    contacts = sum(stores.contacts.erase(key) for key in keys) if stores.contacts is not None else 0
    answers = stores.idempotency.erase(keys)
    places = [
        *erase_stores(stores.home, stores.facts, stores.log, keys),
        Place("contacts", contacts),
        Place("idempotent_answers", answers),
        *finish(stores.facts, keys),
    ]
    return [*places, Place("models", 0, MODELS), Place("learning", 0, LEARNING)]
