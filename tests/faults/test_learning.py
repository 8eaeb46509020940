"""Learning when stores fail: decisions go on with the beliefs they have, and nothing is lost or counted twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from features.errors import StoreUnavailable
from features.facts import Catalogue
from serving.catalogue_view import CatalogueView
from serving.learning import learner as learner_module
from serving.learning.learner import POLL_S
from tests.conftest import ROOT
from tests.serving.conftest import an_offer
from tests.serving.learning_log import open_learners, open_shop

VIEW = CatalogueView(Catalogue(1, (an_offer("o-1"),), ()))


class BrokenLog:
    """A log that answers when it is told to."""

    def __init__(self, log):
        self.log, self.error = log, None

    def __getattr__(self, name):
        if self.error is not None:
            raise self.error
        return getattr(self.log, name)


class Clock:
    """Stands in for the module `time` of the learner, so that no limit depends on how fast this machine is."""

    def __init__(self):
        self.now = 1_000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(learner_module, "time", clock)
    return clock


@pytest.fixture
def shop(tmp_path):
    yield from open_shop(tmp_path)


@pytest.fixture
def learner_of(shop, tmp_path):
    yield from open_learners(shop, tmp_path)


def factor(learner):
    return float(learner.beliefs(VIEW, "7", "web").factor[0])


@pytest.mark.parametrize("error", [StoreUnavailable("the log did not answer"), OSError("disk"), ValueError("odd")])
def test_while_the_log_does_not_answer_beliefs_stay_and_the_delay_grows(shop, learner_of, clock, error, caplog):
    log = BrokenLog(shop.log)
    learner = learner_of(log=log)
    shop.shown("d-1", taken=True)
    learner.refresh()
    believed = factor(learner)
    assert believed > 1
    log.error = error
    shop.shown("d-2", customer="c-2")
    clock.now += 30
    learner.refresh()
    learner.refresh()
    assert factor(learner) == believed
    assert learner.delay_s == 30 - 2 * POLL_S
    assert learner.error == str(error)
    assert len([r for r in caplog.records if "learning waits" in r.message]) == 1
    log.error = None
    learner.refresh()
    assert factor(learner) < believed
    assert learner.delay_s == 0
    assert learner.error is None


def test_a_learner_whose_thread_hangs_says_so_by_its_delay(shop, learner_of, clock):
    learner = learner_of()
    clock.now += 30
    assert learner.delay_s == 30 - 2 * POLL_S
    learner.refresh()
    assert learner.delay_s == 0


def test_while_the_file_is_locked_beliefs_stay(shop, learner_of, tmp_path):
    learner = learner_of(poll_s=0.01)
    learner.refresh()
    shop.shown("d-1", taken=True)
    other = sqlite3.connect(tmp_path / "learning.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    learner.refresh()
    assert factor(learner) == 1.0
    assert "cannot be written" in learner.error
    other.execute("ROLLBACK")
    other.close()
    learner.refresh()
    assert factor(learner) > 1.0


def test_a_file_that_is_no_database_stops_learning_and_nothing_else(shop, learner_of, tmp_path):
    path = tmp_path / "learning.db"
    path.write_bytes(b"this is not a database, whatever else it may be" * 100)
    learner = learner_of()
    learner.start()
    shop.shown("d-1", taken=True)
    learner.refresh()
    assert factor(learner) == 1.0
    assert "delete it" in learner.error
    with pytest.raises(StoreUnavailable, match="delete it"):
        learner.beliefs_at(3, VIEW, "7", "web")
    path.unlink()
    learner.refresh()
    assert factor(learner) > 1.0


def test_a_folder_that_cannot_be_written_stops_learning_and_nothing_else(shop, learner_of, tmp_path):
    (tmp_path / "file").write_text("in the way")
    learner = learner_of("file/learning.db")
    learner.refresh()
    assert factor(learner) == 1.0
    assert learner.error is not None


FOLDS = """
import sys
from pathlib import Path
from features.sqlite_log import SqliteLog
from serving.learning import learner as module
from serving.learning.learner import Learner
module.FOLD_ROWS = 5
folder = Path(sys.argv[1])
learner = Learner(SqliteLog(folder / "log.db"), folder / "learning.db", prior_strength=20.0)
print("ready", flush=True)
while True:
    learner.refresh()
"""


def test_a_worker_killed_while_it_folds_leaves_what_it_finished_and_nothing_else(shop, learner_of, tmp_path):
    for n in range(150):
        shop.shown(f"d-{n}", customer=f"c-{n}", taken=n % 3 == 0)
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", FOLDS, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
        child.stdout.readline()
        time.sleep(0.03)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    survivor, alone = learner_of(), learner_of("alone.db")
    survivor.refresh()
    alone.refresh()
    assert survivor.position == alone.position == shop.log.last_position()
    one, other = (learner.beliefs(VIEW, "7", "web") for learner in (survivor, alone))
    assert one.shape.tobytes() == other.shape.tobytes()
    assert one.rate.tobytes() == other.rate.tobytes()
    assert one.n_seen[0] == 150
