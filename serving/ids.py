"""Decision ids: ULIDs, which sort by time and need no coordination."""

from __future__ import annotations

import os

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(now_us: int) -> str:
    """26 characters of Crockford base 32: 48 bits of milliseconds, 80 random bits. Source: the ULID specification."""
    number = ((now_us // 1000) & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10))
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -5, -5))
