"""A decider over a small catalogue, without models or stores."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from features.catalogue import Offer, Placement, Treatment
from features.definitions import feature_set
from features.facts import Catalogue
from features.home import Home
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerNow, Happened, Told
from serving.decide import Decider
from serving.decision import DecisionRequest, PlacementRequest
from serving.edition import Edition
from serving.settings import Settings
from tests.conftest import NOW


class NobodyKnown:
    """A ten-line fake of the customer read: everybody is new."""

    feature_set = feature_set()
    has_store = False

    def __init__(self, degraded=(), refused=frozenset(), **told):
        self.now = {"features": {}, "known": False, "snapshot_us": None, "refused": refused, **told}
        self.degraded = tuple(degraded)

    def read(self, customer_id, now_us):
        return CustomerNow(customer_id, degraded=self.degraded, **self.now)

    def happened(self, asked):
        return [Happened(None, ()) for _ in asked]

    def told(self, customer_ids):
        return [Told(customer_id, None) for customer_id in customer_ids]

    def assembled(self, customer_id, happened, told, now_us):
        return self.read(customer_id, now_us)


def an_offer(offer_id, value=1.0, **changes):
    treatment = Treatment(treatment_id=f"{offer_id}/a", payload={"title": offer_id})
    given = {"status": "approved", "treatments": (treatment,), **changes}
    return Offer(offer_id=offer_id, name=offer_id, value=value, currency="EUR", **given)


@pytest.fixture
def decider_with(tmp_path):
    """Offers as {id: value} or Offer objects; the acceptance rate is the same for all, so value decides."""

    def make(
        offers,
        *,
        placement=None,
        epsilon=0.0,
        policy="epsilon_greedy",
        now=NOW,
        degraded=(),
        rates=None,
        refused=frozenset(),
        policies=(),
        levers=(),
        contacts=None,
        believe=None,
        **told,
    ):
        made = [an_offer(o, offers[o]) if isinstance(o, str) else o for o in offers]
        hero = Placement(placement_id="hero", name="hero", **{"channel": "web", **(placement or {})})
        strip = Placement(placement_id="strip", name="strip", channel="web")
        in_order = tuple(sorted(made, key=lambda o: o.offer_id))
        catalogue = Catalogue(1, in_order, (hero, strip), tuple(policies), tuple(levers))
        features = {
            offer: {"offer_acceptance_rate_7d": 0.9, "offer_acceptance_rate_30d": rate}
            for offer, rate in (rates or {}).items()
        }
        edition = Edition(CatalogueView(catalogue), NobodyKnown(degraded, refused, **told), None, features, 0, believe)
        settings = Settings(home=Home(tmp_path), epsilon=epsilon, policy=policy)
        return Decider(edition, settings, lambda: now, "EUR", contacts)

    return make


@pytest.fixture
def ask():
    def make(decider, *placements, limit=1, seed=1, **rest):
        asked = tuple(PlacementRequest(name, limit) for name in placements or ("hero",))
        return decider.decide(DecisionRequest(customer_id="c1", placements=asked, **rest), seed=seed)

    return make


@pytest.fixture
def logged():
    return lambda decision: msgspec.json.decode(decision.log_payload)


@pytest.fixture
def soon():
    return NOW + timedelta(seconds=1)
