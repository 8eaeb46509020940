"""What the files of the command line share: the option for machine-readable results, and what wrong usage is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

JSON = Annotated[bool, typer.Option("--json", help="Print machine-readable results.")]


@contextmanager
def usage_errors() -> Iterator[None]:
    """What an option holds and cannot be taken is wrong usage: exit code 2. What a file of settings holds is not."""
    from features.errors import BadInput, BadSettings

    try:
        yield
    except BadSettings:
        raise
    except BadInput as error:
        raise typer.BadParameter(error.detail) from None
