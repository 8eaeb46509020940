"""The closed loop: visits are decided, answered as the truth has it, and told back to the service that learns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from experiments.simulate.compared import COLUMNS, Lived
from features.events import US_PER_DAY, from_us
from serving.demo.history import CANCELS, SEEN
from serving.demo.response import (
    PLACEMENT,
    Bools,
    Crowd,
    answers,
    expit,
    feel,
    logit_anywhere,
    on_offer,
    recover,
)  # fmt: skip
from serving.demo.world import PAGES, Floats, World
from serving.simulation.engine import Engine, Met, Pages
from serving.simulation.happened import events_of
from serving.simulation.visits import Day, Visits

Lift = Callable[[Met], float]  # by what the chance of accepting is multiplied for whoever met these variants
Note = Callable[[int], None]  # so many visits were lived


@dataclass(frozen=True, slots=True)
class Truth:
    """How the world answers. `tires`: what was seen and bought is felt later; without, every visit is a new one."""

    tires: bool = True
    lift: Lift | None = None


def live(
    world: World,
    crowd: Crowd,
    days: Iterable[Day],
    engine: Engine,
    *,
    arm: str,
    truth: Truth | None = None,
    run: str = "v",
    note: Note = lambda n: None,
) -> Lived:
    """All days with one service; the crowd lives on in place."""
    truth = truth or Truth()
    totals = {name: np.zeros(world.size.n_customers) for name in COLUMNS}
    who = np.zeros(world.size.n_customers, dtype=bool)
    began, n_decisions = time.perf_counter(), 0
    for day in days:
        for planned in day.visits:
            who[planned.customers] = True
            visits = planned.where(~crowd.gone[planned.customers])
            if len(visits.number):
                _round(world, crowd, visits, engine, truth, totals, run)
            n_decisions += len(visits.number)
            note(len(planned.number))
        if truth.tires:
            _leave(world, crowd, day, engine, run)
    return Lived(arm, totals, who, time.perf_counter() - began, n_decisions)


def _round(
    world: World,
    crowd: Crowd,
    visits: Visits,
    engine: Engine,
    truth: Truth,
    totals: dict[str, Floats],
    run: str,
) -> None:
    pages = engine.ask(visits)
    offers = np.maximum(pages.offers, 0)
    seen = visits.looks & pages.filled
    recover(crowd, visits.customers, visits.us)
    places = PAGES[visits.channel]
    lift = np.array([truth.lift(met) for met in pages.met])[:, None] if truth.lift is not None else 1.0
    worth = _worth(world, crowd, visits)
    luck = np.take_along_axis(visits.luck, np.broadcast_to(offers, (3, *offers.shape)), axis=2)
    response = answers(world, crowd, visits.customers, offers, seen, visits.us, visits.channel, places, luck, lift)
    if truth.tires:
        feel(world, crowd, visits.customers, offers, seen, response.accepted)
    engine.tell(events_of(world, visits, pages, seen, response, engine.step_us, run))
    _add(world, visits, pages, seen, response.clicked, response.accepted, response.dismissed, worth, lift, totals)


def _worth(world: World, crowd: Crowd, visits: Visits) -> Floats:
    """(n, m, placements): what showing each offer is worth by the true chances, in currency; NaN if it may not be."""
    anywhere = logit_anywhere(world, crowd, visits.customers, visits.us, visits.channel)
    worth = expit(anywhere[:, :, None] + PLACEMENT) * world.value[None, :, None]
    return np.where(on_offer(world, visits.us)[:, :, None], worth, np.nan)


def _add(
    world: World,
    visits: Visits,
    pages: Pages,
    seen: Bools,
    clicked: Bools,
    accepted: Bools,
    dismissed: Bools,
    worth: Floats,
    lift: Floats | float,
    totals: dict[str, Floats],
) -> None:
    """Each customer comes at most once, so that adding by customer is adding by row."""
    rows, offers = np.arange(len(visits.number)), np.maximum(pages.offers, 0)
    of_page = worth[rows[:, None], offers, PAGES[visits.channel]] * lift
    at_first = worth[rows, :, PAGES[visits.channel][:, 0]]
    there = pages.filled[:, 0]
    added = {
        "visits": np.ones(len(rows)),
        "impressions": seen.sum(axis=1),
        "clicks": clicked.sum(axis=1),
        "accepts": accepted.sum(axis=1),
        "dismisses": dismissed.sum(axis=1),
        "value": (accepted * world.value[offers]).sum(axis=1),
        "expected": np.where(pages.filled, SEEN[visits.channel] * of_page, 0.0).sum(axis=1),
        "first": np.where(there, worth[rows, offers[:, 0], PAGES[visits.channel][:, 0]], 0.0),
        "first_best": np.nanmax(at_first, axis=1),
        "first_random": np.nanmean(at_first, axis=1),
        "degraded": pages.degraded,
    }
    for name, value in added.items():
        totals[name][visits.customers] += value


def _leave(world: World, crowd: Crowd, day: Day, engine: Engine, run: str) -> None:
    """As in the demo's history: some leave for good at night, tired ones sooner; the first half of them says so."""
    tired = 1 + 0.03 * crowd.fatigue.sum(axis=1)
    chance = world.churn_hazard * tired
    leaves = ~crowd.gone & (world.joined_us < day.midnight_us) & (day.leaving < chance)
    crowd.gone[leaves] = True
    at = from_us(day.midnight_us + US_PER_DAY - 1_000_000)
    says = np.flatnonzero(leaves & (day.leaving < CANCELS * chance))
    ids = world.customer_ids
    engine.tell([
        {"event_id": f"{run}-cancel-{row}", "event_type": "cancel", "customer_id": ids[row], "occurred_at": at}
        for row in says.tolist()
    ])  # fmt: skip
