"""What counts as evidence; expected sums by hand."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.data_settings import Attribution
from features.log import SqliteLog
from serving.learning.evidence import MOST_SEGMENTS, Caution, Rules
from serving.learning.fold import PACE, fold
from tests.serving.learning_log import NOW, Shop, folded, memory_at, payload, shop_at, sums

CELL = ("7", "web", "o-1")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture
def shop(tmp_path):
    shop = shop_at(tmp_path)
    yield shop
    shop.log.close()


def found(shop, folder, rules=None):
    return sums(folded(folder, shop.log, rules))


def test_an_impression_counts_what_the_model_expected_and_its_outcome_one(shop, tmp_path):
    shop.shown("d-1")
    shop.shown("d-2", customer="c-2", taken=True)
    assert found(shop, tmp_path) == {CELL: (2, 0.2, 1.0)}


def test_evidence_is_kept_by_release_segment_and_offer(shop, tmp_path):
    shop.shown("d-1", release=None, segment="app")
    shop.shown("d-2", offers={"o-2": 0.5})
    assert found(shop, tmp_path) == {("none", "app", "o-1"): (1, 0.1, 0.0), ("7", "web", "o-2"): (1, 0.5, 0.0)}


def test_a_placement_may_have_a_segment_of_its_own(shop, tmp_path):
    rows = [{"offers": [{"offer_id": "o-1", "p_model": 0.1}], "segment": "app"}]
    shop.shown("d-1", placements=rows)
    assert found(shop, tmp_path) == {("7", "app", "o-1"): (1, 0.1, 0.0)}


def test_a_row_without_the_models_estimate_counts_by_p_accept_but_not_in_the_holdout(shop, tmp_path):
    rows = [{"offers": [{"offer_id": "o-1", "p_accept": 0.3}]}]
    shop.shown("d-1", placements=rows)
    shop.shown("d-2", customer="c-2", placements=rows, holdout=True)
    assert found(shop, tmp_path) == {CELL: (1, 0.3, 0.0)}


@pytest.mark.parametrize("p", [0.0, -0.1, 1.5, math.nan, math.inf])
def test_an_estimate_that_is_no_probability_is_no_evidence(shop, tmp_path, p):
    shop.shown("d-1", offers={"o-1": p}, taken=True)
    assert found(shop, tmp_path) == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"placements": 3}', b"\xff\xfe", b'{"placements": []}'])
def test_a_decision_row_that_cannot_be_read_is_no_evidence_and_stops_nothing(shop, tmp_path, body):
    shop.shown("d-1", body=body or b" ", taken=True)
    shop.shown("d-2", customer="c-2")
    assert found(shop, tmp_path) == {CELL: (1, 0.1, 0.0)}


def test_an_impression_without_a_decision_or_of_an_offer_that_it_did_not_show_is_no_evidence(shop, tmp_path):
    shop.decision("d-1")
    shop.event("impression", None)
    shop.event("impression", "d-1", "o-2")
    shop.event("impression", "d-unknown")
    shop.event("accept", "d-1")  # never seen
    assert found(shop, tmp_path) == {}


def test_events_that_say_nothing_of_an_offer_pass(shop, tmp_path):
    shop.event("visit", None, None)
    shop.event("purchase", None, None)
    shop.event("dismiss", "d-1")
    assert found(shop, tmp_path) == {}


def test_a_repeated_impression_and_a_repeated_outcome_count_once(shop, tmp_path):
    shop.shown("d-1", taken=True)
    shop.event("impression", "d-1")
    shop.event("accept", "d-1", at=NOW + 2 * MINUTE)
    assert found(shop, tmp_path) == {CELL: (1, 0.1, 1.0)}


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_decision_impression_and_outcome_may_come_in_any_order(shop, tmp_path, order):
    said = [
        lambda: shop.decision("d-1"),
        lambda: shop.event("impression", "d-1", at=NOW + MINUTE),
        lambda: shop.event("accept", "d-1", at=NOW + 2 * MINUTE),
        lambda: shop.event("accept", "d-1", at=NOW - 2 * DAY),  # before the impression: not its outcome
    ]
    for n in order:
        said[n]()
    assert found(shop, tmp_path) == {CELL: (1, 0.1, 1.0)}


@pytest.mark.parametrize(("after_days", "counts"), [(0, True), (3, True), (3.01, False), (-0.01, False)])
def test_an_outcome_counts_inside_the_attribution_window(shop, tmp_path, after_days, counts):
    rules = Rules(attribution=Attribution(window_days=3))
    shop.shown("d-1")
    shop.now = NOW + 4 * DAY
    shop.event("accept", "d-1", at=NOW + timedelta(days=after_days))
    assert found(shop, tmp_path, rules) == {CELL: (1, 0.1, float(counts))}


def test_an_offers_own_window_and_the_cut_of_all_windows_hold(shop, tmp_path):
    rules = Rules(attribution=Attribution(window_days=3, at_most_days=5), own_windows={"o-1": 10, "o-2": 1})
    shop.shown("d-1")
    shop.shown("d-2", offers={"o-2": 0.1})
    shop.now = NOW + 6 * DAY
    shop.event("accept", "d-1", at=NOW + 4 * DAY)
    shop.event("accept", "d-2", "o-2", at=NOW + 2 * DAY)
    assert found(shop, tmp_path, rules) == {CELL: (1, 0.1, 1.0), ("7", "web", "o-2"): (1, 0.1, 0.0)}


def test_positives_are_what_the_data_settings_name(shop, tmp_path):
    rules = Rules(attribution=Attribution(outcomes=("click", "purchase")))
    shop.shown("d-1", taken=True)
    shop.shown("d-2", customer="c-2")
    shop.event("click", "d-2", customer="c-2")
    assert found(shop, tmp_path, rules) == {CELL: (2, 0.2, 1.0)}


@pytest.mark.parametrize(("matching", "segment"), [("fifo", "first"), ("latest", "second"), ("decision", "second")])
def test_an_outcome_that_names_no_decision_goes_to_an_impression_of_this_customer_and_offer(
    shop, tmp_path, matching, segment
):
    """As the labels that the models are trained with; see training/attribution.py."""
    shop.shown("d-1", segment="first")
    shop.now += MINUTE
    shop.shown("d-2", segment="second")
    shop.shown("d-3", customer="c-2", segment="another")
    shop.event("accept", None, at=shop.now + MINUTE)
    result = found(shop, tmp_path, Rules(attribution=Attribution(matching=matching)))
    assert {key[1]: value[2] for key, value in result.items()} == {
        **dict.fromkeys(("first", "second", "another"), 0.0), segment: 1.0,
    }  # fmt: skip


def test_an_outcome_that_names_no_decision_waits_for_its_impression_and_is_used_once(shop, tmp_path):
    shop.event("accept", None, at=NOW + MINUTE)
    shop.shown("d-1")
    shop.shown("d-2")
    assert found(shop, tmp_path) == {CELL: (2, 0.2, 1.0)}


def test_the_evidence_belongs_to_the_customer_of_the_decision(shop, tmp_path):
    """A visitor may sign in between the impression and the outcome."""
    shop.decision("d-1", customer="\x1fanonymous")
    shop.event("impression", "d-1", customer="\x1fanonymous")
    shop.event("accept", "d-1", customer="c-1")
    assert found(shop, tmp_path) == {CELL: (1, 0.1, 1.0)}


def test_what_comes_when_the_window_is_long_over_is_not_evidence(shop, tmp_path):
    shop.decision("d-1")
    shop.now = NOW + 10 * DAY  # a week's window, two days for what is late
    shop.event("impression", "d-1")
    assert found(shop, tmp_path) == {}


def test_segments_beyond_the_most_share_one(shop, tmp_path):
    for n in range(MOST_SEGMENTS + 3):
        shop.shown(f"d-{n}", customer=f"c-{n}", segment=f"s-{n}")
    result = found(shop, tmp_path)
    assert len(result) == MOST_SEGMENTS + 1
    assert result["7", "", "o-1"] == (3, 0.3, 0.0)


# How much one customer can say


def test_a_customers_impressions_of_one_offer_count_twice_a_day(shop, tmp_path):
    for day in range(2):
        shop.now = NOW + day * DAY
        for n in range(5):
            shop.shown(f"d-{day}-{n}")
    assert found(shop, tmp_path) == {CELL: (4, 0.4, 0.0)}


def test_an_outcome_of_an_impression_that_does_not_count_does_not_count(shop, tmp_path):
    for n in range(5):
        shop.shown(f"d-{n}", taken=n == 4)
    assert found(shop, tmp_path) == {CELL: (2, 0.2, 0.0)}


def test_a_customers_impressions_of_all_offers_together_are_capped_too(shop, tmp_path):
    for n in range(60):
        shop.shown(f"d-{n}", offers={f"o-{n}": 0.1})
    assert sum(n for n, _, _ in found(shop, tmp_path).values()) == Caution().per_day


def test_who_takes_one_offer_beyond_belief_has_said_nothing_about_it(shop, tmp_path):
    """Expected are 5 x 0.1; 3 + 4 x 0.5 acceptances are believed, the sixth is one too many."""
    shop.shown("other", customer="c-2", taken=True)
    for n in range(5):
        shop.now = NOW + n * DAY
        shop.shown(f"d-{n}", taken=True)
    assert found(shop, tmp_path) == {CELL: (6, 0.6, 6.0)}
    shop.event("accept", "d-4", at=shop.now)  # known already
    for n in (5, 6):
        shop.shown(f"d-{n}", taken=True)
    after = found(shop, tmp_path)[CELL]
    assert after[0] == 1
    # What is withdrawn has faded a little, as what it is taken from has: nothing is taken from others.
    assert after[1:] == pytest.approx((0.1, 1.0), abs=7 * 8 / PACE)


def test_who_is_doubted_on_one_offer_is_still_heard_on_others(shop, tmp_path):
    for n in range(8):
        shop.now = NOW + n * timedelta(hours=1)
        shop.shown(f"d-{n}", taken=True)
        shop.shown(f"e-{n}", offers={"o-2": 0.2}, taken=n == 0)
    result = found(shop, tmp_path)
    assert result[CELL][0] == 0
    assert result["7", "web", "o-2"] == (2, 0.4, 1.0)


def test_who_takes_everything_has_said_nothing_at_all(shop, tmp_path):
    for n in range(20):
        shop.shown(f"d-{n}", offers={f"o-{n}": 0.05}, taken=True)
    assert sum(n for n, _, _ in found(shop, tmp_path).values()) == 0


def test_a_loyal_customer_of_whom_much_was_expected_is_believed(shop, tmp_path):
    for n in range(10):
        shop.now = NOW + n * timedelta(hours=12)
        shop.shown(f"d-{n}", offers={"o-1": 0.8}, taken=True)
    n, expected, accepted = found(shop, tmp_path)[CELL]
    assert (n, expected, accepted) == (10, 8.0, 10.0)


# A pure function of the log


@st.composite
def histories(draw):
    """What may happen in a small shop, in any order: decisions, impressions, outcomes, twice or too late."""
    step = st.tuples(
        st.sampled_from(["decide", "impression", "accept", "accept unlinked", "click", "wait"]),
        st.integers(0, 5), st.integers(0, 2), st.integers(-3, 20),
    )  # fmt: skip
    return draw(st.lists(step, max_size=40))


def play(shop: Shop, history) -> None:
    for kind, decision, customer, hours in history:
        if kind == "wait":
            shop.now += timedelta(hours=10 * max(hours, 0))
        elif kind == "decide":
            shop.decision(f"d-{decision}", customer=f"c-{customer}", segment=f"s-{customer}")
        else:
            unlinked = kind == "accept unlinked"
            shop.event(
                kind.split()[0], None if unlinked else f"d-{decision}", customer=f"c-{customer}",
                at=shop.now + timedelta(hours=min(hours, 0)),
            )  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(), st.integers(1, 7))
def test_the_changes_do_not_depend_on_the_steps_in_which_the_log_is_read(tmp_path_factory, history, limit):
    folder = tmp_path_factory.mktemp("shop")
    for part in ("once", "steps", "live"):
        (folder / part).mkdir()
    shop = shop_at(folder)
    live = []
    for one in history:
        play(shop, [one])
        live = folded(folder / "live", shop.log)
    once = folded(folder / "once", shop.log)
    steps = folded(folder / "steps", shop.log, limit=limit)
    shop.log.close()
    assert once == steps == (live if history else [])


def test_a_step_that_fails_leaves_no_trace(shop, tmp_path):
    shop.shown("d-1", taken=True)
    with memory_at(tmp_path) as memory:
        with suppress(RuntimeError), memory.step():
            fold(memory, shop.log, Rules(), 100)
            raise RuntimeError("killed here")
        assert memory.folded() == (0, 0)
    assert found(shop, tmp_path) == {CELL: (1, 0.1, 1.0)}


def test_forgetting_drops_what_no_outcome_can_reach_and_changes_no_result(shop, tmp_path):
    shop.shown("d-1")
    shop.event("accept", "d-9", at=NOW)  # waits for an impression that never comes
    shop.now = NOW + 30 * DAY
    shop.shown("d-2")
    before = found(shop, tmp_path)
    with memory_at(tmp_path) as memory:
        with memory.step():
            memory.forget(Rules().keep_us, Caution().span_days)
        assert memory.sighting_count() == 1
    shop.event("accept", "d-1", at=shop.now)
    assert found(shop, tmp_path) == before == {CELL: (2, 0.2, 0.0)}


def test_erasing_a_customer_drops_its_rows_and_keeps_the_sums(shop, tmp_path):
    shop.shown("d-1", taken=True)
    shop.shown("d-2", customer="c-2")
    before = found(shop, tmp_path)
    with memory_at(tmp_path) as memory:
        assert memory.erase("c-1") == 3  # one impression, its tally of the offer and of all
        assert memory.erase("c-1") == 0
        assert memory.sighting_count() == 1
    assert found(shop, tmp_path) == before


def test_payload_of_the_builder_is_what_a_decision_logs():
    """Holds the builder above to the field names of serving/decision_log.py."""
    text = payload({"o-1": 0.1}).decode()
    for field in ("placements", "offers", "offer_id", "p_model", "model_versions", "release", "segment"):
        assert f'"{field}"' in text


def test_a_decision_that_the_log_holds_later_is_not_known_earlier(tmp_path):
    """Else the result would depend on how far the log had grown when it was folded."""
    log = SqliteLog(tmp_path / "log.db")
    shop = Shop(log)
    shop.event("impression", "d-1")
    shop.decision("d-1")
    changes = folded(tmp_path, log)
    log.close()
    assert [change.position for change in changes] == [2]
