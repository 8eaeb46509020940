"""Experiments in the path of a decision: what a customer's variants change about how it is made."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from msgspec import Struct

from experiments.assignment import Assigned, Plan
from features.catalogue import Offer
from features.errors import BadRule
from features.experiment import Experiment, Unit
from features.language import Names, Program, parse
from features.log import Exposure
from serving.customer import CustomerNow
from serving.decision import DecisionRequest, Met
from serving.edition import Edition
from serving.levers import Levers
from serving.policies.holdout import Holdout
from serving.settings import Settings

logger = logging.getLogger(__name__)
SESSION = "session_id"  # of a request's context
NOBODY = Assigned()
IN_NO_OFFER = Offer(offer_id="", name="", value=0.0, currency="", treatments=())  # audiences may not name offers


class Arm(Struct, frozen=True, eq=False):
    """How one request is decided: with which release and levers (both of the edition), which policy, and why so."""

    edition: Edition
    settings: Settings
    assigned: Assigned = NOBODY
    degraded: tuple[tuple[str, str], ...] = ()

    def without_models(self) -> Arm:
        """The same, scored by popularity. Who is in which variant stays: they are compared as they were assigned."""
        return Arm(_without(self.edition.without_models(), self.assigned.levers_off), self.settings, self.assigned)

    @property
    def exposures(self) -> tuple[Exposure, ...]:
        """What the log keeps, once per experiment, phase and unit."""
        met = self.assigned.exposures
        return tuple([Exposure(one.experiment_id, one.phase, one.unit_id, one.variant) for one in met])


class _Scope(NamedTuple):
    """What the rule of an audience may look at."""

    now_us: int
    features: Mapping[str, Any]
    attributes: Mapping[str, Any]
    consent: Mapping[str, bool]
    context: Mapping[str, Any]


class Arms:
    """Every way of deciding that the running experiments of one catalogue ask for; each is prepared when first met."""

    def __init__(
        self, edition: Edition, settings: Settings, plan: Plan, others: Mapping[str, Edition] | None = None
    ) -> None:
        """`others`: editions of the releases that variants name, by number, as far as they could be loaded."""
        self.others: Mapping[str, Edition] = others or {}
        self._plain, self._settings, self._plan = edition, settings, plan
        self._default = Arm(edition, settings)
        names = Names.of(edition.view.feature_set)
        self._audience = {
            one.experiment_id: _program(one, one.audience, names)
            for one in edition.view.experiments
            if one.status == "running" and one.audience is not None
        }

    def arm(self, request: DecisionRequest, customer: CustomerNow, now_us: int) -> Arm:
        """How this request is decided. Pure: the same unit, of the same audiences, always meets the same."""
        if self._plan.empty:
            return self._default
        scope = _Scope(now_us, customer.features, customer.attributes, customer.consent, request.context)
        return self.arm_of(self._plan.assign(units_of(request, customer), partial(self._holds, scope)))

    def arm_of(self, assigned: Assigned) -> Arm:
        """How somebody is decided about of whom this is known."""
        edition = self._plain
        degraded: tuple[tuple[str, str], ...] = ()
        if assigned.holdout:
            edition = edition.without_models()
        elif assigned.release is not None and assigned.release != edition.release_number:
            if assigned.release in self.others:
                edition = self.others[assigned.release]
            else:
                why = f"the release {assigned.release} of an experiment cannot be loaded, so the champion decided"
                degraded = (("model_unavailable", why),)
        policy = Holdout.name if assigned.holdout else assigned.policy or self._settings.policy
        return Arm(_without(edition, levers_off(edition, assigned)), under(self._settings, policy), assigned, degraded)

    def _holds(self, scope: _Scope, experiment: Experiment) -> bool:
        """Whether somebody is of the audience; unknown is no."""
        if experiment.audience is None:
            return True
        program = self._audience[experiment.experiment_id]
        return program is not None and bool(program.outcomes(scope)[0] == 1)


def arm_for(edition: Edition, settings: Settings, request: DecisionRequest, customer: CustomerNow, now_us: int) -> Arm:
    """How this request is decided; as the settings say where nobody experiments. Of the erased nothing is kept, and
    somebody of whom nothing could be read, who is shown nothing, is not known to be which unit.
    """
    if edition.arms is None or customer.erased or customer.refused is None:
        return Arm(edition, settings)
    return edition.arms.arm(request, customer, now_us)


def as_assigned(edition: Edition, settings: Settings, assigned: Assigned) -> Arm:
    """A past decision's way, whose edition has the release that decided and whose settings name the policy."""
    return Arm(_without(edition, levers_off(edition, assigned)), settings, assigned)


def levers_off(edition: Edition, assigned: Assigned) -> frozenset[str]:
    """Levers that do not weigh; of the holdout none does."""
    return edition.lever_ids if assigned.holdout else assigned.levers_off


def _without(edition: Edition, off: frozenset[str]) -> Edition:
    """The edition with fewer levers, made once."""
    off &= edition.lever_ids
    if not off:
        return edition
    kept = edition.with_fewer_levers.get(off)
    if kept is None:
        kept = copy.copy(edition)
        kept.levers = Levers(edition.view, off)
        edition.with_fewer_levers[off] = kept
    return kept


def under(settings: Settings, policy: str) -> Settings:
    return settings if policy == settings.policy else replace(settings, policy=policy)


def units_of(request: DecisionRequest, customer: CustomerNow) -> dict[Unit, str]:
    """Whom experiments split: the person, and the session where the context names one."""
    session = request.context.get(SESSION)
    person = customer.unit_id or customer.customer_id
    return {"customer": person, "session": session if isinstance(session, str) and session else person}


def told(assigned: Assigned) -> tuple[Met, ...]:
    """As an answer has it."""
    return tuple([Met(one.experiment_id, one.variant, one.phase, one.is_control) for one in assigned.entries])


def _program(experiment: Experiment, audience: str, names: Names) -> Program | None:
    """A rule that cannot be read, which the API would not have saved, holds for nobody."""
    try:
        return Program([parse(audience)], [IN_NO_OFFER], names)
    except BadRule as error:
        logger.warning("nobody is in %s, its audience cannot be read: %s", experiment.experiment_id, error)
        return None
