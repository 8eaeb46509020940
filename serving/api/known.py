"""What a deployment knows that no field says: its currency, and the names that rules may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from features.definitions import FeatureSet, feature_set
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

    def rule_faults(self, text: str, pointer: str) -> Iterator[Fault]:
        """What is wrong with a rule, if anything."""
        try:
            check(parse(text), self.names)
        except BadRule as error:
            yield Fault(pointer, f"{pointer[1:]}: {error.detail}", error.code)
