"""What a report consists of, free of any format: headings, text, tables, pictures, and the figures behind them.

All text is plain: each format escapes it as it must, so that what customers wrote can be quoted.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Tone = Literal["plain", "good", "bad", "warn", "muted"]  # never the only carrier of a meaning: the words say it too


class _Part(msgspec.Struct, frozen=True, tag=True):
    """All parts encode with their `type`."""


class Strong(_Part, frozen=True):
    text: str


class Code(_Part, frozen=True):
    """An identifier, formula or command."""

    text: str


class Link(_Part, frozen=True):
    text: str
    href: str  # http, https, or # and the `id` of a section


Inline: TypeAlias = str | Strong | Code | Link
Text: TypeAlias = str | tuple[Inline, ...]


class Paragraph(_Part, frozen=True):
    text: Text
    tone: Tone = "plain"


class Bullets(_Part, frozen=True):
    items: tuple[Text, ...]
    ordered: bool = False


class Quote(_Part, frozen=True):
    """What somebody said, word for word."""

    text: str
    source: str = ""


class Callout(_Part, frozen=True, kw_only=True):
    """What the reader must not miss, such as a verdict."""

    title: str
    tone: Tone
    items: tuple[Text, ...] = ()


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One figure at a glance."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"


class Tiles(_Part, frozen=True):
    tiles: tuple[Tile, ...]


class Cell(msgspec.Struct, frozen=True):
    text: Text
    tone: Tone = "plain"


class Column(msgspec.Struct, frozen=True):
    title: str
    right: bool = False  # figures are


class Table(_Part, frozen=True, kw_only=True):
    """The first column names the rows; every row has as many cells as there are columns."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {self.caption!r} has {len(row)} cells, expected {len(self.columns)}")


class Picture(_Part, frozen=True, kw_only=True):
    """An SVG, drawn in the light colours of `theme.COLOURS`, so that pages can show it dark."""

    name: str  # of its file, without suffix; one picture of a document has it
    alt: str  # what it shows, for who does not see it: the finding, not the axes
    svg: str
    caption: str = ""


class Fold(_Part, frozen=True):
    """What most readers skip."""

    title: str
    blocks: tuple[Block, ...]


class Section(_Part, frozen=True, kw_only=True):
    title: str
    blocks: tuple[Block, ...]
    id: str = ""  # what links to it name


Block: TypeAlias = Paragraph | Bullets | Quote | Callout | Tiles | Table | Picture | Fold | Section


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A report. `data` holds its figures, for machines: any value that msgspec can encode."""

    title: str
    lede: Text  # a sentence or two under the title
    blocks: tuple[Block, ...]
    data: Any
    footer: Text = ""  # who made it, when, of what


def without_column(block: Block, title: str) -> Block:
    """The same without that column in any table, unless it names the rows."""
    if isinstance(block, Section | Fold):
        return msgspec.structs.replace(block, blocks=tuple(without_column(one, title) for one in block.blocks))
    if not isinstance(block, Table):
        return block
    kept = [i for i, column in enumerate(block.columns) if i == 0 or column.title != title]
    return msgspec.structs.replace(
        block,
        columns=tuple(block.columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in block.rows),
    )


def pictures_of(document: Document) -> dict[str, Picture]:
    """Every picture by name, in order; `ValueError` if two share one."""
    found: dict[str, Picture] = {}
    for picture in _pictures(document.blocks):
        if picture.name in found:
            raise ValueError(f"two pictures are named {picture.name!r}")
        found[picture.name] = picture
    return found


def without_pictures(document: Document) -> Document:
    """The same for where no picture can be seen; sections of nothing else go too. Its data are whole."""
    return msgspec.structs.replace(document, blocks=_unpictured(document.blocks))


def _unpictured(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    kept: list[Block] = []
    for block in blocks:
        if isinstance(block, Fold | Section):
            left = _unpictured(block.blocks)
            if left or not block.blocks:
                kept.append(msgspec.structs.replace(block, blocks=left))
        elif not isinstance(block, Picture):
            kept.append(block)
    return tuple(kept)


def _pictures(blocks: tuple[Block, ...]) -> list[Picture]:
    held = []
    for block in blocks:
        if isinstance(block, Picture):
            held.append(block)
        elif isinstance(block, Fold | Section):
            held += _pictures(block.blocks)
    return held
