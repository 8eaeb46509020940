"""`nbo ingest`: what it prints, and its exit codes."""

from __future__ import annotations

import json

import pytest

from features.errors import BadInput, BadRecipe, TooManyRefused
from serving.commands.ingest import run

GOOD = '{"event_id": "e-1", "event_type": "visit", "customer_id": "c-1", "occurred_at": "2026-03-01T10:00:00Z"}\n'
BAD = '{"event_id": "e-2", "event_type": "wink", "customer_id": "c-1", "occurred_at": "2026-03-01T10:00:00Z"}\n'


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A folder with one good and one bad event, and an NBO_HOME of its own."""
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NBO_AS_OF", "2026-03-04T12:00:00Z")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "events.jsonl").write_text(GOOD + BAD)
    return tmp_path / "tables"


def test_the_summary_counts_by_table_and_reason(tables, capsys):
    assert run(str(tables), source=None, max_refused=0.5, as_json=False) == 0
    printed = capsys.readouterr()
    assert "refused: 1 unknown_event_type" in printed.out
    assert "events of 2026-03-01 to 2026-03-01" in printed.out
    assert printed.err == ""


def test_json_is_one_object_on_stdout(tables, capsys):
    assert run(str(tables), source=None, max_refused=0.5, as_json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tables"] == [
        {"table": "events", "source": "events.jsonl", "n_rows": 2, "kept": 1, "duplicates": 0, "erased": 0,
         "refused": {"unknown_event_type": 1}},
    ]  # fmt: skip


def test_too_many_refused_rows_name_their_file(tables):
    with pytest.raises(TooManyRefused, match=r"1 of 2 rows were refused .*/refused/.*\.parquet"):
        run(str(tables), source=None, max_refused=None, as_json=False)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_refused_ingest_counts_by_table_and_reason_too(tables, capsys, as_json):
    with pytest.raises(TooManyRefused, match="events: 1 of 2"):
        run(str(tables), source=None, max_refused=None, as_json=as_json)
    printed = capsys.readouterr().out
    if as_json:
        found = json.loads(printed)
        assert (found["table"], found["tables"][0]["refused"]) == ("events", {"unknown_event_type": 1})
    else:
        assert "refused: 1 unknown_event_type" in printed


def test_a_shipped_recipe_without_its_source_says_what_to_add(tables):
    with pytest.raises(BadInput, match="starbucks is a shipped recipe: add --source DIR"):
        run("starbucks", source=None, max_refused=None, as_json=False)


def test_a_source_that_is_not_there_is_named(tables):
    with pytest.raises(BadInput, match=r"the source .*/nowhere is not a folder"):
        run("starbucks", source=tables / "nowhere", max_refused=None, as_json=False)


def test_a_recipe_on_the_wrong_folder_names_its_query_and_the_folder(tables):
    with pytest.raises(
        BadRecipe, match=r"starbucks_offers/customers.sql does not find its files in the source .*tables"
    ):
        run("starbucks", source=tables, max_refused=None, as_json=False)
