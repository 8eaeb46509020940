"""A document in the format that was asked for, as bytes or as files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import msgspec

from experiments.report.document import Document, pictures_of
from experiments.report.page import page
from experiments.report.plain import markdown
from features.errors import BadInput

Format = Literal["html", "md", "json"]
FORMATS: tuple[str, ...] = get_args(Format)


def render(document: Document, format: Format) -> bytes:
    """HTML and Markdown are of the whole document, JSON of its `data`."""
    match format:
        case "html":
            return page(document).encode()
        case "md":
            return markdown(document).encode()
        case "json":
            return as_json(document)


def as_json(document: Document) -> bytes:
    """The figures; NaN and infinities, which JSON lacks, as null."""
    return msgspec.json.format(msgspec.json.encode(document.data), indent=2) + b"\n"


def as_files(document: Document, name: str) -> dict[str, bytes]:
    """All formats by path: `<name>.html`, `.md`, `.json`, and the Markdown's `pictures/<name>.svg`."""
    files = {f"{name}.html": render(document, "html"), f"{name}.json": render(document, "json")}
    files[f"{name}.md"] = markdown(document, pictures="pictures/").encode()
    return files | {f"pictures/{key}.svg": one.svg.encode() for key, one in pictures_of(document).items()}


def format_of(out: Path | None, wanted: str | None, default: Format | None = None) -> Format | None:
    """The format that `--format` and `--out` ask for; None: a folder with all of them. `BadInput` if they disagree."""
    if wanted is not None and wanted not in FORMATS:
        raise BadInput(f"--format is {wanted!r}, expected one of {', '.join(FORMATS)}", "format")
    ending = out.suffix[1:] if out is not None and out.suffix else None
    if ending is not None and ending not in FORMATS:
        raise BadInput(f"--out is {out}, expected a folder, or a file that ends in .html, .md or .json", "out")
    if wanted is not None and ending is not None and wanted != ending:
        raise BadInput(f"--format is {wanted!r} and --out is {out}, expected one that agrees with the other", "format")
    found = wanted or ending or (default if out is None else None)
    return next((one for one in get_args(Format) if one == found), None)


def write(document: Document, out: Path, name: str, format: Format | None = None) -> list[Path]:
    """Writes one file, or into the folder `out` the format, or all of them; the paths written."""
    if out.suffix:
        files = {out: render(document, format or _ending(out))}
    elif format is not None:
        files = {out / f"{name}.{format}": render(document, format)}
    else:
        files = {out / path: body for path, body in as_files(document, name).items()}
    for path, body in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return list(files)


def _ending(out: Path) -> Format:
    found = format_of(out, None)
    assert found is not None
    return found
