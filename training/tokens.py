"""Attributes as tokens: what a hybrid recommender knows of customers and offers beside their identity."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

WORDS = "words"  # the name under which `of` finds a set of words
WORD = re.compile(r"[^\W\d_]{3,}")


class Field(msgspec.Struct, frozen=True, dict=True):
    """One attribute: a number cut at `edges`, or a category of `values`. Missing values have a token of their own."""

    name: str
    edges: tuple[float, ...] | None = None
    values: tuple[str, ...] | None = None
    has_missing: bool = False  # whether training saw it missing

    @cached_property
    def position(self) -> dict[str, int]:
        return {value: at for at, value in enumerate(self.values or ())}

    @property
    def n_tokens(self) -> int:
        return (len(self.values or ()) if self.edges is None else len(self.edges) + 1) + self.has_missing

    def token(self, value: Any) -> int:
        """The token of a value, -1 if training never saw its like."""
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return self.n_tokens - 1 if self.has_missing else -1
        if self.edges is not None:
            return bisect_right(self.edges, float(value)) if isinstance(value, int | float | np.number) else -1
        return self.position.get(str(value), -1)


class Tokens(msgspec.Struct, frozen=True, dict=True):
    """The fields of one side; token numbers run through them."""

    fields: tuple[Field, ...] = ()
    words: tuple[str, ...] = ()  # behind the fields, a token each

    @cached_property
    def starts(self) -> tuple[int, ...]:
        starts, at = [], 0
        for field in self.fields:
            starts.append(at)
            at += field.n_tokens
        return tuple(starts)

    @property
    def n_tokens(self) -> int:
        return self._n_of_fields + len(self.words)

    @cached_property
    def _n_of_fields(self) -> int:
        return sum(field.n_tokens for field in self.fields)

    @cached_property
    def _word_position(self) -> dict[str, int]:
        return {word: self._n_of_fields + at for at, word in enumerate(self.words)}

    def of(self, features: Mapping[str, Any]) -> list[int]:
        """The tokens of one customer or offer: at most one per field, and one per known word."""
        found = []
        for start, name, field, edges in self._fields:
            value = features.get(name)
            if (
                edges is not None and type(value) is float and abs(value) < math.inf
            ):  # the most, without further questions
                found.append(start + bisect_right(edges, value))
                continue
            token = field.token(value)
            if token >= 0:
                found.append(start + token)
        if self.words:
            position = self._word_position
            found += [position[word] for word in features.get(WORDS, ()) if word in position]
        return found

    @cached_property
    def _fields(self) -> tuple[tuple[int, str, Field, tuple[float, ...] | None], ...]:
        return tuple((start, of.name, of, of.edges) for start, of in zip(self.starts, self.fields, strict=True))


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, of three letters and more, in lower case, each once and in order of the alphabet."""
    return tuple(sorted(set(WORD.findall(text.lower()))))


def fit_words(rows: Sequence[Mapping[str, Any]], min_count: int) -> tuple[str, ...]:
    """Words that `min_count` rows have; not those of all rows."""
    counts: dict[str, int] = {}
    for row in rows:
        for word in row.get(WORDS, ()):
            counts[word] = counts.get(word, 0) + 1
    return tuple(sorted(word for word, count in counts.items() if min_count <= count < len(rows)))


def fit_tokens(rows: Sequence[Mapping[str, Any]], names: Iterable[str], *, buckets: int, min_count: int) -> Tokens:
    """Tokens learnt from the rows of training: quantile edges for numbers, frequent values for categories.

    A field that is the same in every row says nothing and is left out.
    """
    fields = []
    for name in names:
        field = fit_field(name, [row.get(name) for row in rows], buckets=buckets, min_count=min_count)
        if field.n_tokens > 1:
            fields.append(field)
    return Tokens(tuple(fields))


def fit_field(name: str, values: Sequence[Any], *, buckets: int, min_count: int) -> Field:
    known = [v for v in values if not (v is None or (isinstance(v, float) and not math.isfinite(v)))]
    has_missing = len(values) - len(known) >= min_count
    if known and all(isinstance(v, int | float | np.number) for v in known):
        edges = np.unique(np.quantile(np.array(known, dtype=np.float64), np.arange(1, buckets) / buckets))
        # An edge at the smallest value would leave its lower bucket empty.
        return Field(name, edges=tuple(float(e) for e in edges if e > min(known)), has_missing=has_missing)
    counts: dict[str, int] = {}
    for value in known:
        counts[str(value)] = counts.get(str(value), 0) + 1
    frequent = tuple(sorted(value for value, count in counts.items() if count >= min_count))
    return Field(name, values=frequent, has_missing=has_missing)
