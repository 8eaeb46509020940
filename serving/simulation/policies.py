"""Policies compared: each lives through the same visits with the same luck, in process or behind `nbo serve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from msgspec.structs import replace

from experiments.simulate.compared import Comparison, Lived, compared
from features.home import Home
from serving.settings import Settings
from serving.simulation.arms import Arm, pointer_of
from serving.simulation.engine import Engine
from serving.simulation.in_process import in_process
from serving.simulation.loop import Truth, live
from serving.simulation.over_http import over_http
from serving.simulation.shop import Shop, copy_of, running_in
from serving.simulation.visits import days_of

Progress = Callable[[str, int, int], None]  # arm, visits lived, of how many


def quiet(arm: str, done: int, total: int) -> None:
    return


def simulate(
    shop: Shop,
    arms: Sequence[Arm],
    settings: Settings,
    *,
    n_visits: int,
    seed: int,
    http: bool = False,
    progress: Progress = quiet,
) -> Comparison:
    """Every arm against the first, without the experiments and the holdout of the home. `BadInput` names an arm whose
    release is not there, before anything runs.
    """
    for arm in arms:
        pointer_of(shop.home, arm)
    lives = [live_one(shop, arm, settings, n_visits, seed, http=http, progress=progress) for arm in arms]
    return replace(compared(lives), switched_off=switched_off(shop, settings))


def switched_off(shop: Shop, settings: Settings) -> tuple[str, ...]:
    """What in the home would decide for some customers in the place of the policies that are compared."""
    experiments = tuple(f"experiment {one.experiment_id}" for one in running_in(shop.home))
    return (*experiments, f"holdout of {settings.holdout:.1%}") if settings.holdout else experiments


def live_one(
    shop: Shop,
    arm: Arm,
    settings: Settings,
    n_visits: int,
    seed: int,
    *,
    http: bool = False,
    truth: Truth | None = None,
    progress: Progress = quiet,
) -> Lived:
    """One arm's life, on a copy of the shop's home."""
    done = 0

    def note(n: int) -> None:
        nonlocal done
        done += n
        progress(arm.name, done, n_visits)

    days = days_of(shop.world, seed=seed, start_us=shop.start_us, n_visits=n_visits)
    run = f"sim-{seed}-{shop.start_us}"
    with copy_of(shop, arm) as home, engine_of(home, shop, arm, settings, http=http) as engine:
        return live(shop.world, shop.people(), days, engine, arm=arm.name, truth=truth, run=run, note=note)


def engine_of(home: Home, shop: Shop, arm: Arm, settings: Settings, *, http: bool) -> AbstractContextManager[Engine]:
    if http:
        return over_http(home, shop.world, arm)
    return in_process(home, shop.world, arm, settings, shop.start_us)
