"""The kinds of catalogue object, as paths, lists and files name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pydantic

from features.catalogue import ContactPolicy, Lever, Offer, Placement
from features.experiment import Experiment
from serving.api import contact_policies, experiments, levers, offers, placements
from serving.api.faults import fault_of
from serving.api.fields import Body, ObjectId
from serving.api.json_body import oddities
from serving.api.known import Known
from serving.problems import Fault, Invalid

CatalogueObject: TypeAlias = Offer | Placement | ContactPolicy | Lever | Experiment
_ID: pydantic.TypeAdapter[str] = pydantic.TypeAdapter(ObjectId)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its object inside, its body at the door, and how one becomes the other."""

    name: str  # of one
    group: str  # of several, in lists and files
    key: str  # the field of its id
    of: type[CatalogueObject]
    body: type[Body]
    make: Callable[[str, Any, Known], CatalogueObject]

    def checked(self, given: Mapping[str, Any], known: Known) -> CatalogueObject:
        """The object of plain fields with its id among them, checked as a request is; `Invalid` names every fault."""
        if odd := oddities(dict(given)):
            raise Invalid([Fault(pointer, detail) for pointer, detail in odd])
        fields = dict(given)
        name = fields.pop(self.key, None)
        try:
            _ID.validate_python(name)
        except pydantic.ValidationError:
            wanted = "1 to 128 letters, digits, and any of ._:-"
            raise Invalid([Fault(f"/{self.key}", f"{self.key}: is {name!r}, expected {wanted}")]) from None
        try:
            body = self.body.model_validate(fields)
        except pydantic.ValidationError as error:
            raise Invalid([fault_of(one, "body", one["loc"]) for one in error.errors()]) from None
        return self.make(name, body, known)


KINDS: tuple[Kind, ...] = (
    Kind("placement", "placements", "placement_id", Placement, placements.PlacementBody, placements.placement_of),
    Kind("offer", "offers", "offer_id", Offer, offers.OfferBody, offers.offer_of),
    Kind(
        "contact policy",
        "contact_policies",
        "policy_id",
        ContactPolicy,
        contact_policies.ContactPolicyBody,
        contact_policies.contact_policy_of,
    ),
    Kind("lever", "levers", "lever_id", Lever, levers.LeverBody, levers.lever_of),
    Kind(
        "experiment",
        "experiments",
        "experiment_id",
        Experiment,
        experiments.ExperimentBody,
        experiments.experiment_of,
    ),
)
