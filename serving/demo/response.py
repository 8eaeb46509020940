"""How the simulated customers respond: the true probabilities, and the tiredness and spending that move them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.events import US_PER_DAY
from serving.demo.world import CATEGORIES, Floats, Ints, World

BASE = -3.9  # logit of accepting an offer of no particular appeal
AFFINITY = 3.0
BUDGET = 0.9
OWN_FATIGUE, ALL_FATIGUE = 0.45, 0.015  # per exposure still felt
HALF_LIFE_DAYS = 4.0  # of an exposure, and of what was spent, in feeling
TAKEN = 6.0  # an offer just taken tires like this many exposures
EASIER = 1.6  # than an acceptance is a click; added to the logit
DISMISS = -4.2
PLACEMENT = np.array((0.25, -0.1, 0.1))  # by PLACEMENTS
CHANNEL = np.array((0.0, 0.15))  # by CHANNELS

Bools = NDArray[np.bool_]


class Context(NamedTuple):
    """When and where; arrays (n,), one entry per customer asked about."""

    us: Ints
    channel: Ints  # into CHANNELS
    placement: Ints  # into PLACEMENTS


@dataclass(frozen=True, slots=True)
class Crowd:
    """What changes about the customers as they live; written in place."""

    fatigue: Floats  # (n, m) exposures still felt, as of `felt_us`
    spent: Floats  # (n,) currency still felt, as of `felt_us`
    felt_us: Ints  # (n,)
    gone: Bools  # (n,)


def new_crowd(world: World) -> Crowd:
    n, m = world.size.n_customers, world.size.n_offers
    return Crowd(np.zeros((n, m)), np.zeros(n), np.full(n, world.begins_us), np.zeros(n, dtype=bool))


def recover(crowd: Crowd, customers: Ints, us: Ints) -> None:
    """Let time pass for these customers, each once, until `us` (n,)."""
    days = (us - crowd.felt_us[customers]) / US_PER_DAY
    left = 0.5 ** (np.maximum(days, 0.0) / HALF_LIFE_DAYS)
    crowd.fatigue[customers] *= left[:, None]
    crowd.spent[customers] *= left
    crowd.felt_us[customers] = np.maximum(us, crowd.felt_us[customers])


def logit_anywhere(world: World, crowd: Crowd, customers: Ints, us: Ints, channel: Ints) -> Floats:
    """(n, m): the logit of accepting, the placement left out, for customers that have recovered until `us` (n,)."""
    hour = us % US_PER_DAY / 3_600_000_000
    awake = np.cos((hour - world.peak_hour[customers]) * np.pi / 12)
    category_hour = np.arange(len(CATEGORIES)) * 3.0  # each category has its time of day
    in_season = np.cos((hour[:, None] - category_hour[world.category]) * np.pi / 12)
    price = np.log(world.price * (1 - world.discount / 100) / 25.0)
    fatigue = crowd.fatigue[customers]
    of_customer = (
        BASE
        + 0.3 * awake
        + CHANNEL[channel]
        - BUDGET * crowd.spent[customers] / world.budget[customers]
        - ALL_FATIGUE * fatigue.sum(axis=1)
    )
    return np.asarray(
        of_customer[:, None]
        + AFFINITY * world.taste[customers] @ world.appeal.T
        + world.quality
        - world.price_sensitivity[customers, None] * price
        + 0.35 * in_season
        - OWN_FATIGUE * fatigue
    )


def logit_accept(world: World, crowd: Crowd, customers: Ints, context: Context) -> Floats:
    """(n, m): the logit of accepting each offer here and now."""
    anywhere = logit_anywhere(world, crowd, customers, context.us, context.channel)
    return np.asarray(anywhere + PLACEMENT[context.placement][:, None])


def p_accept(world: World, crowd: Crowd, customers: Ints, context: Context) -> Floats:
    """(n, m): the chance that each customer, shown each offer here and now, accepts it."""
    return expit(logit_accept(world, crowd, customers, context))


def p_click(world: World, crowd: Crowd, customers: Ints, context: Context) -> Floats:
    """(n, m); never below `p_accept`: whoever accepts has clicked."""
    return expit(logit_accept(world, crowd, customers, context) + EASIER)


def p_dismiss(world: World, crowd: Crowd, customers: Ints) -> Floats:
    """(n, m): the chance that an offer that was not clicked is closed; grows with tiredness, falls with taste."""
    affinity = world.taste[customers] @ world.appeal.T
    return expit(DISMISS - affinity + 0.5 * crowd.fatigue[customers])


class Response(NamedTuple):
    """What customers did with what they were shown; each (n, k)."""

    clicked: Bools
    accepted: Bools
    dismissed: Bools


def respond(
    world: World,
    crowd: Crowd,
    customers: Ints,
    offers: Ints,
    seen: Bools,
    us: Ints,
    channel: Ints,
    placements: Ints,
    rng: np.random.Generator,
) -> Response:
    """Draw responses to `offers` (n, k) at `placements` (n, k) where `seen` (n, k), and let the crowd feel them.

    Each customer appears at most once. Offers of one page tire from the next page on.
    """
    recover(crowd, customers, us)
    response = answers(world, crowd, customers, offers, seen, us, channel, placements, rng.random((3, *offers.shape)))
    feel(world, crowd, customers, offers, seen, response.accepted)
    return response


def answers(
    world: World,
    crowd: Crowd,
    customers: Ints,
    offers: Ints,
    seen: Bools,
    us: Ints,
    channel: Ints,
    placements: Ints,
    luck: Floats,
    lift: Floats | float = 1.0,
) -> Response:
    """What uniforms `luck` (3, n, k) make of the chances, for customers that have recovered; pure.

    The chance of accepting is multiplied by `lift`, which is a number or broadcasts to (n, k), but never above the
    chance of a click.
    """
    anywhere = logit_anywhere(world, crowd, customers, us, channel)
    logits = np.take_along_axis(anywhere, offers, axis=1) + PLACEMENT[placements]
    close = np.take_along_axis(p_dismiss(world, crowd, customers), offers, axis=1)
    click, accept = expit(logits + EASIER), expit(logits) * lift
    clicked = seen & (luck[0] < click)
    accepted = clicked & (luck[1] * click < accept)
    return Response(clicked, accepted, seen & ~clicked & (luck[2] < close))


def feel(world: World, crowd: Crowd, customers: Ints, offers: Ints, seen: Bools, accepted: Bools) -> None:
    """What was seen tires, what was taken tires more and costs; each customer appears at most once."""
    np.add.at(crowd.fatigue, (customers[:, None], offers), seen + TAKEN * accepted)
    crowd.spent[customers] += (accepted * world.price[offers]).sum(axis=1)


def on_offer(world: World, us: Ints) -> Bools:
    """(n, m): which offers may be shown at each instant."""
    return np.asarray((world.starts_us <= us[:, None]) & (us[:, None] < world.ends_us))


def expit(logits: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))
