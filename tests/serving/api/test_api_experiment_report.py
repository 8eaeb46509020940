"""Reports over HTTP: computed aside, one at a time, kept for a minute."""

from __future__ import annotations

import fcntl
import threading
from datetime import timedelta

import pytest

from features.home import Home
from serving import report_aside
from serving.api.experiment_reports import ReportOut, prefers_page
from serving.commands import report_process
from serving.problems import Busy
from serving.report_aside import BUSY, WRONG, Reporter, run_aside
from tests.conftest import NOW
from tests.serving.planted import plant, planted

PATH = "/v1/experiments/sampling/report"


@pytest.fixture
def started(service):
    service.facts.put(planted(), service.now)


class Aside:
    """In place of the other process."""

    def __init__(self, code=0, said=""):
        self.code, self.said, self.asked = code, said, []

    def __call__(self, home, experiment_id, at, segments, folder):
        self.asked.append((experiment_id, tuple(segments)))
        (folder / "report.json").write_bytes(b'{"n": %d}' % len(self.asked))
        (folder / "report.html").write_bytes(b"<!doctype html>")
        return self.code, self.said


@pytest.fixture
def aside(app, service, client, started):
    made = Aside()
    app.state.reporter = Reporter(service.settings.home, made)
    yield made
    del app.state.reporter


def test_the_other_process_is_really_another_one_and_leaves_when_one_is_at_it(service, tmp_path):
    with (service.settings.home.root / ".report.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run_aside(service.settings.home, "sampling", NOW, (), tmp_path) == (BUSY, "")


def test_a_report_comes_whole_from_what_the_other_process_writes(app, service, client, monkeypatch):
    monkeypatch.setattr(report_process, "yield_to_others", lambda: None)  # of this process nobody waits for less
    monkeypatch.setattr(report_process.signal, "alarm", lambda seconds: 0)

    def here(home, experiment_id, at, segments, folder):
        return report_process.main([str(home.root), experiment_id, at.isoformat(), str(folder), *segments]), ""

    plant(service.settings.home, planted(started_at=NOW - timedelta(days=2)), n=250)
    service.now = NOW
    app.state.reporter = Reporter(service.settings.home, here)
    try:
        answer = client.get(PATH, params={"segment": "known"})
        page = client.get(PATH, params={"segment": "known"}, headers={"Accept": "text/html"})  # kept, not again
    finally:
        del app.state.reporter
    assert answer.status_code == 200, answer.text
    told = ReportOut.model_validate(answer.json())
    assert (told.experiment_id, told.n_units, told.verdict.decision) == ("sampling", 250, "keep running")
    assert told.metrics[0].effects[0].relative > 0.5
    assert told.paths[0].looks[-1].always_low > 0
    assert page.text.startswith("<!doctype html>")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_report_is_given_again_until_a_minute_is_over_or_the_experiment_changed(aside, client, service, monkeypatch):
    assert [client.get(PATH).json()["n"] for _ in range(2)] == [1, 1]
    assert client.get(PATH, params={"segment": "tier"}).json()["n"] == 2
    service.facts.put(planted(planned_units=500), service.now)
    assert client.get(PATH).json()["n"] == 3
    monkeypatch.setattr(report_aside, "FRESH_S", 0.0)
    assert client.get(PATH).json()["n"] == 4


def test_while_one_is_computed_another_is_told_to_wait_and_a_kept_one_is_given(tmp_path):
    going, free = threading.Event(), threading.Event()

    class Slow(Aside):
        def __call__(self, home, experiment_id, *rest):
            if experiment_id == "slow":
                going.set()
                assert free.wait(10)
            return super().__call__(home, experiment_id, *rest)

    reporter = Reporter(Home(tmp_path), Slow())
    kept = reporter.report(planted("kept"), NOW)
    thread = threading.Thread(target=reporter.report, args=(planted("slow"), NOW))
    thread.start()
    try:
        assert going.wait(10)
        with pytest.raises(Busy):
            reporter.report(planted("other"), NOW)
        assert reporter.report(planted("kept"), NOW) is kept
    finally:
        free.set()
        thread.join(10)
    assert reporter.report(planted("other"), NOW).json == b'{"n": 3}'


def test_who_finds_another_worker_at_it_is_told_when_to_come_back(aside, client):
    aside.code = BUSY
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "5")


def test_an_unknown_segment_is_named(aside, client):
    aside.code, aside.said = WRONG, 'noise\n{"detail": "\'x\' is not known of customers", "field": "segments"}\n'
    answer = client.get(PATH, params={"segment": "x"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "segments")


def test_a_process_that_fails_is_an_error_and_the_next_one_is_tried(aside, client):
    aside.code, aside.said = 1, "Traceback"
    assert client.get(PATH).status_code == 500
    aside.code = 0
    assert client.get(PATH).status_code == 200


def test_drafts_and_strangers_are_refused_before_anything_is_computed(aside, client, service):
    service.facts.put(planted("new", status="draft", started_at=None, phases=()), service.now)
    draft = client.get("/v1/experiments/new/report")
    assert (draft.status_code, draft.json()["code"]) == (409, "experiment_not_started")
    assert client.get("/v1/experiments/nobody/report").status_code == 404
    assert client.get("/v1/experiments/holdout/report").status_code == 409
    assert client.get(PATH, params={"other": "x"}).status_code == 422
    assert aside.asked == []


def test_it_needs_a_key_of_the_catalogue(aside, client_with):
    assert client_with("decide").get(PATH).status_code == 403


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("text/html,application/xhtml+xml,*/*;q=0.8", True),  # a browser
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=odd", False),
    ],
)
def test_a_page_is_given_to_who_asks_for_html_by_name(accept, page):
    assert prefers_page(accept) is page
