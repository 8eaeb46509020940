"""Reports of experiments for the service: computed in a process of its own, at the lowest priority, one at a time.

Whoever answers decisions must not wait for statistics: not for their imports, their memory, nor for the processor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from features.errors import BadInput, ExperimentRefused
from features.experiment import HOLDOUT, Experiment
from features.facts import Facts
from features.holdout import holdout_of
from features.home import Home
from serving.problems import Busy

FRESH_S = 60.0  # a report is given again for so long
LONGEST_S = 300.0  # a report that takes longer is given up
MOST_KEPT = 16
WAIT_S = 5  # what who finds it busy is told to wait
BUSY, WRONG = 75, 2  # exit codes of the other process: somebody else computes one; a field is wrong

NOT_STARTED = "experiment_not_started"

Run = Callable[[Home, str, datetime, Sequence[str], Path], tuple[int, str]]


class Made(NamedTuple):
    """One report in the formats that are asked for."""

    json: bytes
    html: bytes


def reportable(facts: Facts, experiment_id: str) -> Experiment:
    """The experiment, or the holdout as one. `NotFound`; `ExperimentRefused` if it never began."""
    if experiment_id == HOLDOUT:
        holdout = holdout_of(facts)
        if holdout is None:
            raise ExperimentRefused(
                NOT_STARTED, "nobody was ever held out; the setting experiments.holdout is the share of those who are"
            )
        return holdout
    experiment = facts.get(Experiment, experiment_id).body
    if experiment.status == "draft":
        raise ExperimentRefused(NOT_STARTED, f"{experiment_id} is a draft: there is nothing to report yet")
    return experiment


class Reporter:
    """Reports of one worker, each kept for a minute. Between workers a file lock lets only one be computed."""

    def __init__(self, home: Home, run: Run | None = None) -> None:
        self._home, self._run = home, run or run_aside
        self._computing = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], tuple[float, Made]] = OrderedDict()

    def report(self, experiment: Experiment, at: datetime, segments: Sequence[str] = ()) -> Made:
        """Blocks for seconds up to minutes. `Busy` while another one is computed; `BadInput` for unknown segments."""
        key = (msgspec.json.encode(experiment).decode(), *segments)
        if (kept := self._fresh(key)) is not None:
            return kept
        if not self._computing.acquire(blocking=False):
            raise Busy("another report is being computed", WAIT_S)
        try:
            made = self._compute(experiment.experiment_id, at, segments)
            self._kept[key] = (time.monotonic(), made)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return made
        finally:
            self._computing.release()

    def _fresh(self, key: tuple[str, ...]) -> Made | None:
        since, made = self._kept.get(key, (0.0, None))
        return made if made is not None and time.monotonic() - since < FRESH_S else None

    def _compute(self, experiment_id: str, at: datetime, segments: Sequence[str]) -> Made:
        with tempfile.TemporaryDirectory(prefix="nbo-report-") as scratch:
            code, said = self._run(self._home, experiment_id, at, segments, Path(scratch))
            if code == BUSY:
                raise Busy("another report is being computed", WAIT_S)
            if code == WRONG:
                wrong = json.loads(said.strip().splitlines()[-1])
                raise BadInput(wrong["detail"], wrong["field"])
            if code != 0:
                raise RuntimeError(f"the report of {experiment_id} failed with exit code {code}: {said[-2_000:]}")
            return Made(*((Path(scratch) / f"report.{ending}").read_bytes() for ending in Made._fields))


def run_aside(home: Home, experiment_id: str, at: datetime, segments: Sequence[str], folder: Path) -> tuple[int, str]:
    """Another process writes `report.json` and `report.html`; its exit code and what it said."""
    command = [sys.executable, "-m", "serving.commands.report_process", str(home.root), experiment_id, at.isoformat()]
    environ = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    try:
        done = subprocess.run(
            [*command, str(folder), *segments],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Busy(f"after {LONGEST_S:.0f} s the report was not there: decisions go first", WAIT_S) from late
    return done.returncode, done.stderr.decode(errors="replace")
