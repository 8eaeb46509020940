"""What is kept of an erased id: enough to know it again where the pepper is, and nothing else anywhere."""

from __future__ import annotations

import hmac


def fingerprint(pepper: bytes, key: str) -> bytes:
    """32 bytes. Without the pepper, ids could be found by hashing all that are likely."""
    return hmac.digest(pepper, key.encode(), "sha256")
