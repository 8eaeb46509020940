"""What is kept of the latest customers is bounded, and the oldest go first."""

from __future__ import annotations

from training.kept import NUMBERS, Kept


def test_the_oldest_go_when_there_is_no_room():
    kept = Kept(NUMBERS // 10)  # room for ten
    for n in range(11):
        kept.put(n, str(n))
    assert kept.get(10) == "10"
    assert [kept.get(n) for n in range(2)] == [None, None]
    assert kept.get(2) == "2"


def test_it_never_holds_more_than_it_may_and_always_the_newest():
    kept = Kept(NUMBERS // 7)
    for n in range(100):
        kept.put(n, n)
        assert kept.get(n) == n
        assert sum(kept.get(one) is not None for one in range(100)) <= 7


def test_what_is_larger_than_all_room_is_kept_alone():
    kept = Kept(2 * NUMBERS)
    kept.put("a", 1)
    kept.put("b", 2)
    assert (kept.get("a"), kept.get("b")) == (None, 2)
