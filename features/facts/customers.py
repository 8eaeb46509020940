"""What customers told us or are known by, with its history, and the kinds of attributes that rules may name."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from features.definitions.dsl import AttributeKind
from features.definitions.profile import common_kind, kinds_moved
from features.errors import BadInput, Erased
from features.events import from_us, to_us
from features.facts.attributes import count_attributes
from features.facts.erased import ErasedFacts
from features.facts.file import marks
from features.profile import CATEGORY, Profile, Word, with_words, words_now

MOST_KEYS = 256  # attributes, or answers of consent, of one customer
ALWAYS_US = 0  # an attribute without a date was known from the beginning


class CustomerFacts(ErasedFacts):
    """Profiles; nothing is written of who was erased."""

    def profile(self, customer_id: str) -> Profile | None:
        return self.profiles_of([customer_id]).get(customer_id)

    def profiles_of(self, keys: Sequence[str]) -> dict[str, Profile]:
        """The profiles of those who have one, by their keys."""
        rows = self._rows(
            "SELECT customer_id, attributes, consent, time_zone, updated_us, less_like, said_us FROM profiles "
            f"WHERE customer_id IN ({marks(len(keys))})",
            keys,
        )
        return {row[0]: _profile(*row) for row in rows}

    def told_of(self, keys: Sequence[str]) -> dict[str, tuple[Profile | None, str]]:
        """The profile of each, None if there is none, and what experiments split them by. One statement: it is asked by
        every decision.
        """
        rows = self._rows(_telling(len(keys)), keys) if keys else ()
        return {
            key: (None if profile[0] is None else _profile(key, *profile), unit or key) for key, unit, *profile in rows
        }

    def merge_profile(
        self,
        customer_id: str,
        now: datetime,
        attributes: Mapping[str, Any] | None = None,
        consent: Mapping[str, bool | None] | None = None,
        time_zone: str | None = None,
    ) -> Profile:
        """Merge into what is known; a value of None removes its key, and a `time_zone` of "" the time zone.

        What is said of consent is said now.
        """
        with self.transaction():
            old = self.profile(customer_id) or Profile(customer_id=customer_id)
            new = msgspec.structs.replace(
                with_words(old, words_now(old, consent or {}, now)),
                attributes=_merged(old.attributes, attributes or {}),
                time_zone=old.time_zone if time_zone is None else time_zone or None,
            )
            return self.put_profile(new, now)

    def say(self, customer_id: str, words: Sequence[Word], now: datetime) -> None:
        """What a customer said of consent, each word at its time; a newer one stands. `Erased` for who was."""
        with self.transaction():
            old = self.profile(customer_id) or Profile(customer_id=customer_id)
            new = with_words(old, words)
            if new != old:  # what was known already writes nothing
                self.put_profile(new, now)

    def put_profile(self, profile: Profile, now: datetime) -> Profile:
        """Replace what is known; attributes that changed count from now on. `Erased` for who was."""
        _check_size(profile)
        new = msgspec.structs.replace(profile, updated_at=now)
        with self.transaction() as db:
            if self.is_erased(new.customer_id):
                raise Erased
            old = self.profile(new.customer_id)
            self._write_profile(db, new)
            if old is None or new.attributes != old.attributes:
                row = (new.customer_id, to_us(now), msgspec.json.encode(new.attributes).decode())
                db.execute("INSERT OR REPLACE INTO profile_history VALUES (?, ?, ?)", row)
                count_attributes(db, kinds_moved(old.attributes if old is not None else {}, new.attributes))
        return new

    def merge_profiles(
        self,
        rows: Iterable[tuple[str, Mapping[str, Any], int | None]],
        now: datetime,
        on_progress: Callable[[int], None] | None = None,
    ) -> int:
        """Bulk form of `merge_profile`; returns how many rows changed something.

        A row is (customer_id, attributes, valid_from_us), the last None for "always", or, if the customer was known
        before, "from now on".
        """
        n_changed = 0
        moved: Counter[tuple[str, AttributeKind]] = Counter()
        with self.transaction() as db:
            for n, (customer_id, attributes, valid_from_us) in enumerate(rows, start=1):
                old = self.profile(customer_id) or Profile(customer_id=customer_id)
                new = msgspec.structs.replace(old, attributes=_merged(old.attributes, attributes), updated_at=now)
                if old.updated_at is None or new.attributes != old.attributes:
                    n_changed += 1
                    self._write_profile(db, new)
                    moved.update(kinds_moved(old.attributes, new.attributes))
                    unsaid = ALWAYS_US if old.updated_at is None else to_us(now)
                    since = unsaid if valid_from_us is None else valid_from_us
                    body = msgspec.json.encode(new.attributes).decode()
                    db.execute("INSERT OR REPLACE INTO profile_history VALUES (?, ?, ?)", (customer_id, since, body))
                if on_progress is not None and n % 10_000 == 0:
                    on_progress(n)
            count_attributes(db, moved)
        return n_changed

    def attribute_kinds(self) -> dict[str, AttributeKind]:
        """The kind of each attribute that any customer ever had, so that a rule may name it: that of most customers."""
        seen: dict[str, dict[AttributeKind, int]] = {}
        for name, kind, n in self._rows("SELECT name, kind, n FROM attribute_kinds"):
            seen.setdefault(name, {})[kind] = n
        return {name: common_kind(counts) for name, counts in seen.items()}

    def remove_profiles(self, customer_ids: Sequence[str]) -> int:
        """How many there were; their history stays."""
        with self.transaction() as db:
            for profile in self.profiles_of(customer_ids).values():
                count_attributes(db, kinds_moved(profile.attributes, {}))
            where = f"customer_id IN ({marks(len(customer_ids))})"
            return db.execute(f"DELETE FROM profiles WHERE {where}", customer_ids).rowcount

    def profile_history(self) -> Iterator[tuple[str, int, str]]:
        """(customer_id, valid_from_us, attributes as JSON), by customer and time."""
        with self._lock:
            yield from self._db.execute(
                "SELECT customer_id, valid_from_us, attributes FROM profile_history ORDER BY customer_id, valid_from_us"
            )

    @staticmethod
    def _write_profile(db: sqlite3.Connection, profile: Profile) -> None:
        db.execute(
            "INSERT OR REPLACE INTO profiles (customer_id, attributes, consent, time_zone, updated_us, less_like, "
            "said_us) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                profile.customer_id,
                msgspec.json.encode(profile.attributes).decode(),
                msgspec.json.encode(profile.consent).decode(),
                profile.time_zone,
                to_us(profile.updated_at) if profile.updated_at else 0,
                msgspec.json.encode(profile.less_like).decode(),
                msgspec.json.encode(profile.said_us).decode(),
            ),
        )


@lru_cache(maxsize=128)
def _telling(n: int) -> str:
    return (
        f"WITH asked (key) AS (VALUES {', '.join(['(?)'] * n)}) "
        "SELECT key, alias, attributes, consent, time_zone, updated_us, less_like, said_us FROM asked "
        "LEFT JOIN profiles ON profiles.customer_id = key "
        "LEFT JOIN identities ON identities.customer_id = key AND is_unit = 1"
    )


def _check_size(profile: Profile) -> None:
    """`BadInput` if there is more than is kept: every decision reads it."""
    n_muted = sum(key.startswith(CATEGORY) for key in profile.consent)
    for name, kind, n in (
        ("attributes", "attributes", len(profile.attributes)),
        ("consent", "consent", len(profile.consent) - n_muted),
        ("consent", "consent of categories", n_muted),
        ("less_like", "less_like", len(profile.less_like)),
    ):
        if n > MOST_KEYS:
            raise BadInput(f"{kind} would have {n:,} entries, at most {MOST_KEYS} are kept", f"/{name}")


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**old, **new}.items() if value is not None}


def _profile(
    customer_id: str, attributes: str, consent: str, time_zone: str | None, updated_us: int, less_like: str, said: str
) -> Profile:
    return Profile(
        customer_id=customer_id,
        attributes=msgspec.json.decode(attributes),
        consent=msgspec.json.decode(consent),
        said_us=msgspec.json.decode(said) if said != "{}" else {},
        time_zone=time_zone,
        less_like=tuple(msgspec.json.decode(less_like)) if less_like != "[]" else (),
        updated_at=from_us(updated_us),
    )
