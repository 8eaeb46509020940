"""The laws of the simulated shop."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import BY_NAME, check_event, to_us
from serving.demo.history import ACCEPT, CANCEL, CLICK, IMPRESSION, TYPES, VISIT, Rows, make_history
from serving.demo.response import (
    Context,
    Crowd,
    Response,
    new_crowd,
    on_offer,
    p_accept,
    p_click,
    p_dismiss,
    recover,
    respond,
)
from serving.demo.tables import event_table, offer_table
from serving.demo.world import CHANNELS, PLACEMENTS, Size, World, catalogue, make_world, observed

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
SMALL = Size(n_customers=200, n_offers=24, n_days=20)
EVERYBODY = np.arange(SMALL.n_customers)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(7, SMALL, NOW)


@pytest.fixture(scope="module")
def history(world: World) -> tuple[Rows, Crowd]:
    return make_history(world)


def here(hour: int = 12, channel: int = 0, placement: int = 0) -> Context:
    us = to_us(NOW.replace(hour=hour, minute=0))
    return Context(*(np.full(SMALL.n_customers, value) for value in (us, channel, placement)))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(0, 23), st.integers(0, len(CHANNELS) - 1), st.integers(0, 2), st.floats(0, 60)
)
def test_chances_are_probabilities_and_a_click_is_at_least_as_likely_as_an_acceptance(
    seed: int, hour: int, channel: int, placement: int, exposures: float
) -> None:
    world = make_world(seed, SMALL, NOW)
    crowd = new_crowd(world)
    crowd.fatigue[:] = exposures
    accept = p_accept(world, crowd, EVERYBODY, here(hour, channel, placement))
    click = p_click(world, crowd, EVERYBODY, here(hour, channel, placement))
    dismiss = p_dismiss(world, crowd, EVERYBODY)
    for chance in (accept, click, dismiss):
        assert chance.shape == (SMALL.n_customers, SMALL.n_offers)
        assert ((chance >= 0) & (chance <= 1)).all()
    assert (click >= accept).all()


def test_every_exposure_lowers_the_acceptance_of_that_offer_most(world: World) -> None:
    fresh, tired = new_crowd(world), new_crowd(world)
    tired.fatigue[:, 0] += 1
    before = p_accept(world, fresh, EVERYBODY, here())
    after = p_accept(world, tired, EVERYBODY, here())
    assert (after < before).all()
    assert (after[:, 0] / before[:, 0]).max() < (after[:, 1:] / before[:, 1:]).min()


def test_tiredness_passes_by_half_in_four_days_and_is_over_in_the_end(world: World) -> None:
    crowd = new_crowd(world)
    crowd.fatigue[:] = 8.0
    crowd.spent[:] = 100.0
    day_us = to_us(NOW) - to_us(NOW - timedelta(days=1))
    recover(crowd, EVERYBODY, crowd.felt_us + 4 * day_us)
    assert np.allclose(crowd.fatigue, 4.0)
    assert np.allclose(crowd.spent, 50.0)
    recover(crowd, EVERYBODY, crowd.felt_us + 400 * day_us)
    assert crowd.fatigue.max() < 1e-20


def test_time_does_not_run_backwards(world: World) -> None:
    crowd = new_crowd(world)
    crowd.fatigue[:] = 8.0
    since = crowd.felt_us.copy()
    recover(crowd, EVERYBODY, crowd.felt_us - 1_000_000)
    assert (crowd.fatigue == 8.0).all()
    assert (crowd.felt_us == since).all()


def test_spending_lowers_acceptance_until_it_is_forgotten(world: World) -> None:
    fresh, spent = new_crowd(world), new_crowd(world)
    spent.spent[:] = world.budget
    assert (p_accept(world, spent, EVERYBODY, here()) < p_accept(world, fresh, EVERYBODY, here())).all()


def respond_once(world: World, crowd: Crowd, seed: int) -> Response:
    n = SMALL.n_customers
    offers = np.tile([3, 5], (n, 1))
    seen = np.tile([True, False], (n, 1))
    us, channel = np.full(n, world.now_us), np.zeros(n, dtype=np.int64)
    return respond(
        world, crowd, EVERYBODY, offers, seen, us, channel, np.tile([0, 1], (n, 1)), np.random.default_rng(seed)
    )


def test_responses_are_drawn_with_the_true_chances(world: World) -> None:
    """Against the truth itself: 400 draws per customer, the mean over customers within 4 standard errors."""
    crowd = new_crowd(world)
    recover(crowd, EVERYBODY, np.full(SMALL.n_customers, world.now_us))
    context = Context(*(np.full(SMALL.n_customers, value) for value in (world.now_us, 0, 0)))
    accept = p_accept(world, crowd, EVERYBODY, context)[:, 3]
    click = p_click(world, crowd, EVERYBODY, context)[:, 3]
    totals = np.zeros(2)
    for seed in range(400):
        again = Crowd(*(part.copy() for part in (crowd.fatigue, crowd.spent, crowd.felt_us, crowd.gone)))
        response = respond_once(world, again, seed)
        totals += response.accepted.mean(), response.clicked.mean()
    n_draws = 400 * SMALL.n_customers
    for total, chance in zip(totals, (accept, click), strict=True):
        error = np.sqrt((chance * (1 - chance)).mean() / n_draws)
        assert abs(2 * total / 400 - chance.mean()) < 4 * error  # half of the places were not seen


def test_what_is_not_seen_is_not_answered_and_does_not_tire(world: World) -> None:
    crowd = new_crowd(world)
    response = respond_once(world, crowd, 1)
    assert not any(part[:, 1].any() for part in response)
    assert (crowd.fatigue[:, 5] == 0).all()
    assert (crowd.fatigue[:, 3] >= 1).all()
    assert not (response.accepted & ~response.clicked).any()
    assert not (response.dismissed & response.clicked).any()
    assert np.allclose(crowd.spent, response.accepted[:, 0] * world.price[3])


def test_the_same_seed_gives_the_same_history_and_another_seed_another(
    world: World, history: tuple[Rows, Crowd]
) -> None:
    again, _ = make_history(make_world(7, SMALL, NOW))
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(history[0], again, strict=True))
    assert event_table(world, again).equals(event_table(world, history[0]))
    other, _ = make_history(make_world(8, SMALL, NOW))
    assert len(other.us) != len(history[0].us)


def test_history_is_in_order_ends_now_and_knows_only_those_who_had_joined(
    world: World, history: tuple[Rows, Crowd]
) -> None:
    rows, _ = history
    assert (np.diff(rows.us) >= 0).all()
    assert world.begins_us <= rows.us[0]
    assert rows.us[-1] < world.now_us
    assert rows.us[-1] > world.now_us - 6 * 3_600_000_000
    assert (rows.us >= world.joined_us[rows.customer]).all()


def test_history_shows_only_offers_that_run(world: World, history: tuple[Rows, Crowd]) -> None:
    rows, _ = history
    shown = rows.kind == IMPRESSION
    assert on_offer(world, rows.us[shown])[np.arange(shown.sum()), rows.offer[shown]].all()


def test_nobody_comes_back_after_leaving(history: tuple[Rows, Crowd]) -> None:
    rows, crowd = history
    left = {
        int(who): us for who, us in zip(rows.customer[rows.kind == CANCEL], rows.us[rows.kind == CANCEL], strict=True)
    }
    assert left
    for who, us in left.items():
        assert crowd.gone[who]
        assert rows.us[(rows.customer == who) & (rows.kind == VISIT)].max(initial=0) < us


def test_clicks_and_acceptances_follow_their_impression(history: tuple[Rows, Crowd]) -> None:
    rows, _ = history
    first = {}
    for kind in (IMPRESSION, CLICK, ACCEPT):
        here = rows.kind == kind
        first[kind] = dict(zip(zip(rows.visit[here], rows.offer[here], strict=True), rows.us[here], strict=True))
    assert all(first[IMPRESSION][key] < us for key, us in first[CLICK].items())
    assert all(first[CLICK][key] < us for key, us in first[ACCEPT].items())


def test_the_logged_chances_are_those_of_the_draw(world: World, history: tuple[Rows, Crowd]) -> None:
    """The mean of 1 / chance over first places is the number of offers to draw from, within 4 standard errors.

    Source: E[1 / p] = sum over offers of p · (1 / p), whatever the p.
    """
    rows, _ = history
    top = (rows.kind == IMPRESSION) & (rows.rank == 1) & (rows.placement != 1)
    weight = 1 / rows.chance[top] / on_offer(world, rows.us[top]).sum(axis=1)
    assert abs(weight.mean() - 1) < 4 * weight.std() / np.sqrt(top.sum())


def test_every_event_would_be_taken_by_the_service(world: World, history: tuple[Rows, Crowd]) -> None:
    rows, _ = history
    assert {TYPES[kind] for kind in np.unique(rows.kind)} <= set(BY_NAME)
    table = event_table(world, Rows._make(column[:: len(rows.us) // 500] for column in rows))
    for one in table.to_pylist():
        raw = {name: value for name, value in one.items() if value is not None}
        check_event({**raw, "occurred_at": raw["occurred_at"].isoformat(), "properties": {"nps": 9}}, NOW)


def test_tables_have_one_row_each(world: World) -> None:
    assert offer_table(world).num_rows == len({offer.offer_id for offer in catalogue(world)}) == SMALL.n_offers
    assert {len(column) for column in observed(world).values()} == {SMALL.n_customers}
    assert len({one.placement_id for one in PLACEMENTS}) == 3
