"""Where the embedded default keeps its state: one folder, NBO_HOME."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under NBO_HOME. Nothing is created by naming it."""

    root: Path

    @property
    def facts_db(self) -> Path:
        """Catalogue, customers, keys and the lake's file list: one SQLite file, so that they commit together."""
        return self.root / "facts.db"

    @property
    def log_db(self) -> Path:
        """The live log of events and decisions."""
        return self.root / "log.db"

    @property
    def state_db(self) -> Path:
        """Idempotent answers."""
        return self.root / "state.db"

    @property
    def contacts_db(self) -> Path:
        """What counts against caps, inventory and budgets."""
        return self.root / "contacts.db"

    @property
    def learning_db(self) -> Path:
        """What was learned from the log since each release was trained."""
        return self.root / "learning.db"

    @property
    def lake(self) -> Path:
        """History as Parquet: `lake/events/day=YYYY-MM-DD/*.parquet`, `lake/refused/*.parquet`."""
        return self.root / "lake"

    @property
    def features(self) -> Path:
        """Daily aggregates and snapshots as Parquet."""
        return self.root / "features"

    @property
    def feast(self) -> Path:
        """Feast's repository: feature_store.yaml, registry.db, and one online-<day>-<n>.db per materialization."""
        return self.root / "feast"

    @property
    def mlflow(self) -> Path:
        """MLflow's database `mlflow.db` and `artifacts/`."""
        return self.root / "mlflow"

    @property
    def releases(self) -> Path:
        """`<n>/` per release, and the pointer `champion.json`."""
        return self.root / "releases"

    @property
    def search(self) -> Path:
        """`studies.db`: every trial of `nbo train --search`."""
        return self.root / "search"
