"""What a deployment knows that no field says: its currency, its objects and releases, and what rules may name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from features.catalogue import Lever, Offer
from features.definitions import FeatureSet, feature_set
from features.errors import NotFound
from features.experiment import Experiment
from features.facts import Facts
from features.home import Home
from features.language import BadRule, Names, check, parse
from serving.problems import Fault

if TYPE_CHECKING:
    from serving.api.service import Service

Ruled: TypeAlias = Offer | Lever | Experiment


class Known:
    """Asked by the checks that no single field can make. Short-lived: what it has looked up stays as it was."""

    def __init__(
        self,
        currency: str,
        facts: Facts,
        features: Callable[[], FeatureSet | None],
        *,
        home: Home | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`features` are those that are served; None: nothing was built yet. Without a home there are no releases."""
        self.currency, self.now = currency, now
        self.also: Sequence[object] = ()  # objects that are about to be stored with the one that is checked
        self.doubtful: Set[str] = frozenset()  # ids of objects beside it that may have been refused
        self._facts, self._features, self._home = facts, features, home

    @classmethod
    def of(cls, service: Service) -> Known:
        def features() -> FeatureSet | None:
            return service.decider.edition.view.feature_set

        return cls(service.currency, service.facts, features, home=service.settings.home, now=service.clock)

    @cached_property
    def names(self) -> Names:
        served = self._features() or feature_set(currency=self.currency)
        return Names.of(served, self._facts.attribute_kinds())

    @cached_property
    def experiments(self) -> tuple[Experiment, ...]:
        return self._facts.catalogue().experiments

    @cached_property
    def offers(self) -> dict[str, Offer]:
        found = [*self._facts.catalogue().offers, *(one for one in self.also if isinstance(one, Offer))]
        return {one.offer_id: one for one in found}

    @cached_property
    def levers(self) -> frozenset[str]:
        found = [*self._facts.catalogue().levers, *(one for one in self.also if isinstance(one, Lever))]
        return frozenset(one.lever_id for one in found)

    @cached_property
    def releases(self) -> tuple[str, ...]:
        """Those that were exported, by number."""
        if self._home is None:
            return ()
        folders = (path.parent.name for path in self._home.releases.glob("*/manifest.json"))
        return tuple(sorted((name for name in folders if not name.endswith(".tmp")), key=_by_number))

    def rule_faults(self, text: str, pointer: str, of: type[Ruled], name: str) -> Iterator[Fault]:
        """What is wrong with the rule of this object, if anything. One that it has already is not judged again: what
        customers have may have changed since, and whoever changes a price cannot help it.
        """
        try:
            expression = parse(text)
            if text != self._rule_of(of, name):
                check(expression, self.names)
        except BadRule as error:
            yield Fault(pointer, f"{pointer[1:]}: {error.detail}", error.code)

    def _rule_of(self, of: type[Ruled], name: str) -> str | None:
        try:
            stored = self._facts.get(of, name).body
        except NotFound:
            return None
        match stored:
            case Offer():
                return stored.eligibility
            case Lever():
                return stored.where
            case _:
                return stored.audience


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)
