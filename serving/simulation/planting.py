"""Experiments in the demo's world whose effects are known exactly, run through the whole service.

For that the world is made simpler: nobody tires, and everybody is shown offers drawn uniformly, so that what is shown
never depends on what happened. An effect is either a factor on the chance of accepting, for units of the variant, or
a policy that shows the most valuable offers, whose worth follows from the true chances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from math import sqrt

import msgspec
import numpy as np

from experiments.simulate.planted import Chain, Planted, recover
from experiments.tables import open_tables
from features.events import from_us
from features.experiment import Experiment, Variant
from features.facts import Facts
from features.home import Home
from features.log_export import export
from features.sqlite_log import SqliteLog
from serving.demo.response import EASIER, PLACEMENT, Bools, expit, logit_anywhere, on_offer
from serving.demo.world import PAGES, Floats, Ints
from serving.experiment_lifecycle import WRITABLE, started
from serving.settings import Settings
from serving.simulation.arms import NO_RELEASE, Arm
from serving.simulation.engine import Met
from serving.simulation.loop import Lift, Truth, live
from serving.simulation.over_http import OverHttp
from serving.simulation.policies import Progress, engine_of, quiet
from serving.simulation.shop import Shop, copy_of
from serving.simulation.visits import Visits, days_of

UNIFORM = Arm(
    "uniform", "softmax", NO_RELEASE,
    {"temperature": 1e6, "epsilon": 0.0, "new_offer_share": 0.0, "prior_strength": 1e12},
)  # fmt: skip
METRICS = ("acceptance_rate", "offer_value_per_visitor", "click_through_rate")
CONTROL, CHANGED = "control", "changed"
VALUABLE = "valuable-first"  # the experiment that changes the policy
CLOSED = timedelta(days=30)  # after which every attribution window has ended


def planted_experiments(n_null: int, lifts: Sequence[float], *, policy: bool) -> dict[str, tuple[Experiment, float]]:
    """By id, with the relative effect on acceptance; each in a layer of its own. The policy's is not known yet: NaN."""
    found = {f"aa-{n:02}": 0.0 for n in range(1, n_null + 1)}
    found |= {f"ab-{n:02}": lift for n, lift in enumerate(lifts, 1)}
    made = {name: (_experiment(name), lift) for name, lift in found.items()}
    if policy:
        made[VALUABLE] = (_experiment(VALUABLE, "greedy"), float("nan"))
    return made


def _experiment(name: str, policy: str | None = None) -> Experiment:
    return Experiment(
        experiment_id=name,
        hypothesis="what was planted is found",
        layer=name,
        variants=(
            Variant(name=CONTROL, weight=0.5, is_control=True),
            Variant(name=CHANGED, weight=0.5, policy=policy),
        ),
        primary_metric=METRICS[0],
        secondary_metrics=METRICS[1:],
    )


def run_planted(
    shop: Shop,
    settings: Settings,
    wanted: Mapping[str, tuple[Experiment, float]],
    *,
    n_visits: int,
    seed: int,
    http: bool = False,
    progress: Progress = quiet,
) -> Chain:
    """From started experiments over decisions, events, the log and the lake to what their analysis says."""
    lifts = {name: lift for name, (_, lift) in wanted.items() if lift == lift}
    done = 0

    def note(n: int) -> None:
        nonlocal done
        done += n
        progress("experiments", done, n_visits)

    def days() -> Iterator[Visits]:
        for day in days_of(shop.world, seed=seed, start_us=shop.start_us, n_visits=n_visits):
            yield from day.visits

    with copy_of(shop, UNIFORM) as home:
        if not http:
            _start_here(home, [one for one, _ in wanted.values()], from_us(shop.start_us))
        with engine_of(home, shop, UNIFORM, settings, http=http) as engine:
            if isinstance(engine, OverHttp):
                _start_over_http(engine, [one for one, _ in wanted.values()])
            lived = live(
                shop.world,
                shop.people(),
                days_of(shop.world, seed=seed, start_us=shop.start_us, n_visits=n_visits),
                engine,
                arm=UNIFORM.name,
                truth=Truth(tires=False, lift=_lift_of(lifts)),
                run=f"planted-{seed}",
                note=note,
            )
        visitors = [name for name, came in zip(shop.world.customer_ids, lived.who, strict=True) if came]
        at = datetime.now(UTC) if http else max(from_us(int(one.us[-1])) for one in days())
        truths = {name: dict.fromkeys(METRICS[:2], lift) | {METRICS[2]: 0.0} for name, lift in lifts.items()}
        if VALUABLE in wanted:
            truths[VALUABLE] = valuable_truth(shop, list(days()), shop.start_us if http else None)
        return _analysed(home, truths, at + CLOSED, visitors)


def _lift_of(lifts: Mapping[str, float]) -> Lift:
    """Variants multiply the chance of accepting by the root, control by its inverse, so that the mean stays."""
    roots = {name: sqrt(1 + lift) for name, lift in lifts.items() if lift}

    def lift(met: Met) -> float:
        factor = 1.0
        for name, variant in met:
            root = roots.get(name, 1.0)
            factor *= root if variant == CHANGED else 1 / root
        return factor

    return lift


def valuable_truth(shop: Shop, visits: Sequence[Visits], shown_us: int | None) -> dict[str, float]:
    """By how much the most valuable offers, the best first, change each metric against a uniform draw, exactly.

    `shown_us`: when the service's clock stands still, the instant as of which it shows offers.
    """
    world, totals = shop.world, np.zeros((3, 2))
    for some in visits:
        anywhere = logit_anywhere(world, shop.people(), some.customers, some.us, some.channel)
        logits = anywhere[:, :, None] + PLACEMENT
        allowed = on_offer(world, some.us if shown_us is None else np.full(len(some.us), shown_us))
        accept, click = expit(logits), expit(logits + EASIER)
        for n, worth in enumerate((accept, accept * world.value[None, :, None], click)):
            totals[n] += _uniform_and_best(worth, allowed, some, world.value)
    return {name: float(best / uniform - 1) for name, (uniform, best) in zip(METRICS, totals, strict=True)}


def _uniform_and_best(worth: Floats, allowed: Bools, visits: Visits, value: Floats) -> Floats:
    """Sums over all places that are looked at, (2,): of the mean allowed offer, and of the k-th most valuable one."""
    places, rows = PAGES[visits.channel], np.arange(len(visits.number))[:, None]
    mean = (worth * allowed[:, :, None]).sum(axis=1) / allowed.sum(axis=1)[:, None]
    order: Ints = np.argsort(-np.where(allowed, value, -np.inf), axis=1)[:, : places.shape[1]]
    looks = visits.looks & (places >= 0)
    return np.array([(mean[rows, places] * looks).sum(), (worth[rows, order, places] * looks).sum()])


def _start_here(home: Home, wanted: Sequence[Experiment], now: datetime) -> None:
    with closing(Facts(home.facts_db)) as facts:
        running: list[Experiment] = []
        for one in wanted:
            running.append(started(one, running, now))
            facts.put(running[-1], now)


def _start_over_http(engine: OverHttp, wanted: Sequence[Experiment]) -> None:
    for one in wanted:
        body = {name: value for name, value in msgspec.to_builtins(one).items() if name in WRITABLE}
        engine.put(f"/v1/experiments/{one.experiment_id}", body)
        engine.post(f"/v1/experiments/{one.experiment_id}/start", {})


def _analysed(home: Home, truths: Mapping[str, Mapping[str, float]], at: datetime, visitors: Sequence[str]) -> Chain:
    with closing(Facts(home.facts_db)) as facts, closing(SqliteLog(home.log_db)) as log:
        export(home, facts, log, at)
        ran = {one.experiment_id: one for one in facts.catalogue().experiments}
        planted = [Planted(experiment=ran[name], truth=truth) for name, truth in truths.items()]
        with open_tables(home, facts) as tables:
            return recover(planted, tables, at, visitors)
