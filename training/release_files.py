"""A release's folder as bytes: pointer, manifest and digests, told without reading one array, so that it takes no time.

`manifest.json` names every other file with its SHA-256; the pointer names the manifest's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from features.errors import BrokenRelease

FORMAT = 1  # of the files of a release; grows when an older reader could not read them


class Pointer(msgspec.Struct, frozen=True):
    """champion.json or shadow.json: a release, and the digest of its manifest."""

    release: str
    sha256: str


def read_pointer(releases: Path, alias: str = "champion") -> Pointer | None:
    """What an alias points at; None where there is nothing, as before the first promotion."""
    try:
        return msgspec.json.decode((releases / f"{alias}.json").read_bytes(), type=Pointer)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise BrokenRelease(f"{alias}.json: {error}") from error


def read_manifest(folder: Path, sha256: str | None = None) -> dict[str, Any]:
    """`BrokenRelease` if it is not the one that the pointer means, or of a format that this version does not read."""
    text = (folder / "manifest.json").read_bytes()
    if sha256 is not None and digest(text) != sha256:
        raise BrokenRelease(f"{folder.name}/manifest.json has digest {digest(text)}, the pointer says {sha256}")
    manifest: dict[str, Any] = json.loads(text)
    if manifest.get("format") != FORMAT:
        raise BrokenRelease(
            f"{folder.name} has format {manifest.get('format')}, this version reads {FORMAT}: "
            "run `nbo train all` and `nbo models promote`"
        )
    return manifest


def checked(folder: Path, name: str, expected: str) -> bytes:
    """One file of a release; `BrokenRelease` if it differs from its digest."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BrokenRelease(f"{folder.name}: {name!r} leaves the release")
    body = path.read_bytes()
    if digest(body) != expected:
        raise BrokenRelease(f"{folder.name}/{name} has digest {digest(body)}, the manifest says {expected}")
    return body


def check_files(folder: Path, sha256: str) -> None:
    """`BrokenRelease` unless every file is there and what it was when the manifest was written."""
    try:
        for name, expected in read_manifest(folder, sha256)["files"].items():
            checked(folder, name, expected)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenRelease(f"{folder.name}: {type(error).__name__}: {error}") from error


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
