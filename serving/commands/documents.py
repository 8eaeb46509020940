"""What commands that make a document have in common: which format is wanted, and where it goes."""

from __future__ import annotations

import sys
from pathlib import Path

from experiments.report.document import Document
from experiments.report.render import Format, format_of, render, write
from features.errors import BadInput

CROSSED = 3  # exit code: done, and a threshold was crossed


def wanted_format(out: Path | None, format: str | None, *, as_json: bool) -> Format | None:
    """None: a folder with all formats. `BadInput` if what was asked for disagrees."""
    if as_json and out is None and format not in (None, "json"):
        raise BadInput(f"--format is {format!r} and --json was given, expected one of them", "format")
    return format_of(out, format, "json" if as_json else "md")


def hand_over(document: Document, out: Path | None, name: str, wanted: Format | None, *, as_json: bool) -> None:
    """Prints the document, or writes it and tells where it is; with `as_json` its data are printed either way."""
    if out is None:
        assert wanted is not None
        sys.stdout.write(render(document, wanted).decode())
        return
    written = write(document, out, name, wanted)
    if as_json:
        sys.stdout.write(render(document, "json").decode())
    else:
        for path in written:
            print(path)
