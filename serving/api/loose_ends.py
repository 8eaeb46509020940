"""Catalogue objects that name what is not there, or ask what cannot be: allowed, and rarely meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from features.catalogue import SAVE_RATE, ContactPolicy, Lever, Offer, Placement
from features.errors import BadRule
from features.experiment import Experiment
from features.facts import Catalogue
from features.language import empty_ranges, parse, variables
from features.language.names import OFFER_FIELDS
from features.profile import category_consent

CatalogueObject = Offer | Placement | ContactPolicy | Lever | Experiment


def loose_ends(objects: Iterable[CatalogueObject], known: Catalogue) -> Iterator[tuple[CatalogueObject, str]]:
    """Each object with a sentence for each name that leads nowhere; `objects` count as known too."""
    objects = list(objects)
    offers = {one.offer_id for one in [*known.offers, *objects] if isinstance(one, Offer)}
    placements = {one.placement_id for one in [*known.placements, *objects] if isinstance(one, Placement)}
    for one in objects:
        if isinstance(one, Offer):
            for field, name in _placements_of(one):
                if name not in placements:
                    yield one, _told(field, name, "placement", placements)
        elif isinstance(one, Placement):
            for field, name in _offers_of(one):
                if name not in offers:
                    yield one, _told(field, name, "offer", offers)
    named = _Named(objects, known)
    channels = named.channels
    for one in objects:
        for field, name in _channels_of(one):
            if channels and name not in channels:
                yield one, _told(field, name, "channel of a placement", channels)
        if isinstance(one, Offer) and not _is_share(rate := one.attributes.get(SAVE_RATE, 0.0)):
            yield one, f"attributes.{SAVE_RATE} is {rate!r}, expected a share from 0 to 1; it is left out of account"
    for one in objects:
        field, rule = _rule_of(one)
        if rule:
            yield from ((one, f"{field} {told}") for told in _of_rule(rule, named))


class _Named:
    """What rules may name of all objects together; looked up once, and only if a rule asks."""

    def __init__(self, objects: Sequence[CatalogueObject], known: Catalogue) -> None:
        self._objects, self._known = objects, known

    def _all(self) -> Iterator[CatalogueObject]:
        yield from self._objects
        yield from self._known.offers
        yield from self._known.placements
        yield from self._known.contact_policies

    @cached_property
    def attributes(self) -> set[str]:
        """Of offers."""
        return {name for one in self._all() if isinstance(one, Offer) for name in one.attributes}

    @cached_property
    def channels(self) -> set[str]:
        """Over which placements are seen; a question may name others."""
        return {one.channel for one in self._all() if isinstance(one, Placement)}

    @cached_property
    def consent(self) -> set[str]:
        """Keys that consent may be asked for."""
        return {key for one in self._all() for key in _consent_keys(one)}


def _rule_of(one: CatalogueObject) -> tuple[str, str | None]:
    match one:
        case Offer():
            return "eligibility", one.eligibility
        case Lever():
            return "where", one.where
        case Experiment():
            return "audience", one.audience
        case _:
            return "", None


def _of_rule(rule: str, named: _Named) -> Iterator[str]:
    try:
        expression = parse(rule)
    except BadRule:  # stored by another version
        return
    for variable in variables(expression):
        name = variable.path[0] if variable.path else ""
        if variable.root == "offer" and name not in OFFER_FIELDS and name not in named.attributes:
            close = _close(name, {*named.attributes, *OFFER_FIELDS}, "offer.")
            yield f"names offer.{name}, which no offer has among its attributes{close}"
        elif variable.root == "consent" and name not in named.consent:
            close = _close(name, named.consent, "consent.")
            yield f"names consent.{name}, which is no channel of a placement, offer or contact policy{close}"
    for told in empty_ranges(expression):
        yield f"asks of {told} what no value can be: the ranges leave no room"


def _consent_keys(one: CatalogueObject) -> Iterator[str]:
    if isinstance(one, Placement):
        yield one.channel
    elif isinstance(one, Offer | ContactPolicy):
        yield from one.channels
    if isinstance(one, Offer):
        yield from (channel for treatment in one.treatments for channel in treatment.channels)
        if one.category is not None:
            yield category_consent(one.category)


def _placements_of(offer: Offer) -> Iterator[tuple[str, str]]:
    yield from (("placements", name) for name in offer.placements)
    for i, treatment in enumerate(offer.treatments):
        yield from ((f"treatments.{i}.placements", name) for name in treatment.placements)


def _channels_of(one: CatalogueObject) -> Iterator[tuple[str, str]]:
    if isinstance(one, Offer | ContactPolicy):
        yield from (("channels", name) for name in one.channels)
    if isinstance(one, Offer):
        for i, treatment in enumerate(one.treatments):
            yield from ((f"treatments.{i}.channels", name) for name in treatment.channels)


def _is_share(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 1


def _offers_of(placement: Placement) -> Iterator[tuple[str, str]]:
    if placement.fallback_offer_id is not None:
        yield "fallback_offer_id", placement.fallback_offer_id
    yield from (("guaranteed_offer_ids", name) for name in placement.guaranteed_offer_ids)


def _told(field: str, name: str, kind: str, known: Iterable[str]) -> str:
    return f"{field} names {name}, which is no {kind}{_close(name, known)}"


def _close(name: str, known: Iterable[str], root: str = "") -> str:
    close = difflib.get_close_matches(name, sorted(known), 3)
    return f"; close is {', '.join(root + one for one in close)}" if close else ""
