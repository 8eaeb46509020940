"""A document as one HTML file that needs nothing else: no network, no script, no fonts."""

from __future__ import annotations

import re
from html import escape
from itertools import count

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
    Tile,
    Tiles,
    Tone,
)
from experiments.report.theme import COLOURS, style

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_LIGHT = {colour.light: name for name, colour in COLOURS.items()}
_HEX = re.compile("|".join(_LIGHT), re.IGNORECASE)


def page(document: Document) -> str:
    """The whole file."""
    numbers = count(1)
    body = "\n".join(_block(block, 2, numbers) for block in document.blocks)
    footer = f"\n<footer>{_text(document.footer)}</footer>" if document.footer else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        f"<title>{escape(document.title)}</title>\n<style>{style()}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(document.title)}</h1>\n<p class="lede">{_text(document.lede)}</p>\n{body}{footer}\n'
        "</main>\n</body>\n</html>\n"
    )


def _block(block: Block, level: int, numbers: count[int]) -> str:
    match block:
        case Paragraph(text, tone):
            return f"<p{_class(tone)}>{_text(text)}</p>"
        case Bullets(items, ordered):
            tag = "ol" if ordered else "ul"
            return f"<{tag}>{''.join(f'<li>{_text(item)}</li>' for item in items)}</{tag}>"
        case Quote(text, source):
            said = f"<footer>{escape(source)}</footer>" if source else ""
            return f"<blockquote><p>{escape(text)}</p>{said}</blockquote>"
        case Callout():
            return _callout(block)
        case Tiles(tiles):
            return f'<dl class="tiles">{"".join(map(_tile, tiles))}</dl>'
        case Table():
            return _table(block, next(numbers))
        case Picture():
            return _picture(block, next(numbers))
        case Fold(title, blocks):
            inner = "\n".join(_block(one, level, numbers) for one in blocks)
            return f"<details><summary>{escape(title)}</summary>\n{inner}\n</details>"
        case Section():
            return _section(block, level, numbers)


def _section(section: Section, level: int, numbers: count[int]) -> str:
    tag = f"h{min(level, 6)}"
    anchor = f' id="{escape(section.id)}"' if section.id else ""
    inner = "\n".join(_block(one, level + 1, numbers) for one in section.blocks)
    return f"<section{anchor}>\n<{tag}>{escape(section.title)}</{tag}>\n{inner}\n</section>"


def _callout(callout: Callout) -> str:
    items = "".join(f"<li>{_text(item)}</li>" for item in callout.items)
    listed = f"<ul>{items}</ul>" if items else ""
    return f'<div class="callout {callout.tone}"><strong>{escape(callout.title)}</strong>{listed}</div>'


def _tile(tile: Tile) -> str:
    note = f'<dd class="note">{escape(tile.note)}</dd>' if tile.note else ""
    return f'<div><dt>{escape(tile.label)}</dt><dd class="value {tile.tone}">{escape(tile.value)}</dd>{note}</div>'


def _table(table: Table, number: int) -> str:
    """In a box that scrolls sideways on a narrow screen, and can be reached by the keyboard for it."""
    head = "".join(
        f'<th scope="col"{" class=right" if column.right else ""}>{escape(column.title)}</th>'
        for column in table.columns
    )
    rows = "\n".join(f"<tr>{''.join(_cell(table, i, cell) for i, cell in enumerate(row))}</tr>" for row in table.rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="t{number}"><table>'
        f'<caption id="t{number}"><span>{escape(table.caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cell(table: Table, i: int, cell: str | Cell) -> str:
    held = cell if isinstance(cell, Cell) else Cell(cell)
    if i == 0:
        return f'<th scope="row">{_text(held.text)}</th>'
    words = [*(["right"] if table.columns[i].right else []), *([held.tone] if held.tone != "plain" else [])]
    marked = f' class="{" ".join(words)}"' if words else ""
    return f"<td{marked}>{_text(held.text)}</td>"


def _picture(picture: Picture, number: int) -> str:
    """Inline, its colours as variables of the page: dark pages get dark pictures. Its ids are its own."""
    drawing = picture.svg[picture.svg.index("<svg") :].strip()
    drawing = _HEX.sub(lambda found: f"var(--{_LIGHT[found[0].lower()]})", drawing)
    drawing = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawing).replace("xlink:href=", "href=")  # HTML knows them
    drawing = re.sub(r'\bid="', f'id="p{number}-', drawing)
    drawing = re.sub(r'(href="#|url\(#)', rf"\1p{number}-", drawing)
    drawing = drawing.replace("<svg", f'<svg role="img" aria-label="{escape(picture.alt)}"', 1)
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f"<figure>{drawing}{caption}</figure>"


def _text(text: Text) -> str:
    return "".join(_inline(one) for one in ((text,) if isinstance(text, str) else text))


def _inline(one: Inline) -> str:
    match one:
        case str():
            return escape(one)
        case Strong(text):
            return f"<strong>{escape(text)}</strong>"
        case Code(text):
            return f"<code>{escape(text)}</code>"
        case Link(text, href):
            return f'<a href="{escape(href)}">{escape(text)}</a>' if _leads(href) else escape(text)


def _leads(href: str) -> bool:
    """Not to a script."""
    return href.startswith(("#", "https://", "http://"))


def _class(tone: Tone) -> str:
    return f' class="{tone}"' if tone != "plain" else ""
