"""What happened since the snapshot, added by the declarations: one customer as in serving, many as in training."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.definitions import feature_set
from features.events import US_PER_DAY
from features.live import Instant, StoredRow, feature_table, features_of, offer_features_of
from features.profile import Profile
from tests.features.histories import Recomputation, at, different, event

FEATURES = feature_set((1, 7, 30), {"age": "number", "tier": "category", "joined": "time"})
STORED = {c.name: n for n, c in enumerate(FEATURES.stored("customer"))}


def stored(day: int, **values: object) -> StoredRow:
    columns: list[object] = [None] * len(STORED)
    for name, value in values.items():
        columns[STORED[name]] = value
    return StoredRow(columns, at(day))


def test_nothing_known_gives_the_defaults():
    found = features_of(FEATURES, None, (), None, at(5, 12))
    assert found["spent_7d"] == 0.0
    assert math.isnan(found["days_since_purchase"])
    assert found["acceptance_rate_30d"] == 0.1
    assert found["seen_by_category_30d"] == {}
    assert found["favourite_category_30d"] is None
    assert found["tier"] is None
    assert set(found) == {f.name for f in FEATURES.customer}


def test_an_event_changes_every_window_that_its_age_fits():
    bought = event("c", "purchase", at(5, 9), value=12.5, currency="EUR")
    row = stored(5, purchases_prev6d=2, spent_prev6d=100_000, purchases_ever=3, spent_ever=200_000)
    found = features_of(FEATURES, row, [bought], None, at(5, 12))
    assert (found["purchases_1d"], found["purchases_7d"], found["purchases_ever"]) == (1.0, 3.0, 4.0)
    assert (found["spent_1d"], found["spent_7d"], found["spent_ever"]) == (12.5, 22.5, 32.5)
    assert found["days_since_purchase"] == pytest.approx(3 / 24)


def test_a_late_event_counts_only_in_windows_that_reach_back_to_it():
    late = event("c", "impression", at(-3, 9), offer="o", category="x")
    found = features_of(FEATURES, stored(5), [late], None, at(5, 12))
    assert (found["seen_7d"], found["seen_30d"], found["seen_ever"]) == (0.0, 1.0, 1.0)


def test_a_late_event_of_a_day_that_was_active_before_adds_no_active_day():
    late = event("c", "visit", at(4, 9))
    row = stored(5, active_on_prev29d=[at(4) // US_PER_DAY])
    assert features_of(FEATURES, row, [late], None, at(5, 12))["active_days_7d"] == 1.0


def test_money_of_another_currency_is_counted_but_not_summed():
    foreign = event("c", "purchase", at(5, 9), value=12.5, currency="USD")
    unvalued = event("c", "purchase", at(5, 9))
    found = features_of(FEATURES, None, [foreign, unvalued], None, at(5, 12))
    assert (found["purchases_7d"], found["spent_7d"]) == (2.0, 0.0)


def test_an_event_a_little_ahead_of_the_clock_counts_as_now():
    ahead = event("c", "visit", at(6, 0.05))
    found = features_of(FEATURES, None, [ahead], None, at(5, 23.99))
    assert found["visits_1d"] == 1.0
    assert found["days_since_activity"] == 0.0


def test_stored_parts_past_their_time_to_live_are_not_read_but_live_ones_are():
    row = stored(5, purchases_prev6d=2, purchases_ever=9, last_purchase_us=at(4))
    bought = event("c", "purchase", at(7, 1), value=1, currency="EUR")
    on_time = features_of(FEATURES, row, [bought], None, at(7))
    late = features_of(FEATURES, row, [bought], None, at(7) + 1)
    assert on_time["purchases_ever"] == 10.0
    assert (late["purchases_ever"], late["purchases_7d"]) == (1.0, 1.0)


def test_the_profile_never_expires_and_odd_values_are_missing():
    told = Profile(customer_id="c", attributes={"age": "old", "tier": 7, "joined": "1970-01-02T00:00:00Z", "new": []})
    found = features_of(FEATURES, None, (), told, 3 * US_PER_DAY)
    assert math.isnan(found["age"])
    assert found["tier"] == "7"
    assert found["joined"] == 2.0


def test_ties_for_the_favourite_go_to_the_first_in_order():
    seen = [event("c", "click", at(5, n), category=c, offer="o") for n, c in enumerate(["b", "a", "b", "a", "c"])]
    assert features_of(FEATURES, None, seen, None, at(5, 12))["favourite_category_30d"] == "a"


def test_one_by_one_equals_all_at_once():
    rng = np.random.default_rng(0)
    instants, profile = [], Profile(customer_id="c", attributes={"age": 30})
    for n in range(50):
        row = stored(5 - n % 5, purchases_prev6d=n, seen_by_category_prev29d=[n, 1], category_keys_prev29d=["x", "y"])
        happened = [
            event("c", k, at(5, float(h)), category="x") for h, k in enumerate(rng.choice(["view", "accept"], n % 4))
        ]
        instants.append(Instant(row if n % 3 else None, happened, (30.0, None, None), at(5, 12)))
    table = feature_table(FEATURES, "customer", instants)
    for n, one in enumerate(instants):
        single = features_of(FEATURES, one.stored, one.recent, profile, one.now_us)
        assert not different({k: v[n] if v.dtype == object else float(v[n]) for k, v in table.items()}, single)


def test_no_rows_give_empty_columns_of_the_right_types():
    table = feature_table(FEATURES, "customer", [])
    assert {len(column) for column in table.values()} == {0}
    assert table["spent_7d"].dtype == np.float64
    assert table["tier"].dtype == object


def test_an_offer_that_nobody_has_seen_has_the_prior_rate():
    found = offer_features_of(FEATURES, None, at(5))
    assert found["offer_acceptance_rate_7d"] == 0.1
    assert found["offer_impressions_30d"] == 0.0


def test_live_alone_equals_the_recomputation():
    happened = [
        event("c", "visit", at(5)), event("c", "impression", at(5, 6), offer="o", category="x", channel="web"),
        event("c", "accept", at(5, 6), offer="o", category="x", channel="web"),
        event("c", "reject", at(5, 18), offer="p", category="y"), event("c", "cancel", at(5, 19)),
    ]  # fmt: skip
    found = features_of(FEATURES, None, happened, None, at(5, 20))
    assert not different(found, Recomputation(FEATURES, happened, {}).customer("c", at(5, 20)))


AMOUNTS = st.sampled_from([None, 0, 1, -20, 3 * 10**15, 7])
DAY_SETS = st.lists(st.integers(at(-40) // US_PER_DAY, at(5) // US_PER_DAY), unique=True, max_size=4).map(sorted)
COUNTED = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3)


@st.composite
def odd_rows(draw):
    """Rows of any content, also such as no shop has: negative counts make denominators that are zero."""
    columns = {}
    for column in FEATURES.stored("customer"):
        if column.kind in ("sum", "first", "last"):
            columns[column.name] = draw(AMOUNTS if column.kind == "sum" else st.none() | st.integers(0, at(9)))
        elif column.kind == "days":
            columns[column.name] = draw(st.none() | DAY_SETS)
    for keys in (c for c in FEATURES.stored("customer") if c.kind == "keys"):
        known = draw(COUNTED)
        columns[keys.name] = list(known)
        for counts in FEATURES.stored("customer"):
            if counts.kind == "counts" and counts.name.endswith(f"prev{keys.days}d"):
                key_of = FEATURES.aggregates("customer")[counts.of].key
                if key_of == keys.of:
                    columns[counts.name] = list(known.values())
    return stored(5, **columns)


@settings(max_examples=60, deadline=None)
@given(odd_rows() | st.none(), st.sampled_from([0, 1, 3]), st.sampled_from([None, 30.0, math.nan]))
def test_a_row_number_by_number_is_bit_for_bit_the_row_as_arrays(row, n_events, age):
    happened = [event("c", kind, at(5, n), category="a", offer="o") for n, kind in enumerate(["accept"] * n_events)]
    profile = Profile(customer_id="c", attributes={} if age is None else {"age": age})
    with np.errstate(all="ignore"):
        table = feature_table(FEATURES, "customer", [Instant(row, happened, (age, None, None), at(5, 12))] * 2)
        for _ in range(2):  # the second reads what the first worked out of the row
            one = features_of(FEATURES, row, happened, profile, at(5, 12))
            for name, column in table.items():
                if column.dtype == object:
                    assert one[name] == column[0], name
                else:
                    assert np.float64(one[name]).tobytes() == column[0].tobytes(), name


def test_what_a_caller_does_to_its_features_does_not_reach_the_stored_row():
    row = stored(5, seen_by_category_prev29d=[2, 1], category_keys_prev29d=["x", "y"])
    first = features_of(FEATURES, row, (), None, at(5, 12))
    first["seen_by_category_30d"].clear()
    first["spent_7d"] = 1e9
    second = features_of(FEATURES, row, [event("c", "impression", at(5, 13), category="x", offer="o")], None, at(5, 14))
    assert second["seen_by_category_30d"] == {"x": 3.0, "y": 1.0}
    assert features_of(FEATURES, row, (), None, at(5, 15))["seen_by_category_30d"] == {"x": 2.0, "y": 1.0}
    assert features_of(FEATURES, row, (), None, at(5, 15))["spent_7d"] == 0.0


def test_a_row_read_on_another_day_has_that_days_active_days():
    row = stored(5, active_on_prev29d=[at(-24) // US_PER_DAY, at(4) // US_PER_DAY])
    assert features_of(FEATURES, row, (), None, at(5, 12))["active_days_30d"] == 2.0
    assert features_of(FEATURES, row, (), None, at(6, 12))["active_days_30d"] == 1.0
