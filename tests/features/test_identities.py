"""Who a visitor is: joining, whose word counts, and features of what both did."""

from __future__ import annotations

import math
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.definitions import feature_set
from features.errors import AlreadyJoined, Erased
from features.events import visitor_key
from features.facts import Facts
from features.identities import MOST_ALIASES, join, joined_row, merged
from features.live import StoredRow, features_of
from features.profile import Profile, Word
from tests.conftest import NOW
from tests.features.histories import at

FEATURES = feature_set((1, 7, 30))
COLUMNS = FEATURES.stored("customer")
V, W = visitor_key(None, "v"), visitor_key(None, "w")


@pytest.fixture
def facts(tmp_path):
    opened = Facts(tmp_path / "facts.db")
    yield opened
    opened.close()


def test_a_joined_visitor_is_the_customer_and_others_are_themselves(facts):
    assert join(facts, V, "c", NOW).new
    join(facts, W, "c", NOW)
    assert [facts.identity_of(key) for key in (V, "c", visitor_key(None, "x"), "v")] == ["c", "c", "\x1fx", "v"]
    odd = visitor_key(None, 'quote " backslash \\ and ü')
    join(facts, odd, "d", NOW)
    keys = [V, "c", odd, visitor_key(None, "x"), "v"]
    assert facts.identities_of(keys) == {key: facts.identity_of(key) for key in keys}
    assert facts.identities_of([]) == {}
    assert facts.aliases_of("c") == (V, W)
    assert facts.aliases_of("e") == ()


def test_joining_again_changes_nothing_and_to_another_customer_is_refused(facts):
    facts.merge_profile(V, NOW, consent={"web": False})
    join(facts, V, "c", NOW)
    facts.merge_profile("c", NOW, consent={"web": True})  # the customer opted in since
    again = join(facts, V, "c", NOW)
    assert (again.new, again.profile.consent) == (False, {"web": True})
    with pytest.raises(AlreadyJoined):
        join(facts, V, "d", NOW)
    assert facts.identity_of(V) == "c"


def test_a_customer_has_only_so_many_visitors(facts):
    for n in range(MOST_ALIASES):
        join(facts, visitor_key(None, f"v{n}"), "c", NOW)
    with pytest.raises(AlreadyJoined, match="64"):
        join(facts, V, "c", NOW)


@pytest.mark.parametrize("erased", [V, "c"])
def test_who_was_erased_is_joined_to_nobody(facts, erased):
    facts.bury([erased], NOW)
    with pytest.raises(Erased):
        join(facts, V, "c", NOW)


def exposed_are(*known):
    return lambda keys: set(keys) & set(known)


@pytest.mark.parametrize(
    ("exposed", "unit"),
    [((), "c"), ((V,), V), (("c",), "c"), ((V, "c"), "c"), ((W,), "c")],
    ids=["nobody", "the visitor", "the customer", "both", "somebody else"],
)
def test_who_becomes_known_keeps_what_experiments_split_them_by(facts, exposed, unit):
    join(facts, V, "c", NOW, exposed_are(*exposed))
    assert facts.unit_of("c") == unit
    assert facts.told_of(["c"]) == {"c": (None, unit)}


def test_the_first_exposed_visitor_is_the_unit_and_stays_it(facts):
    join(facts, visitor_key(None, "u"), "c", NOW, exposed_are())
    join(facts, V, "c", NOW, exposed_are(V))
    assert facts.unit_of("c") == V
    join(facts, W, "c", NOW, exposed_are(V, W))  # a second browser, whose exposures are those of another unit
    assert facts.unit_of("c") == V
    join(facts, V, "c", NOW, exposed_are(V, W))  # again changes nothing
    assert [facts.unit_of(key) for key in ("c", "d", W)] == [V, "d", W]


def test_profiles_and_units_are_read_together_for_many(facts):
    facts.merge_profile("c", NOW, {"age": 30}, {"web": False})
    facts.merge_profile("d", NOW, {"age": 31})
    join(facts, V, "c", NOW, exposed_are(V))
    join(facts, W, "e", NOW, exposed_are(W))
    keys = ["c", "d", "e", "nobody", "odd \" ' ü", V]
    told = facts.told_of(keys)
    assert {key: profile for key, (profile, _) in told.items() if profile} == facts.profiles_of(keys)
    assert {key: unit for key, (_, unit) in told.items()} == {key: facts.unit_of(key) for key in keys}
    assert (told["c"][1], told["e"]) == (V, (None, W))
    assert facts.told_of([]) == {}


def test_a_file_from_before_units_gets_them(tmp_path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        db.execute(
            "CREATE TABLE identities (alias TEXT PRIMARY KEY, customer_id TEXT NOT NULL, joined_us INTEGER NOT NULL) "
            "WITHOUT ROWID"
        )
        db.execute("INSERT INTO identities VALUES (?, 'c', 5)", (V,))
    db.close()
    facts = Facts(path)
    assert (facts.aliases_of("c"), facts.unit_of("c")) == ((V,), "c")
    join(facts, W, "d", NOW, exposed_are(W))
    assert facts.unit_of("d") == W
    facts.close()


def test_the_profile_of_the_visitor_moves_and_its_history_stays(facts):
    facts.merge_profile(V, NOW, {"size": 42})
    facts.merge_profile("c", NOW, {"age": 30})
    join(facts, V, "c", NOW)
    assert facts.profile(V) is None
    assert facts.profile("c").attributes == {"age": 30, "size": 42}
    assert {customer for customer, _, _ in facts.profile_history()} == {V, "c"}


def test_the_own_word_stands_but_a_refusal_beats_consent():
    customer = Profile(
        customer_id="c", attributes={"age": 30}, consent={"web": True, "email": False, "category:a": False},
        less_like=("o-1",), said_us={"web": 5, "email": 7, "category:a": 1, "gone": 3},
    )  # fmt: skip
    visitor = Profile(
        customer_id=V, attributes={"age": 99, "size": 42},
        consent={"web": False, "email": True, "app": True, "category:b": False},
        said_us={"web": 4, "email": 9, "app": 2, "category:b": 8}, time_zone="Europe/Kyiv", less_like=("o-2",),
    )  # fmt: skip
    assert merged(customer, visitor) == Profile(
        customer_id="c", attributes={"age": 30, "size": 42},
        consent={"web": False, "email": False, "app": True, "category:a": False, "category:b": False},
        said_us={"web": 5, "email": 9, "app": 2, "category:a": 1, "category:b": 8, "gone": 3},
        time_zone="Europe/Kyiv", less_like=("o-1", "o-2"),
    )  # fmt: skip


CONSENT = st.dictionaries(st.sampled_from("abcd"), st.booleans())


@given(CONSENT, CONSENT)
def test_no_refusal_is_lost_by_joining(mine, others):
    found = merged(Profile(customer_id="c", consent=mine), Profile(customer_id=V, consent=others))
    refused = {key for consent in (mine, others) for key, given in consent.items() if not given}
    assert found.refused == refused


def test_refusals_are_kept_where_there_is_no_room_for_all():
    mine = {f"m{n}": True for n in range(200)}
    others = {f"o{n}": n % 2 == 0 for n in range(200)}
    found = merged(Profile(customer_id="c", consent=mine), Profile(customer_id=V, consent=others))
    assert len(found.consent) == 256
    assert found.refused == {f"o{n}" for n in range(1, 200, 2)}


def test_the_mutes_of_a_file_from_before_they_were_consent_are_kept(tmp_path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:  # as release 0.2 made it
        db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO meta VALUES ('schema', 'of before')")
        db.execute(
            "CREATE TABLE profiles (customer_id TEXT PRIMARY KEY, attributes TEXT NOT NULL, consent TEXT NOT NULL, "
            "time_zone TEXT, updated_us INTEGER NOT NULL, muted_categories TEXT NOT NULL DEFAULT '[]', "
            "less_like TEXT NOT NULL DEFAULT '[]') WITHOUT ROWID"
        )
        db.execute("""INSERT INTO profiles VALUES ('c', '{}', '{"web":true}', NULL, 7, '["toys"]', '["o-1"]')""")
    db.close()
    for refused in ({"category:toys"}, {"web", "category:toys"}):
        facts = Facts(path)
        found = facts.profile("c")
        assert (found.refused, found.muted_categories, found.less_like) == (refused, ("toys",), ("o-1",))
        facts.say("c", [Word("web", False, 7), Word("category:toys", True, 7)], NOW)  # at once: the refusal
        assert facts.profile("c").refused == {"web", "category:toys"}
        facts.close()


def test_a_file_from_before_there_were_preferences_is_upgraded_in_place(tmp_path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:  # as release 0.1 made it
        db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO meta VALUES ('schema', 'of before')")
        db.execute(
            "CREATE TABLE profiles (customer_id TEXT PRIMARY KEY, attributes TEXT NOT NULL, consent TEXT NOT NULL, "
            "time_zone TEXT, updated_us INTEGER NOT NULL) WITHOUT ROWID"
        )
        db.execute("""INSERT INTO profiles VALUES ('c', '{"age":30}', '{"web":false}', 'Europe/Kyiv', 7)""")
    db.close()
    for _ in range(2):
        facts = Facts(path)
        found = facts.profile("c")
        assert (found.attributes, found.refused, found.muted_categories) == ({"age": 30}, {"web"}, ())
        assert facts.identity_of(V) == V
        assert not facts.is_erased("c")
        facts.close()


# What both did: every column joined, so that the features are those of all events together


def row(**values: object) -> StoredRow:
    named = {column.name: n for n, column in enumerate(COLUMNS)}
    columns: list[object] = [None] * len(COLUMNS)
    for name, value in values.items():
        columns[named[name]] = value
    return StoredRow(columns, at(5))


def test_sums_add_up_times_are_the_outermost_and_days_are_united():
    one = row(purchases_prev6d=2, spent_prev6d=100_000, last_purchase_us=at(2), active_on_prev29d=[1, 3])
    other = row(purchases_prev6d=1, spent_prev6d=50_000, last_purchase_us=at(4), active_on_prev29d=[2, 3])
    found = features_of(FEATURES, joined_row(FEATURES, [one, None, other]), (), None, at(5, 12))
    assert (found["purchases_7d"], found["spent_7d"], found["days_since_purchase"]) == (3.0, 15.0, 1.5)
    joined = joined_row(FEATURES, [one, other])
    assert joined.columns[[c.name for c in COLUMNS].index("active_on_prev29d")] == [1, 2, 3]


def test_counts_by_key_find_their_keys():
    one = row(category_keys_prev29d=["shoes", "tents"], seen_by_category_prev29d=[3, 1])
    other = row(category_keys_prev29d=["bags", "shoes"], seen_by_category_prev29d=[4, 2])
    found = features_of(FEATURES, joined_row(FEATURES, [one, other]), (), None, at(5, 12))
    assert found["seen_by_category_30d"] == {"bags": 4.0, "shoes": 5.0, "tents": 1.0}


def test_of_nobody_there_is_no_row_and_of_one_it_is_the_same():
    only = row(purchases_ever=3)
    assert joined_row(FEATURES, [None, None]) is None
    assert joined_row(FEATURES, [None, only]) is only


def _columns() -> st.SearchStrategy[StoredRow]:
    keys = st.lists(st.sampled_from("abcde"), unique=True, max_size=4).map(sorted)

    @st.composite
    def made(draw: st.DrawFn) -> StoredRow:
        drawn = {(c.of, c.days): draw(st.none() | keys) for c in COLUMNS if c.kind == "keys"}
        known = FEATURES.aggregates("customer")
        columns: list[object] = []
        for column in COLUMNS:
            if column.kind == "keys":
                columns.append(drawn[column.of, column.days])
            elif column.kind == "counts":
                beside = drawn[known[column.of].key, column.days]
                n = st.integers(0, 9)
                columns.append(
                    None if beside is None else draw(st.lists(n, min_size=len(beside), max_size=len(beside)))
                )
            elif column.kind == "days":
                columns.append(draw(st.none() | st.lists(st.integers(0, 40), unique=True, max_size=4).map(sorted)))
            else:
                columns.append(draw(st.none() | st.integers(0, 10**6)))
        return StoredRow(columns, at(5))

    return made()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.none() | _columns(), max_size=4), st.randoms())
def test_neither_the_order_nor_the_grouping_of_keys_matters(rows, random):
    joined = joined_row(FEATURES, rows)
    shuffled = random.sample(rows, len(rows))
    stepwise = joined_row(FEATURES, [joined_row(FEATURES, shuffled[:2]), *shuffled[2:]])
    for other in (joined_row(FEATURES, shuffled), stepwise):
        one, two = (features_of(FEATURES, found, (), None, at(5, 12)) for found in (joined, other))
        assert one.keys() == two.keys()
        for name, value in one.items():
            both_nan = isinstance(value, float) and math.isnan(value) and math.isnan(two[name])
            assert both_nan or value == two[name], name
