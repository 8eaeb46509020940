"""What counts as evidence; expected sums by hand."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import timedelta
from itertools import permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.data_settings import Attribution
from features.events import Event, to_us
from features.log import Batch, DecisionRow
from features.sqlite_log import SqliteLog
from serving.learning.evidence import MOST_SEGMENTS, Caution, Rules
from serving.learning.fold import fold
from tests.serving.learning_log import NOW, Shop, folded, memory_at, open_shop, payload, shop_at, sums

CELL = ("7", "web", "o-1")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
TOGETHER = {n: n / (1 + (n - 1) * 0.2) for n in range(1, 43)}  # what n impressions of a customer weigh


@pytest.fixture
def shop(tmp_path):
    yield from open_shop(tmp_path)


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


def test_two_placements_of_a_decision_are_learned_in_the_segments_of_their_own_channels(
    shop, tmp_path, decider_with, ask
):
    decider = decider_with({"o-1": 2.0, "o-2": 1.0}, placement={"channel": "email"})  # hero; the strip is on the web
    decision = ask(decider, "hero", "strip")
    shop.decision("d-1", body=decision.log_payload)
    shop.event("impression", "d-1", "o-1")
    shop.event("impression", "d-1", "o-2")
    shop.event("accept", "d-1", "o-2")
    # 0.02: the prior chance of an offer that no model knows
    assert sums(folded(tmp_path, shop.log)) == {
        ("none", "email", "o-1"): (1, 0.02, 0.0), ("none", "web", "o-2"): (1, 0.02, 1.0)
    }  # fmt: skip


def test_a_row_without_the_models_estimate_counts_by_p_accept_but_not_in_the_holdout(shop, tmp_path):
    rows = [{"segment": "web", "offers": [{"offer_id": "o-1", "p_accept": 0.3}]}]
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
    """As the labels that the models are trained with; see features/attribution.py."""
    shop.shown("d-1", segment="first")
    shop.now += MINUTE
    shop.shown("d-2", segment="second")
    shop.shown("d-3", customer="c-2", segment="another")
    shop.event("accept", None, at=shop.now + MINUTE)
    result = found(shop, tmp_path, Rules(attribution=Attribution(matching=matching)))
    assert [key[1] for key, value in result.items() if value[2] > 0] == [segment]


def test_an_outcome_that_names_no_decision_waits_for_its_impression_and_is_used_once(shop, tmp_path):
    shop.event("accept", None, at=NOW + MINUTE)
    shop.shown("d-1")
    shop.shown("d-2")
    assert found(shop, tmp_path) == {CELL: (2, pytest.approx(0.1 * TOGETHER[2]), 1.0)}


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


def test_a_customers_impressions_of_one_offer_count_three_times_a_day(shop, tmp_path):
    for day in range(2):
        shop.now = NOW + day * DAY
        for n in range(5):
            shop.shown(f"d-{day}-{n}")
    assert found(shop, tmp_path) == {CELL: (6, pytest.approx(0.1 * TOGETHER[6]), 0.0)}


def test_the_more_often_a_customer_was_shown_an_offer_the_less_another_time_says(shop, tmp_path):
    """Whether it is taken or not; as much as the formula says."""
    for day in range(6):
        shop.now = NOW + day * DAY
        shop.shown(f"d-{day}", taken=day in (0, 2))
    expected, accepted = 0.1 * TOGETHER[6], 1.0 + TOGETHER[3] - TOGETHER[2]
    assert found(shop, tmp_path) == {CELL: (6, pytest.approx(expected), pytest.approx(accepted))}
    shop.now = NOW + 14 * DAY  # another span
    shop.shown("d-later", taken=True)
    assert found(shop, tmp_path) == {CELL: (7, pytest.approx(expected + 0.1), pytest.approx(accepted + 1.0))}


def test_of_one_customer_no_more_counts_than_five_acceptances_of_an_offer_in_a_span(shop, tmp_path):
    for n in range(9 * 3):
        shop.now = NOW + n // 3 * DAY
        shop.shown(f"d-{n}", taken=True)
    _, _, accepted = found(shop, tmp_path)[CELL]
    assert accepted == pytest.approx(TOGETHER[27])
    assert TOGETHER[27] < 5


def test_going_back_and_forth_between_days_begins_nothing_anew(shop, tmp_path):
    for n in range(12):
        shop.now = NOW + (n % 2) * DAY
        shop.shown(f"d-{n}")
    n, _, _ = found(shop, tmp_path)[CELL]
    assert n == 4  # one on the first day, three on the second


def test_an_outcome_of_an_impression_that_does_not_count_does_not_count(shop, tmp_path):
    for n in range(5):
        shop.shown(f"d-{n}", taken=n == 4)
    assert found(shop, tmp_path) == {CELL: (3, pytest.approx(0.1 * TOGETHER[3]), 0.0)}


# Customers differ: the model is right about all of them together, and knows nothing of each


def live(shop, rates, p_model, visits_per_day, n_days, rng):
    """Every customer is shown the offer, and takes it at a rate of its own."""
    for day in range(n_days):
        for visit in range(visits_per_day):
            shop.now = NOW + day * DAY + visit * timedelta(hours=2)
            at = f"{day}-{visit}"
            rows = [
                DecisionRow(f"{at}-{c}", f"c-{c}", to_us(shop.now), payload({"o-1": p_model}))
                for c in range(len(rates))
            ]
            taken = rng.random(len(rates)) < rates
            events = [
                Event(
                    event_id=f"{kind}-{at}-{c}", event_type=kind, customer_id=f"c-{c}", occurred_at=shop.now,
                    decision_id=f"{at}-{c}", offer_id="o-1",
                )
                for c in range(len(rates))
                for kind in ("impression", "accept")[: 1 + taken[c]]
            ]  # fmt: skip
            shop.log.write([Batch(events, shop.now, rows)])


def some_love_it(rng, n):
    return rng.permutation(np.repeat([0.6, 0.0], n // 2))


def few_ever_take_it(rng, n):
    """Mean .05, as a beta distribution whose standard deviation is 1.3 times that."""
    rates = rng.beta(0.5, 9.5, n)
    return rates * 0.05 / rates.mean()


def all_alike(rng, n):
    return np.full(n, 0.3)


@pytest.mark.parametrize(("rates_of", "visits_per_day"), [(some_love_it, 1), (few_ever_take_it, 2), (all_alike, 1)])
def test_a_model_that_is_right_on_average_is_not_corrected_however_customers_differ(
    shop, tmp_path, rates_of, visits_per_day
):
    """Over six days; within three standard errors of 1, from the customers' sums, which are independent."""
    rng = np.random.default_rng(6)
    rates = rates_of(rng, 300)
    p_model, n_days = float(rates.mean()), 6
    live(shop, rates, p_model, visits_per_day, n_days, rng)
    _, expected, accepted = found(shop, tmp_path)[CELL]
    assert expected == pytest.approx(300 * p_model * TOGETHER[n_days * visits_per_day])
    weights = np.diff([0.0, *TOGETHER.values()])[: n_days * visits_per_day]
    error = math.sqrt((rates * (1 - rates)).sum() * (weights**2).sum()) / expected
    assert abs(accepted / expected - 1) < 3 * error


def test_loyal_customers_of_a_new_offer_are_believed(shop, tmp_path):
    """The model says .02, all take it with .3, thrice a day: nobody is taken for a script."""
    live(shop, np.full(100, 0.3), 0.02, 3, 4, np.random.default_rng(1))
    n, expected, accepted = found(shop, tmp_path)[CELL]
    assert n == 1_200
    assert accepted / expected == pytest.approx(15, rel=0.15)


def test_a_customers_impressions_of_all_offers_together_are_capped_too(shop, tmp_path):
    for n in range(60):
        shop.shown(f"d-{n}", offers={f"o-{n}": 0.1})
    assert sum(n for n, _, _ in found(shop, tmp_path).values()) == Caution().per_day


# A pure function of the log


@st.composite
def histories(draw):
    """What may happen in a small shop, in any order: decisions, impressions, outcomes, twice or too late."""
    step = st.tuples(
        st.sampled_from(["decide", "impression", "accept", "accept unlinked", "click", "wait"]),
        st.integers(0, 5), st.integers(0, 2), st.integers(-3, 20),
    )  # fmt: skip
    return draw(st.lists(step, max_size=30))


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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(), st.integers(1, 7))
def test_the_changes_do_not_depend_on_the_steps_in_which_the_log_is_read(tmp_path_factory, history, limit):
    folder = tmp_path_factory.mktemp("shop")
    for part in ("once", "steps", "live"):
        (folder / part).mkdir()
    shop = shop_at(folder)
    with memory_at(folder / "live") as memory:
        for one in history:
            play(shop, [one])
            with memory.step():
                fold(memory, shop.log, Rules(), 100)
        live = [change for _, change in memory.changes_after(0, 1_000)]
    once = folded(folder / "once", shop.log)
    steps = folded(folder / "steps", shop.log, limit=limit)
    shop.log.close()
    assert once == steps == live


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
