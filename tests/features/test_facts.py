"""What we know, as stored."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.catalogue import Offer, Placement, Treatment
from features.errors import BadInput, NotFound, StaleVersion
from features.facts import Facts, LakeFile
from tests.conftest import NOW


@pytest.fixture
def facts(tmp_path):
    opened = Facts(tmp_path / "facts.db")
    yield opened
    opened.close()


@pytest.fixture
def offer():
    def make(offer_id="o-1", **changes):
        treatment = Treatment(treatment_id=f"{offer_id}/a")
        return Offer(offer_id=offer_id, name="an offer", value=2.0, currency="EUR", treatments=(treatment,), **changes)

    return make


def test_an_object_comes_back_as_it_was_put(facts, offer):
    stored = facts.put(offer(starts_at=NOW, attributes={"depth": {"a": [1, None]}}), NOW)
    assert stored.created
    assert facts.get(Offer, "o-1").body == offer(starts_at=NOW, attributes={"depth": {"a": [1, None]}})


def test_putting_the_same_again_changes_nothing(facts, offer):
    first = facts.put(offer(), NOW)
    again = facts.put(offer(), NOW)
    assert (again.etag, again.created, again.changed) == (first.etag, False, False)
    assert facts.catalogue_version() == 1


def test_if_match_lets_only_the_current_version_through(facts, offer):
    etag = facts.put(offer(), NOW).etag
    newer = facts.put(offer(priority=1), NOW, if_match=etag)
    with pytest.raises(StaleVersion):
        facts.put(offer(priority=2), NOW, if_match=etag)
    assert facts.get(Offer, "o-1").etag == newer.etag


def test_if_match_on_an_absent_object_is_stale(facts, offer):
    with pytest.raises(StaleVersion):
        facts.put(offer(), NOW, if_match="*")


def test_offers_and_placements_of_the_same_id_are_apart(facts, offer):
    facts.put(offer("x"), NOW)
    facts.put(Placement(placement_id="x", name="hero", channel="web"), NOW)
    facts.remove(Placement, "x", NOW)
    assert facts.get(Offer, "x")
    with pytest.raises(NotFound):
        facts.get(Placement, "x")


def test_every_version_of_the_catalogue_can_be_read_again(facts, offer):
    facts.put(offer("a"), NOW)
    facts.put(offer("b"), NOW)
    facts.put(offer("a", priority=9), NOW)
    facts.put(Placement(placement_id="p", name="hero", channel="web"), NOW)
    facts.remove(Placement, "p", NOW)
    assert [o.priority for o in facts.catalogue_at(2).offers] == [0, 0]
    assert [o.priority for o in facts.catalogue_at(3).offers] == [9, 0]
    assert len(facts.catalogue_at(4).placements) == 1
    assert facts.catalogue_at(5).placements == ()
    assert facts.catalogue_at(5) == facts.catalogue()


def test_a_catalogue_read_after_each_change_is_the_one_that_is_read_anew(facts, offer, tmp_path):
    def change(n):
        name = f"o{n * 7 % 5}"
        if n % 3 == 2 and any(o.offer_id == name for o in facts.catalogue().offers):
            return facts.remove(Offer, name, NOW)
        return facts.put(offer(name, priority=n), NOW)

    other = Facts(tmp_path / "facts.db")  # another process
    for n in range(30):
        change(n)
        if n % 4 == 0:
            facts.put(Placement(placement_id=f"p{n % 8}", name="hero", channel="web"), NOW)
        if n % 2 == 0:  # several changes at once, too
            anew = Facts(tmp_path / "facts.db")
            assert (
                facts.catalogue()
                == other.catalogue()
                == anew.catalogue()
                == anew.catalogue_at(anew.catalogue_version())
            )
            anew.close()
    other.close()


def test_a_catalogue_read_within_a_transaction_that_fails_is_not_remembered(facts, offer):
    facts.put(offer("a"), NOW)

    def fail():
        with facts.transaction():
            facts.put(offer("b"), NOW)
            assert len(facts.catalogue().offers) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    facts.put(offer("c"), NOW)
    assert [o.offer_id for o in facts.catalogue().offers] == ["a", "c"]


def test_a_catalogue_that_did_not_change_is_not_read_again(facts, offer):
    facts.put(offer("a"), NOW)
    assert facts.catalogue() is facts.catalogue()


def test_every_change_of_an_object_says_what_when_and_by_whom(facts, offer):
    later = NOW + timedelta(hours=1)
    facts.put(offer(), NOW, by="ann")
    facts.put(offer(), NOW, by="nobody, as nothing changed")
    facts.put(offer("other"), NOW, by="eve")
    facts.put(offer(priority=1), later)
    facts.remove(Offer, "o-1", later, by="ben")
    told = [(change.at, change.by, change.body) for change in facts.changes(Offer, "o-1")]
    assert told == [(later, "ben", None), (later, None, offer(priority=1)), (NOW, "ann", offer())]
    assert [change.version for change in facts.changes(Offer, "o-1", limit=2)] == [4, 3]


def test_pages_are_ordered_by_id(facts, offer):
    for name in ("b", "c", "a"):
        facts.put(offer(name), NOW)
    assert [s.body.offer_id for s in facts.objects(Offer, 2)] == ["a", "b"]
    assert [s.body.offer_id for s in facts.objects(Offer, 2, after="b")] == ["c"]


def test_a_profile_is_merged_and_none_removes(facts):
    facts.merge_profile("c", NOW, {"age": 30, "city": "Ulm"}, {"web": True})
    merged = facts.merge_profile("c", NOW, {"age": 31, "city": None}, {"email": False}, "Europe/Berlin")
    assert merged.attributes == {"age": 31}
    assert merged.consent == {"web": True, "email": False}
    assert facts.profile("c") == merged


def test_a_profile_does_not_grow_for_ever(facts):
    facts.merge_profile("c", NOW, {f"a{i}": 1 for i in range(256)})
    with pytest.raises(BadInput, match="257 entries"):
        facts.merge_profile("c", NOW, {"one more": 1})
    assert len(facts.profile("c").attributes) == 256


def test_bulk_profiles_count_only_what_changed(facts):
    rows = [("a", {"age": 1}, None), ("b", {"age": 2}, 5)]
    assert facts.merge_profiles(rows, NOW) == 2
    assert facts.merge_profiles(rows, NOW) == 0
    assert [(c, us) for c, us, _ in facts.profile_history()] == [("a", 0), ("b", 5)]


def test_the_kinds_of_attributes_are_remembered_as_they_come(facts):
    facts.merge_profile("c", NOW, {"age": 30, "city": "Ulm", "member": True, "tags": ["a"], "born": None})
    facts.merge_profiles([("d", {"since": "2026-01-01T00:00:00Z", "age": "thirty"}, None)], NOW)
    kinds = {"age": "number", "city": "category", "member": "boolean", "since": "time"}
    assert facts.attribute_kinds() == kinds
    facts.merge_profile("c", NOW, {"city": None})
    assert facts.attribute_kinds() == kinds


def test_the_kind_of_an_attribute_is_that_of_most_customers(facts):
    def age():
        return facts.attribute_kinds()["age"]

    facts.merge_profiles([(name, {"age": 30}, None) for name in "abc"], NOW)
    for name in "def":
        facts.merge_profile(name, NOW, {"age": "seventeen"})
        assert age() == "number"  # a tie too
    facts.merge_profile("g", NOW, {"age": "old"})
    assert age() == "category"
    facts.merge_profile("g", NOW, {"age": 80})  # corrected
    assert age() == "number"
    facts.merge_profile("g", NOW, {"age": None})
    facts.remove_profiles(["a"])
    assert age() == "category"
    facts.remove_profiles(list("bcdefg"))
    assert age() == "number"  # still known


def test_an_attribute_of_a_transaction_that_failed_is_remembered_when_it_comes_again(facts):
    def fail():
        with facts.transaction():
            facts.merge_profile("c", NOW, {"age": 30})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert facts.attribute_kinds() == {}
    facts.merge_profile("c", NOW, {"age": 30})
    assert facts.attribute_kinds() == {"age": "number"}


def test_the_attributes_of_a_file_from_before_are_found_when_it_is_opened(facts, tmp_path):
    facts.merge_profile("c", NOW, {"age": 30})
    with facts.transaction() as db:
        db.execute("DROP TABLE attribute_kinds")
        facts.set_meta("schema", "older")
    opened = Facts(tmp_path / "facts.db")
    assert opened.attribute_kinds() == {"age": "number"}
    opened.close()


def test_a_failed_transaction_leaves_everything_as_it_was(facts, offer):
    def ingest():
        with facts.transaction():
            facts.put(offer(), NOW)
            facts.merge_profiles([("a", {"age": 1}, None)], NOW)
            facts.add_lake_files([LakeFile("events", "day=2026-01-01/x.parquet", "2026-01-01", 1, "00", "b1")])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest()
    assert facts.catalogue_version() == 0
    assert facts.profile("a") is None
    assert facts.lake_files("events") == []


def test_two_processes_may_open_the_same_file(facts, offer, tmp_path):
    other = Facts(tmp_path / "facts.db")
    facts.put(offer(), NOW)
    assert other.get(Offer, "o-1").body == offer()
    other.close()


@given(st.dictionaries(st.text(max_size=5), st.none() | st.text() | st.integers(-(2**53), 2**53) | st.booleans()))
def test_any_attributes_survive_storage(tmp_path_factory, attributes):
    opened = Facts(tmp_path_factory.mktemp("facts") / "facts.db")
    merged = opened.merge_profile("c", NOW, attributes)
    assert merged.attributes == {k: v for k, v in attributes.items() if v is not None}
    assert opened.profile("c") == merged
    opened.close()


def test_a_stored_object_is_plain_json(facts, offer):
    facts.put(offer(), NOW)
    ((body,),) = facts._rows("SELECT body FROM objects")
    assert msgspec.json.decode(body)["offer_id"] == "o-1"
