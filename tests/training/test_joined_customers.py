"""A visitor who turned out to be a customer, in the training tables: one customer, known as such from the join on."""

from __future__ import annotations

import pytest

from features.catalogue import Offer
from features.data_settings import Churn, DataSettings
from features.events import from_us, visitor_key
from features.identities import join
from tests.features.histories import at, event, open_home, write_lake
from training.dataset import open_log, read_impressions, read_interactions, read_risks

V = visitor_key(None, "v")
OFFER = Offer(offer_id="o", name="o", value=1.0, currency="EUR", treatments=())
HISTORY = [
    event(V, "visit", at(0)), event(V, "impression", at(1), offer="o"), event(V, "click", at(1, 1), offer="o"),
    event("c", "accept", at(2, 1), offer="o"), event("c", "visit", at(9)), event("d", "visit", at(9)),
]  # fmt: skip


@pytest.fixture
def log(tmp_path):
    """The lake with the visitor joined to `c` in the afternoon of day 2."""
    home, facts = open_home(tmp_path)
    write_lake(home, facts, HISTORY)
    join(facts, V, "c", from_us(at(2, 15)))
    opened = []

    def make(as_of_us):
        opened.append(open_log(home, facts, as_of_us))
        return opened[-1]

    yield make
    for one in opened:
        one.db.close()
    facts.close()


def test_what_both_liked_is_one_customers_taste_once_it_is_known(log):
    settings = DataSettings()
    assert read_interactions(log(at(2, 14)), [OFFER], settings).customers == (V, "c")
    assert read_interactions(log(at(10)), [OFFER], settings).customers == ("c",)
    assert log(at(2, 14)).digest != log(at(10)).digest


def test_an_impression_before_the_join_is_the_visitors_and_its_outcome_the_customers(log):
    found = read_impressions(log(at(10)), [OFFER], DataSettings(), 0)
    assert (found.rows["customer_id"].tolist(), found.accepted.tolist()) == ([V], [True])


def test_a_visitor_who_became_a_customer_has_not_churned_and_is_nobody_afterwards(log):
    rules = Churn(horizon_days=30, active_within_days=90)
    found = read_risks(log(at(40)), [at(2), at(3), at(8)], rules)
    rows = [(customer, (us - at(0)) // (at(1) - at(0))) for customer, us in found.rows.itertuples(index=False)]
    assert list(zip(rows, found.churned.tolist(), strict=True)) == [((V, 2), False)]
