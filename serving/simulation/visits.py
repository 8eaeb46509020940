"""Who comes when, and all the luck of it, drawn before anybody decides: the same for every policy that is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.events import US_PER_DAY
from serving.demo.history import SEEN
from serving.demo.response import Bools
from serving.demo.world import PAGES, Floats, Ints, World

N_PLACES = PAGES.shape[1]  # on the largest page
MOST_AT_ONCE = 100  # visits between two times that the service learns; each customer at most once
SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Visits:
    """Some visits in the order of time, by different customers; n of them, m offers, k places."""

    number: Ints  # (n,) of all visits, from 0
    customers: Ints  # (n,)
    us: Ints  # (n,) when, in the world's time
    channel: Ints  # (n,) into CHANNELS
    looks: Bools  # (n, k) whether whatever is at each place is seen
    luck: Floats  # (3, n, m): of a click, an acceptance, a dismissal; by offer, so that two policies share it
    seeds: Ints  # (n,) of the decisions

    def where(self, mask: Bools) -> Visits:
        """Those of them."""
        return Visits(
            self.number[mask], self.customers[mask], self.us[mask], self.channel[mask], self.looks[mask],
            self.luck[:, mask], self.seeds[mask],
        )  # fmt: skip

    def first(self, n: int) -> Visits:
        return self.where(np.arange(len(self.number)) < n)


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the world."""

    midnight_us: int
    visits: tuple[Visits, ...]
    leaving: Floats  # (n_customers,) uniforms: who leaves for good in the following night


def days_of(world: World, *, seed: int, start_us: int, n_visits: int) -> Iterator[Day]:
    """Day after day until there were so many visits. Who left in one policy's life still has its place here."""
    day, done = 0, 0
    while done < n_visits:
        midnight_us = (start_us // US_PER_DAY + day) * US_PER_DAY
        rng = np.random.default_rng([seed, 30, day])
        customers, us, channel = _arrivals(world, midnight_us, start_us, rng)
        visits = []
        for at, rows in enumerate(_apart(customers)):
            one = _with_luck(world, done + rows, customers[rows], us[rows], channel[rows], [seed, 31, day, at])
            visits.append(one.first(n_visits - int(one.number[0])) if one.number[-1] >= n_visits else one)
            if one.number[-1] >= n_visits - 1:
                break
        done += len(customers)
        yield Day(midnight_us, tuple(visits), rng.random(world.size.n_customers))
        day += 1


def _arrivals(world: World, midnight_us: int, start_us: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """(customers, instants, channels) of one day, by time: the rates of the demo's history."""
    weekend = 1.3 if (midnight_us // US_PER_DAY + 3) % 7 >= 5 else 1.0
    customers = np.repeat(np.arange(world.size.n_customers), rng.poisson(world.visits_per_day * weekend))
    hours = (world.peak_hour[customers] + rng.normal(0, 3, len(customers))) % 24
    us = midnight_us + (hours * 3_600 * SECOND_US).astype(np.int64)
    channel = (rng.random(len(customers)) < world.app_share[customers]).astype(np.int64)
    order = np.lexsort((customers, us))
    order = order[us[order] >= start_us]
    return customers[order], us[order], channel[order]


def _apart(customers: Ints) -> Iterator[Ints]:
    """Consecutive rows in which nobody comes twice, at most `MOST_AT_ONCE`."""
    start, here = 0, set[int]()
    for row, customer in enumerate(customers.tolist()):
        if customer in here or row - start == MOST_AT_ONCE:
            yield np.arange(start, row)
            start, here = row, set()
        here.add(customer)
    if start < len(customers):
        yield np.arange(start, len(customers))


def _with_luck(world: World, number: Ints, customers: Ints, us: Ints, channel: Ints, seed: list[int]) -> Visits:
    rng = np.random.default_rng(seed)
    n = len(number)
    return Visits(
        number,
        customers,
        us,
        channel,
        rng.random((n, N_PLACES)) < SEEN[channel],
        rng.random((3, n, world.size.n_offers)),
        rng.integers(0, 1 << 53, n),
    )
