"""`nbo experiment plan`: how many units and days an experiment would take, before anybody meets it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec

from experiments.planning import CHANGES, PAST_DAYS, plans
from experiments.statistics.power import Plan
from experiments.tables import open_tables
from features.errors import BadInput
from features.experiment import Experiment
from features.facts import Facts
from features.home import Home
from features.log_export import export
from features.online import served_features
from features.sqlite_log import SqliteLog
from serving.api.known import Known
from serving.commands.apply import read
from serving.settings import Settings, load_settings


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What one experiment would take; `plans` by metric, the primary first, and by change."""

    experiment_id: str
    at: datetime
    past_days: int
    planned_units: int | None
    plans: tuple[Plan, ...]


def run(named: str, *, changes: Sequence[float] = (), power: float = 0.8, as_json: bool = False) -> None:
    """Prints the plans of an experiment of the catalogue, or of all in a file, from visitors of the last four weeks.

    `NotFound` for an unknown id; `BadInput` for a file that `nbo apply` would not take, a change or a power.
    """
    settings = load_settings()
    at = settings.now()
    with closing(Facts(settings.home.facts_db)) as facts:
        wanted = _experiments(named, facts, settings)
        found = _planned(settings.home, facts, wanted, at, changes or CHANGES, power)
    if as_json:
        print(msgspec.json.encode({"experiments": found}).decode())
        return
    for one, experiment in zip(found, wanted, strict=True):
        _print(one, experiment, power)


def _experiments(named: str, facts: Facts, settings: Settings) -> list[Experiment]:
    """Of a file if there is one of this name, else of the catalogue."""
    path = Path(named)
    if not path.is_file():
        if path.suffix in (".yaml", ".yml"):
            raise BadInput(
                f"there is no file {named}, expected a file of `nbo apply` or the id of an experiment", "file"
            )
        return [facts.get(Experiment, named).body]
    currency = facts.data_settings().currency
    known = Known(currency, facts, lambda: served_features(facts), home=settings.home, now=settings.now)
    found = [one.body for one in read([path], known) if isinstance(one.body, Experiment)]
    if not found:
        raise BadInput(f"{named} holds no experiment, expected one under `experiments:`", "file")
    return found


def _planned(
    home: Home, facts: Facts, wanted: Sequence[Experiment], at: datetime, changes: Sequence[float], power: float
) -> list[Planned]:
    """Of all that the log has received until now, which goes to the lake first."""
    if home.log_db.exists():
        with closing(SqliteLog(home.log_db)) as log:
            export(home, facts, log, at)
    with open_tables(home, facts) as tables:
        return [
            Planned(
                experiment_id=one.experiment_id,
                at=at,
                past_days=PAST_DAYS,
                planned_units=one.planned_units,
                plans=tuple(plans(one, tables, at, metrics=one.metrics, changes=changes, power=power)),
            )
            for one in wanted
        ]


def _print(planned: Planned, experiment: Experiment, power: float) -> None:
    print(f"{planned.experiment_id}: to find a change with a power of {power:.0%}, by visitors of {PAST_DAYS} days")
    for name in experiment.metrics:
        print(f"{name}{' (decides: planned_units is of this one)' if name == experiment.primary_metric else ''}")
        for one in (one for one in planned.plans if one.metric == name):
            print(f"  {100 * one.relative:+7.4g}%  {_units(one)}")
    for flag in dict.fromkeys(flag for one in planned.plans if one.n_units is not None for flag in one.flags):
        print(flag, file=sys.stderr)


def _units(one: Plan) -> str:
    if one.n_units is None:
        return f"not known: {'; '.join(one.flags)}"
    days = "days not known: nobody new comes" if one.days is None else f"{one.days:,} days"
    return f"{one.n_units:>13,} units  {days}"
