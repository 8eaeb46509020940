"""What every test may ask for."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("nbo", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("nbo")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is loaded: each worker has a processor of its own

ROOT = Path(__file__).resolve().parent.parent
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday
LONGEST = (  # of few tests and a minute or so each: begun first, so that no worker is left with one at the end
    "docs/test_notebook.py", "e2e/test_demo.py", "docs/test_tutorial.py", "e2e/test_champions.py",
    "training/test_search.py", "e2e/test_simulate.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The rest stays in its order, the tests of a file together; `make test` keeps this order between workers."""
    folder = ROOT / "tests"
    place = {folder / name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_configure() -> None:
    """A shell starts what runs in the background with Ctrl-C ignored, which children inherit; tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("NBO_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set NBO_SHARED_DATA")
    return folder


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture(autouse=True)
def _tables_of_mlflow_once() -> None:
    """MLflow makes a new database by all of its migrations, 2.4 s of processor time for each home of a test: in this
    process the second home and those after it get a copy of what they made, which is still empty."""
    of_databases = sys.modules.get("mlflow.store.db.utils")
    if of_databases is None or hasattr(of_databases._initialize_tables, "copies"):
        return
    migrate, made = of_databases._initialize_tables, sqlite3.connect(":memory:", check_same_thread=False)

    def initialize(engine: Any) -> None:
        with closing(engine.raw_connection()) as connection:
            new = connection.driver_connection
            if made.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                made.backup(new)
            else:
                migrate(engine)
                new.backup(made)

    initialize.copies = True  # type: ignore[attr-defined]
    of_databases._initialize_tables = initialize
