"""Arrays that are not written to any more."""

from __future__ import annotations

from typing import Any, TypeVar

from numpy.typing import NDArray

Array = TypeVar("Array", bound=NDArray[Any])


def read_only(array: Array) -> Array:
    """The array itself, not to be written to any more: another type to compiled loops, so that a place has one."""
    array.setflags(write=False)
    return array
