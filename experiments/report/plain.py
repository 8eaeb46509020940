"""A document as Markdown that reads well as it is, in a terminal too."""

from __future__ import annotations

import re

from experiments.report.document import (
    Block,
    Bullets,
    Callout,
    Cell,
    Code,
    Document,
    Fold,
    Inline,
    Link,
    Paragraph,
    Picture,
    Quote,
    Section,
    Strong,
    Table,
    Text,
    Tiles,
)

_SPECIAL = re.compile(r"[\\`*\[\]<~]|(?<![^\W_])_|_(?![^\W_])|&(?=#|\w+;)")
_LEADING = re.compile(r"^(\s*)(\d*)(#{1,6}(?=\s|$)|>|[+-](?=\s|$)|-(?=[-\s]*$)|(?<=\d)[.)](?=\s|$))")


def markdown(document: Document, pictures: str | None = None) -> str:
    """Ends with a line feed. `pictures` is where picture files lie, relative to it; None: only their words are told."""
    parts = [f"# {_plain(document.title)}", _text(document.lede)]
    parts += [_block(block, 2, pictures) for block in document.blocks]
    if document.footer:
        parts += ["---", _text(document.footer)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, level: int, pictures: str | None) -> str:
    match block:
        case Paragraph(text, _):
            return _text(text)
        case Bullets(items, ordered):
            return "\n".join(f"{f'{n}.' if ordered else '-'} {_text(item)}" for n, item in enumerate(items, start=1))
        case Quote(text, source):
            lines = [*text.splitlines(), *([f"— {source}"] if source else [])]
            return "\n".join(f"> {_plain(line)}".rstrip() for line in lines)
        case Callout():
            return "\n".join([f"**{_plain(block.title)}**", *(["", *map(_item, block.items)] if block.items else [])])
        case Tiles(tiles):
            return "\n".join(
                f"- {_plain(tile.label)}: **{_plain(tile.value)}**{f' ({_plain(tile.note)})' if tile.note else ''}"
                for tile in tiles
            )
        case Table():
            return _table(block)
        case Picture():
            return _picture(block, pictures)
        case Fold(title, blocks):
            return _under(title, blocks, level, pictures)
        case Section():
            return _under(block.title, block.blocks, level, pictures)


def _under(title: str, blocks: tuple[Block, ...], level: int, pictures: str | None) -> str:
    inner = [_block(one, level + 1, pictures) for one in blocks]
    return "\n\n".join([f"{'#' * min(level, 6)} {_plain(title)}", *(one for one in inner if one)])


def _item(text: Text) -> str:
    return f"- {_text(text)}"


def _table(table: Table) -> str:
    """Columns are padded, so that the source can be read."""
    head = [_in_cell(_plain(column.title)) for column in table.columns]
    rows = [[_in_cell(_text(c.text if isinstance(c, Cell) else c)) for c in row] for row in table.rows]
    widths = [max(3, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]
    right = [column.right for column in table.columns]
    rule = [f"{'-' * (width - 1)}{':' if is_right else '-'}" for width, is_right in zip(widths, right, strict=True)]
    lines = [
        " | ".join(f"{text:>{w}}" if r else f"{text:<{w}}" for text, w, r in zip(row, widths, right, strict=True))
        for row in [head, rule, *rows]
    ]
    return "\n".join([f"*{_plain(table.caption)}*", "", *(f"| {line} |" for line in lines)])


def _picture(picture: Picture, pictures: str | None) -> str:
    told = f"*{_plain(picture.caption)}*" if picture.caption else ""
    if pictures is None:
        return f"*Picture: {_plain(picture.alt)}*"
    return "\n\n".join(one for one in (f"![{_plain(picture.alt)}]({pictures}{picture.name}.svg)", told) if one)


def _text(text: Text) -> str:
    return "".join(_inline(one) for one in ((text,) if isinstance(text, str) else text))


def _inline(one: Inline) -> str:
    match one:
        case str():
            return _plain(one)
        case Strong(text):
            return _bold(text)
        case Code(text):
            fence = "``" if "`" in text else "`"
            return f"{fence}{text}{fence}"
        case Link(text, href):
            return f"[{_plain(text)}]({href})" if href.startswith(("https://", "http://")) else _plain(text)


def _bold(text: str) -> str:
    """Spaces at its ends stay outside, where Markdown wants them."""
    inner = text.strip()
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before}**{_plain(inner)}**{after}" if inner else text


def _plain(text: str) -> str:
    """On one line, and without meaning to Markdown."""
    one_line = _SPECIAL.sub(lambda found: f"\\{found[0]}", " ".join(text.split("\n")))
    return _LEADING.sub(r"\1\2\\\3", one_line)


def _in_cell(text: str) -> str:
    return text.replace("|", "\\|")
