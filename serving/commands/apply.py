"""`nbo apply`: offers and placements as YAML, compared with what is stored, and put where they differ."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import yaml

from features.catalogue import Offer, Placement
from features.errors import BadInput, NotFound
from features.facts import Facts
from serving.api import offers, placements
from serving.api.fields import ObjectId
from serving.settings import load_settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object of a file, checked."""

    kind: str
    name: str
    body: Offer | Placement


class Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not the last one's silent win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


# Times stay text, so that they are checked as in the API.
Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def run(files: Sequence[Path], *, dry_run: bool, as_json: bool) -> int:
    """Print the difference to what is stored, and store all or nothing. `BadInput` names file, object and field."""
    settings = load_settings()
    facts = Facts(settings.home.facts_db)
    try:
        currency = facts.data_settings().currency
        wanted = [one for path in files for one in read(path, currency)]
        _each_once(wanted)
        with facts.transaction():
            changes = [(one, _stored(facts, one)) for one in wanted]
            if not dry_run:
                for one in wanted:
                    facts.put(one.body, settings.now())
    finally:
        facts.close()
    changed = [(one, old) for one, old in changes if old != one.body]
    if as_json:
        _print_json(changes, dry_run)
        return 0
    for one, old in changed:
        print("".join(_diff(one, old)), end="")
    done = "would change" if dry_run else "changed"
    print(f"{len(changed)} of {len(wanted)} objects {done}", file=sys.stderr)
    return 0


def read(path: Path, currency: str) -> Iterator[Wanted]:
    """The offers and placements of one file; `BadInput` names file, object and field."""
    try:
        documents = [d for d in yaml.load_all(path.read_text(), Loader=Loader) if d is not None]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid YAML: {error}") from None
    for document in documents:
        if not isinstance(document, dict) or not document or set(document) - {"offers", "placements"}:
            raise BadInput(f"{path}: expected `offers:` or `placements:`, each a list of objects")
        for group, objects in document.items():
            if not isinstance(objects, list):
                raise BadInput(f"{path}: {group} must be a list")
            for at, one in enumerate(objects):
                yield _wanted(f"{path}: {group}[{at}]", group, one, currency)


def _wanted(where: str, group: str, given: Any, currency: str) -> Wanted:
    kind = group.removesuffix("s")
    if not isinstance(given, dict):
        raise BadInput(f"{where} must be an object")
    fields = dict(given)
    name = fields.pop(f"{kind}_id", None)
    try:
        name = pydantic.TypeAdapter(ObjectId).validate_python(name)
        made = (offers if group == "offers" else placements).from_fields(name, fields, currency)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or f"{kind}_id"
        raise BadInput(f"{where} ({name}): {field}: {first['msg']}", field) from None
    except BadInput as error:
        raise BadInput(f"{where} ({name}): {error}", error.field) from None
    return Wanted(kind, name, made)


def _each_once(wanted: Sequence[Wanted]) -> None:
    seen = set()
    for one in wanted:
        if (one.kind, one.name) in seen:
            raise BadInput(f"the {one.kind} {one.name!r} stands twice")
        seen.add((one.kind, one.name))


def _stored(facts: Facts, one: Wanted) -> Offer | Placement | None:
    try:
        return facts.get(type(one.body), one.name).body
    except NotFound:
        return None


def _diff(one: Wanted, old: Offer | Placement | None) -> Iterator[str]:
    before = [] if old is None else _lines(old)
    label = f"{one.kind} {one.name}"
    yield from difflib.unified_diff(before, _lines(one.body), f"stored {label}", f"wanted {label}", n=1)


def _lines(body: Offer | Placement) -> list[str]:
    return yaml.safe_dump(msgspec.to_builtins(body), sort_keys=False, allow_unicode=True).splitlines(keepends=True)


def _print_json(changes: Sequence[tuple[Wanted, Offer | Placement | None]], dry_run: bool) -> None:
    state = [
        {
            "kind": one.kind,
            "id": one.name,
            "change": "none" if old == one.body else "created" if old is None else "replaced",
        }
        for one, old in changes
    ]
    print(json.dumps({"dry_run": dry_run, "objects": state}))
