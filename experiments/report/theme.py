"""How reports look: colours that the colour-blind tell apart, in light and dark, and the style of a page.

Series colours follow Okabe and Ito 2008 in hue; lightness is moved until each has a contrast of 3 against the
background, text of 4.5 (WCAG 2.2, 1.4.11 and 1.4.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple


class Colour(NamedTuple):
    light: str  # #rrggbb, each another: pictures are recoloured by it
    dark: str


COLOURS: Mapping[str, Colour] = {
    "paper": Colour("#ffffff", "#14171c"),
    "ink": Colour("#1b1f24", "#e8eaed"),
    "quiet": Colour("#57606a", "#a3abb5"),
    "line": Colour("#d5dae0", "#353c45"),
    "band": Colour("#f3f5f7", "#1d2229"),
    "link": Colour("#0a5ca8", "#7db9f5"),
    "good": Colour("#0b6b4f", "#4cc79b"),
    "bad": Colour("#a8321c", "#ff9a80"),
    "warn": Colour("#7a5200", "#f0b840"),
    "series-1": Colour("#0072b2", "#56b4e9"),  # blue
    "series-2": Colour("#c24e00", "#ef8a3c"),  # vermilion
    "series-3": Colour("#00805e", "#22c295"),  # bluish green
    "series-4": Colour("#a8488a", "#e08fc2"),  # reddish purple
    "series-5": Colour("#8a6d00", "#e3c52e"),  # yellow
    "control": Colour("#6b7580", "#98a2ad"),  # grey
}
SERIES = tuple(name for name in COLOURS if name.startswith("series-"))


def style() -> str:
    """The style sheet of a page; paper is always printed light."""
    rules = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    light = ";".join(f"--{name}:{colour.light}" for name, colour in COLOURS.items())
    dark = ";".join(f"--{name}:{colour.dark}" for name, colour in COLOURS.items())
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{rules}"
