"""The shipped recipes on the real exports; the figures are those of the data sets' own descriptions unless said."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pytest

from features.data_settings import DataSettings
from features.events import parse_time
from features.facts import Facts
from features.home import Home
from features.ingest import ingest
from features.ingest_recipe import load_recipe, shipped_recipes

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def taken_in(shared_data, tmp_path_factory):
    """Runs a recipe once and returns (report, facts, query over its lake, home)."""
    done = {}
    open_facts = []

    def run(recipe, folder, now):
        if recipe not in done:
            home = Home(tmp_path_factory.mktemp(recipe))
            facts = Facts(home.facts_db)
            open_facts.append(facts)
            report = ingest(home, facts, shared_data / folder, recipe, now=now)
            con = duckdb.connect()
            con.execute(
                f"SET TimeZone = 'UTC'; CREATE VIEW events AS FROM read_parquet('{home.lake}/events/*/*.parquet')"
            )
            done[recipe] = report, facts, lambda sql: con.execute(sql).fetchall(), home
        return done[recipe]

    yield run
    for facts in open_facts:
        facts.close()


@pytest.fixture
def starbucks(taken_in):
    return taken_in("starbucks", "starbucks_offers", datetime(2018, 8, 25, tzinfo=UTC))


@pytest.fixture
def online_retail(taken_in):
    return taken_in("online_retail", "online_retail", datetime(2011, 12, 10, tzinfo=UTC))


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_states_what_its_data_need(name):
    recipe = load_recipe(name)
    assert set(recipe.queries) == {"customers", "offers", "events"}
    assert isinstance(recipe.needs.settings, DataSettings)
    assert recipe.needs.placements


def test_every_starbucks_event_is_kept(starbucks):
    report, _, query, _ = starbucks
    assert [(t.n_rows, t.kept) for t in report.tables] == [(17_000, 17_000), (10, 10), (306_534, 306_534)]
    assert dict(query("SELECT event_type, count(*) FROM events GROUP BY 1")) == {
        "impression": 76_277, "click": 57_725, "accept": 33_579, "purchase": 138_953}  # fmt: skip


def test_starbucks_hours_count_from_the_epoch(starbucks):
    _, facts, query, _ = starbucks
    epoch = parse_time(facts.data_settings().epoch)
    waves = query("SELECT DISTINCT occurred_at FROM events WHERE event_type = 'impression' ORDER BY 1")
    assert [(moment - epoch).total_seconds() / 3600 for (moment,) in waves] == [0, 168, 336, 408, 504, 576]
    ((last,),) = query("SELECT max(occurred_at) FROM events")
    assert (last - epoch).total_seconds() / 3600 == 714


def test_starbucks_rewards_and_spending_are_exact(starbucks, shared_data):
    """Against the raw file, read another way."""
    file = shared_data / "starbucks_offers" / "transcript.json.gz"
    with gzip.open(file, "rt") as lines:
        values = [json.loads(line, parse_float=Decimal)["value"] for line in lines if line.strip()]
    spent = sum(value.get("amount", 0) for value in values)
    rewards = sum(value.get("reward", 0) for value in values)
    _, _, query, _ = starbucks
    assert query("SELECT sum(value) FROM events WHERE currency = 'USD'") == [(spent,)]
    assert query("SELECT sum((properties ->> '$.reward')::DECIMAL(18, 4)) FROM events") == [(rewards,)]


def test_starbucks_members_who_gave_nothing_have_no_attributes_but_their_joining(starbucks):
    _, facts, _, _ = starbucks
    profiles = [facts.profile(customer_id) for customer_id, _, _ in facts.profile_history()]
    assert Counter(p.attributes.get("gender") for p in profiles) == {"M": 8_484, "F": 6_129, "O": 212, None: 2_175}
    silent = facts.profile("68be06ca386d4c31939f3a4f0e3dd783")
    assert silent.attributes == {"became_member_on": "2017-02-12T00:00:00Z"}


def test_starbucks_offers_are_open_to_all_channels_and_carry_their_terms(starbucks):
    _, facts, query, _ = starbucks
    offers = {offer.offer_id: offer for offer in facts.catalogue().offers}
    assert Counter(offer.category for offer in offers.values()) == {"bogo": 4, "discount": 4, "informational": 2}
    offer = offers["0b1e1539f2cc45b7b9fa7c272da2e1d7"]
    assert (offer.value, offer.status, offer.channels, offer.currency) == (20.0, "approved", (), "USD")
    assert offer.attributes == {
        "offer_type": "discount", "difficulty": 20, "reward": 5, "duration_days": 10.0,
        "channel_email": True, "channel_mobile": False, "channel_social": False, "channel_web": True,
    }  # fmt: skip
    assert query("SELECT count(*) FROM events WHERE offer_id IS NOT NULL AND category IS NULL") == [(0,)]


def test_online_retail_keeps_the_product_lines_of_known_customers(online_retail):
    """397,884 lines have a customer, no cancellation and a price (the count of many published analyses); 1,547 of
    them are postage, manual corrections, carriage, bank charges, pads."""
    report, _, query, _ = online_retail
    assert [(t.table, t.kept) for t in report.tables] == [("customers", 4_372), ("offers", 3_659), ("events", 396_337)]
    assert 397_884 - 1_547 == 396_337
    assert query("SELECT DISTINCT event_type FROM events") == [("purchase",)]
    assert query("SELECT count(*) FROM events WHERE value <= 0 OR offer_id IS NULL OR currency <> 'GBP'") == [(0,)]


def test_online_retail_money_is_quantity_times_price(online_retail, shared_data):
    """Against the raw file by pandas."""
    import pandas as pd

    raw = pd.read_parquet(shared_data / "online_retail" / "online_retail.parquet")
    kept = raw[raw.CustomerID.notna() & ~raw.InvoiceNo.str.startswith("C") & (raw.UnitPrice > 0)]
    kept = kept[kept.StockCode.str.fullmatch(r"\d{5}[A-Za-z]*")]
    _, _, query, _ = online_retail
    ((total,),) = query("SELECT sum(value) FROM events")
    assert abs(total - Decimal(str(round((kept.Quantity * kept.UnitPrice).sum(), 4)))) < Decimal("0.01")


def test_online_retail_times_are_london_times(online_retail):
    """The first invoice was written at 08:26 in winter; 2011-06-01 07:37 in summer is an hour earlier in UTC."""
    _, _, query, _ = online_retail
    assert query("SELECT min(occurred_at) FROM events") == [(datetime(2010, 12, 1, 8, 26, tzinfo=UTC),)]
    summer = "SELECT min(occurred_at) FROM events WHERE session_id = '555156'"
    assert query(summer) == [(datetime(2011, 6, 1, 6, 37, tzinfo=UTC),)]


def test_a_second_run_of_a_recipe_adds_nothing(starbucks, shared_data):
    _, facts, _, home = starbucks
    before = facts.lake_files("events"), facts.catalogue_version()
    report = ingest(
        home, facts, shared_data / "starbucks_offers", "starbucks_offers", now=datetime(2018, 8, 25, tzinfo=UTC)
    )
    assert [(t.kept, t.duplicates) for t in report.tables] == [(17_000, 0), (10, 0), (0, 306_534)]
    assert (report.n_customers_changed, report.n_offers_changed) == (0, 0)
    assert (facts.lake_files("events"), facts.catalogue_version()) == before
