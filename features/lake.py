"""The lake: history as Parquet by UTC day, where a file counts only once facts.db lists it.

Way of a file: written under `.staging/<batch>/`, flushed, renamed to `<dataset>/day=YYYY-MM-DD/<batch>.parquet`, then
listed in facts.db, in one transaction with whatever else the batch brings. A crash before that transaction leaves files
that nobody reads; the next writer sweeps them away.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import StoreUnavailable
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
DATASETS = ("events", "decisions")
ROWS_PER_GROUP = 122_880


@contextmanager
def writer_lock(home: Home, wait_s: float = 60.0) -> Iterator[None]:
    """One writer of the lake at a time, over all processes; the kernel lets go when the holder dies."""
    home.lake.mkdir(parents=True, exist_ok=True)
    with (home.lake / ".lock").open("w") as handle:
        give_up = time.monotonic() + wait_s
        while not _locked(handle.fileno()):
            if time.monotonic() > give_up:
                raise StoreUnavailable(f"another writer has held {home.lake} for over {wait_s:.0f} s")
            time.sleep(0.02)
        yield


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


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flushed_digest(path: Path) -> str:
    with path.open("rb+") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        os.fsync(handle.fileno())
    return digest
