"""Erases visitors from Parquet: the lake with its refused rows, daily aggregates, snapshots, versions of profiles.

A program of its own, because a process that answers decisions loads no pyarrow: `python -m features.erase_files HOME`
takes the visitors' keys as a JSON list on stdin and prints, as JSON, how many rows each place lost.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.copying import erasing
from features.erasure import erase_profiles
from features.events import is_anonymous
from features.facts import Facts, LakeFile
from features.home import Home
from features.lake import DATASETS, ROWS_PER_GROUP, flush_folder, place, staging, sweep, writer_lock

PLACES = {"events": "lake_events", "decisions": "lake_decisions", "exposures": "lake_exposures"}


def erase_files(home: Home, facts: Facts, keys: Sequence[str], wait_s: float = 60.0) -> dict[str, int]:
    """How many rows were taken out, by place, while nobody copies.

    The lake's list changes in one transaction, then the old files are deleted.
    `StoreUnavailable` if another writer holds the lake, or a build the features, for longer than `wait_s`.
    """
    wanted = pa.array(keys, pa.string())
    with erasing(home, wait_s), writer_lock(home, wait_s):
        sweep(home, facts)
        erased = _erase_lake(home, facts, wanted)
        erased["lake_refused"] = sum(_without_refused(path, keys) for path in home.lake.glob("refused/*.parquet"))
        paths = [path for path in home.features.rglob("*.parquet") if "customer_id" in pq.read_schema(path).names]
        with ThreadPoolExecutor() as pool:
            erased["features"] = sum(pool.map(lambda path: _without(path, wanted), paths))
        erased |= erase_profiles(facts, keys)  # again: an ingest that was waited for may have brought one back
    return erased


def _erase_lake(home: Home, facts: Facts, wanted: pa.Array) -> dict[str, int]:
    erased: Counter[str] = Counter(dict.fromkeys(PLACES.values(), 0))
    old: list[LakeFile] = []
    new: list[LakeFile] = []
    with ThreadPoolExecutor() as pool:
        for dataset in DATASETS:
            files = facts.lake_files(dataset)
            found = pool.map(lambda file: _n_rows_of(home.lake / file.path, wanted), files)
            touched = [(file, n) for file, n in zip(files, found, strict=True) if n]
            erased[PLACES[dataset]] += sum(n for _, n in touched)
            old += [file for file, _ in touched]
    token = secrets.token_hex(4)
    for nth, some in enumerate(_one_per_day(old)):
        with staging(home, f"rewritten-{token}-{nth}") as staged:
            for file in some:
                _write_rest(home.lake / file.path, staged.path(file.dataset, file.day), wanted)
            new += place(home, staged)
    if old:
        facts.replace_lake_files([file.path for file in old], new)
        for file in old:
            (home.lake / file.path).unlink()
        for folder in {(home.lake / file.path).parent for file in old}:
            flush_folder(folder)
    return dict(erased)


def _one_per_day(files: Sequence[LakeFile]) -> Iterator[list[LakeFile]]:
    """In groups in which no two files are of one dataset and day, because a batch has one file for each."""
    nth: Counter[tuple[str, str]] = Counter()
    groups: dict[int, list[LakeFile]] = {}
    for file in files:
        groups.setdefault(nth[file.dataset, file.day], []).append(file)
        nth[file.dataset, file.day] += 1
    yield from groups.values()


def _n_rows_of(path: Path, wanted: pa.Array) -> int:
    """How many rows of a file are of these visitors."""
    found = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["customer_id"], use_threads=False):
            found += pc.sum(pc.is_in(batch["customer_id"], value_set=wanted)).as_py() or 0
    return found


def _write_rest(source: Path, target: Path, wanted: pa.Array) -> None:
    """The file without these visitors; no file if nothing is left. Rows stay in their order."""
    rest = _rest_of(source, wanted)
    if len(rest):
        pq.write_table(rest, target, compression="zstd", row_group_size=ROWS_PER_GROUP)


def _rest_of(path: Path, wanted: pa.Array) -> pa.Table:
    table = pq.read_table(path, partitioning=None)
    return table.filter(pc.invert(pc.is_in(table["customer_id"], value_set=wanted)))


def _without(path: Path, wanted: pa.Array) -> int:
    """Rewrites one file of features; how many rows it lost."""
    n = _n_rows_of(path, wanted)
    if n:
        _replace(_rest_of(path, wanted), path)
    return n


def _replace(table: pa.Table, path: Path) -> None:
    """Whole or not at all."""
    staged = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, staged, compression="zstd", compression_level=1, row_group_size=ROWS_PER_GROUP)
    os.replace(staged, path)


def _without_refused(path: Path, keys: Sequence[str]) -> int:
    """Rewrites one file of refused rows, which hold the raw text; how many it lost."""
    table = pq.read_table(path)
    kept = [not _speaks_of(row, keys) for row in table["row"].to_pylist()]
    lost = kept.count(False)
    if lost == len(kept):
        path.unlink()
    elif lost:
        _replace(table.filter(pa.array(kept)), path)
    return lost


def _speaks_of(row: str, keys: Sequence[str]) -> bool:
    """Whether a refused row, as JSON, is of one of these visitors; a line that is no row counts if it holds the id."""
    try:
        raw = msgspec.json.decode(row)
    except msgspec.DecodeError:
        raw = row
    for key in keys:
        name, own = ("anonymous_id", key[1:]) if is_anonymous(key) else ("customer_id", key)
        if isinstance(raw, dict):
            if str(raw.get(name)) == own:
                return True
        elif re.search(rf"(?<![\w-]){re.escape(own)}(?![\w-])", str(raw)):
            return True
    return False


def main() -> None:
    """See the module."""
    home = Home(Path(sys.argv[1]))
    facts = Facts(home.facts_db)
    try:
        erased = erase_files(home, facts, msgspec.json.decode(sys.stdin.buffer.read(), type=list[str]))
    finally:
        facts.close()
    sys.stdout.buffer.write(msgspec.json.encode(erased))


if __name__ == "__main__":
    main()
