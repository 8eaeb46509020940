"""Files of a registered model that are cut or garbled end in one named error, whatever library met them."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from features.errors import BrokenRelease

DAMAGE = (
    ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, OverflowError,
    struct.error, zlib.error, zipfile.BadZipFile, msgspec.MsgspecError,
)  # fmt: skip


@contextmanager
def read_back(version: str, file: str) -> Iterator[None]:
    """`BrokenRelease` names the version, such as "recommender 3", and its file, where what is inside cannot read it."""
    try:
        yield
    except (BrokenRelease, *DAMAGE) as error:
        kind = "" if isinstance(error, BrokenRelease) else f"{type(error).__name__}: "
        raise BrokenRelease(
            f"{version}: {file}, as it was registered, cannot be read ({kind}{error}): "
            "put it back from a backup, or train again"
        ) from error
