"""A report as Markdown, JSON and pictures: the same figures in each."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from training.evaluate import Interval


@dataclass(frozen=True)
class Report:
    """What was found. `data` is JSON; `pictures` are PNG files by name, which the Markdown refers to."""

    markdown: str
    data: Mapping[str, Any]
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self.data), indent=1)

    def write(self, folder: Path) -> list[Path]:
        """`report.md`, `report.json` and the pictures in `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {"report.md": self.markdown.encode(), "report.json": self.json(), **self.pictures}
        for name, body in files.items():
            (folder / name).write_bytes(body)
        return [folder / name for name in files]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column is text, the others are figures."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def shown(interval: Interval, *, signed: bool = False) -> str:
    """`0.1234 [0.1200, 0.1270]`; a dash where there is no figure."""
    if not math.isfinite(interval.estimate):
        return "–"
    form = "+.4f" if signed else ".4f"
    if not math.isfinite(interval.low):
        return f"{interval.estimate:{form}}"
    return f"{interval.estimate:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def json_interval(interval: Interval) -> dict[str, float | None]:
    """NaN, which JSON does not know, as null."""
    values = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
