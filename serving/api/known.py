"""What a deployment knows that no field says: its currency, and the names that rules may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from features.catalogue import Lever, Offer
from features.definitions import FeatureSet, feature_set
from features.errors import NotFound
from features.facts import Facts
from features.language import BadRule, Names, check, parse
from serving.problems import Fault

if TYPE_CHECKING:
    from serving.api.service import Service


class Known:
    """Asked by the checks that no single field can make. Short-lived: what it has looked up stays as it was."""

    def __init__(self, currency: str, facts: Facts, features: Callable[[], FeatureSet | None]) -> None:
        """`features` are those that are served; None: nothing was built yet."""
        self.currency = currency
        self._facts, self._features = facts, features

    @classmethod
    def of(cls, service: Service) -> Known:
        return cls(service.currency, service.facts, lambda: service.decider.edition.view.feature_set)

    @cached_property
    def names(self) -> Names:
        served = self._features() or feature_set(currency=self.currency)
        return Names.of(served, self._facts.attribute_kinds())

    def rule_faults(self, text: str, pointer: str, of: type[Offer] | type[Lever], name: str) -> Iterator[Fault]:
        """What is wrong with the rule of this object, if anything. One that it has already is not judged again: what
        customers have may have changed since, and whoever changes a price cannot help it.
        """
        try:
            expression = parse(text)
            if text != self._rule_of(of, name):
                check(expression, self.names)
        except BadRule as error:
            yield Fault(pointer, f"{pointer[1:]}: {error.detail}", error.code)

    def _rule_of(self, of: type[Offer] | type[Lever], name: str) -> str | None:
        try:
            stored = self._facts.get(of, name).body
        except NotFound:
            return None
        return stored.eligibility if isinstance(stored, Offer) else stored.where
