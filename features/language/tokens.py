"""The words of a rule: names, numbers, texts, durations and signs, each with its place."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from features.errors import BadRule
from features.language.syntax import Number

MAX_DAYS = 36_525  # of a duration
UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r", "/": "/"}
KEYWORDS = frozenset(("and", "or", "not", "in", "is", "missing", "between", "true", "false", "now"))

TOKEN = re.compile(
    r"""
    \s*
  (?:
    (?P<duration>[0-9]+(?:\.[0-9]+)?[smhdw]\b)
  | (?P<number>(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
  | (?P<name>[^\W0-9]\w*)
  | (?P<quoted>`[^`\n]+`)
  | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<sign><=|>=|==|!=|<>|&&|\|\||[<>()\[\],.=&|!+-])
  | (?P<end>\Z)
  | (?P<other>.)
  )
    """,
    re.VERBOSE | re.DOTALL,
)
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


class Token(NamedTuple):
    kind: str  # duration, number, name, quoted, text, sign, end
    text: str
    at: int


def tokens_of(text: str) -> list[Token]:
    found = []
    for match in TOKEN.finditer(text):
        kind = match.lastgroup or ""
        token = Token(kind, match[kind], match.start(kind))
        if kind == "other":
            if text.startswith("``", token.at):
                raise BadRule("there is no name between the backticks", token.at)
            if token.text in "\"'`":
                raise BadRule(f"the {token.text} that opens here is not closed", token.at)
            raise BadRule(f"{token.text!r} means nothing here", token.at)
        found.append(token)
        if kind == "end":
            break
    return found


def is_name(token: Token) -> bool:
    return token.kind == "quoted" or (token.kind == "name" and token.text not in KEYWORDS)


def plain_name(token: Token) -> str:
    return token.text[1:-1] if token.kind == "quoted" else token.text


def number_of(token: Token) -> Number:
    value = float(token.text)
    if not math.isfinite(value):
        raise BadRule("the number is too large", token.at)
    return Number(value)


def duration_us(token: Token) -> int:
    days = float(token.text[:-1]) * UNITS_US[token.text[-1]] / UNITS_US["d"]
    if not days <= MAX_DAYS:
        raise BadRule(f"a duration is at most {MAX_DAYS:,} days", token.at)
    return round(float(token.text[:-1]) * UNITS_US[token.text[-1]])


def text_of(token: Token) -> str:
    def one(match: re.Match[str]) -> str:
        code = match.group(1)
        at = token.at + 1 + match.start()
        if len(code) == 5:
            if 0xD800 <= int(code[1:], 16) < 0xE000:
                raise BadRule(f"\\{code} is half a character; write the character itself", at)
            return chr(int(code[1:], 16))
        if code not in ESCAPES:
            raise BadRule(f"\\{code} is no escape; expected \\\\, \\\", \\', \\n, \\t, \\r or \\u and four digits", at)
        return ESCAPES[code]

    return ESCAPE.sub(one, token.text[1:-1])
