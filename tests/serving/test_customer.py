"""One read of one customer: what each store adds, and what is said when one fails."""

from __future__ import annotations

import pytest

from features.definitions import feature_set
from features.errors import StoreUnavailable
from features.events import US_PER_DAY, to_us, visitor_key
from features.facts import Facts
from features.identities import join
from features.live import StoredRow
from features.sqlite_log import SqliteLog
from serving.customer import CustomerReader
from tests.conftest import NOW

NOW_US = to_us(NOW)
FEATURES = feature_set(attributes={"age": "number"})


class Online:
    """A ten-line fake of the online store: one row for everybody, or a failure."""

    def __init__(self, as_of_us=NOW_US, fails=False):
        self.as_of_us, self.fails = as_of_us, fails

    def customer(self, key):
        if self.fails:
            raise StoreUnavailable("the disk is gone")
        columns = [7 if column.name == "purchases_ever" else None for column in FEATURES.stored("customer")]
        return StoredRow(columns, self.as_of_us)

    def offers(self):
        return {}


@pytest.fixture
def reader(tmp_path):
    facts, log = Facts(tmp_path / "facts.db"), SqliteLog(tmp_path / "log.db")
    facts.merge_profile("c", NOW, {"age": 40})

    def make(online):
        return CustomerReader(facts, facts, log, FEATURES, online, snapshot_us=0, snapshot_position=0)

    yield make
    log.close()
    facts.close()


def test_stored_features_and_profile_come_together(reader):
    customer = reader(Online()).read("c", NOW_US)
    assert (customer.features["purchases_ever"], customer.features["age"]) == (7.0, 40.0)
    assert customer.known
    assert customer.degraded == ()


def test_without_a_store_the_defaults_answer_and_nothing_is_degraded(reader):
    customer = reader(None).read("c", NOW_US)
    assert customer.features["purchases_ever"] == 0.0
    assert customer.degraded == ()


def test_a_stranger_is_nobody_known(reader):
    assert not reader(None).read("stranger", NOW_US).known


def test_a_customer_who_was_served_as_a_visitor_is_split_by_that_key(reader):
    asked = reader(None)
    visitor = visitor_key(None, "v")
    join(asked.facts, visitor, "c", NOW, lambda keys: {visitor})
    join(asked.facts, visitor_key(None, "w"), "d", NOW)
    for key in ("c", visitor):  # also while the browser still sends the old id
        found = asked.read(key, NOW_US)
        assert (found.customer_id, found.unit_id) == ("c", visitor)
    assert [asked.read(key, NOW_US).unit_id for key in ("d", "stranger")] == ["d", "stranger"]


def test_a_failing_online_store_is_named_and_the_rest_goes_on(reader):
    customer = reader(Online(fails=True)).read("c", NOW_US)
    assert [code for code, _ in customer.degraded] == ["features_unavailable"]
    assert customer.features["age"] == 40.0


def test_a_failing_log_is_named_and_the_rest_goes_on(reader):
    asked = reader(Online())
    asked.log = Broken()
    customer = asked.read("c", NOW_US)
    assert [code for code, _ in customer.degraded] == ["state_unavailable"]
    assert customer.features["purchases_ever"] == 7.0


class Broken:
    def recent(self, *asked):
        raise StoreUnavailable("locked")

    last_position = events_after = recent


@pytest.mark.parametrize(("age_days", "stale"), [(2.0, False), (2.001, True)])
def test_stored_features_past_their_time_to_live_are_not_read(reader, age_days, stale):
    customer = reader(Online(NOW_US - int(age_days * US_PER_DAY))).read("c", NOW_US)
    assert [code for code, _ in customer.degraded] == (["features_stale"] if stale else [])
    assert customer.features["purchases_ever"] == (0.0 if stale else 7.0)
