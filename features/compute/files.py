"""Where daily aggregates and snapshots lie, and what each was made from."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from features.definitions.dsl import Entity, FeatureSet
from features.errors import StoreUnavailable
from features.facts import LakeFile
from features.home import Home

VERSION = 2  # raise it when the expressions change what they compute


class Manifest(msgspec.Struct):
    """What each file was made from; a file that disagrees is made anew."""

    daily: dict[str, str] = {}  # day -> digest of its lake files
    snapshots: dict[str, str] = {}  # day -> digest of all days before it
    profiles: str = ""  # digest of the profile history


@dataclass(frozen=True, slots=True)
class Files:
    """The folder of one declaration of aggregates; a changed declaration has another."""

    folder: Path

    def daily(self, name: str, day: str) -> Path:
        return self.folder / "daily" / name / f"{day}.parquet"

    def snapshot(self, entity: Entity, day: str) -> Path:
        return self.folder / "snapshots" / entity / f"{day}.parquet"

    def snapshots(self, entity: Entity) -> Path:
        """The folder that Feast reads."""
        return self.folder / "snapshots" / entity

    @property
    def profiles(self) -> Path:
        return self.folder / "profiles"

    def manifest(self) -> Manifest:
        try:
            return msgspec.json.decode((self.folder / "manifest.json").read_bytes(), type=Manifest)
        except FileNotFoundError:
            return Manifest()

    def write_manifest(self, manifest: Manifest) -> None:
        _replace(self.folder / "manifest.json", msgspec.json.encode(manifest, order="sorted"))


def files_of(home: Home, features: FeatureSet) -> Files:
    """Where the features of this declaration are kept."""
    parts = [VERSION, features.currency]
    for entity in ("customer", "offer"):
        aggregates = sorted(features.aggregates(entity).items())
        stored = [(c.name, c.kind, c.of, c.days) for c in features.stored(entity)]
        parts.append(msgspec.json.encode([entity, aggregates, stored]).decode())
    return Files(home.features / hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16])


def digest_of(files: list[LakeFile]) -> str:
    """What a day's aggregates depend on."""
    return hashlib.sha256("\n".join(sorted(file.sha256 for file in files)).encode()).hexdigest()


def chained(before: str, day: str, digest: str) -> str:
    """The digest of all days up to this one."""
    return hashlib.sha256(f"{before} {day} {digest}".encode()).hexdigest()


@contextmanager
def one_build(home: Home) -> Iterator[None]:
    """One build at a time, over all processes; the kernel lets go when the holder dies."""
    home.features.mkdir(parents=True, exist_ok=True)
    with (home.features / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreUnavailable(f"another build of features is running on {home.root}") from None
        yield


def write_parquet(table: pa.Table, path: Path) -> None:
    """Whole or not at all; the same table gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, staged, compression="zstd", compression_level=1, row_group_size=131_072)
    os.replace(staged, path)


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.tmp")
    staged.write_bytes(data)
    os.replace(staged, path)
