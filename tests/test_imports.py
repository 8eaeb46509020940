"""The request path stays light: a worker loads no training library."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("lightfm", "sklearn", "mlflow", "pandas", "feast", "duckdb", "ibis", "matplotlib", "pyarrow")


@pytest.mark.parametrize("module", ["serving.app", "serving.wiring", "training.scorers", "features.online"])
def test_the_request_path_loads_no_training_library(module):
    code = f"import sys, {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_of_experiments_the_request_path_loads_assignment_and_what_metrics_are_called():
    code = "import sys, serving.app, serving.wiring; print(*[m for m in sys.modules if m.startswith('experiments.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"experiments.assignment", "experiments.metrics"}


def test_the_command_line_imports_nothing_of_the_rooms_before_a_command_runs():
    code = "import sys, serving.cli; print(*[m for m in sys.modules if m.split('.')[0] in ('features', 'training')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
