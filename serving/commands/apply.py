"""`nbo apply`: the catalogue as YAML, compared with what is stored, and put where it differs."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from features.errors import BadInput, ExperimentRefused, NotFound
from features.experiment import Experiment
from features.facts import Catalogue, Facts
from features.online import served_features
from serving import experiment_lifecycle
from serving.api.kinds import KINDS, CatalogueObject, Kind
from serving.api.known import Known
from serving.api.loose_ends import loose_ends
from serving.commands.yaml_file import Document, documents
from serving.problems import Fault, Invalid
from serving.settings import load_settings

AUTHOR = "nbo apply"  # of what it changes
MOST_FAULTS = 50  # shown
GROUPS = {kind.group: kind for kind in KINDS}
EXPERIMENTS = "experiments"
EXPECTED = ", ".join(f"`{group}:`" for group in GROUPS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object of a file, checked."""

    kind: Kind
    body: CatalogueObject
    at: str  # file:line

    @property
    def name(self) -> str:
        name: str = getattr(self.body, self.kind.key)
        return name

    @property
    def label(self) -> str:
        return f"{self.kind.name} {self.name}"


def run(files: Sequence[Path], *, dry_run: bool, as_json: bool) -> int:
    """Print the difference to what is stored, and store all or nothing. `BadInput` names file, line and field."""
    settings = load_settings()
    facts = Facts(settings.home.facts_db)
    try:
        currency = facts.data_settings().currency
        known = Known(currency, facts, lambda: served_features(facts), home=settings.home, now=settings.now)
        wanted = read(files, known)
        with facts.transaction():
            changes = [(one, _stored(facts, one)) for one in wanted]
            for one, old in changes:
                experiment_lifecycle.untouched(old, one.body, facts.catalogue().experiments)
                if isinstance(one.body, Experiment):
                    experiment_lifecycle.check_follows(old if isinstance(old, Experiment) else None, one.body)
            loose = _loose_ends(wanted, facts.catalogue())
            if not dry_run:
                for one in wanted:
                    facts.put(one.body, settings.now(), by=AUTHOR)
    finally:
        facts.close()
    changed = [(one, old) for one, old in changes if old != one.body]
    if as_json:
        _print_json(changes, dry_run)
        return 0
    for one, old in changed:
        print("".join(_diff(one, old)), end="")
    for one, told in loose:
        print(f"{one.at}: {one.label}: {told}", file=sys.stderr)
    done = "would change" if dry_run else "changed"
    print(f"{len(changed)} of {len(wanted)} objects {done}", file=sys.stderr)
    return 0


def read(files: Sequence[Path], known: Known) -> list[Wanted]:
    """The objects of all files; `BadInput` tells every fault of every file."""
    wanted: list[Wanted] = []
    faults: list[str] = []
    read_from = [document for path in files for document in documents(path)]
    for document in read_from:
        _read_document(document, known, wanted, faults)
    known.also = [one.body for one in wanted]
    known.doubtful = {name for document in read_from for name in _names(document)}
    for document in read_from:  # last: what experiments name may stand in any file
        for i, given in enumerate(_experiments_of(document)):
            _read_object(document, GROUPS[EXPERIMENTS], i, given, known, wanted, faults)
    first: dict[str, str] = {}
    for one in wanted:
        if one.label in first:
            faults.append(f"{one.at}: {one.label} stands twice, first at {first[one.label]}")
        first.setdefault(one.label, one.at)
    if faults:
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        told = "\n  ".join(["nothing was stored", *faults[:MOST_FAULTS], *more]) if len(faults) > 1 else faults[0]
        raise BadInput(told)
    return wanted


def _read_document(document: Document, known: Known, wanted: list[Wanted], faults: list[str]) -> None:
    if not isinstance(document.value, dict):
        faults.append(f"{document.at()}: expected {EXPECTED}, each a list of objects")
        return
    for group, objects in document.value.items():
        if group not in GROUPS:
            close = difflib.get_close_matches(str(group), GROUPS, 1)
            hint = f"; did you mean `{close[0]}:`?" if close else f"; expected {EXPECTED}"
            faults.append(f"{document.at(group)}: {group!r} is no kind of object{hint}")
        elif not isinstance(objects, list):
            faults.append(f"{document.at(group)}: {group} must be a list of objects")
        elif group != EXPERIMENTS:
            for i, given in enumerate(objects):
                _read_object(document, GROUPS[group], i, given, known, wanted, faults)


def _names(document: Document) -> Iterator[str]:
    """The ids of all objects, refused ones too: whoever names such a one is not told of another fault."""
    for group, objects in document.value.items() if isinstance(document.value, dict) else ():
        for given in objects if group in GROUPS and isinstance(objects, list) else ():
            if isinstance(given, dict) and isinstance(name := given.get(GROUPS[group].key), str):
                yield name


def _experiments_of(document: Document) -> list[object]:
    found = document.value.get(EXPERIMENTS) if isinstance(document.value, dict) else None
    return found if isinstance(found, list) else []


def _read_object(
    document: Document, kind: Kind, i: int, given: object, known: Known, wanted: list[Wanted], faults: list[str]
) -> None:
    if not isinstance(given, dict):
        faults.append(f"{document.at(kind.group, i)}: {kind.group}[{i}] must be an object")
        return
    try:
        wanted.append(Wanted(kind, kind.checked(given, known), document.at(kind.group, i)))
    except ExperimentRefused as error:
        faults.append(f"{document.at(kind.group, i)}: {kind.group}[{i}] ({given[kind.key]}): {error}")
    except Invalid as error:
        named = given.get(kind.key)
        if kind.key not in given and (misspelt := [name for name in given if _close_key(kind, name)]):
            at = document.at(kind.group, i, misspelt[0])
            faults.append(f"{at}: {kind.group}[{i}]: {misspelt[0]}: is not a field that we know; close is {kind.key}")
            return
        label = f"{kind.group}[{i}]" + (f" ({named})" if isinstance(named, str) else "")
        placed = [(_parts(fault), fault) for fault in error.faults]
        for parts, fault in sorted(placed, key=lambda one: document.line(kind.group, i, *one[0])):
            detail = fault.detail.removeprefix(f"{parts[-1]}: ") if parts else fault.detail
            detail += _close_field(kind, given, parts) if fault.code == "unknown_field" else ""
            faults.append(f"{document.at(kind.group, i, *parts)}: {label}: {'.'.join(parts)}: {detail}")


def _close_key(kind: Kind, name: object) -> bool:
    """Whether a field that nobody knows was meant to be the id."""
    known = [kind.key, *kind.body.model_fields]
    return name not in known and difflib.get_close_matches(str(name), known, 1) == [kind.key]


def _close_field(kind: Kind, given: Mapping[str, object], parts: Sequence[str]) -> str:
    """Names that were meant, for a field of the object itself; for one inside, there is no list to look in."""
    if len(parts) != 1:
        return ""
    unused = [name for name in (kind.key, *kind.body.model_fields) if name not in given]
    close = difflib.get_close_matches(parts[0], unused, 1)
    return f"; close is {close[0]}" if close else ""


def _parts(fault: Fault) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in fault.pointer.split("/")[1:]]


def _loose_ends(wanted: Sequence[Wanted], catalogue: Catalogue) -> list[tuple[Wanted, str]]:
    by_object = {id(one.body): one for one in wanted}
    return [(by_object[id(body)], told) for body, told in loose_ends([one.body for one in wanted], catalogue)]


def _stored(facts: Facts, one: Wanted) -> CatalogueObject | None:
    try:
        return facts.get(type(one.body), one.name).body
    except NotFound:
        return None


def _diff(one: Wanted, old: CatalogueObject | None) -> Iterator[str]:
    before = [] if old is None else _lines(old)
    yield from difflib.unified_diff(before, _lines(one.body), f"stored {one.label}", f"wanted {one.label}", n=1)


def _lines(body: CatalogueObject) -> list[str]:
    return yaml.safe_dump(msgspec.to_builtins(body), sort_keys=False, allow_unicode=True).splitlines(keepends=True)


def _print_json(changes: Sequence[tuple[Wanted, CatalogueObject | None]], dry_run: bool) -> None:
    state = [
        {
            "kind": one.kind.name.replace(" ", "_"),
            "id": one.name,
            "change": "none" if old == one.body else "created" if old is None else "replaced",
        }
        for one, old in changes
    ]
    print(json.dumps({"dry_run": dry_run, "objects": state}))
