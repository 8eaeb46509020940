"""`nbo schema`: what an editor is told of a catalogue file is what `nbo apply` takes."""

from __future__ import annotations

import contextlib
import json
import re
from types import NoneType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.facts import Facts
from serving.api.kinds import KINDS
from serving.api.known import Known
from serving.commands.schema import run, schema
from serving.commands.yaml_file import loaded
from serving.problems import Invalid
from tests.serving.api.test_api_fuzz import ODD, places, replaced
from tests.serving.catalogue_files import EVERYTHING, blocks


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    facts = Facts(tmp_path_factory.mktemp("known") / "facts.db")
    yield Known("EUR", facts, lambda: None)
    facts.close()


MADE = schema()
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": NoneType,
}


def faults(value, wanted, root, at=""):
    """What does not fit, by the few words of JSON Schema that the schema uses; another word is a KeyError."""
    for word, bound in wanted.items():
        yield from CHECKS[word](value, bound, wanted, root, at)


def fits(value, kind):
    return isinstance(value, TYPES[kind]) and not (isinstance(value, bool) and kind in ("number", "integer"))


def check_properties(value, given, wanted, root, at):
    for name in value if isinstance(value, dict) else ():
        if name in given:
            yield from faults(value[name], given[name], root, f"{at}/{name}")


def check_unknown(value, given, wanted, root, at):
    if given is False and isinstance(value, dict):
        yield from (f"{at}/{name}: unknown" for name in value if name not in wanted["properties"])


def check_items(value, given, wanted, root, at):
    for i, one in enumerate(value if isinstance(value, list) else ()):
        yield from faults(one, given, root, f"{at}/{i}")


def check_any(value, given, wanted, root, at):
    if not any(not list(faults(value, one, root, at)) for one in given):
        yield f"{at}: fits none"


def when(kind, holds):
    """A check that says nothing of values of another kind."""

    def check(value, given, wanted, root, at):
        if isinstance(value, kind) and not isinstance(value, bool) and not holds(value, given):
            yield f"{at}: {value!r} against {given!r}"

    return check


def nothing(*_):
    return ()


CHECKS = {
    "$ref": lambda value, given, _, root, at: faults(value, root["$defs"][given.rpartition("/")[2]], root, at),
    "type": lambda value, given, _, root, at: [] if fits(value, given) else [f"{at}: not {given}"],
    "enum": lambda value, given, _, root, at: [] if value in given else [f"{at}: not one of {given}"],
    "const": lambda value, given, _, root, at: [] if value == given else [f"{at}: not {given}"],
    "anyOf": check_any,
    "properties": check_properties,
    "additionalProperties": check_unknown,
    "items": check_items,
    "required": when(dict, lambda value, given: set(given) <= set(value)),
    "pattern": when(str, lambda value, given: re.search(given, value)),
    "minLength": when(str, lambda value, given: len(value) >= given),
    "maxLength": when(str, lambda value, given: len(value) <= given),
    "minItems": when(list, lambda value, given: len(value) >= given),
    "maxItems": when(list, lambda value, given: len(value) <= given),
    "minimum": when((int, float), lambda value, given: value >= given),
    "maximum": when((int, float), lambda value, given: value <= given),
    "exclusiveMinimum": when((int, float), lambda value, given: value > given),
    "format": nothing,
    **dict.fromkeys(("$schema", "$defs", "title", "description", "default"), nothing),
}


def found(text):
    (value,) = loaded(text)
    return list(faults(value, MADE, MADE))


@pytest.mark.parametrize(("page", "text"), blocks(), ids=lambda one: one[:20])
def test_every_catalogue_file_in_the_docs_fits(page, text):
    assert found(text) == []


def test_a_file_with_every_field_fits():
    assert found(EVERYTHING) == []


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ("offers:", "ofers:", "/ofers"),
        ("value: 12.5", "valeu: 12.5", "/offers/0/valeu"),
        ("value: 12.5", "value: much", "/offers/0/value"),
        ("status: approved", "status: live", "/offers/0/status"),
        ("per: accept", "per: click", "/offers/0/cost"),
        ("window: 7d", "window: 7 days", "/contact_policies/0/caps/0/window"),
        ("policy_id: calm", "policy_id: two words", "/contact_policies/0/policy_id"),
        ("factor: 1.3", "factor: 0", "/levers/0/factor"),
    ],
)
def test_a_fault_is_marked_where_it_stands(old, new, at):
    assert old in EVERYTHING
    assert [one for one in found(EVERYTHING.replace(old, new)) if one.startswith(at)]


@st.composite
def near_misses(draw):
    """The file with every field, up to three of its values replaced by something odd."""
    (value,) = loaded(EVERYTHING)
    for _ in range(draw(st.integers(1, 3))):
        value = replaced(value, draw(st.sampled_from(list(places(value))[1:])), draw(ODD | st.integers() | st.text()))
    return value


@settings(max_examples=100, deadline=None)
@given(near_misses())
def test_what_the_service_takes_no_editor_marks(known, value):
    taken = {}
    for kind in KINDS:
        taken[kind.group] = []
        for one in value[kind.group] if isinstance(value.get(kind.group), list) else ():
            with contextlib.suppress(Invalid):
                if isinstance(one, dict) and kind.checked(one, known):
                    taken[kind.group].append(one)
    assert list(faults(taken, MADE, MADE)) == []


def test_the_schema_is_printed_or_written(tmp_path, capsys):
    run(None)
    assert json.loads(capsys.readouterr().out) == schema()
    run(tmp_path / "nbo.schema.json")
    assert json.loads((tmp_path / "nbo.schema.json").read_text()) == schema()
