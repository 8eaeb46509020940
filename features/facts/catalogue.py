"""The catalogue with its history: each change of an object is a version, and every version can be read again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from features.catalogue import ContactPolicy, Lever, Offer, Placement
from features.errors import NotFound, StaleVersion
from features.events import from_us, to_us
from features.experiment import Experiment
from features.facts.file import FactsFile

T = TypeVar("T", bound=Offer | Placement | ContactPolicy | Lever | Experiment)
ABSENT = "absent"  # in place of an ETag: what must not be there yet
_KINDS: dict[type, tuple[str, str]] = {  # in the order of `Catalogue`
    Offer: ("offer", "offer_id"),
    Placement: ("placement", "placement_id"),
    ContactPolicy: ("contact_policy", "policy_id"),
    Lever: ("lever", "lever_id"),
    Experiment: ("experiment", "experiment_id"),
}


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """One catalogue object as stored. `version` is the catalogue version that brought it."""

    body: T
    version: int
    updated_at: datetime
    created: bool = False
    changed: bool = True

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One change of a catalogue object: what it became, when, and by whom. `body` is None where it was removed."""

    version: int
    at: datetime
    by: str | None  # None: nobody said
    body: T | None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything at one version, each ordered by id; archived offers included."""

    version: int
    offers: tuple[Offer, ...]
    placements: tuple[Placement, ...]
    contact_policies: tuple[ContactPolicy, ...] = ()
    levers: tuple[Lever, ...] = ()
    experiments: tuple[Experiment, ...] = ()


class CatalogueFacts(FactsFile):
    """Offers, placements, contact policies, levers and experiments."""

    def __init__(self, path: Path, wait_s: float = 30.0) -> None:
        super().__init__(path, wait_s)
        self._catalogue = Catalogue(0, (), ())  # as last read

    def catalogue_version(self) -> int:
        """Grows with every change of an object; 0 when there was none."""
        return int(self.meta("catalogue_version") or 0)

    def put(self, item: T, now: datetime, if_match: str | None = None, by: str | None = None) -> Stored[T]:
        """Replace one object whole. The same body again changes nothing, not even the version."""
        kind, key = _KINDS[type(item)]
        name = getattr(item, key)
        with self.transaction() as db:
            old = self._find(type(item), name)
            _check_match(old, if_match)
            if old is not None and old.body == item:
                return Stored(old.body, old.version, old.updated_at, created=False, changed=False)
            version = self._next_version(by)
            body = msgspec.json.encode(item).decode()
            db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (kind, name, version, body, to_us(now)))
            db.execute("INSERT INTO object_history VALUES (?, ?, ?, ?, ?)", (version, kind, name, body, to_us(now)))
            return Stored(item, version, now, created=old is None)

    def get(self, of: type[T], name: str) -> Stored[T]:
        found = self._find(of, name)
        if found is None:
            raise NotFound(_KINDS[of][0], name)
        return found

    def objects(self, of: type[T], limit: int, after: str = "") -> list[Stored[T]]:
        """Ordered by id, those behind `after`."""
        rows = self._rows(
            "SELECT body, version, updated_us FROM objects WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
            (_KINDS[of][0], after, limit),
        )
        return [_stored(of, *row) for row in rows]

    def removed(self, of: type[T], limit: int, after: str = "") -> list[Stored[T]]:
        """Those that were removed and did not come back, each as it last was; ordered by id, those behind `after`."""
        kind = _KINDS[of][0]
        rows = self._rows(
            "SELECT body, version, changed_us FROM object_history AS h WHERE kind = ? AND id > ? AND version = (SELECT "
            "max(version) FROM object_history WHERE kind = h.kind AND id = h.id AND body IS NOT NULL) AND NOT EXISTS "
            "(SELECT 1 FROM objects AS o WHERE o.kind = h.kind AND o.id = h.id) ORDER BY id LIMIT ?",
            (kind, after, limit),
        )
        return [_stored(of, *row) for row in rows]

    def stored_like(self, item: T) -> T | None:
        """The body that is stored under the same id; None if there is none."""
        try:
            return self.get(type(item), getattr(item, _KINDS[type(item)][1])).body
        except NotFound:
            return None

    def remove(self, of: type[T], name: str, now: datetime, if_match: str | None = None, by: str | None = None) -> None:
        """Delete an object; its history stays. Offers are archived by `put`, not removed."""
        kind = _KINDS[of][0]
        with self.transaction() as db:
            _check_match(self.get(of, name), if_match)
            db.execute("DELETE FROM objects WHERE kind = ? AND id = ?", (kind, name))
            db.execute(
                "INSERT INTO object_history VALUES (?, ?, ?, NULL, ?)", (self._next_version(by), kind, name, to_us(now))
            )

    def catalogue(self) -> Catalogue:
        """As it stands. What did not change since the last call is not read again."""
        with self._lock:
            while True:
                before, version = self._catalogue, self.catalogue_version()
                if version == before.version:
                    return before
                if not 0 < before.version < version:  # nothing was read yet, or the file was put back
                    found = _catalogue(version, self._rows("SELECT kind, body FROM objects ORDER BY kind, id"))
                else:
                    changed = "SELECT kind, id, body FROM object_history WHERE version > ? ORDER BY version"
                    found = _changed(before, version, self._rows(changed, (before.version,)))
                if self.catalogue_version() == version:  # else another process changed it in between
                    break
            if self._depth == 0:  # what a transaction did may yet be undone
                self._catalogue = found
            return found

    def catalogue_at(self, version: int) -> Catalogue:
        """The catalogue as it stood at `version`, for replay."""
        rows = self._rows(
            "SELECT kind, id, body FROM object_history AS h WHERE version = (SELECT max(version) FROM object_history "
            "WHERE kind = h.kind AND id = h.id AND version <= ?) AND body IS NOT NULL ORDER BY kind, id",
            (version,),
        )
        return _catalogue(version, [(kind, body) for kind, _, body in rows])

    def changes(self, of: type[T], name: str, limit: int = 50) -> list[Change[T]]:
        """Every change of one object, the newest first; those before a removal too."""
        rows = self._rows(
            "SELECT version, changed_us, changed_by, body FROM object_history LEFT JOIN object_authors USING (version) "
            "WHERE kind = ? AND id = ? ORDER BY version DESC LIMIT ?",
            (_KINDS[of][0], name, limit),
        )
        return [
            Change(version, from_us(at_us), by, None if body is None else msgspec.json.decode(body, type=of))
            for version, at_us, by, body in rows
        ]

    def _find(self, of: type[T], name: str) -> Stored[T] | None:
        rows = self._rows(
            "SELECT body, version, updated_us FROM objects WHERE kind = ? AND id = ?", (_KINDS[of][0], name)
        )
        return _stored(of, *rows[0]) if rows else None

    def _next_version(self, by: str | None) -> int:
        version = self.catalogue_version() + 1
        self.set_meta("catalogue_version", str(version))
        if by is not None:
            self._db.execute("INSERT INTO object_authors VALUES (?, ?)", (version, by))
        return version


def _check_match(old: Stored[Any] | None, if_match: str | None) -> None:
    if if_match is None:
        return
    if if_match == ABSENT:
        if old is not None:
            raise StaleVersion("absent", old.etag)
        return
    current = old.etag if old is not None else None
    given = [tag.strip().removeprefix("W/") for tag in if_match.split(",")]
    if current is None or (current not in given and "*" not in given):
        raise StaleVersion(if_match, current)


def _catalogue(version: int, rows: Iterable[tuple[str, str]]) -> Catalogue:
    found: dict[type, list[Any]] = {of: [] for of in _KINDS}
    types = {kind: of for of, (kind, _) in _KINDS.items()}
    for kind, body in rows:
        found[types[kind]].append(msgspec.json.decode(body, type=types[kind]))
    return Catalogue(version, *(tuple(found[of]) for of in _KINDS))


def _changed(before: Catalogue, version: int, rows: Iterable[tuple[str, str, str | None]]) -> Catalogue:
    """The catalogue after these changes, the last of each object counts; a body of None removes."""
    last: dict[type, dict[str, Any]] = {}
    types = {kind: of for of, (kind, _) in _KINDS.items()}
    for kind, name, body in rows:
        last.setdefault(types[kind], {})[name] = body
    kept: dict[type, tuple[Any, ...]] = {
        Offer: before.offers,
        Placement: before.placements,
        ContactPolicy: before.contact_policies,
        Lever: before.levers,
        Experiment: before.experiments,
    }
    for of, bodies in last.items():
        kept[of] = _replaced(kept[of], attrgetter(_KINDS[of][1]), bodies, of)
    return Catalogue(version, *(kept[of] for of in _KINDS))


def _replaced(
    kept: Sequence[T], name_of: Callable[[T], str], bodies: Mapping[str, str | None], of: type[T]
) -> tuple[T, ...]:
    """Ordered by id as before; the objects that did not change are the same ones."""
    found: list[T] = []
    done = 0
    for name in sorted(bodies):
        at = bisect_left(kept, name, lo=done, key=name_of)
        found += kept[done:at]
        done = at + 1 if at < len(kept) and name_of(kept[at]) == name else at
        if (body := bodies[name]) is not None:
            found.append(msgspec.json.decode(body, type=of))
    return (*found, *kept[done:])


def _stored(of: type[T], body: str, version: int, updated_us: int) -> Stored[T]:
    return Stored(msgspec.json.decode(body, type=of), version, from_us(updated_us))
