"""`nbo experiment`: list experiments, and start, stop and decide them; what they are is written with `nbo apply`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import orjson

from experiments.assignment import N_BUCKETS, n_held
from features.experiment import Experiment
from features.facts import Facts
from features.online import served_features
from serving import experiment_lifecycle as lifecycle
from serving.api import catalogue
from serving.api.experiments import starting
from serving.api.known import Known
from serving.problems import Invalid
from serving.settings import Settings, load_settings

AUTHOR = "nbo experiment"  # of what it changes


def list_experiments(*, as_json: bool = False) -> None:
    """Every experiment with its state, what it splits, and its variants."""
    with _opened() as (facts, _):
        found = facts.catalogue().experiments
        stored = [facts.get(Experiment, one.experiment_id) for one in found] if as_json else []
    if as_json:
        print(_json({"experiments": [catalogue.shown(one) for one in stored]}))
        return
    for one in found:
        print(_line(one))
    if not found:
        print("there are no experiments; write one in a file for `nbo apply`", file=sys.stderr)


def start(experiment_id: str, *, as_json: bool = False) -> None:
    """From draft to running."""
    with _opened() as (facts, settings):
        known = Known(
            facts.data_settings().currency,
            facts,
            lambda: served_features(facts),
            home=settings.home,
            now=settings.now,
        )
        _move(facts, settings, experiment_id, starting(known), as_json=as_json)


def stop(experiment_id: str, reason: str, *, as_json: bool = False) -> None:
    """From running to stopped."""
    with _opened() as (facts, settings):
        stopping = partial(lifecycle.stopped, reason=reason, now=settings.now())
        _move(facts, settings, experiment_id, stopping, as_json=as_json)


def decide(experiment_id: str, variant: str, reason: str, *, as_json: bool = False) -> None:
    """From stopped to decided."""
    with _opened() as (facts, settings):
        deciding = partial(lifecycle.decided, variant=variant, reason=reason, now=settings.now(), by=AUTHOR)
        _move(facts, settings, experiment_id, deciding, as_json=as_json)


def _move(
    facts: Facts, settings: Settings, name: str, move: Callable[[Experiment], Experiment], *, as_json: bool
) -> None:
    with facts.transaction():
        try:
            made = move(facts.get(Experiment, name).body)
        except Invalid as error:  # a message of the command line has no list of fields
            raise Invalid([error.faults[0]._replace(detail=_told(error))]) from None
        stored = facts.put(made, settings.now(), by=AUTHOR)
    if as_json:
        print(_json(catalogue.shown(stored)))
    else:
        print(_line(stored.body))


def _told(error: Invalid) -> str:
    return "; ".join(f"{fault.pointer}: {fault.detail}" for fault in error.faults)


def _line(one: Experiment) -> str:
    held = f"{n_held(one.buckets) / N_BUCKETS:.4g} of" if one.status == "running" else "of"
    split = ", ".join(f"{v.name}{'*' if v.is_control else ''} {v.weight:.4g}" for v in one.variants)
    decided = f"  for {one.decided.variant}: {one.decided.reason}" if one.decided is not None else ""
    phase = f"  phase {one.phases[-1].number}" if one.phases else ""
    return f"{one.experiment_id}  {one.status:8}  {held} layer {one.layer} by {one.unit}{phase}  {split}{decided}"


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()


@contextmanager
def _opened() -> Iterator[tuple[Facts, Settings]]:
    settings = load_settings()
    facts = Facts(settings.home.facts_db)
    try:
        yield facts, settings
    finally:
        facts.close()
