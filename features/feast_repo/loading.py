"""Feast is imported without the run-time type checks that it puts around its own methods.

Its classes are decorated with typeguard's `typechecked`, which parses and recompiles a whole module for every method:
7 of the 10 seconds of processor time that the import takes. The decorator does nothing under `python -O`; here it
does nothing while Feast is imported, and no other library is touched.
"""

from __future__ import annotations

import os
import sys
from threading import Lock
from typing import Any

_one_at_a_time = Lock()


def load_feast() -> None:
    """Before every `from feast import …`; the second call finds it imported."""
    if "feast" in sys.modules:
        return
    os.environ.setdefault("FEAST_USAGE", "False")
    import typeguard

    with _one_at_a_time:
        checks = typeguard.typechecked
        typeguard.typechecked = _as_it_is
        try:
            import feast  # noqa: F401
        finally:
            typeguard.typechecked = checks


def _as_it_is(target: Any = None, **options: Any) -> Any:
    """In the place of `typechecked`, with and without its options."""
    return _as_it_is if target is None else target
