"""What a candidate would have shown at the first rank of a logged decision: its chance for every eligible offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.errors import BadSettings
from features.log import DecisionRow
from serving.catalogue_view import CatalogueView
from serving.drafting import Drafted, draft_one, placements_of
from serving.experimenting import as_assigned
from serving.policies import policy_named
from serving.replay import Recalled, Replayer
from serving.settings import Settings

Numbers = NDArray[np.float64]
AS_LOGGED: Literal["as logged"] = "as logged"  # the release that made each decision
TUNING = ("epsilon", "temperature", "draws", "new_offer_share")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy with its tuning, over a release. `BadSettings` for a policy or a tuning that cannot be."""

    policy: str
    release: str = AS_LOGGED
    tuning: Mapping[str, float] = field(default_factory=dict)  # of `TUNING`; what is left out is as it was

    def __post_init__(self) -> None:
        policy_named(self.policy)
        unknown = sorted(set(self.tuning) - set(TUNING))
        if unknown:
            raise BadSettings(f"{unknown[0]!r} tunes no policy, expected one of {', '.join(TUNING)}", unknown[0])

    def settings(self, then: Settings) -> Settings:
        """Those of a decision, with what the candidate does otherwise."""
        changed: dict[str, Any] = {"policy": self.policy, **self.tuning}
        return replace(then, **changed)


@dataclass(frozen=True, slots=True)
class Choice:
    """The first rank of one placement of one decision: what was shown, and every chance; arrays (n_offers,)."""

    decision_id: str
    customer_id: str
    decided_us: int
    placement_id: str
    currency: str
    view: CatalogueView  # the axis of offers
    shown: int  # row
    probability: float  # as logged
    logged: Numbers  # chances of the policy that was logged
    wanted: tuple[Numbers, ...]  # chances of each candidate
    p_accept: Numbers  # as the decision believed
    features: Mapping[str, object]  # of the customer
    degraded: bool


Why = str  # why a placement of a decision cannot be evaluated; see LEFT_OUT in choices.py


class Chooser:
    """Goes through logged decisions, in the order of the log."""

    def __init__(self, replayer: Replayer, candidates: tuple[Candidate, ...]) -> None:
        self._replayer, self._candidates = replayer, candidates
        self._noted: _Noted | None = None

    def placement_begins(self) -> None:
        """To be called whenever beliefs are asked for, which is once before each placement is drawn."""
        if self._noted is not None:
            self._noted.marks.append(len(self._noted.bits))

    def choices(self, logged: DecisionRow) -> list[Choice | Why]:
        """One per placement of the decision; `InputsExpired` when it cannot be made again."""
        recalled = self._replayer.recall(logged, self._watched)
        noted, row = self._noted, recalled.row
        assert noted is not None
        if row["redrawn"]:
            return ["redrawn"] * len(row["placements"])
        return [self._choice(recalled, k, noted.of_placement(k)) for k in range(len(row["placements"]))]

    def _watched(self, rng: Random) -> Random:
        self._noted = _noting(rng)
        return self._noted

    def _choice(self, recalled: Recalled, k: int, bits: list[int]) -> Choice | Why:
        drafted, said = recalled.drawn.placements[k], recalled.row["placements"][k]["offers"]
        if not drafted.picks or not said:
            return "empty" if len(drafted.picks) == len(said) else "unlike"
        pick, first = drafted.picks[0], said[0]
        view = recalled.edition.view
        if (view.offers[pick.row].offer_id, pick.chance) != (first["offer_id"], first["selection_probability"]):
            return "unlike"
        if pick.why is not None:
            return pick.why
        assert self._noted is not None
        chances = _first_rank(drafted, view, self._noted, bits)
        if abs(float(chances[pick.row]) - pick.chance) > 1e-9:
            return "unlike"
        wanted: list[Numbers] = []
        for candidate in self._candidates:
            if candidate.release == AS_LOGGED and recalled.row["holdout"]:
                return "holdout"
            found = self._wanted(candidate, recalled, k, bits)
            if isinstance(found, str):
                return found
            wanted.append(found)
        return Choice(
            decision_id=recalled.row["decision_id"],
            customer_id=recalled.row["customer_id"],
            decided_us=drafted.asked.now_us,
            placement_id=drafted.placement.placement_id,
            currency=recalled.row["currency"],
            view=view,
            shown=pick.row,
            probability=pick.chance,
            logged=chances,
            wanted=tuple(wanted),
            p_accept=drafted.worth.p_accept,
            features=recalled.question.known.customer.features,
            degraded=bool(recalled.row["degraded"]),
        )

    def _wanted(self, candidate: Candidate, recalled: Recalled, k: int, bits: list[int]) -> Numbers | Why:
        """The candidate in the place of what was logged: after the same earlier placements, of the same offers, with
        the levers of the same variant. Of the holdout, as if they were not.
        """
        drafted, question = recalled.drawn.placements[k], recalled.question
        own = recalled.row["model_versions"]["release"]
        release = own if candidate.release == AS_LOGGED else candidate.release
        beside = self._replayer.edition_beside(recalled, release, [drafted.beliefs.position])
        assigned = msgspec.structs.replace(recalled.arm.assigned, holdout=False)
        edition = as_assigned(beside, recalled.settings, assigned).edition
        settings = candidate.settings(recalled.settings)
        # Of the policy that was logged, the estimate it drew from; else one that knows nothing of what was drawn.
        rng = Random(f"{question.decision_id}:{k}") if candidate.policy != recalled.settings.policy else Random(0)
        noted = _noting(rng, bits if candidate.policy == recalled.settings.policy else [])
        (_, limit) = placements_of(edition.view, question.request)[k]
        customer = question.known.customer
        again = draft_one(
            edition,
            settings,
            drafted.asked,
            drafted.placement,
            limit,
            customer,
            edition.p_churn(customer.features),
            drafted.segment,
            drafted.taken,
            noted,
        )
        overridden = again.picks[0].why if again.picks else "empty"
        return _first_rank(again, edition.view, noted, noted.bits) if overridden is None else overridden


def _first_rank(drafted: Drafted, view: CatalogueView, noted: _Noted, bits: list[int]) -> Numbers:
    """Chances of the first draw, (n_offers,). `bits` are what the policy's estimate was seeded with, if it made one."""
    front = drafted.in_draw
    if drafted.policy.ranks:
        front = front & (view.priority == view.priority[front].max())
    noted.again = list(bits[:1])
    return np.asarray(drafted.policy(front), np.float64)


class _Noted(Random):
    """Randomness that notes the seeds of policies' estimates, and can say them again."""

    bits: list[int]
    marks: list[int]  # of `bits`, where a placement begins
    again: list[int]

    def getrandbits(self, k: int, /) -> int:
        value = self.again.pop(0) if self.again else super().getrandbits(k)
        self.bits.append(value)
        return value

    def of_placement(self, k: int) -> list[int]:
        ends = [*self.marks, len(self.bits)]
        return self.bits[ends[k] : ends[k + 1]]


def _noting(rng: Random, again: list[int] | tuple[int, ...] = ()) -> _Noted:
    noted = _Noted()
    noted.setstate(rng.getstate())
    noted.bits, noted.marks, noted.again = [], [], list(again[:1])
    return noted
