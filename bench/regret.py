"""Regret of the closed loop: our beliefs and policies in the simulated shop, against MABWiser's bandits and the oracle.

A shop with 45 offers has a logistic acceptance model, fitted on a history of random offers by what a shop can observe.
Then 5 offers come that the model never saw, and a third of the way the 3 offers that are shown best break: nobody can
take them any more. Everybody learns from the same history and, after every batch of visits, from its own outcomes; each
lives with customers of its own, who tire and spend as the demo shop's do. Ours is the service's policy over the
service's beliefs, its exploration for new offers and its always-random share included, which the others do without.
MABWiser's LinUCB gets the same observations as contexts, its Thompson sampling none; both are given the offers' values.
Regret is expected value lost against the best offer for each visitor, by the true chances.
`python -m bench.regret [--decisions N] [--seed N] [--picture FILE]` prints JSON; exit 1 when ours loses more than one
of theirs, beyond the noise of the batches. Needs `mabwiser` (extra `test`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.events import US_PER_DAY
from serving.demo.response import Context, Crowd, new_crowd, p_accept, recover
from serving.demo.world import CATEGORIES, COUNTRIES, Size, World, make_world
from serving.learning.beliefs import Beliefs
from serving.learning.cells import Cells
from serving.learning.evidence import Change
from serving.policies import policy_for
from serving.policies.floors import draw
from serving.policies.outlook import Outlook, Tuning
from serving.settings import Settings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HERO = 0  # the placement, on channel 0
BATCH = 250
N_NEW, N_BROKEN = 5, 3
HISTORY = 100_000  # random offers before, from which everybody learns; as many before these tell the customers'
# interests, for an interest must not hold the outcome that it is to predict
SETTINGS = {f.name: f.default for f in Settings.__dataclass_fields__.values()}
STRENGTH: float = SETTINGS["prior_strength"]
NEW_BELOW: int = SETTINGS["new_offer_impressions"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Visits:
    """One batch: who comes when, each customer at most once."""

    customers: Ints  # (BATCH,)
    us: Ints
    luck: Floats  # (2, BATCH): of the draw, of the response


@dataclass(frozen=True)
class Shop:
    """The world, and what is observed of it."""

    world: World
    new: Ints  # rows of the offers that the model never saw
    seed: int
    observed: Floats = field(repr=False)  # (n_customers, k): what a bandit may look at
    interest: Floats = field(repr=False)  # (n_customers, len(CATEGORIES))

    @property
    def n_offers(self) -> int:
        return self.world.size.n_offers


class Chooser(Protocol):
    """Chooses for a batch, and learns what came of it."""

    def choose(self, visits: Visits) -> Ints: ...

    def learn(self, visits: Visits, offers: Ints, taken: NDArray[np.bool_]) -> None: ...


def visits_of(shop: Shop, batch: int) -> Visits:
    """The same for every chooser."""
    rng = np.random.default_rng([shop.seed, 10, batch])
    rate = shop.world.visits_per_day
    customers = rng.choice(len(rate), BATCH, replace=False, p=rate / rate.sum())
    us = shop.world.now_us + int(batch * BATCH / rate.sum() * US_PER_DAY)
    return Visits(customers, np.full(BATCH, us), rng.random((2, BATCH)))


def truth_of(shop: Shop, crowd: Crowd, visits: Visits, broken: Ints) -> Floats:
    """(BATCH, n_offers): the chance of each visitor to accept each offer, tiredness and all."""
    recover(crowd, visits.customers, visits.us)
    here = np.zeros(len(visits.customers), np.int64)
    truth = p_accept(shop.world, crowd, visits.customers, Context(visits.us, here, here + HERO))
    truth[:, broken] = 0.0
    return truth


def feel(shop: Shop, crowd: Crowd, visits: Visits, offers: Ints, taken: NDArray[np.bool_]) -> None:
    """As `respond` has it: what was seen tires, what was taken tires more and costs."""
    np.add.at(crowd.fatigue, (visits.customers, offers), 1.0 + 6.0 * taken)
    crowd.spent[visits.customers] += taken * shop.world.price[offers]


# What is known before


@dataclass(frozen=True)
class History:
    """Random offers to the shop's customers, before anything is measured."""

    customers: Ints
    offers: Ints
    taken: NDArray[np.bool_]


def make_shop(seed: int, n_customers: int, n_history: int = HISTORY) -> tuple[Shop, History]:
    """The shop, and what everybody learns from before the first decision."""
    world = make_world(seed, Size(n_customers=n_customers, n_offers=50), NOW)
    rng = np.random.default_rng([seed, 11])
    new = np.sort(rng.choice(50, N_NEW, replace=False))
    bare = Shop(world, new, seed, np.zeros((n_customers, 1)), np.zeros((n_customers, len(CATEGORIES))))
    old = np.setdiff1d(np.arange(50), new)
    crowd = new_crowd(world)
    parts = []
    for batch in range(-2 * n_history // BATCH, 0):
        visits = visits_of(bare, batch + 10**6)
        visits = Visits(visits.customers, np.full(BATCH, _before(bare, batch)), visits.luck)
        truth = truth_of(bare, crowd, visits, new[:0])
        offers = rng.choice(old, BATCH)
        taken = visits.luck[1] < truth[np.arange(BATCH), offers]
        feel(bare, crowd, visits, offers, taken)
        parts.append((visits.customers, offers, taken))
    customers, offers, taken = (np.concatenate(column) for column in zip(*parts, strict=True))
    interest, seen = np.zeros((2, n_customers, len(CATEGORIES)))
    early = slice(0, n_history)
    np.add.at(interest, (customers[early], world.category[offers[early]]), taken[early])
    np.add.at(seen, (customers[early], world.category[offers[early]]), 1.0)
    interest = (interest + 0.05) / (seen + 1.0)  # a smoothed rate by category
    late = slice(n_history, None)
    history = History(customers[late], offers[late], taken[late])
    return Shop(world, new, seed, _observed(world, interest), interest), history


def _before(shop: Shop, batch: int) -> int:
    return shop.world.now_us + int(batch * BATCH / shop.world.visits_per_day.sum() * US_PER_DAY)


def _observed(world: World, interest: Floats) -> Floats:
    """Tier as the shop sees it (four in five right), age, country, interests; standardised, with a constant."""
    rng = np.random.default_rng([world.seed, 2])
    tier = np.where(rng.random(len(world.segment)) < 0.8, world.segment, rng.integers(4, size=len(world.segment)))
    columns = [np.eye(4)[tier], (world.age / 40 - 1)[:, None], np.eye(len(COUNTRIES))[world.country], 5 * interest]
    return np.column_stack([np.ones(len(tier)), *columns])


def fit_model(shop: Shop, history: History) -> Floats:
    """(n_customers, n_offers): P(accept) of a logistic model, every pair; offers never seen by their features alone."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, max_iter=300)
    model.fit(_pairs(shop, history.customers, history.offers), history.taken)
    n, m = len(shop.observed), shop.n_offers
    found = np.empty((n, m))
    for offer in range(m):
        found[:, offer] = model.predict_proba(_pairs(shop, np.arange(n), np.full(n, offer)))[:, 1]
    return found


def _pairs(shop: Shop, customers: Ints, offers: Ints) -> Floats:
    world, x = shop.world, shop.observed[customers]
    price = np.log(world.price * (1 - world.discount / 100) / 25.0)[offers]
    which = np.eye(shop.n_offers)[offers]
    liked = shop.interest[customers, world.category[offers]][:, None]
    return np.column_stack([which, x[:, 1:], x[:, :5] * price[:, None], np.log(liked)])


# Who chooses


class Ours:
    """The service's policy over the service's beliefs."""

    def __init__(self, shop: Shop, p_model: Floats, history: History, policy: str, *, learns: bool = True) -> None:
        self.shop, self.p_model, self.policy, self.learns = shop, p_model, policy, learns
        self.tuning = Tuning()
        self.everything = np.ones(shop.n_offers, dtype=bool)
        self.rows = {str(row): row for row in range(shop.n_offers)}
        self.cells = Cells(STRENGTH)
        for offer, n in enumerate(np.bincount(history.offers, minlength=shop.n_offers).tolist()):
            self.cells.n_seen[str(offer)] = n
        self.factors: list[Floats] = []

    def beliefs(self) -> Beliefs:
        return self.cells.beliefs(self.rows, "1", "web", 0)

    def choose(self, visits: Visits) -> Ints:
        beliefs = self.beliefs()
        self.factors.append(beliefs.factor)
        is_new = beliefs.n_seen < NEW_BELOW
        chosen = np.zeros(BATCH, np.int64)
        for n, customer in enumerate(visits.customers.tolist()):
            p = np.clip(self.p_model[customer] * beliefs.factor, 1e-6, 1 - 1e-6)
            scores = p * self.shop.world.value
            outlook = Outlook(scores, scores, beliefs, is_new, p_accept=p)
            rng = Random(int(visits.luck[0, n] * 2**53))
            chance = policy_for(self.policy, outlook, self.everything, self.tuning, rng)(self.everything)
            chosen[n] = draw(chance, visits.luck[0, n])
        return chosen

    def learn(self, visits: Visits, offers: Ints, taken: NDArray[np.bool_]) -> None:
        if not self.learns:
            return
        for customer, us, offer, took in zip(
            visits.customers.tolist(), visits.us.tolist(), offers.tolist(), taken.tolist(), strict=True
        ):
            where = (us, "1", "web", str(offer))
            self.cells.take(self.cells.seq + 1, Change(0, *where, 1, float(self.p_model[customer, offer]), 0.0))
            if took:
                self.cells.take(self.cells.seq + 1, Change(0, *where, 0, 0.0, 1.0))


class Theirs:
    """A bandit of MABWiser, which estimates acceptance; the value of each offer is multiplied on."""

    def __init__(self, shop: Shop, history: History, policy: Any, *, contextual: bool) -> None:
        from mabwiser.mab import MAB

        self.shop, self.contextual = shop, contextual
        self.arms = [str(row) for row in range(shop.n_offers)]
        self.bandit = MAB(self.arms, policy, seed=shop.seed)
        self._fit(self.bandit.fit, history.customers, history.offers, history.taken)

    def _fit(self, fit: Callable[..., None], customers: Ints, offers: Ints, taken: NDArray[np.bool_]) -> None:
        told = [str(row) for row in offers.tolist()], taken.astype(int)
        fit(*told, self.shop.observed[customers]) if self.contextual else fit(*told)

    def choose(self, visits: Visits) -> Ints:
        if self.contextual:
            said = self.bandit.predict_expectations(self.shop.observed[visits.customers])
        else:
            said = [self.bandit.predict_expectations() for _ in visits.customers]
        hoped = np.array([[one[arm] for arm in self.arms] for one in said])
        return np.asarray((hoped * self.shop.world.value).argmax(axis=1))

    def learn(self, visits: Visits, offers: Ints, taken: NDArray[np.bool_]) -> None:
        self._fit(self.bandit.partial_fit, visits.customers, offers, taken)


class Blind:
    """A uniform draw."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def choose(self, visits: Visits) -> Ints:
        return np.asarray((visits.luck[0] * self.shop.n_offers).astype(np.int64))

    def learn(self, visits: Visits, offers: Ints, taken: NDArray[np.bool_]) -> None:
        return


# The loop


@dataclass(frozen=True)
class Run:
    """One chooser's life; shapes (n_batches,), expected values per decision, in currency."""

    got: Floats
    best: Floats
    shown_broken: Floats  # share of decisions
    shown_new: Floats
    seconds: float

    @property
    def regret(self) -> Floats:
        return self.best - self.got


def live(shop: Shop, chooser: Chooser, n_batches: int, broken: Ints) -> Run:
    """Batch after batch. What the best offer would have brought is asked of this chooser's own customers."""
    started = time.perf_counter()
    crowd = new_crowd(shop.world)
    columns: list[list[float]] = [[], [], [], []]
    for batch in range(n_batches):
        visits = visits_of(shop, batch)
        truth = truth_of(shop, crowd, visits, broken if batch >= n_batches // 3 else broken[:0])
        worth = truth * shop.world.value
        offers = chooser.choose(visits)
        chosen = np.arange(BATCH), offers
        taken = visits.luck[1] < truth[chosen]
        feel(shop, crowd, visits, offers, taken)
        chooser.learn(visits, offers, taken)
        row = worth[chosen].mean(), worth.max(axis=1).mean(), np.isin(offers, broken).mean()
        for column, value in zip(columns, (*row, np.isin(offers, shop.new).mean()), strict=True):
            column.append(float(value))
    return Run(*(np.array(column) for column in columns), time.perf_counter() - started)


def shown_best(shop: Shop) -> Ints:
    """The offers that the oracle shows most, of those that the model knows: the ones whose breaking hurts."""
    crowd, shown = new_crowd(shop.world), np.zeros(shop.n_offers)
    for batch in range(8):
        worth = truth_of(shop, crowd, visits_of(shop, batch), shop.new[:0]) * shop.world.value
        shown += np.bincount(worth.argmax(axis=1), minlength=shop.n_offers)
    shown[shop.new] = 0
    return np.argsort(-shown)[:N_BROKEN]


@dataclass(frozen=True)
class Report:
    n_decisions: int
    runs: Mapping[str, Run]
    ours: Ours
    broken: Ints
    shop: Shop

    def lost(self) -> dict[str, float]:
        """Regret per decision, as a share of what the best would have brought."""
        return {name: float(run.regret.sum() / run.best.sum()) for name, run in self.runs.items()}

    def worse_by(self, theirs: str) -> tuple[float, float]:
        """How much more of the best our Thompson loses than theirs, and its standard error over blocks of batches."""
        mine, other = self.runs["ours, Thompson"], self.runs[theirs]
        difference = mine.regret / mine.best.mean() - other.regret / other.best.mean()
        blocks = np.array([block.mean() for block in np.array_split(difference, min(20, len(difference)))])
        return float(blocks.mean()), float(blocks.std(ddof=1) / np.sqrt(len(blocks)))

    @property
    def ok(self) -> bool:
        return all(mean < 2 * error for mean, error in map(self.worse_by, THEIRS))


THEIRS = ("MABWiser LinUCB", "MABWiser Thompson")


def run(
    n_decisions: int,
    seed: int = 1,
    n_customers: int = 20_000,
    n_history: int = HISTORY,
    only: tuple[str, ...] = (),
) -> Report:
    """Every chooser's life, or those of the ones named."""
    from mabwiser.mab import LearningPolicy

    shop, history = make_shop(seed, n_customers, n_history)
    p_model = fit_model(shop, history)
    broken = shown_best(shop)
    ours = Ours(shop, p_model, history, "thompson")
    choosers: dict[str, Chooser] = {
        "ours, Thompson": ours,
        "ours, epsilon-greedy": Ours(shop, p_model, history, "epsilon_greedy"),
        "our model, not learning": Ours(shop, p_model, history, "greedy", learns=False),
        THEIRS[0]: Theirs(shop, history, LearningPolicy.LinUCB(alpha=0.5), contextual=True),
        THEIRS[1]: Theirs(shop, history, LearningPolicy.ThompsonSampling(), contextual=False),
        "random": Blind(shop),
    }
    n_batches = n_decisions // BATCH
    runs = {name: live(shop, one, n_batches, broken) for name, one in choosers.items() if not only or name in only}
    return Report(n_batches * BATCH, runs, ours, broken, shop)


def draw_picture(report: Report, path: Path) -> None:
    """Cumulated regret, and what we believed of the offers that broke and of those that were new."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6))
    decisions = np.arange(1, len(report.ours.factors) + 1) * BATCH
    for name, one in report.runs.items():
        left.plot(decisions, np.cumsum(one.regret) * BATCH, label=name, lw=2 if name.startswith("ours") else 1.2)
    left.set(xlabel="decisions", ylabel="cumulated regret, EUR", title="Value lost against the oracle")
    left.legend(fontsize=8)
    factors = np.array(report.ours.factors)
    for n, row in enumerate(report.broken):
        right.plot(decisions, factors[:, row], color="tab:red", label="breaks" if n == 0 else None)
    for n, row in enumerate(report.shop.new):
        right.plot(decisions, factors[:, row], color="tab:blue", label="new" if n == 0 else None)
    for axis in (left, right):
        axis.axvline(decisions[len(decisions) // 3], color="grey", ls=":", lw=1)
    right.set(xlabel="decisions", ylabel="factor on the model's estimate", title="What was believed (Thompson)")
    right.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def summary(report: Report) -> dict[str, Any]:
    third = len(report.ours.factors) // 3
    per_hour = report.shop.world.visits_per_day.sum() / 24
    return {
        "decisions": report.n_decisions,
        "decisions_per_hour": round(per_hour),
        "lost_share_of_best": {name: round(share, 4) for name, share in report.lost().items()},
        "regret_eur": {name: round(float(one.regret.sum()) * BATCH) for name, one in report.runs.items()},
        "ours_minus_theirs": {
            name: {"mean": round(mean, 4), "standard_error": round(error, 4)}
            for name, (mean, error) in ((name, report.worse_by(name)) for name in THEIRS)
        },
        "shown_broken_last_third": {
            name: round(float(one.shown_broken[2 * third :].mean()), 4) for name, one in report.runs.items()
        },
        "hours_until_broken_offers_are_shown_half_as_often": {
            name: _half_life(one.shown_broken, third, BATCH / per_hour) for name, one in report.runs.items()
        },
        "seconds": {name: round(one.seconds, 1) for name, one in report.runs.items()},
        "ok": report.ok,
    }


def _half_life(shown: Floats, breaks: int, hours_per_batch: float) -> float | None:
    """Hours from the break until the broken offers have half the share of decisions that they had; None: never."""
    before = shown[max(0, breaks - 20) : breaks].mean()
    after = np.convolve(shown[breaks:], np.ones(4) / 4, "valid")
    below = np.flatnonzero(after < before / 2)
    return round(float((below[0] + 4) * hours_per_batch), 1) if len(below) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--picture", type=Path, default=Path("bench/regret.png"))
    given = parser.parse_args()
    report = run(given.decisions, given.seed)
    draw_picture(report, given.picture)
    print(json.dumps({**summary(report), "picture": str(given.picture)}, indent=2))
    sys.exit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
