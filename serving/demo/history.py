"""The shop's past: how its customers visited, and what they answered to offers drawn almost at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from features.events import US_PER_DAY
from serving.demo.response import Bools, Crowd, new_crowd, on_offer, respond
from serving.demo.world import PAGES, Floats, Ints, World

TYPES = ("visit", "view", "impression", "click", "accept", "dismiss", "purchase", "cancel", "feedback")
VISIT, VIEW, IMPRESSION, CLICK, ACCEPT, DISMISS, PURCHASE, CANCEL, FEEDBACK = range(len(TYPES))
SECOND = 1_000_000
LEAN = 0.3  # how far the old policy leaned towards valuable offers; 0 would be uniform
SEEN = np.array(((1.0, 0.95, 0.8, 0.6), (1.0, 0.7, 0.0, 0.0)))  # the chance that a visitor looks at each of PAGES
RANKS = np.array([[1 + sum(page[:k] == page[k]) for k in range(len(page))] for page in PAGES])
TALKS = 0.01  # share of visits that end in feedback
BUYS = 0.10  # share of visits with a purchase of no offer
CANCELS = 0.5  # share of leavers who say so


class Rows(NamedTuple):
    """Events as columns (n,); -1 and NaN are none."""

    kind: Ints  # into TYPES
    us: Ints
    customer: Ints
    visit: Ints  # number of the visit, which is the session and the decision
    channel: Ints
    offer: Ints
    placement: Ints
    rank: Ints
    chance: Floats  # selection probability of the logging policy
    category: Ints
    value: Floats  # currency
    score: Ints  # net promoter score


def make_history(world: World) -> tuple[Rows, Crowd]:
    """All events until the world's now, ordered by time, and the crowd as it then is."""
    rng = np.random.default_rng([world.seed, 3])
    crowd = new_crowd(world)
    parts: list[Rows] = []
    n_visits = 0
    for day in range(world.size.n_days + 1):
        midnight_us = world.begins_us + day * US_PER_DAY
        for customers, us in _visits(world, crowd, midnight_us, rng):
            visits = n_visits + np.arange(len(customers))
            n_visits += len(customers)
            parts += _page(world, crowd, customers, us, visits, rng)
        parts.append(_leave(world, crowd, midnight_us, rng))
    rows = Rows._make(np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((rows.rank, rows.kind, rows.visit, rows.us))
    order = order[rows.us[order] < world.now_us]
    return Rows._make(column[order] for column in rows), crowd


def _visits(world: World, crowd: Crowd, midnight_us: int, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
    """Rounds of (customers, instants) of one day; within a round each customer comes at most once."""
    weekend = 1.3 if (midnight_us // US_PER_DAY + 3) % 7 >= 5 else 1.0
    n_visits = rng.poisson(world.visits_per_day * weekend * ~crowd.gone)
    customers = np.repeat(np.arange(world.size.n_customers), n_visits)
    hours = (world.peak_hour[customers] + rng.normal(0, 3, len(customers))) % 24
    us = midnight_us + (hours * 3_600 * SECOND).astype(np.int64)
    here = (us >= world.joined_us[customers]) & (us < world.now_us)
    order = np.lexsort((us[here], customers[here]))
    customers, us = customers[here][order], us[here][order]
    nth = np.arange(len(customers)) - np.searchsorted(customers, customers)
    for n in range(nth.max(initial=-1) + 1):
        yield customers[nth == n], us[nth == n]


def _page(
    world: World, crowd: Crowd, customers: Ints, us: Ints, visits: Ints, rng: np.random.Generator
) -> Iterator[Rows]:
    """The events of one page view each."""
    n = len(customers)
    channel = (rng.random(n) < world.app_share[customers]).astype(np.int64)
    yield _rows(VISIT, us, customers, visits, channel)
    yield from _browse(world, customers, us, visits, channel, rng)

    places, ranks = PAGES[channel], RANKS[channel]
    offers, chances = _draw(world, us, places.shape[1], rng)
    seen = (chances > 0) & (rng.random(places.shape) < SEEN[channel])
    response = respond(world, crowd, customers, offers, seen, us, channel, places, rng)

    click_s = 2 + rng.exponential(8.0, seen.shape)
    accept_s = click_s + 20 + rng.exponential(60.0, seen.shape)

    def those(kind: int, mask: Bools, after_s: Floats, of_price: bool = False) -> Rows:
        row, slot = np.nonzero(mask)
        offer = offers[row, slot]
        return _rows(
            kind, us[row] + (after_s[row, slot] * SECOND).astype(np.int64), customers[row], visits[row], channel[row],
            offer=offer, placement=places[row, slot], rank=ranks[row, slot], chance=chances[row, slot],
            category=world.category[offer], value=world.price[offer] if of_price else None,
        )  # fmt: skip

    yield those(IMPRESSION, seen, np.ones(seen.shape))
    yield those(CLICK, response.clicked, click_s)
    yield those(DISMISS, response.dismissed, click_s)
    yield those(ACCEPT, response.accepted, accept_s)
    yield those(PURCHASE, response.accepted, accept_s + 1, of_price=True)
    talks = rng.random(n) < TALKS
    likes = world.taste[customers] @ world.category_taste.mean(axis=0) + (response.accepted.any(axis=1))
    nps = np.clip(np.round(6.5 + 2 * likes + rng.normal(0, 2, n)), 0, 10).astype(np.int64)
    yield _rows(FEEDBACK, us[talks] + 300 * SECOND, customers[talks], visits[talks], channel[talks], score=nps[talks])


def _browse(
    world: World, customers: Ints, us: Ints, visits: Ints, channel: Ints, rng: np.random.Generator
) -> Iterator[Rows]:
    """Views of categories, mostly those liked, and purchases of things that no offer was for."""
    n_views = rng.integers(1, 4, len(customers))
    row = np.repeat(np.arange(len(customers)), n_views)
    liking = 2.5 * world.taste[customers[row]] @ world.category_taste.T
    category = np.argmax(liking + rng.gumbel(size=liking.shape), axis=1)
    after = (rng.uniform(5, 600, len(row)) * SECOND).astype(np.int64)
    yield _rows(VIEW, us[row] + after, customers[row], visits[row], channel[row], category=category)
    buys = (rng.random(len(row)) < BUYS / 2) & (np.arange(len(row)) % 2 == 0)
    row, category, after = row[buys], category[buys], after[buys]
    value = np.round(world.budget[customers[row]] * rng.lognormal(-1.6, 0.5, len(row)), 2)
    bought_us = us[row] + after + 60 * SECOND
    yield _rows(PURCHASE, bought_us, customers[row], visits[row], channel[row], category=category, value=value)


def _draw(world: World, us: Ints, k: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """k offers per instant without replacement, and the chance of each given those before it; (n, k).

    Plackett–Luce by Gumbel top-k. A chance of 0 marks a place that nothing was left for.
    """
    weight = np.where(on_offer(world, us), np.exp(LEAN * np.log(np.maximum(world.value, 1.0))), 0.0)
    with np.errstate(divide="ignore"):
        keys = np.log(weight) + rng.gumbel(size=weight.shape)
    offers = np.argsort(-keys, axis=1)[:, :k]
    drawn = np.take_along_axis(weight, offers, axis=1)
    before = np.cumsum(drawn, axis=1) - drawn
    left = np.maximum(weight.sum(axis=1, keepdims=True) - before, 1e-12)
    return offers, np.asarray(drawn / left)


def _leave(world: World, crowd: Crowd, midnight_us: int, rng: np.random.Generator) -> Rows:
    """At the end of a day some customers leave for good, tired ones sooner; half of them say so."""
    tired = 1 + 0.03 * crowd.fatigue.sum(axis=1)
    leaves = ~crowd.gone & (world.joined_us < midnight_us) & (rng.random(len(tired)) < world.churn_hazard * tired)
    crowd.gone[leaves] = True
    says = np.flatnonzero(leaves & (rng.random(len(tired)) < CANCELS))
    us = np.full(len(says), midnight_us + US_PER_DAY - SECOND)
    return _rows(CANCEL, us, says, np.full(len(says), -1), np.zeros(len(says), dtype=np.int64))


def _rows(
    kind: int,
    us: Ints,
    customer: Ints,
    visit: Ints,
    channel: Ints,
    *,
    offer: Ints | None = None,
    placement: Ints | None = None,
    rank: Ints | None = None,
    chance: Floats | None = None,
    category: Ints | None = None,
    value: Floats | None = None,
    score: Ints | None = None,
) -> Rows:
    n = len(us)

    def whole(column: Ints | None) -> Ints:
        return np.full(n, -1) if column is None else column

    def real(column: Floats | None) -> Floats:
        return np.full(n, np.nan) if column is None else column

    return Rows(
        np.full(n, kind), us, customer, visit, channel, whole(offer), whole(placement), whole(rank), real(chance),
        whole(category), real(value), whole(score),
    )  # fmt: skip
