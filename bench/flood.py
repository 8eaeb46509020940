"""A flood of clicks: how far 1 % of the accounts can move one offer's share by sending half of its clicks.

A shop of honest customers decides, sees and clicks for two weeks; then flooding accounts send as many clicks on one
offer as all honest customers together, each on a real impression of a real decision, taking turns, and report nothing
else. Log, fold, beliefs and policy are the service's own. The offer's share is the mean chance that the policy gives it
among honest customers; the budget is 2 points of difference, at any step, between the shop with the flood and, from the
same seeds, without it. `python -m bench.flood [--customers N] [--policy NAME] [--seed N]` prints JSON, exit 1
beyond the budget.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer, Treatment
from features.data_settings import Attribution
from features.events import Event, to_us
from features.facts import Catalogue
from features.log import Batch, DecisionRow
from features.sqlite_log import SqliteLog
from serving.catalogue_view import CatalogueView
from serving.learning.beliefs import Beliefs
from serving.learning.evidence import Caution
from serving.learning.learner import Learner
from serving.policies import policy_for
from serving.policies.floors import draw
from serving.policies.outlook import Outlook, Tuning

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
STEPS_PER_DAY = 6
BUDGET_POINTS = 2.0
TARGET = 3
CREDULOUS = Caution(
    per_offer_and_day=10**6, per_day=10**6, alike=0.0
)  # for comparison: everybody counts, however often; a rise is slow all the same

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    n_customers: int = 20_000
    n_offers: int = 12
    n_days: int = 14  # before the flood
    n_flood_days: int = 4
    flooding: float = 0.01  # share of the accounts
    visits_per_day: float = 0.7
    policy: str = "epsilon_greedy"
    n_panel: int = 600  # honest customers among whom the share is measured


@dataclass(frozen=True, slots=True)
class Report:
    size: Size
    n_decisions: int
    n_clicks: int  # on the offer, honest, during the flood
    n_flood_clicks: int
    share_before: float  # of the offer, when the flood begins
    moved_points: float  # largest difference at any step, with the flood minus without
    moved_points_at_the_end: float  # mean of the last day
    moved_points_if_everybody_were_believed: float
    seconds: float

    @property
    def ok(self) -> bool:
        return abs(self.moved_points) < BUDGET_POINTS


@dataclass(frozen=True, slots=True)
class Shop:
    """The truth: chances to click, which the model knows but for noise; and what a click on each offer is worth."""

    p_true: Floats  # (n_customers, n_offers)
    p_model: Floats
    value: Floats  # (n_offers,)


def make_shop(size: Size, seed: int) -> Shop:
    rng = np.random.default_rng([seed, 1])
    shape = size.n_customers, size.n_offers
    logit = -1.9 + rng.normal(0, 0.35, size.n_offers) + rng.normal(0, 0.9, shape)
    noise = rng.normal(0, 0.25, shape)
    return Shop(expit(logit), expit(logit + noise), rng.uniform(0.9, 1.1, size.n_offers))


def expit(logit: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit)))


def run(size: Size, seed: int = 7) -> Report:
    """The days before are lived once; then the shop with the flood, without it, and with it, customers uncapped."""
    started = time.perf_counter()
    shop = make_shop(size, seed)
    with tempfile.TemporaryDirectory(prefix="nbo-flood-") as folder:
        before = Path(folder) / "before"
        before.mkdir()
        first, last = size.n_days * STEPS_PER_DAY, (size.n_days + size.n_flood_days) * STEPS_PER_DAY
        past = live(before, shop, size, seed, range(first), flood=False, caution=Caution())
        lives = []
        for name, flood, caution in (
            ("calm", False, Caution()), ("flood", True, Caution()), ("credulous", True, CREDULOUS),
        ):  # fmt: skip
            shutil.copytree(before, Path(folder) / name)
            lives.append(live(Path(folder) / name, shop, size, seed, range(first, last), flood=flood, caution=caution))
    calm, flooded, credulous = lives
    moved, believed = 100 * (flooded.shares - calm.shares), 100 * (credulous.shares - calm.shares)
    return Report(
        size=size,
        n_decisions=past.n_decisions + flooded.n_decisions,
        n_clicks=flooded.n_clicks,
        n_flood_clicks=flooded.n_flood_clicks,
        share_before=round(float(past.shares[-1]), 4),
        moved_points=round(float(moved[np.abs(moved).argmax()]), 2),
        moved_points_at_the_end=round(float(moved[-STEPS_PER_DAY:].mean()), 2),
        moved_points_if_everybody_were_believed=round(float(believed[np.abs(believed).argmax()]), 2),
        seconds=round(time.perf_counter() - started, 1),
    )


@dataclass(slots=True)
class Life:
    shares: Floats  # (n_steps,) of the offer, as the policy chose among a fixed panel of honest customers
    n_decisions: int = 0
    n_clicks: int = 0
    n_flood_clicks: int = 0


def live(
    folder: Path, shop: Shop, size: Size, seed: int, steps: range, *, flood: bool, caution: Caution
) -> Life:  # fmt: skip
    """Some steps of the shop: decide with the present beliefs, log, learn."""
    view = view_of(size.n_offers)
    n_flooding = int(size.n_customers * size.flooding)
    life = Life(np.zeros(len(steps)))
    policy = Policy(shop, size.policy)
    panel = np.random.default_rng([seed, 3]).integers(n_flooding, size.n_customers, size.n_panel)
    log = SqliteLog(folder / "log.db")
    rules = Attribution(outcomes=("click",))
    learner = Learner(log, folder / "learning.db", prior_strength=20.0, attribution=rules, caution=caution)
    for step in steps:
        at = BEGAN + timedelta(days=step / STEPS_PER_DAY)
        learner.refresh()
        if learner.error is not None:
            raise RuntimeError(learner.error)
        beliefs = learner.beliefs(view, "1", "web")
        if step in steps[-size.n_flood_days * STEPS_PER_DAY :] or step == steps[-1]:
            shares = [policy.chances(int(c), beliefs, n)[TARGET] for n, c in enumerate(panel)]
            life.shares[step - steps[0]] = np.mean(shares)
        rng = np.random.default_rng([seed, 2, step])  # the same visitors and the same luck in every life
        came = rng.random(size.n_customers - n_flooding) < size.visits_per_day / STEPS_PER_DAY
        us, clicks = rng.random((2, len(came)))
        report = Writer(at, f"{step}")
        clicked = 0
        for n in np.flatnonzero(came).tolist():
            customer = n_flooding + n
            offer = draw(policy.chances(customer, beliefs, step * 1_000_003 + n), us[n])
            taken = bool(clicks[n] < shop.p_true[customer, offer])
            report.visit(customer, offer, float(shop.p_model[customer, offer]), taken)
            clicked += taken and offer == TARGET
        life.n_clicks += clicked
        for n in range(clicked if flood else 0):
            account = (life.n_flood_clicks + n) % n_flooding
            report.visit(account, TARGET, float(shop.p_model[account, TARGET]), True)
        life.n_flood_clicks += clicked if flood else 0
        life.n_decisions += len(report.decisions)
        log.write([Batch(report.events, at, report.decisions)])
    learner.close()
    log.close()
    return life


class Policy:
    """The service's policy over all offers."""

    def __init__(self, shop: Shop, name: str) -> None:
        self.shop, self.name, self.tuning = shop, name, Tuning()
        self.everything = np.ones(len(shop.value), dtype=bool)
        self.none_new = np.zeros(len(shop.value), dtype=bool)

    def chances(self, customer: int, beliefs: Beliefs, seed: int) -> Floats:
        p = np.clip(self.shop.p_model[customer] * beliefs.factor, 1e-6, 1 - 1e-6)
        scores = p * self.shop.value
        outlook = Outlook(scores, scores, beliefs, self.none_new, p_accept=p)
        return policy_for(self.name, outlook, self.everything, self.tuning, Random(seed))(self.everything)


class Writer:
    """What one step brings to the log."""

    def __init__(self, at: datetime, name: str) -> None:
        self.at, self.name = at, name
        self.decisions: list[DecisionRow] = []
        self.events: list[Event] = []

    def visit(self, customer: int, offer: int, p_model: float, clicked: bool) -> None:
        decision_id = f"d-{self.name}-{len(self.decisions)}"
        shown = [{"offer_id": offer_id(offer), "p_model": p_model}]
        row = {"placements": [{"offers": shown, "segment": "web"}], "model_versions": {"release": "1"}}
        self.decisions.append(DecisionRow(decision_id, f"c-{customer}", to_us(self.at), msgspec.json.encode(row)))
        for kind in ("impression", "click")[: 1 + clicked]:
            self.events.append(
                Event(
                    event_id=f"{kind}-{decision_id}", event_type=kind, customer_id=f"c-{customer}",
                    occurred_at=self.at, decision_id=decision_id, offer_id=offer_id(offer),
                )
            )  # fmt: skip


def offer_id(row: int) -> str:
    return f"o-{row:03d}"


def view_of(n_offers: int) -> CatalogueView:
    """Offers that anybody may have, in the order of their rows."""
    offers = tuple(
        Offer(
            offer_id=offer_id(row), name=offer_id(row), value=1.0, currency="EUR", status="approved",
            treatments=(Treatment(treatment_id=f"{offer_id(row)}/a", payload={}),),
        )
        for row in range(n_offers)
    )  # fmt: skip
    return CatalogueView(Catalogue(1, offers, ()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=Size().n_customers)
    parser.add_argument("--policy", default=Size().policy)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    report = run(Size(n_customers=given.customers, policy=given.policy), given.seed)
    print(json.dumps({**asdict(report), "budget_points": BUDGET_POINTS, "ok": report.ok}, indent=2))
    sys.exit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
