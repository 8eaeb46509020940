"""Erasing a customer from everything a deployment holds, while it serves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from features.erasure import ErasableLog, Place, begin, erase_stores, finish, flush_journals
from features.facts import Facts
from features.home import Home
from serving.state.contacts import Contacts
from serving.state.idempotency import Idempotency

MODELS = (
    "Models are made of all customers together and are not changed. The recommender of a release that was trained "
    "before this may hold a row for the id until the next `nbo train` and promotion, which no longer know it."
)
LEARNING = "What was learned since the last training stays: it is sums per offer and segment."


class Stores(NamedTuple):
    """Where something of a customer may be."""

    home: Home
    facts: Facts
    log: ErasableLog
    idempotency: Idempotency
    contacts: Contacts | None
    learner: Forgetful | None


class Forgetful(Protocol):
    """Whatever keeps something of single customers."""

    def erase(self, customer_id: str) -> int: ...


def erase(stores: Stores, customer_id: str, now: datetime) -> list[Place]:
    """The customer and all anonymous ids joined to them, everywhere; what each place held. Again: finishes or finds 0.

    `StoreUnavailable` if a store could not be had: the id is refused from then on, and the rest waits for another call.
    """
    keys = begin(stores.facts, customer_id, now)
    places = erase_stores(stores.home, stores.facts, stores.log, keys)
    # after what takes long: each worker has noticed by now, and nothing that was on its way comes later
    places += [
        Place("contacts", _forgotten(stores.contacts, keys)),
        Place("idempotent_answers", stores.idempotency.erase(keys)),
        Place("learning", _forgotten(stores.learner, keys), LEARNING),
        *finish(stores.facts, keys),
        Place("models", 0, MODELS),
    ]
    flush_journals(stores.home)
    return places


def _forgotten(store: Forgetful | None, keys: Sequence[str]) -> int:
    return sum(store.erase(key) for key in keys) if store is not None else 0
