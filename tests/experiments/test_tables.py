"""From the live log to the tables of experiments: exported, joined to who visitors are, grouped by who they were."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from experiments.lifecycle import lifecycle
from experiments.moments import checks, moments, per_unit
from experiments.population import measured
from experiments.tables import open_tables, tables_of
from features.errors import BadInput
from features.events import Event, to_us, visitor_key
from features.facts import Facts
from features.home import Home
from features.identities import join
from features.log import Batch, DecisionRow, Exposure
from features.log_export import export
from features.sqlite_log import SqliteLog
from tests.experiments.worlds import day, offer

VISITOR = visitor_key(None, "browser")


def purchase(event_id, customer, at, value):
    return Event(event_id=event_id, event_type="purchase", customer_id=customer, occurred_at=day(at),
                 value=Decimal(value), currency="EUR")  # fmt: skip


def decided(decision_id, customer, at, unit, variant):
    payload = b'{"latency_us": 2500}'
    return DecisionRow(decision_id, customer, to_us(day(at)), payload, exposures=(Exposure("e", 1, unit, variant),))


@pytest.fixture
def home(tmp_path):
    """A visitor is served, buys, signs up as "ann" and buys again; "bob" was known before; both have a city."""
    home = Home(tmp_path)
    facts, log = Facts(home.facts_db), SqliteLog(home.log_db)
    facts.put(offer("o"), day(0))
    facts.merge_profile("bob", day(-1), {"city": "Rome"})
    facts.merge_profile("bob", day(3), {"city": "Oslo"})
    log.write([Batch((purchase("1", VISITOR, 1, "5"),), day(1), (decided("d1", VISITOR, 0, VISITOR, "control"),))])
    join(facts, VISITOR, "ann", day(2))
    events = (purchase("2", "ann", 3, "7"), purchase("3", "bob", 3, "11"), purchase("4", "bob", -2, "2"))
    rows = (decided("d2", "ann", 2.5, VISITOR, "control"), decided("d3", "bob", 1, "bob", "treatment"))
    log.write([Batch(events, day(3), rows)])
    export(home, facts, log, day(4))
    log.close()
    facts.close()
    return home


def test_the_log_is_analysed_as_it_was_exported(home):
    facts = Facts(home.facts_db)
    with open_tables(home, facts) as tables:
        asked = {"until": day(10), "segments": ["city"]}
        rows = per_unit(tables, "e", ["revenue_per_customer"], **asked).to_pylist()
        cells = moments(tables, "e", ["latency_p50", "revenue_per_customer"], until=day(10))
        found, counts = checks(tables, "e", ["revenue_per_customer"], until=day(10))
        people = measured(tables, "revenue_per_customer", day(0), day(10))
        stages = {one.stage: one.n for one in lifecycle(tables, day(100)) if one.n}
    facts.close()
    assert [(r["unit_id"], r["variant"], r["city"], r["exposed_at"], r["revenue_per_customer_num"]) for r in rows] == [
        (VISITOR, "control", "unknown", day(0), 12),
        ("bob", "treatment", "Rome", day(1), 11),  # not the city of later
    ]
    assert rows[1]["revenue_per_customer_pre_num"] == 2
    assert [(cell.variant, cell.mean_num) for cell in cells] == [("control", 12), ("treatment", 11)]
    assert (found.n_units, found.n_crossed) == (2, 0)
    assert [(one.day, one.variant, one.n) for one in counts] == [
        ("2026-03-02", "control", 1), ("2026-03-03", "treatment", 1)]  # fmt: skip
    assert [(one.n, one.value) for one in people] == [(2, 11.5)]
    assert stages == {"lapsed": 2}


def test_an_empty_home_has_empty_tables(tmp_path):
    facts = Facts(Home(tmp_path).facts_db)
    with open_tables(Home(tmp_path), facts) as tables:
        assert [one.why is not None for one in measured(tables, "nps", day(0), day(7))] == [True]
        assert moments(tables, "e", ["nps"], until=day(7)) == []
        assert lifecycle(tables, day(7)) == []
    facts.close()


def test_tables_that_lack_a_column_are_refused_by_name():
    with pytest.raises(BadInput, match="the table of events needs a column occurred_at"):
        tables_of(events=pa.table({"event_type": ["visit"], "customer_id": ["a"]}))


def test_a_plain_frame_of_another_system_will_do():
    import pandas as pd

    events = pd.DataFrame(
        {"event_type": ["purchase"], "customer_id": ["a"], "occurred_at": [datetime(2026, 3, 3, tzinfo=UTC)],
         "value": [4.5], "currency": ["EUR"]}
    )  # fmt: skip
    exposures = pd.DataFrame(
        {"experiment_id": ["e", "e"], "unit_id": ["a", "b"], "variant": ["x", "y"], "exposed_at": [day(0), day(0)]}
    )
    with tables_of(events=events, exposures=exposures) as tables:
        found = moments(tables, "e", ["revenue_per_customer"], until=day(5))
    assert [(cell.variant, cell.mean_num, cell.phase) for cell in found] == [("x", 4.5, 1), ("y", 0, 1)]
