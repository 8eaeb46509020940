"""What is compared: a policy, the release it decides with, and its tuning, as they are written on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from features.errors import BadInput, BadSettings
from features.home import Home
from serving.policies import POLICIES
from serving.policies.epsilon_greedy import EpsilonGreedy
from serving.policies.holdout import Holdout
from serving.settings import Settings, configurable
from training.scorers import Pointer, digest, read_pointer

CHAMPION, NO_RELEASE, RANDOM = "champion", "none", "random"
TUNABLE = ("epsilon", "temperature", "draws", "new_offer_share", "prior_strength", "shortlist")


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of deciding. `release` is a number, `champion` or `none`: then offers are scored by what is learned."""

    name: str
    policy: str
    release: str = CHAMPION
    tuning: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_random(self) -> bool:
        """Any eligible offer with the same chance, as the holdout has it."""
        return self.policy == Holdout.name

    def settings(self, settings: Settings) -> Settings:
        """Those of the home for this arm, which decides alone: nobody is held out. `BadInput` for a tuning that cannot
        be."""
        whole = {name: int(value) if name in ("draws", "shortlist") else value for name, value in self.tuning.items()}
        try:
            return replace(settings, policy=self.policy, holdout=0.0, **whole)  # type: ignore[arg-type]
        except BadSettings as error:  # of an argument, not of a file
            raise BadInput(f"{self.name!r}: {error.detail}", "arms") from None

    def environ(self) -> dict[str, str]:
        """The same for `nbo serve`, where nobody can choose the holdout's policy: all is explored instead."""
        variables = {name: variable for name, (_, variable) in configurable().items()}
        if self.is_random:
            return Arm(self.name, EpsilonGreedy.name, self.release, {"epsilon": 1.0, "new_offer_share": 0.0}).environ()
        return {variables["policy"]: self.policy, variables["holdout"]: "0"} | {
            variables[name]: f"{value:g}" for name, value in self.tuning.items()
        }


def arms_of(texts: Sequence[str]) -> list[Arm]:
    """`POLICY[@RELEASE][,NAME=VALUE]…` or `random`, each once; `BadInput` says what was expected."""
    arms = [_arm_of(text) for text in texts]
    if len({arm.name for arm in arms}) < len(arms):
        raise BadInput(f"the arms are {', '.join(texts)}, expected each once", "arms")
    return arms


def _arm_of(text: str) -> Arm:
    head, *tuned = text.split(",")
    policy, _, release = head.partition("@")
    if policy == RANDOM and text == RANDOM:
        return Arm(RANDOM, Holdout.name, NO_RELEASE)
    if policy not in POLICIES:
        known = ", ".join((RANDOM, *POLICIES))
        raise BadInput(f"{text!r} is no policy; expected one of {known}, with @RELEASE or without", "arms")
    return Arm(text, policy, release or CHAMPION, dict(_tuned(text, one) for one in tuned))


def _tuned(text: str, one: str) -> tuple[str, float]:
    name, _, value = one.partition("=")
    if name not in TUNABLE:
        raise BadInput(f"{text!r} sets {name!r}; expected one of {', '.join(TUNABLE)}", "arms")
    try:
        return name, float(value)
    except ValueError:
        raise BadInput(f"{text!r} sets {name} to {value!r}, expected a number", "arms") from None


def pointer_of(home: Home, arm: Arm) -> Pointer | None:
    """The release of an arm; None where it decides without. `BadInput` for one that is not there."""
    if arm.release == NO_RELEASE:
        return None
    if arm.release == CHAMPION:
        return read_pointer(home.releases)
    manifest = home.releases / arm.release / "manifest.json"
    if not manifest.is_file():
        why = "see `nbo models list`" if home.releases.is_dir() else "nothing was trained in this shop, see `nbo demo`"
        raise BadInput(f"{arm.name}: there is no release {arm.release}; {why}", "arms")
    return Pointer(arm.release, digest(manifest.read_bytes()))
