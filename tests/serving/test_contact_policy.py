"""Contact policies, caps, inventory and budgets as rules: what they let through, and that claims judge alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalogue import Budget, Cap, ContactPolicy, Cooldown, Cost, Offer, Pause, Placement, Treatment
from features.errors import BadInput
from features.events import to_us
from features.facts import Catalogue
from serving.catalogue_view import CatalogueView
from serving.rules.asked import Asked
from serving.rules.budget import BudgetRule
from serving.rules.caps import CapsRule
from serving.rules.cooldown import CooldownRule
from serving.rules.inventory import InventoryRule
from serving.rules.limits import Limits
from serving.rules.masks import as_mask
from serving.rules.pacing import PacingRule
from serving.rules.pause import PauseRule
from serving.rules.quiet_hours import QuietHoursRule
from serving.rules.windows import day_of, parse_duration, parse_time_of_day, parse_window
from serving.state.contacts import Claim, Claimed, Contact, ContactHistory, Level, Stock

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
LAPSE = timedelta(minutes=30)
LIMITING = (QuietHoursRule, PauseRule, CooldownRule, CapsRule, InventoryRule, BudgetRule, PacingRule)
number = count()


def ago(**span):
    return NOW - timedelta(**span)


def contact(offer_id="o-1", at=NOW, *, category="shoes", placement="hero", channel="web", seen=True, **more):
    at_us = to_us(at)
    lapses_us = at_us + LAPSE // timedelta(microseconds=1)
    if answer := more.pop("answer", None):
        more |= {"answer": answer, "answered_us": to_us(more.pop("answered", at))}
    seen_us = at_us if seen else None
    return Contact(offer_id, category, placement, channel, f"d-{next(number)}", at_us, lapses_us, seen_us, **more)


def a_view(*policies, **offers):
    """Three offers, the first two shoes; changes by their number, as `o1={"caps": …}`."""
    made = [
        Offer(
            offer_id=f"o-{n}", name="x", value=1.0, currency="EUR", status="approved",
            treatments=(Treatment(treatment_id="t"),), category="shoes" if n < 3 else "hats", **offers.get(f"o{n}", {}),
        )
        for n in (1, 2, 3)
    ]  # fmt: skip
    placements = [Placement(placement_id=name, name=name, channel="web") for name in ("hero", "strip")]
    return CatalogueView(Catalogue(1, tuple(made), tuple(placements), contact_policies=tuple(policies)))


def calm(*caps, **more):
    return ContactPolicy(policy_id="calm", name="calm", caps=caps, **more)


def asked_of(contacts=(), *, now=NOW, channel="web", placement="hero", stock=None, zone=UTC, **more):
    history = None if contacts is None else ContactHistory(tuple(sorted(contacts, key=lambda c: c.decided_us)))
    more |= {"stock": stock} if stock is not None else {}
    return Asked(
        placement_id=placement, channel=channel, now_us=to_us(now), history=history, time_zone=zone, **more
    )  # fmt: skip


def allowed(rule, asked):
    """The numbers of the offers that are let through."""
    return "".join(str(n + 1) for n in np.flatnonzero(as_mask(rule.allows(asked), 3)))


# caps


@pytest.mark.parametrize(
    ("of", "left"),
    [("offer", "23"), ("category", "3"), ("placement", ""), ("channel", ""), ("all", "")],
)
def test_a_policys_cap_closes_what_it_is_of(of, left):
    rule = CapsRule(a_view(calm(Cap(limit=2, window="7d", of=of))))
    shown = [contact("o-1", ago(days=n)) for n in (1, 2)]
    assert allowed(rule, asked_of(shown)) == left
    assert allowed(rule, asked_of(shown[:1])) == "123"
    assert rule.seen(asked_of(shown), 0) == {
        "contact_policy": "calm", "of": of, "window": "7d", "limit": 2, "counted": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("of", "left"),
    [("offer", "123"), ("category", "23"), ("placement", "23"), ("channel", "23"), ("all", "23")],
)
def test_an_offers_own_cap_closes_only_that_offer(of, left):
    rule = CapsRule(a_view(o1={"caps": (Cap(limit=2, window="7d", of=of),)}))
    assert allowed(rule, asked_of([contact("o-2", ago(days=n)) for n in (1, 2)])) == left
    assert allowed(rule, asked_of([contact("o-1", ago(days=n)) for n in (1, 2)])) == "23"


def test_caps_of_different_limits_each_hold():
    rule = CapsRule(a_view(**{f"o{n}": {"caps": (Cap(limit=n, window="7d"),)} for n in (1, 2, 3)}))
    shown = [contact(f"o-{n}", ago(hours=k + 1)) for n in (1, 2, 3) for k in range(2)]
    assert allowed(rule, asked_of(shown)) == "3"


def test_a_cap_of_one_channel_counts_and_closes_only_there():
    rule = CapsRule(a_view(calm(Cap(limit=1, window="7d", of="all"), channels=("email",))))
    mailed, shown = contact("o-1", ago(days=1), channel="email"), contact("o-1", ago(days=1))
    assert allowed(rule, asked_of([mailed], channel="web")) == "123"
    assert allowed(rule, asked_of([mailed], channel="email")) == ""
    assert allowed(rule, asked_of([shown], channel="email")) == "123"
    assert allowed(rule, asked_of([contact("o-1", ago(days=1), channel=None)], channel="email")) == ""  # may have been


def test_claims_count_until_they_lapse_and_what_was_seen_after_it():
    rule = CapsRule(a_view(calm(Cap(limit=1, window="7d", of="all"))))
    claimed = contact(at=ago(minutes=30), seen=False)
    assert allowed(rule, asked_of([claimed], now=NOW - timedelta(microseconds=1))) == ""
    assert allowed(rule, asked_of([claimed])) == "123"
    assert allowed(rule, asked_of([contact(at=ago(minutes=30))])) == ""


def test_a_contact_that_does_not_know_its_category_has_that_of_its_offer():
    rule = CapsRule(a_view(calm(Cap(limit=1, window="7d", of="category"))))
    assert allowed(rule, asked_of([contact("o-1", category=None)])) == "3"
    assert allowed(rule, asked_of([contact("gone", category=None)])) == "123"


def test_without_a_history_only_what_no_cap_covers_goes_on():
    assert allowed(CapsRule(a_view(o1={"caps": (Cap(limit=9, window="1d"),)})), asked_of(None)) == "23"
    policy = calm(Cap(limit=9, window="1d"), channels=("email",), cooldown=Cooldown(impression="1h"),
                  pause_after=Pause(for_="1d", ignored=3))  # fmt: skip
    for kind in (CapsRule, CooldownRule, PauseRule):
        rule = kind(a_view(policy))
        assert allowed(rule, asked_of(None, channel="email")) == ""
        assert allowed(rule, asked_of(None, channel="web")) == "123"
        assert rule.seen(asked_of(None, channel="email"), 0) == {"contacts": "could not be read"}


def test_rooms_say_how_many_more_fit_into_one_decision():
    policy = calm(
        Cap(limit=3, window="7d", of="all"), Cap(limit=2, window="7d", of="category"), Cap(limit=1, window="7d")
    )
    rule = CapsRule(a_view(policy))
    rooms = rule.rooms(asked_of([contact("o-1", ago(days=1))]))
    assert [(room.left, None if room.rows is None else room.rows.tolist()) for room in rooms] == [
(2, None), (2, [False, False, True]), (1, [True, True, False]),  # hats, then shoes
    ]  # fmt: skip
    assert [room.left for room in rule.rooms(asked_of())] == [3, 2, 2]
    assert rule.rooms(asked_of(None)) == ()


# windows


@pytest.mark.parametrize(
    ("window", "zone", "inside"),
    [
        ("90m", UTC, datetime(2026, 3, 4, 10, 30, 0, 1, tzinfo=UTC)),
        ("2h", UTC, datetime(2026, 3, 4, 10, 0, 0, 1, tzinfo=UTC)),
        ("7d", UTC, datetime(2026, 2, 25, 12, 0, 0, 1, tzinfo=UTC)),
        ("calendar_day", UTC, datetime(2026, 3, 4, tzinfo=UTC)),
        ("calendar_day", NEW_YORK, datetime(2026, 3, 4, 5, tzinfo=UTC)),
        ("calendar_week", UTC, datetime(2026, 3, 2, tzinfo=UTC)),  # a Monday
        ("calendar_week", BERLIN, datetime(2026, 3, 1, 23, tzinfo=UTC)),
        ("calendar_month", BERLIN, datetime(2026, 2, 28, 23, tzinfo=UTC)),
    ],
)
def test_a_window_begins_where_it_says_in_the_customers_zone(window, zone, inside):
    rule = CapsRule(a_view(calm(Cap(limit=1, window=window, of="all"))))
    assert allowed(rule, asked_of([contact(at=inside)], zone=zone)) == ""
    assert allowed(rule, asked_of([contact(at=inside - timedelta(microseconds=1))], zone=zone)) == "123"


def test_a_calendar_day_is_23_or_25_hours_long_when_the_clocks_change():
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25)):  # in Berlin
        noon_us = to_us(datetime.fromisoformat(f"{day}T12:00:00+01:00"))
        name, from_us, until_us = day_of(noon_us, BERLIN)
        assert (name, (until_us - from_us) / 3.6e9) == (day, hours)
        assert day_of(until_us - 1, BERLIN)[0] == day
        assert day_of(until_us, BERLIN)[0] > day


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1.5h", "7 d", "7D", "367d", "1w", "calendar_year", "٣d"])
def test_what_is_no_window_is_refused_with_what_was_expected(text):
    with pytest.raises(BadInput, match="expected Nm, Nh or Nd") as error:
        parse_window(text, "/caps/0/window")
    assert error.value.field == "/caps/0/window"


@pytest.mark.parametrize("text", ["calendar_day", "", "1s", "01h", "9999999m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(BadInput, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["24:00", "7:00", "07:60", "0700", "07:00:00", " 07:00", "07:00\n"])
def test_what_is_no_time_of_day_is_refused(text):
    with pytest.raises(BadInput, match="expected HH:MM"):
        parse_time_of_day(text)


# cool-down, pause, quiet hours


def test_an_offer_rests_after_an_impression_and_longer_after_a_dismissal():
    rule = CooldownRule(a_view(calm(cooldown=Cooldown(impression="1h", dismiss="30d"))))
    assert allowed(rule, asked_of([contact("o-1", ago(minutes=59)), contact("o-2", ago(minutes=60))])) == "23"
    dismissed = contact("o-3", ago(days=29), answer="dismiss", answered=ago(days=29))
    rejected = contact("o-2", ago(days=31), answer="reject", answered=ago(days=30))
    assert allowed(rule, asked_of([rejected, dismissed])) == "12"
    assert rule.seen(asked_of([dismissed]), 2) == {
        "contact_policy": "calm", "after": "dismiss", "until": NOW + timedelta(days=1),
    }  # fmt: skip


def test_a_claim_that_has_not_lapsed_lets_its_offer_rest():
    rule = CooldownRule(a_view(calm(cooldown=Cooldown(impression="1d"))))
    assert allowed(rule, asked_of([contact("o-1", ago(minutes=29), seen=False)])) == "23"
    assert allowed(rule, asked_of([contact("o-1", ago(minutes=31), seen=False)])) == "123"


def test_a_dismissal_alone_may_have_a_cooldown():
    rule = CooldownRule(a_view(calm(cooldown=Cooldown(dismiss="1d"))))
    shown = [contact("o-1", ago(hours=1)), contact("o-2", ago(hours=2), answer="dismiss", answered=ago(hours=2))]
    assert allowed(rule, asked_of(shown)) == "13"


NO, YES = "dismiss", "positive"


@pytest.mark.parametrize(
    ("answers", "paused"),
    [
        (["", "", ""], True),
        (["", ""], False),
        (["", "", YES, ""], False),
        ([YES, "", "", ""], True),
        ([NO, NO], True),
        ([NO, "", "reject"], True),  # what was ignored in between is no yes
        ([NO, YES, NO], False),
        ([], False),
    ],
)
def test_who_ignored_or_rejected_several_in_a_row_is_left_alone(answers, paused):
    rule = PauseRule(a_view(calm(pause_after=Pause(for_="14d", ignored=3, rejected=2))))
    shown = [
        contact(f"o-{n}", ago(days=9 - n), **({"answer": one, "answered": ago(days=9 - n)} if one else {}))
        for n, one in enumerate(answers)
    ]
    assert allowed(rule, asked_of(shown)) == ("" if paused else "123")


def test_a_pause_begins_with_what_completed_it_and_then_counting_starts_anew():
    rule = PauseRule(a_view(calm(pause_after=Pause(for_="1d", rejected=2))))
    shown = [contact(f"o-{n}", ago(days=3), answer="reject", answered=ago(hours=h)) for n, h in ((1, 50), (2, 23))]
    assert rule.seen(asked_of(shown), 0) == {"contact_policy": "calm", "paused_until": NOW + timedelta(hours=1)}
    after = asked_of(shown, now=NOW + timedelta(hours=1))
    assert allowed(rule, after) == "123"
    once_more = contact("o-3", NOW + timedelta(hours=2), answer="reject")
    assert allowed(rule, asked_of([*shown, once_more], now=NOW + timedelta(hours=3))) == "123"


def test_what_nobody_saw_was_not_ignored_and_what_was_just_seen_has_time():
    rule = PauseRule(a_view(calm(pause_after=Pause(for_="1d", ignored=2))))
    assert allowed(rule, asked_of([contact(at=ago(hours=h), seen=False) for h in (3, 2)])) == "123"
    assert allowed(rule, asked_of([contact(at=ago(hours=3)), contact(at=ago(minutes=29))])) == "123"
    assert allowed(rule, asked_of([contact(at=ago(hours=3)), contact(at=ago(minutes=30))], now=NOW)) == ""


@pytest.mark.parametrize(
    ("hours", "zone", "now", "quiet"),
    [
        (("22:00", "07:00"), UTC, "2026-03-04T21:59:59Z", False),
        (("22:00", "07:00"), UTC, "2026-03-04T22:00:00Z", True),
        (("22:00", "07:00"), UTC, "2026-03-05T06:59:59Z", True),
        (("22:00", "07:00"), UTC, "2026-03-05T07:00:00Z", False),
        (("22:00", "07:00"), BERLIN, "2026-03-04T21:00:00Z", True),
        (("22:00", "07:00"), NEW_YORK, "2026-03-04T03:00:00Z", True),
        (("12:30", "13:30"), UTC, "2026-03-04T12:29:59Z", False),
        (("12:30", "13:30"), UTC, "2026-03-04T13:29:59Z", True),
    ],
)
def test_quiet_hours_are_those_of_the_customers_clock(hours, zone, now, quiet):
    rule = QuietHoursRule(a_view(calm(quiet_hours=hours)))
    asked = asked_of(now=datetime.fromisoformat(now), zone=zone)
    assert allowed(rule, asked) == ("" if quiet else "123")
    assert bool(rule.seen(asked, 0)) == quiet


def test_quiet_hours_of_another_channel_do_not_matter():
    rule = QuietHoursRule(a_view(calm(quiet_hours=("00:00", "23:59"), channels=("push",))))
    assert allowed(rule, asked_of()) == "123"
    assert allowed(rule, asked_of(channel="push")) == ""


# inventory, budget, pacing

DAY = {"day": "2026-03-04", "day_from_us": to_us(ago(hours=12)), "day_until_us": to_us(ago(hours=-12))}


def test_an_offer_without_a_unit_left_is_closed():
    rule = InventoryRule(a_view(o1={"inventory": 2}, o2={"inventory": 2}))
    stock = Stock({"o-1": Level(2), "o-2": Level(1)})
    assert allowed(rule, asked_of(stock=stock)) == "23"
    assert rule.seen(asked_of(stock=stock), 0) == {"inventory": 2, "used": 2}
    assert allowed(rule, asked_of(stock=Stock())) == "123"


def test_a_budget_closes_when_one_more_does_not_fit():
    cost, total, day = (
        Cost(amount=0.1, per="impression"),
        Budget(amount=0.3, per="total"),
        Budget(amount=0.3, per="day"),
    )
    rule = BudgetRule(a_view(o1={"cost": cost, "budget": total}, o2={"cost": cost, "budget": day}, o3={"budget": day}))
    assert allowed(rule, asked_of(stock=Stock({"o-1": Level(0, 0.2, 0.2), "o-2": Level(0, 9.0, 0.2)}))) == "123"
    spent = Stock({"o-1": Level(0, 0.3, 0.0), "o-2": Level(0, 9.0, 0.25), "o-3": Level(0, 9.0, 9.0)})
    assert allowed(rule, asked_of(stock=spent)) == "3"  # without a cost a budget costs nothing
    assert rule.seen(asked_of(stock=spent), 1) == {"budget": 0.3, "per": "day", "spent": 0.25, "cost": 0.1}


@pytest.mark.parametrize(("hour", "today", "open_"), [(0, 0.0, True), (0, 1.0, False), (6, 5.0, True), (6, 6.0, False),
                                                     (12, 11.0, True), (12, 11.5, False)])  # fmt: skip
def test_a_paced_offer_waits_for_the_day(hour, today, open_):
    paced = {"cost": Cost(amount=1, per="impression"), "budget": Budget(amount=24, per="day"), "pacing": True}
    rule = PacingRule(a_view(o1=paced, o2={**paced, "pacing": False}))
    stock = Stock({"o-1": Level(0, 0.0, today), "o-2": Level(0, 0.0, today)}, **DAY)
    asked = asked_of(now=datetime(2026, 3, 4, hour, tzinfo=UTC), stock=stock)
    assert allowed(rule, asked) == ("123" if open_ else "23")


MOVES = st.tuples(st.lists(st.tuples(st.sampled_from(["o-1", "o-2", "o-9"]), st.integers(0, 3)), max_size=2),
                  st.integers(1, 3), st.sampled_from(["2026-03-04", "2026-03-05"]), st.booleans())  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(MOVES, max_size=8))
def test_a_rule_that_follows_the_moves_of_a_stock_says_what_a_new_one_says(steps):
    money = {"cost": Cost(amount=1, per="impression"), "budget": Budget(amount=2, per="day"), "pacing": True}
    view = a_view(o1={"inventory": 2, **money}, o2={"inventory": 1, **money})
    kinds = (InventoryRule, BudgetRule, PacingRule)
    rules = [kind(view) for kind in kinds]
    stock = Stock({}, **DAY, lineage=object())
    for moved, at_once, day, looks in steps:
        for _ in range(at_once):
            now = {name: Level(n, float(n), float(n)) for name, n in moved}
            anew = {name: Level(*level) for name, level in stock.levels.items()}
            if day != stock.day:  # all of them move
                now = {name: level._replace(spent_today=0.0) for name, level in anew.items()} | now
            stock = stock._replace(
                levels={**anew, **now}, day=day, version=stock.version + 1, moves=(*stock.moves, tuple(now))[-2:]
            )
        if looks:
            for kind, rule in zip(kinds, rules, strict=True):
                asked = asked_of(stock=stock)
                assert allowed(rule, asked) == allowed(kind(view), asked)


def test_without_stock_limited_offers_are_withheld_and_others_go_on():
    money = {"cost": Cost(amount=1, per="impression"), "budget": Budget(amount=24, per="day"), "pacing": True}
    asked = Asked(placement_id="hero", channel="web", now_us=to_us(NOW), stock=None)
    for kind, limited in ((InventoryRule, {"inventory": 5}), (BudgetRule, money), (PacingRule, money)):
        rule = kind(a_view(o1=limited))
        assert allowed(rule, asked) == "23"
        assert rule.seen(asked, 0) == {"stock": "could not be read"}


# rules and claims judge alike

durations = st.sampled_from(["30m", "2h", "1d", "calendar_day", "calendar_week"])
caps = st.builds(
    Cap,
    limit=st.integers(1, 4),
    window=durations,
    of=st.sampled_from(["offer", "category", "placement", "channel", "all"]),
)
channels = st.sampled_from([(), ("web",), ("email",), ("web", "email")])
policies = st.builds(
    calm,
    caps,
    channels=channels,
    cooldown=st.none() | st.builds(Cooldown, impression=st.sampled_from([None, "20m", "3h"]), dismiss=st.just("1d")),
    pause_after=st.none() | st.builds(Pause, for_=st.just("1d"), ignored=st.integers(1, 4), rejected=st.integers(1, 3)),
)
money = st.builds(
    lambda amount, budget, per, days, pacing: {
        "cost": Cost(amount=amount, per=per), "budget": Budget(amount=budget, per=days), "pacing": pacing,
    },
    st.sampled_from([0.1, 0.3, 1.0]), st.sampled_from([0.3, 1.0, 5.0]), st.sampled_from(["impression", "accept"]),
    st.sampled_from(["day", "total"]), st.booleans(),
)  # fmt: skip
offers = st.builds(
    lambda own, inventory, money: {"caps": tuple(own), "inventory": inventory, **money},
    st.lists(caps, max_size=2), st.sampled_from([None, None, 1, 3]), st.one_of(st.just({}), money),
)  # fmt: skip


@st.composite
def histories(draw):
    some = st.tuples(
        st.integers(1, 4), st.integers(0, 3000), st.sampled_from([None, "web", "email"]),
        st.sampled_from([None, "hero", "strip"]), st.booleans(), st.sampled_from(["", "", "positive", "dismiss"]),
    )  # fmt: skip
    found = []
    for offer, minutes, channel, placement, seen, answer in draw(st.lists(some, max_size=12)):
        category = None if minutes % 5 == 0 else ("shoes" if offer < 3 else "hats")
        more = {"answer": answer, "answered": ago(minutes=minutes)} if seen and answer else {}
        found.append(
            contact(f"o-{offer}", ago(minutes=minutes), category=category, channel=channel, placement=placement,
                    seen=seen, **more)
        )  # fmt: skip
    return found


levels = st.dictionaries(
    st.sampled_from(["o-1", "o-2", "o-3"]),
    st.builds(Level, st.integers(0, 3), st.sampled_from([0.0, 0.2, 0.3, 4.7]), st.sampled_from([0.0, 0.2, 0.3, 0.7])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(policies, max_size=2), st.tuples(offers, offers, offers), histories(), levels, st.integers(0, 1))
def test_a_rule_lets_an_offer_through_exactly_when_its_claim_would_stand(some, changes, shown, used, at):
    view = a_view(*some, **{f"o{n}": change for n, change in enumerate(changes, start=1)})
    limits, channel, zone = Limits(view), ("web", "email")[at], (BERLIN, NEW_YORK)[at]
    asked = asked_of(shown, channel=channel, zone=zone, stock=Stock(used, **DAY))
    open_ = np.ones(3, dtype=bool)
    for kind in LIMITING:
        rule = kind(view)
        if (said := rule.allows(asked)) is not None:
            mask = as_mask(said, 3)
            open_ &= mask
            assert all(rule.seen(asked, row) for row in np.flatnonzero(~mask)), rule.name
    for row, offer in enumerate(view.offers):
        pick = Claimed(row, offer.offer_id, offer.category, "hero", channel)
        claim = Claim("d", "c", to_us(NOW), to_us(NOW) + 1, (pick,), zone)
        lost = limits.broken(claim, asked.history, asked.stock)
        assert bool(lost) == (not open_[row])
        assert not lost or limits.covers(pick)


@settings(max_examples=80, deadline=None)
@given(st.lists(policies, max_size=2), histories())
def test_a_slate_that_keeps_to_the_rooms_is_never_refused_by_a_policys_caps(some, shown):
    some = [ContactPolicy(policy_id="calm", name="calm", channels=one.channels, caps=one.caps) for one in some]
    view = a_view(*some)
    rule, asked = CapsRule(view), asked_of(shown)
    free = as_mask(rule.allows(asked), 3).copy()
    rooms, picks = rule.rooms(asked), []
    for row in range(3):
        if free[row]:
            offer = view.offers[row]
            picks.append(Claimed(row, offer.offer_id, offer.category, "hero", "web"))
            free[row] = False
            for room in rooms:
                if (closed := room.take(row)) is not None:
                    free[closed] = False
    claim = Claim("d", "c", to_us(NOW), to_us(NOW) + 1, tuple(picks))
    assert list(Limits(view).broken(claim, asked.history, Stock())) == []
