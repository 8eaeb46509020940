"""`nbo ingest`: what it prints, and its exit codes."""

from __future__ import annotations

import json

import pytest

from features.errors import BadInput, TooManyRefused
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
        {"table": "events", "source": "events.jsonl", "n_rows": 2, "kept": 1, "duplicates": 0,
         "refused": {"unknown_event_type": 1}},
    ]  # fmt: skip


def test_too_many_refused_rows_name_their_file(tables):
    with pytest.raises(TooManyRefused, match=r"1 of 2 rows were refused .*/refused/.*\.parquet"):
        run(str(tables), source=None, max_refused=None, as_json=False)


def test_a_share_is_from_0_to_1(tables):
    with pytest.raises(BadInput, match="share"):
        run(str(tables), source=None, max_refused=5, as_json=False)
