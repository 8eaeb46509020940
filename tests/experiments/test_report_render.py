"""One document as HTML, Markdown and JSON: nothing is lost, nothing that was quoted becomes markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from experiments.report.document import (
    Bullets,
    Callout,
    Cell,
    Code,
    Column,
    Document,
    Fold,
    Link,
    Paragraph,
    Picture,
    Quote,
    Section,
    Strong,
    Table,
    Tile,
    Tiles,
    pictures_of,
)
from experiments.report.render import as_files, format_of, render, write
from experiments.report.theme import COLOURS
from features.errors import BadInput

ODD = '<script>alert("1")</script> a|b *c* _d_ `e` [f](g) \\ & "q"'
SVG = (
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1">'
    '<path id="m" style="fill: #0072B2"/><use href="#m"/></svg>'
)


def document(*blocks: object, data: object = None) -> Document:
    return Document(title="Of <tea>", lede=("It ", Strong("is")), blocks=blocks, data=data, footer="made")  # type: ignore[arg-type]


def everything(text: str) -> Document:
    table = Table(
        caption=text, columns=(Column("metric"), Column(text, right=True)), rows=((text, Cell(text, "bad")), ("b", "2"))
    )
    return document(
        Callout(title=text, tone="good", items=(text,)),
        Tiles((Tile(label=text, value=text, note=text),)),
        Section(
            title=text,
            id="one",
            blocks=(
                Paragraph((text, Strong(text), Code("x"), Link(text, "https://example.org/a"))),
                table,
                Bullets((text,)),
                Quote(text, text),
                Fold(text, (Picture(name="a", alt=text, svg=SVG, caption=text), Bullets((text,), ordered=True))),
            ),
        ),
    )


class Seen(HTMLParser):
    """Elements, attributes and text of a page; `open` is empty when every element was closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "path", "use"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_page_shows_text_as_it_was_written_and_nothing_of_it_as_markup():
    plain, odd = Seen(render(everything("tea"), "html").decode()), Seen(render(everything(ODD), "html").decode())
    assert not odd.open
    assert odd.tags == plain.tags
    assert odd.text.count(ODD) == plain.text.count("tea")


def test_a_page_asks_nothing_of_the_network():
    seen = Seen(render(everything("tea"), "html").decode())
    assert not {"script", "link", "img", "iframe"} & set(seen.tags)
    outward = [
        value for name, value in seen.attributes if name in ("src", "href") and not (value or "").startswith("#")
    ]
    assert outward == ["https://example.org/a"]  # a link that only a click follows
    assert ("http-equiv", "Content-Security-Policy") in seen.attributes


def test_a_link_to_a_script_is_only_text():
    seen = Seen(render(document(Paragraph((Link("a", "javascript:alert(1)"),))), "html").decode())
    assert "a" in seen.text
    assert "a" not in seen.tags


def test_headings_begin_at_one_and_leave_no_level_out():
    inner = Section(title="b", blocks=(Section(title="c", blocks=()),))
    seen = Seen(render(document(inner), "html").decode())
    assert [tag for tag in seen.tags if tag in ("h1", "h2", "h3")] == ["h1", "h2", "h3"]


def test_two_pictures_keep_their_ids_apart_and_their_colours_follow_the_page():
    two = (Picture(name="a", alt="A", svg=SVG), Picture(name="b", alt='"B"', svg=SVG))
    page = render(document(*two), "html").decode()
    seen = Seen(page)
    ids = [value for name, value in seen.attributes if name == "id"]
    assert ids == ["p1-m", "p2-m"]
    assert [value for name, value in seen.attributes if name == "href"] == ["#p1-m", "#p2-m"]
    assert page.count("fill: var(--series-1)") == 2
    assert ("aria-label", '"B"') in seen.attributes


def test_pictures_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two pictures are named 'a'"):
        pictures_of(document(Picture(name="a", alt="", svg=SVG), Fold("f", (Picture(name="a", alt="", svg=SVG),))))


def test_a_row_with_a_cell_too_few_is_refused():
    with pytest.raises(ValueError, match="has 1 cells, expected 2"):
        Table(caption="t", columns=(Column("a"), Column("b")), rows=(("1",),))


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1))
@example(ODD)
@example("# not a title")
@example("1. not a list")
@example("- nor this")
@example("snake_case and _emphasis_ and __init__")
@example("&lt; and &amp;")
@example("https://example.org and ~~gone~~")
def test_what_was_quoted_reads_the_same_in_markdown(text):
    text = " ".join(text.split()) or "x"
    parsed = MarkdownIt("gfm-like", {"linkify": False}).parse(
        render(document(Paragraph(text)), "md").decode().split("\n\n")[2]
    )
    assert [token.type for token in parsed] == ["paragraph_open", "inline", "paragraph_close"]
    inline = parsed[1].children or []
    assert {token.type for token in inline} <= {"text", "text_special"}
    assert "".join(token.content for token in inline) == text


def test_a_table_in_markdown_has_every_cell_in_its_column():
    text = render(everything("a|b"), "md").decode()
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    cells = [token.content for i, token in enumerate(tokens) if i and tokens[i - 1].type in ("th_open", "td_open")]
    assert cells == ["metric", "a|b", "a|b", "a|b", "b", "2"]


def test_json_is_of_the_figures_and_what_is_no_number_is_null():
    told = render(document(Paragraph("x"), data={"p": float("nan"), "n": 3}), "json")
    assert json.loads(told) == {"p": None, "n": 3}


def test_a_folder_gets_every_format_and_the_pictures_that_the_markdown_names(tmp_path):
    written = write(everything("tea"), tmp_path / "new", "report")
    assert sorted(path.relative_to(tmp_path / "new").as_posix() for path in written) == [
        "pictures/a.svg",
        "report.html",
        "report.json",
        "report.md",
    ]
    assert "](pictures/a.svg)" in (tmp_path / "new/report.md").read_text()
    assert as_files(everything("tea"), "report")["pictures/a.svg"] == SVG.encode()


def test_a_file_gets_the_format_of_its_ending(tmp_path):
    assert write(everything("tea"), tmp_path / "a.md", "report") == [tmp_path / "a.md"]
    assert (tmp_path / "a.md").read_text().startswith("# Of \\<tea>")


@pytest.mark.parametrize(
    ("out", "wanted", "message"),
    [
        ("a.pdf", None, "ends in .html, .md or .json"),
        ("a.md", "html", "agrees"),
        (None, "pdf", "one of html, md, json"),
    ],
)
def test_formats_that_are_not_there_or_disagree_are_refused(tmp_path, out, wanted, message):
    with pytest.raises(BadInput, match=message):
        format_of(tmp_path / out if out else None, wanted)


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("side", ["light", "dark"])
def test_text_and_pictures_can_be_read_on_every_ground(side):
    colour = {name: getattr(one, side) for name, one in COLOURS.items()}
    for ground in ("paper", "band"):
        for name in ("ink", "quiet", "link", "good", "bad", "warn"):
            assert contrast(colour[name], colour[ground]) >= 4.5, (name, ground)  # WCAG 1.4.3, AA
    for name in [one for one in colour if one.startswith("series-") or one == "control"]:
        assert contrast(colour[name], colour["paper"]) >= 3, name  # WCAG 1.4.11


def test_no_two_colours_are_drawn_alike_so_that_each_can_be_told_when_a_page_recolours_pictures():
    assert len({one.light.lower() for one in COLOURS.values()}) == len(COLOURS)
