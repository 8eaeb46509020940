"""What a recommender is to the rest: how it is fitted, from which parameters, and what a search may vary."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from features.errors import BadInput, NotTrainable
from training.interactions import Interactions
from training.scorers import FittedRecommender

Params = Mapping[str, Any]
Fit = Callable[[Interactions, int, Params, int], FittedRecommender]
Grow = Callable[[Interactions, int, Params, int], Iterator[FittedRecommender]]
Settings = TypeVar("Settings")


class Suggest(Protocol):
    """The part of Optuna's `Trial` that a search space asks."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class RecommenderModel:
    """An entry of `RECOMMENDERS`."""

    name: str
    fit: Fit  # (past, until_us, params, seed): pure, and from nothing each time; params it is not given have defaults
    space: Callable[[Suggest], dict[str, Any]]  # params that a search tries; what it leaves out stays at its default
    defaults: Params
    needs: Literal["repeats"] | None = None  # what makes no sense without that parameter
    grow: Grow | None = None  # the fit after each epoch, to `max_epochs`; `fit` with `max_epochs` = n gives the n-th


def settings_of(kind: type[Settings], params: Params, model: str) -> Settings:
    """The settings of a model from its parameters; `BadInput` names one that does not exist."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in params:
        if name not in known:
            raise BadInput(f"{model} has no parameter {name!r}; expected some of {', '.join(sorted(known))}", name)
    return kind(**params)


def defaults_of(settings: Any) -> dict[str, Any]:
    """The parameters of a settings object, as JSON takes them."""
    return asdict(settings)


def positive(settings: Any, *names: str) -> None:
    """`BadInput` that names the first of these fields that is not a number above 0."""
    for name in names:
        value = getattr(settings, name)
        if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
            raise BadInput(f"{name} == {value!r}, must be a number above 0", name)


def positive_or_none(settings: Any, *names: str) -> None:
    positive(settings, *(name for name in names if getattr(settings, name) is not None))


def not_negative(settings: Any, *names: str) -> None:
    """`BadInput` that names the first of these fields that is not a number from 0 up."""
    for name in names:
        value = getattr(settings, name)
        if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            raise BadInput(f"{name} == {value!r}, must be a number, 0 or above", name)


def one_of(settings: Any, name: str, allowed: Sequence[Any]) -> None:
    value = getattr(settings, name)
    if value not in allowed:
        raise BadInput(f"{name} == {value!r}, must be one of {', '.join(map(repr, allowed))}", name)


def check_interactions(past: Interactions, until_us: int, model: str) -> None:
    """`NotTrainable` where nothing was taken; `BadInput` for what no log of ours can hold."""
    for axis, ids in (("customers", past.customers), ("offers", past.offer_map)):
        if len(set(ids)) < len(ids):
            twice = next(one for at, one in enumerate(ids) if one in ids[:at])
            raise BadInput(f"{twice!r} is there twice; expected each id once", axis)
    if len(past.profiles) != len(past.customers):
        raise BadInput(f"{len(past.profiles)} profiles of {len(past.customers)} customers", "profiles")
    if not len(past):
        raise NotTrainable(model, f"nobody took any of the {len(past.offers)} offers before the cut-off")
    if not (np.isfinite(past.weight).all() and (past.weight > 0).all()):
        raise BadInput("not every weight is a finite number above 0", "weight")
    if past.customer.min() < 0 or past.customer.max() >= len(past.customers):
        raise BadInput(f"rows outside of the {len(past.customers)} customers", "customer")
    if past.offer.min() < 0 or past.offer.max() >= len(past.offers):
        raise BadInput(f"rows outside of the {len(past.offers)} offers", "offer")
    last = int(past.occurred_us.max())
    if last >= until_us:
        raise BadInput(f"an interaction at {last} is not before the cut-off {until_us}", "until_us")
