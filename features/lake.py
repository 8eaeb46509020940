"""The lake: history as Parquet by UTC day, where a file counts only once facts.db lists it.

Way of a file: written under `.staging/<batch>/`, flushed, renamed to `<dataset>/day=YYYY-MM-DD/<batch>.parquet`, then
listed in facts.db, in one transaction with whatever else the batch brings. A crash before that transaction leaves files
that nobody reads; the next writer sweeps them away.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.copying import writer_lock as writer_lock  # who stages files holds it
from features.events import US_PER_DAY
from features.facts import Facts, LakeFile
from features.home import Home

EVENT_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("event_type", pa.string()),
        ("customer_id", pa.string()),  # visitor key
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("received_at", pa.timestamp("us", tz="UTC")),  # history counts as received when it happened
        ("decision_id", pa.string()),
        ("offer_id", pa.string()),
        ("placement_id", pa.string()),
        ("session_id", pa.string()),
        ("channel", pa.string()),
        ("category", pa.string()),  # the event's own, else its offer's when it was written
        ("value", pa.decimal128(18, 4)),
        ("currency", pa.string()),
        ("properties", pa.string()),  # a JSON object, `{}` if there were none
    ]
)
DATASETS = ("events", "decisions", "exposures")
ROWS_PER_GROUP = 122_880
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Staging:
    """A folder for the files of one batch that is on its way."""

    batch: str  # unique; becomes the name of its files
    folder: Path

    def path(self, dataset: str, day: str) -> Path:
        """Where to write the file of one day (YYYY-MM-DD); its folder exists."""
        path = self.folder / dataset / f"day={day}" / f"{self.batch}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def staging(home: Home, batch: str) -> Iterator[Staging]:
    """A fresh staging folder, removed at the end whatever happens."""
    folder = home.lake / ".staging" / batch
    folder.mkdir(parents=True)
    try:
        yield Staging(batch, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place(home: Home, staged: Staging) -> list[LakeFile]:
    """Rename all staged files to their place, on disk when this returns; they count once `add_lake_files` has them."""
    files = []
    folders: set[Path] = set()
    for dataset in DATASETS:
        for path in sorted((staged.folder / dataset).glob("day=*/*.parquet")):
            relative = path.relative_to(staged.folder)
            target = home.lake / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            n_rows = pq.read_metadata(path).num_rows
            digest = _flushed_digest(path)
            os.replace(path, target)
            folders.update((target.parent, target.parent.parent))
            day = relative.parent.name.removeprefix("day=")
            files.append(LakeFile(dataset, relative.as_posix(), day, n_rows, digest, staged.batch))
    for folder in folders:
        flush_folder(folder)
    return files


def sweep(home: Home, facts: Facts) -> int:
    """Delete what crashed writers left: staging folders and files that no list names. Call it under `writer_lock`."""
    shutil.rmtree(home.lake / ".staging", ignore_errors=True)
    n_swept = 0
    for dataset in DATASETS:
        listed = {file.path for file in facts.lake_files(dataset)}
        for path in (home.lake / dataset).glob("day=*/*"):
            if path.relative_to(home.lake).as_posix() not in listed:
                path.unlink()
                n_swept += 1
    return n_swept


def flush_folder(folder: Path) -> None:
    """Make renames within `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flushed_digest(path: Path) -> str:
    with path.open("rb+") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        os.fsync(handle.fileno())
    return digest


class DayWriter:
    """Writes rows that come in time order, one file per UTC day, encoding on a second thread; a context manager."""

    def __init__(self, staged: Staging, dataset: str, schema: pa.Schema, time_column: str = "occurred_at") -> None:
        self._staged, self._dataset, self._schema, self._column = staged, dataset, schema, time_column
        self._pool = ThreadPoolExecutor(1, "lake-writer")
        self._jobs: deque[Future[None]] = deque()
        self._day: int | None = None  # days since 1970
        self._rows: list[pa.RecordBatch] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> DayWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._next_day(None)
                while self._jobs:
                    self._jobs.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)
            if self._writer is not None:
                self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        days = batch[self._column].cast(pa.int64()).to_numpy() // US_PER_DAY
        edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
        for start, end in pairwise(edges):
            if end > start:
                self._next_day(int(days[start]))
                self._rows.append(batch.slice(start, end - start))
        if sum(rows.num_rows for rows in self._rows) >= 4 * ROWS_PER_GROUP:
            self._encode(last=False)

    def _next_day(self, day: int | None) -> None:
        if day != self._day and self._day is not None:
            self._encode(last=True)
        self._day = day

    def _encode(self, last: bool) -> None:
        """Hand the rows of one day to the other thread, whole row groups unless it is the last part."""
        table = pa.Table.from_batches(self._rows, self._schema)
        n_now = table.num_rows if last else table.num_rows // ROWS_PER_GROUP * ROWS_PER_GROUP
        self._rows = table.slice(n_now).to_batches()
        day = date.fromordinal(EPOCH_ORDINAL + self._day) if self._day is not None else None
        self._jobs.append(self._pool.submit(self._append, table.slice(0, n_now), str(day), last))
        while len(self._jobs) > 2:  # what waits is held in memory
            self._jobs.popleft().result()

    def _append(self, table: pa.Table, day: str, last: bool) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._staged.path(self._dataset, day), self._schema, compression="zstd")
        self._writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        if last:
            self._writer.close()
            self._writer = None
