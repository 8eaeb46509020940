"""The gates asked about a registered release: what it is, beside the champion, over the live catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from features.catalogue import Offer
from features.errors import BrokenRelease, NotFound
from features.facts import Facts
from features.home import Home
from training.gates.case import Case, Standing, Valued, standing_of
from training.gates.passage import Bounds, Passage
from training.gates.registry import asked

RECORD = "record"  # no gate of `gates.toml`: what gates know of the champion can be read

ValueOf = Callable[[str, str], Valued]  # challenger, champion -> what the log says


def judge_by(
    bounds: Mapping[str, Bounds], value_of: ValueOf | None = None
) -> Callable[[Any, Home, str, str | None], tuple[Passage, ...]]:
    """A judge for `promote`: (MLflow's client, home, challenger, champion) -> what each gate says.

    Both are exported. A champion whose runs are gone from MLflow is compared by its files alone. One whose runs are
    damaged is too, and that is a refusal: whoever forces the promotion has read which file it is.
    """

    def judge(client: Any, home: Home, challenger: str, champion: str | None) -> tuple[Passage, ...]:
        new = standing_of(client, home.releases / challenger, challenger)
        old, damage = (None, ()) if champion is None else _champion(client, home, champion)
        case = Case(
            new,
            old,
            offers_of(home),
            None if champion is None or value_of is None else lambda: value_of(challenger, champion),
        )
        return (*damage, *asked(case, bounds))

    return judge


def _champion(client: Any, home: Home, number: str) -> tuple[Standing, tuple[Passage, ...]]:
    from mlflow.exceptions import MlflowException

    folder = home.releases / number
    try:
        return standing_of(client, folder, number), ()
    except (NotFound, MlflowException):
        return Standing(number, folder, {}), ()
    except BrokenRelease as error:
        said = f"the champion's {error}; --force compares it by its files alone"
        return Standing(number, folder, {}), (Passage(RECORD, "refused", said),)


def offers_of(home: Home) -> tuple[Offer, ...]:
    """The live catalogue without what is archived; empty where there is none."""
    if not home.facts_db.exists():
        return ()
    facts = Facts(home.facts_db)
    try:
        return tuple(offer for offer in facts.catalogue().offers if offer.status != "archived")
    finally:
        facts.close()
