"""The gates asked about a registered release: what it is, beside the champion, over the live catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from features.catalogue import Offer
from features.errors import NotFound
from features.facts import Facts
from features.home import Home
from training.gates.case import Case, Standing, Valued, standing_of
from training.gates.passage import Bounds, Passage
from training.gates.registry import asked

ValueOf = Callable[[str, str], Valued]  # challenger, champion -> what the log says


def judge_by(
    bounds: Mapping[str, Bounds], value_of: ValueOf | None = None
) -> Callable[[Any, Home, str, str | None], tuple[Passage, ...]]:
    """A judge for `promote`: (MLflow's client, home, challenger, champion) -> what each gate says.

    Both are exported. A champion whose runs are gone from MLflow is compared by its files alone.
    """

    def judge(client: Any, home: Home, challenger: str, champion: str | None) -> tuple[Passage, ...]:
        case = Case(
            standing_of(client, home.releases / challenger, challenger),
            None if champion is None else _champion(client, home, champion),
            offers_of(home),
            None if champion is None or value_of is None else lambda: value_of(challenger, champion),
        )
        return asked(case, bounds)

    return judge


def _champion(client: Any, home: Home, number: str) -> Standing:
    from mlflow.exceptions import MlflowException

    try:
        return standing_of(client, home.releases / number, number)
    except (NotFound, MlflowException):
        return Standing(number, home.releases / number, {})


def offers_of(home: Home) -> tuple[Offer, ...]:
    """The live catalogue without what is archived; empty where there is none."""
    if not home.facts_db.exists():
        return ()
    facts = Facts(home.facts_db)
    try:
        return tuple(offer for offer in facts.catalogue().offers if offer.status != "archived")
    finally:
        facts.close()
