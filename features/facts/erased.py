"""Who was erased, as hashes only: enough to refuse what comes later; written by `features/erasure.py`."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime

from features.events import to_us
from features.facts.file import FactsFile
from features.fingerprint import fingerprint

PEPPER = "tombstone_pepper"  # key in meta: makes the hashes of erased ids useless elsewhere


class ErasedFacts(FactsFile):
    """The tombstones of erased customers and visitors."""

    @property
    def any_erased(self) -> bool:
        return bool(self._rows("SELECT 1 FROM tombstones LIMIT 1"))

    def is_erased(self, key: str) -> bool:
        """Whether this visitor was erased: nothing may be kept of them any more."""
        return bool(self.erased_among([key]))

    def erased_among(self, keys: Iterable[str]) -> set[str]:
        """Those of these visitors who were erased."""
        if not self.any_erased:
            return set()
        pepper = self._pepper()
        one = "SELECT 1 FROM tombstones WHERE hash = ?"
        return {key for key in keys if self._rows(one, (fingerprint(pepper, key),))}

    def bury(self, keys: Iterable[str], now: datetime) -> None:
        """From now on these visitors count as erased, for good."""
        with self.transaction() as db:
            if self.meta(PEPPER) is None:
                self.set_meta(PEPPER, secrets.token_hex(32))
            rows = [(fingerprint(self._pepper(), key), to_us(now)) for key in keys]
            db.executemany("INSERT OR IGNORE INTO tombstones VALUES (?, ?)", rows)

    def _pepper(self) -> bytes:
        return bytes.fromhex(self.meta(PEPPER) or "")
