"""How budgets are held, settled and given back, and what another total changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from features.catalogue import Budget, Cap, Cost
from features.data_settings import Attribution
from features.events import Event, to_us
from serving.state.keeping import FULL
from tests.contracts.contact_world import DAILY, PER_ACCEPT, PER_IMPRESSION, a_policy, an_offer, limits_of

# money


def test_money_per_impression_is_held_and_then_kept(world):
    decisions = [world.decide(PER_IMPRESSION, "o-1", customer=f"c-{n}") for n in range(4)]
    assert [one is not None for one in decisions] == [True, True, True, False]  # 0.1 three times is 0.3, exactly
    world.happens("impression", "o-1", decisions[0], customer="c-0")
    world.later(minutes=31).read()
    assert world.level() == (0, 0.1, 0.1)


def test_money_per_acceptance_is_held_until_the_acceptance(world):
    decision = world.decide(PER_ACCEPT, "o-1")
    world.happens("impression", "o-1", decision)
    world.later(days=6).happens("accept", "o-1", decision)
    world.later(days=30).read()
    assert world.level()[1] == 2.0


def test_money_per_acceptance_comes_back_when_the_attribution_window_ends(world):
    decision = world.decide(PER_ACCEPT, "o-1")
    world.happens("impression", "o-1", decision)
    world.later(days=7).read()
    assert world.level()[1] == 0.0
    world.happens("accept", "o-1", decision)  # nobody waits for it any more
    assert world.level()[1] == 0.0


def test_what_an_acceptance_is_is_said_by_the_attribution(world):
    world.contacts = world.open(attribution=Attribution(outcomes=("purchase",), window_days=2))
    bought, accepted = world.decide(PER_ACCEPT, "o-1"), world.decide(PER_ACCEPT, "o-1")
    world.happens("purchase", "o-1", bought)
    world.happens("accept", "o-1", accepted)
    world.later(days=2).read()
    assert world.level()[1] == 2.0


def test_an_offer_may_say_how_long_its_acceptance_is_waited_for(world):
    cost, budget = Cost(amount=2, per="accept"), Budget(amount=4, per="total")
    limits = limits_of(
        an_offer(cost=cost, budget=budget, attributes={"days": 10}),
        an_offer("o-2", cost=cost, budget=budget, attributes={"days": "odd"}),
    )
    world.contacts = world.open(attribution=Attribution(window_attribute="days", at_most_days=8))
    decision = world.decide(limits, "o-1", "o-2")
    for offer_id in ("o-1", "o-2"):
        world.happens("impression", offer_id, decision)
    for days, left in ((7, (2.0, 0.0)), (1, (0.0, 0.0))):  # ten days, but at most eight; the other has the default
        world.later(days=days).read()
        assert (world.level("o-1")[1], world.level("o-2")[1]) == left


def test_a_flood_of_impressions_ends_in_a_customer_left_alone_and_forgets_no_claim(world):
    limits = limits_of(*(f"o-{n}" for n in range(5)), policies=[a_policy(Cap(limit=1_000_000, window="7d", of="all"))])
    decision = world.decide(limits, "o-1")
    for n in range(FULL + 5):
        world.log.append(
            [
                Event(
                    event_id=f"f-{n}", event_type="impression", customer_id="c-1", occurred_at=world.now, offer_id="o-2"
                )
            ],
            world.now,
        )
    while world.read():
        pass
    assert len(world.history()) == FULL
    assert world.decide(limits, "o-3") is None
    world.happens("impression", "o-1", decision)
    assert world.history()[0].seen_us is not None
    assert world.later(days=32).decide(limits, "o-3")


def test_a_days_budget_is_whole_again_at_midnight_of_the_deployment(world):
    world.contacts = world.open(time_zone=ZoneInfo("Europe/Berlin"))
    decided = [world.decide(DAILY, "o-1", customer=f"c-{n}") for n in range(3)]
    assert decided[2] is None
    world.now = datetime(2026, 3, 4, 22, 59, 59, tzinfo=UTC)
    assert world.decide(DAILY, "o-1", customer="c-4") is None or world.level()[2] <= 2
    world.now = datetime(2026, 3, 4, 23, 0, tzinfo=UTC)  # midnight in Berlin
    stock = world.contacts.stock(to_us(world.now))
    assert (stock.day, stock.levels["o-1"].spent_today) == ("2026-03-05", 0.0)
    assert world.decide(DAILY, "o-1", customer="c-5")


def test_what_a_day_held_and_gave_back_does_not_enrich_the_next(world):
    world.now = datetime(2026, 3, 4, 23, 45, tzinfo=UTC)
    assert world.decide(DAILY, "o-1", customer="c-1")
    world.later(minutes=20)  # 00:05
    assert world.decide(DAILY, "o-1", customer="c-2")
    world.later(minutes=10).read()  # the first has lapsed
    assert world.level() == (0, 1.0, 1.0)


def test_a_clock_that_is_behind_goes_on_in_the_later_day(world):
    tomorrow = datetime(2026, 3, 5, 0, 0, tzinfo=UTC)
    for n in range(2):
        assert world.decide(DAILY, "o-1", customer=f"c-{n}", at=tomorrow)
    assert world.decide(DAILY, "o-1", customer="c-3", at=tomorrow - timedelta(seconds=1)) is None


def test_a_paced_offer_spends_no_faster_than_the_day_passes(world):
    cost, budget = Cost(amount=1, per="impression"), Budget(amount=24, per="day")
    limits = limits_of(an_offer(cost=cost, budget=budget, pacing=True))
    world.now = datetime(2026, 3, 4, 0, 0, tzinfo=UTC)
    spent = []
    for hour in range(24):
        world.now = datetime(2026, 3, 4, hour, 0, tzinfo=UTC)
        n = 0
        while decision := world.decide(limits, "o-1", customer=f"c-{hour}-{n}"):
            world.happens("impression", "o-1", decision, customer=f"c-{hour}-{n}")
            n += 1
        spent.append(world.level()[2])
    assert spent == [1.0, *(float(hour) for hour in range(1, 24))]  # the first one goes at once, then one per hour


# a PUT changes the total


def test_another_total_counts_what_was_used_before(world):
    assert world.decide(limits_of(an_offer(inventory=1)), "o-1")
    assert world.decide(limits_of(an_offer(inventory=1)), "o-1", customer="c-2") is None
    assert world.decide(limits_of(an_offer(inventory=2)), "o-1", customer="c-2")
    assert world.decide(limits_of(an_offer(inventory=1)), "o-1", customer="c-3") is None
    assert world.level() == (2, 0.0, 0.0)
