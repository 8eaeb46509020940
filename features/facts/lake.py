"""Which Parquet files of the lake count; one that is not listed does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from features.facts.file import FactsFile


class LakeFile(NamedTuple):
    """One Parquet file that counts; `path` is relative to the lake."""

    dataset: str
    path: str
    day: str
    n_rows: int
    sha256: str
    batch: str


class LakeFacts(FactsFile):
    """The list of the lake's files."""

    def lake_files(self, dataset: str) -> list[LakeFile]:
        """The Parquet files that count, ordered by day and path."""
        rows = self._rows("SELECT * FROM lake_files WHERE dataset = ? ORDER BY day, path", (dataset,))
        return [LakeFile(*row) for row in rows]

    def add_lake_files(self, files: Iterable[LakeFile]) -> None:
        with self.transaction() as db:
            db.executemany("INSERT INTO lake_files VALUES (?, ?, ?, ?, ?, ?)", list(files))

    def replace_lake_files(self, gone: Iterable[str], files: Iterable[LakeFile]) -> None:
        """The files at these paths no longer count, others do instead."""
        with self.transaction() as db:
            db.executemany("DELETE FROM lake_files WHERE path = ?", [(path,) for path in gone])
            self.add_lake_files(files)
