"""docs/reference/http.md keeps up with the door."""

from __future__ import annotations

import re

import pytest

from features.errors import NboError
from serving.app import CODES, STATUS
from serving.keys import SCOPES
from tests.conftest import ROOT

PAGE = (ROOT / "docs/reference/http.md").read_text()


def kinds(error):
    """The error and all below it."""
    yield error
    for kind in error.__subclasses__():
        yield from kinds(kind)


def status_of(kind):
    return next(STATUS[one] for one in kind.__mro__ if one in STATUS)


def test_every_status_and_code_is_in_the_reference():
    written = {(int(status), code) for status, code in re.findall(r"^\| (\d+) \| `(\w+)`", PAGE, re.MULTILINE)}
    used = {(status_of(kind), kind.code) for kind in kinds(NboError) if status_of(kind) not in (422, 500)}
    used |= {(422, "invalid")}
    used |= {(status, code) for status, code in CODES.items()} | {(500, "internal"), (503, "not_ready")}
    assert used <= written


@pytest.mark.parametrize("scope", SCOPES)
def test_what_a_scope_opens_is_what_the_description_says(anybody, scope):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{scope}` |")]
    paths = anybody.get("/openapi.json").json()["paths"]
    opened = {
        path.split("/{")[0]
        for path, methods in paths.items()
        for method in methods.values()
        if method["security"] and scope in method["security"][0]["key"]
    }
    assert {path.split("/{")[0] for path in re.findall(r"/v1/[\w/{}-]+", row)} == opened


def test_every_operation_is_summed_up_by_the_first_sentence_of_its_description(anybody):
    for methods in anybody.get("/openapi.json").json()["paths"].values():
        for operation in methods.values():
            said = " ".join(operation["description"].split())
            assert said.startswith(operation["summary"])
            assert not operation["summary"].endswith(".")
            assert ". " not in operation["summary"]


def test_the_page_begins_with_how_to_call(anybody):
    page = anybody.get("/docs").text
    assert page.index("Authorization: Bearer") < page.index("<details>")
    assert "curl -s" in page
