"""A store of contacts with a log and a clock, and words for what happens to them: shared by its contract's tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from features.catalogue import Budget, Cap, ContactPolicy, Cost, Offer, Placement, Treatment
from features.events import Event, to_us
from features.facts import Catalogue
from features.log import LogEvent
from serving.catalogue_view import CatalogueView
from serving.rules.limits import Limits
from serving.state.contacts import Claim, Claimed
from serving.state.sqlite_contacts import SqliteContacts

START = datetime(2026, 3, 4, 12, tzinfo=UTC)
LAPSES_AFTER = timedelta(minutes=30)
STORES = (SqliteContacts,)


class Events:
    """A log of nothing but events, in memory."""

    def __init__(self):
        self.rows = []

    def append(self, events, received_at):
        for event in events:
            self.rows.append(
                LogEvent(
                    len(self.rows) + 1, event.event_id, event.event_type, event.customer_id, to_us(event.occurred_at),
                    event.decision_id, event.offer_id, event.placement_id, None, event.channel, event.category, None,
                    None, "{}", to_us(received_at),
                )
            )  # fmt: skip

    def last_position(self):
        return len(self.rows)

    def events_after(self, position, limit):
        return self.rows[position : position + limit]


class World:
    """A store, a log and a clock, with words for what happens to them."""

    def __init__(self, store, folder):
        self.make, self.folder = store, folder
        self.now = START
        self.log = Events()
        self.opened = []
        self.n = 0
        self.contacts = self.open()

    def open(self, **more):
        self.opened.append(self.make(self.folder / "state.db", lambda: self.now, **more))
        return self.opened[-1]

    def later(self, **span):
        self.now += timedelta(**span)
        return self

    def decide(self, limits, *offer_ids, customer="c-1", channel="web", placement="hero", category=None, at=None):
        """The decision's id; None if any of it was lost."""
        self.n += 1
        at_us = to_us(at or self.now)
        picks = tuple(Claimed(0, offer_id, category, placement, channel) for offer_id in offer_ids)
        lapses_us = at_us + LAPSES_AFTER // timedelta(microseconds=1)
        claim = Claim(f"d-{self.n}", customer, at_us, lapses_us, picks)
        (lost,) = self.contacts.claim([claim], limits)
        return None if lost else claim.decision_id

    def happens(self, event_type, offer_id, decision_id=None, customer="c-1", at=None, limits=None, **more):
        self.n += 1
        money = {"value": Decimal(1), "currency": "EUR"} if event_type == "purchase" else {}
        event = Event(
            event_id=f"e-{self.n}", event_type=event_type, customer_id=customer, occurred_at=at or self.now,
            offer_id=offer_id, decision_id=decision_id, **money, **more,
        )  # fmt: skip
        self.log.append([event], self.now)
        return self.contacts.catch_up(self.log, limits)

    def read(self):
        return self.contacts.catch_up(self.log)

    def history(self, customer="c-1"):
        return self.contacts.histories([customer])[0].contacts

    def level(self, offer_id="o-1"):
        level = self.contacts.stock(to_us(self.now)).levels.get(offer_id)
        return level and (level.units, level.spent, level.spent_today)

    def close(self):
        for contacts in self.opened:
            contacts.close()


def an_offer(offer_id="o-1", **changes):
    treatment = Treatment(treatment_id="t")
    return Offer(
        offer_id=offer_id, name="x", value=1, currency="EUR", status="approved", treatments=(treatment,), **changes
    )


def limits_of(*offers, policies=()):
    hero = Placement(placement_id="hero", name="hero", channel="web")
    made = tuple(an_offer(one) if isinstance(one, str) else one for one in offers)
    return Limits(CatalogueView(Catalogue(1, made, (hero,), contact_policies=tuple(policies))))


def a_policy(*caps, **more):
    return ContactPolicy(policy_id="calm", name="calm", caps=caps, **more)


SCARCE = limits_of(an_offer(inventory=2))
ONCE = limits_of(an_offer(caps=(Cap(limit=1, window="7d"),)), "o-2")
PER_IMPRESSION = limits_of(an_offer(cost=Cost(amount=0.1, per="impression"), budget=Budget(amount=0.3, per="total")))
PER_ACCEPT = limits_of(an_offer(cost=Cost(amount=2, per="accept"), budget=Budget(amount=4, per="total")))
DAILY = limits_of(an_offer(cost=Cost(amount=1, per="impression"), budget=Budget(amount=2, per="day")))
