"""Which anonymous visitors turned out to be which customer; written by `features/identities.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from features.events import is_anonymous
from features.facts.file import FactsFile, marks


class IdentityFacts(FactsFile):
    """Aliases of customers, with the moment each was joined."""

    def identity_of(self, key: str) -> str:
        """The key under which this visitor's facts are kept: the customer's whom an anonymous visitor turned out to be,
        else the given one.
        """
        if not is_anonymous(key):
            return key
        rows = self._rows("SELECT customer_id FROM identities WHERE alias = ?", (key,))
        return rows[0][0] if rows else key

    def identities_of(self, keys: Iterable[str]) -> dict[str, str]:
        """`identity_of` for many at once."""
        found = {key: key for key in keys}
        asked = msgspec.json.encode([key for key in found if is_anonymous(key)]).decode()
        if asked != "[]":
            one = "SELECT alias, customer_id FROM identities WHERE alias IN (SELECT value FROM json_each(?))"
            found.update(self._rows(one, (asked,)))
        return found

    def unit_of(self, customer_id: str) -> str:
        """What experiments split a customer by: the key they were first served under, see `features.identities.join`.

        `CustomerFacts.told_of` reads it for many, with their profiles.
        """
        rows = self._rows("SELECT alias FROM identities WHERE customer_id = ? AND is_unit = 1", (customer_id,))
        return rows[0][0] if rows else customer_id

    def aliases_of(self, customer_id: str) -> tuple[str, ...]:
        """The keys of the anonymous visitors whom this customer turned out to be, the first joined first."""
        return self.aliases_of_all([customer_id]).get(customer_id, ())

    def aliases_of_all(self, keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """`aliases_of` for many at once; only those who have some."""
        rows = self._rows(
            f"SELECT customer_id, alias FROM identities WHERE customer_id IN ({marks(len(keys))}) "
            "ORDER BY joined_us, alias",
            keys,
        )
        found: dict[str, tuple[str, ...]] = {}
        for customer_id, alias in rows:
            found[customer_id] = (*found.get(customer_id, ()), alias)
        return found

    def identities(self) -> dict[str, list[tuple[str, int]]]:
        """By customer: the keys of the joined visitors, and since when each is known to be the customer (µs)."""
        found: dict[str, list[tuple[str, int]]] = {}
        for customer_id, *joined in self._rows(
            "SELECT customer_id, alias, joined_us FROM identities ORDER BY customer_id, joined_us, alias"
        ):
            found.setdefault(customer_id, []).append((joined[0], joined[1]))
        return found
