"""What every model is trained on, read once: log, features, catalogue and profiles as of an instant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from features.catalogue import Offer
from features.compute import built, current_features
from features.data_settings import DataSettings
from features.definitions import FeatureSet
from features.events import to_us
from features.facts import Facts
from features.home import Home
from training.dataset import Log, ProfilesAt, open_log
from training.dataset import thinned as thinned

Progress = Callable[[str], None]
MAX_ROWS = 300_000  # of a training table; more are thinned, evenly over time


@dataclass(frozen=True)
class Inputs:
    """What every model is trained on."""

    home: Home
    facts: Facts
    log: Log
    settings: DataSettings
    offers: tuple[Offer, ...]  # the full catalogue
    features: FeatureSet
    profiles_at: ProfilesAt
    as_of_us: int
    seed: int

    @property
    def first_us(self) -> int:
        """The first instant for which features exist."""
        day = datetime.fromisoformat(f"{built(self.facts).days[0]}T00:00:00+00:00")
        return to_us(day)

    @property
    def tags(self) -> dict[str, str]:
        return {
            "data_digest": self.log.digest,
            "feature_set_digest": self.features.digest,
            "as_of_us": str(self.as_of_us),
            "seed": str(self.seed),
        }


def read_inputs(home: Home, facts: Facts, as_of: datetime, seed: int) -> Inputs:
    features = current_features(facts)
    as_of_us = to_us(as_of)
    return Inputs(
        home=home,
        facts=facts,
        log=open_log(home, facts, as_of_us),
        settings=facts.data_settings(),
        offers=facts.catalogue().offers,
        features=features,
        profiles_at=ProfilesAt(facts, features),
        as_of_us=as_of_us,
        seed=seed,
    )
