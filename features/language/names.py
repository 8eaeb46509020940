"""What the names in a rule stand for: which there are, of which kind, and where their values come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from features.catalogue import Offer
from features.definitions import AttributeKind, FeatureSet
from features.definitions.dsl import Attribute
from features.language.syntax import Variable
from features.language.values import Value, instant_of, plain

Kind: TypeAlias = Literal["number", "category", "boolean", "time", "keyed", "any"]

# The parts of an offer that rules may name besides its attributes; an attribute of the same name is hidden by them.
OFFER_FIELDS: Mapping[str, Kind] = {
    "offer_id": "category",
    "name": "category",
    "category": "category",
    "value": "number",
    "priority": "number",
    "retention": "boolean",
    "inventory": "number",
    "starts_at": "time",
    "ends_at": "time",
}


class Scope(Protocol):
    """One customer asking one question at one moment; `serving.rules.asked.Asked` is one."""

    @property
    def now_us(self) -> int: ...
    @property
    def features(self) -> Mapping[str, Any]: ...
    @property
    def attributes(self) -> Mapping[str, Any]: ...
    @property
    def consent(self) -> Mapping[str, bool]: ...
    @property
    def context(self) -> Mapping[str, Any]: ...


Reader: TypeAlias = Callable[[Scope], Value]


@dataclass(frozen=True, slots=True)
class Names:
    """The bare names that a rule may use. `offer.x`, `context.x` and `consent.x` may always be named."""

    kinds: Mapping[str, Kind] = field(default_factory=dict)
    attribute: Mapping[str, str] = field(default_factory=dict)  # of those that are attributes: its name in the profile

    @classmethod
    def of(cls, features: FeatureSet | None, attributes: Mapping[str, AttributeKind] | None = None) -> Names:
        """The customer features, and the attributes of profiles that are no features (yet)."""
        kinds: dict[str, Kind] = {}
        attribute = {}
        for feature in features.customer if features is not None else ():
            if isinstance(feature.value, Attribute):
                kinds[feature.name], attribute[feature.name] = feature.value.of, feature.value.name
            else:
                kinds[feature.name] = feature.kind
        for name, kind in (attributes or {}).items():
            if name not in attribute.values():
                own = f"profile_{name}" if name in kinds else name  # as `features.definitions.profile` names it
                kinds[own], attribute[own] = kind, name
        return cls(kinds, attribute)

    def kind(self, variable: Variable) -> Kind | None:
        """None for a bare name that nobody knows; "any" where the value alone will tell."""
        match variable.root:
            case "":
                return self.kinds.get(variable.path[0])
            case "consent":
                return "boolean"
            case "offer" if len(variable.path) == 1:
                return OFFER_FIELDS.get(variable.path[0], "any")
            case _:
                return "any"

    def is_feature(self, variable: Variable) -> bool:
        """Whether its values are found in `Scope.features` under its name, and nowhere else."""
        name = variable.path[0] if variable.path else ""
        return variable.root == "" and name in self.kinds and name not in self.attribute

    def reader(self, variable: Variable) -> Reader:
        """How a customer's or a request's value is read. What a value is, its own type says, not its declared kind:
        one customer's odd record must not change what a rule means for the others."""
        name = variable.path[0]
        match variable.root:
            case "consent":
                return lambda scope: scope.consent.get(name)
            case "context" if len(variable.path) == 1:
                return lambda scope: plain(scope.context.get(name))
            case "context":
                return lambda scope: _walk(scope.context, variable.path)
            case "offer":
                raise ValueError(f"{variable} belongs to an offer")
        if name in self.attribute:
            attribute = self.attribute[name]
            if self.kinds[name] == "time":
                return lambda scope: _time(scope.attributes.get(attribute))
            return lambda scope: plain(scope.attributes.get(attribute))
        if self.is_feature(variable):
            return lambda scope: plain(scope.features.get(name))
        # What came, or went, since the features were built: most often an attribute that customers have had since.
        told = name.removeprefix("profile_") if name.removeprefix("profile_") in self.kinds else name
        return lambda scope: plain(scope.features[name] if name in scope.features else scope.attributes.get(told))


def offer_value(offer: Offer, variable: Variable) -> Value:
    """The value of `offer.x`; None if the offer has no such thing."""
    if variable.path[0] in OFFER_FIELDS:
        return plain(getattr(offer, variable.path[0])) if len(variable.path) == 1 else None
    return _walk(offer.attributes, variable.path)


def _walk(tree: object, path: tuple[str, ...]) -> Value:
    for step in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(step)
    return plain(tree)


def _time(raw: object) -> Value:
    value = plain(raw)
    return instant_of(value) or value
