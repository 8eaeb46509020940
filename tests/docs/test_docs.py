"""What the docs show is true: links, commands, settings, features."""

from __future__ import annotations

import re
import shlex
from dataclasses import MISSING, fields

import pytest
import typer.main

from features.definitions import FEATURES
from serving.cli import app
from serving.settings import Settings, configurable
from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)#]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^\$ |`|&& |^)nbo ([a-z][^`\n|#&]*)", re.MULTILINE)


@pytest.fixture(scope="module")
def commands():
    """Every command of the command line, as words."""

    def walk(group, words):
        for name, command in group.commands.items():
            yield (*words, name)
            if hasattr(command, "commands"):
                yield from walk(command, (*words, name))

    return set(walk(typer.main.get_command(app), ()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_holds_a_placeholder_for_a_figure(page):
    found = re.findall(r"\b(?:TODO|TBD|FIXME|XXX|[A-Z]+_(?:SAID|RANK|FIGURE))\b", page.read_text())
    assert not found, found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_nbo_command_in_the_docs_exists(page, commands):
    for text in COMMAND.findall(page.read_text()):
        words = [word for word in shlex.split(text.replace("…", "")) if not word.startswith("-")]
        assert (words[0],) in commands, text
        if any(command[0] == words[0] and len(command) == 2 for command in commands):
            subcommands = words[1].split("|") if len(words) > 1 else []
            for subcommand in subcommands:
                assert (words[0], subcommand) in commands, text


def test_the_settings_page_lists_every_setting_with_its_default():
    page = (ROOT / "docs/reference/settings.md").read_text()
    defaults = {f.name: f.default for f in fields(Settings) if f.default is not MISSING}
    rows = {tuple(cell.strip(" `") for cell in line.split("|")[1:4]) for line in page.splitlines() if "|" in line}
    for name, (place, variable) in configurable().items():
        default = defaults[name]
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        words = {None: "the real time", False: "false", True: "true", "": "none"}
        shown = f"{default:g}" if is_number else words.get(default, default)
        assert (place, variable, shown) in rows, name


def test_the_feature_page_is_what_the_declaration_says():
    from features.definitions.page import reference_page

    page = (ROOT / "docs/reference/features.md").read_text()
    assert page == reference_page(), "run: python -m features.definitions.page > docs/reference/features.md"
    assert all(f"`{feature.name}`" in page for feature in FEATURES)


def test_every_make_target_in_the_docs_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z-]+)`", page.read_text())) <= targets, page.name


def test_every_decision_record_names_its_state_and_its_choice():
    for record in sorted((ROOT / "docs/decisions").glob("*.md")):
        text = record.read_text()
        assert re.match(rf"# {record.name[:4]} .+\n(Accepted|Superseded)", text), record.name
        assert "Decision:" in text
        assert "Rejected:" in text


def test_the_lock_is_hashed_and_names_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pins = re.findall(r"^[a-z0-9].*==.*$", lock, re.MULTILINE)
    assert len(pins) > 100
    assert all(pin.rstrip().endswith("\\") for pin in pins)
