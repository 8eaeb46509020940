"""The how-to of the digest names the limits that the code has."""

from __future__ import annotations

from experiments.digest import likings, said
from tests.conftest import ROOT

PAGE = (ROOT / "docs/how-to/read-the-weekly-digest.md").read_text()


def test_the_page_names_the_limits_as_they_are():
    assert said.FEWEST_PEOPLE == 3
    assert "at least three people" in PAGE
    assert f"at most {said.LONGEST} characters" in PAGE
    assert f"at most {likings.MOST_VALUES} values" in PAGE
