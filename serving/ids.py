"""Decision ids and seeds: ULIDs, which sort by time and need no coordination, from one generator per process."""

from __future__ import annotations

import os
from random import Random

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
# Seeded by the system once: to ask it at every decision gives up Python's lock, which may take long to come back.
_random = Random(os.urandom(32))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def new_id(now_us: int) -> str:
    """26 characters of Crockford base 32: 48 bits of milliseconds, 80 random bits. Source: the ULID specification."""
    number = ((now_us // 1000) & ((1 << 48) - 1)) << 80 | _random.getrandbits(80)
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -10, -10)])


def new_seed() -> int:
    """64 random bits."""
    return _random.getrandbits(64)


def new_request_id() -> str:
    """24 hexadecimal digits."""
    return f"{_random.getrandbits(96):024x}"
