"""What customers said in a week: scores, words and reasons, and a few short texts word for word.

A word or a reason is told only when enough people used it, and a text only when it is short and holds nothing that
could be an id, an address or a number; who said it, and when, is never read out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from experiments.digest.week import Week
from experiments.digest.words import names_nobody, tokens, words
from experiments.tables import Tables
from experiments.units import keyed
from features.events import FEEDBACK_SCALES, to_us

FEWEST_PEOPLE = 3  # who used a word, or gave a reason, before it is told
MOST_WORDS, MOST_REASONS = 15, 10
LONGEST = 140  # characters of a text that is quoted
REASONED = ("feedback", "dismiss", "reject", "cancel", "opt_out")  # events whose `properties.reason` is read


class Told(msgspec.Struct, frozen=True):
    """A word or a reason, and how many people used it."""

    text: str
    people: int


class Reason(msgspec.Struct, frozen=True):
    event_type: str
    text: str
    people: int


class Quoted(msgspec.Struct, frozen=True):
    """A text word for word; `score` is what was given with it, such as "NPS 3", empty if none was."""

    text: str
    score: str


class Answers(msgspec.Struct, frozen=True):
    """How often each answer on a scale was given."""

    scale: str
    counts: tuple[tuple[int, int], ...]  # (answer, how often), of the whole scale

    @property
    def n(self) -> int:
        return sum(n for _, n in self.counts)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """Of one week."""

    answers: tuple[Answers, ...]  # of scales with an answer
    n_texts: int
    n_people: int  # who wrote them
    words: tuple[Told, ...]  # most people first
    reasons: tuple[Reason, ...]
    n_rare_reasons: int  # different ones that fewer than FEWEST_PEOPLE gave
    quotes: tuple[Quoted, ...]


@dataclass(frozen=True, slots=True)
class Text:
    person: str
    text: str
    score: str


def said(tables: Tables, week: Week, n_quotes: int = 3) -> Said:
    """What the week's events hold; `n_quotes` 0: nothing word for word."""
    texts = _texts(tables, week)
    counted = _people((word, one.person) for one in texts for word in words(one.text))
    reasons = _reasons(tables, week)
    told = [Reason(kind, text, n) for (kind, text), n in reasons.items() if n >= FEWEST_PEOPLE]
    return Said(
        answers=tuple(_answers(tables, week)),
        n_texts=len(texts),
        n_people=len({one.person for one in texts}),
        words=tuple(Told(word, n) for word, n in _ranked(counted)[:MOST_WORDS] if n >= FEWEST_PEOPLE),
        reasons=tuple(sorted(told, key=lambda one: (-one.people, one.event_type, one.text))[:MOST_REASONS]),
        n_rare_reasons=len(reasons) - len(told),
        quotes=tuple(_quotes(tables, texts, counted, n_quotes)),
    )


def _people(said_by: Iterable[tuple[str, str]]) -> Counter[str]:
    """How many different people said each thing."""
    return Counter(thing for thing, _ in set(said_by))


def _ranked(counted: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counted.items(), key=lambda one: (-one[1], one[0]))


def _of_week(tables: Tables, week: Week, *types: str) -> str:
    kinds = ", ".join(f"'{one}'" for one in types)
    return (
        f"{keyed(tables, 'customer', to_us(week.until))} WHERE event_type IN ({kinds}) "
        f"AND us >= {to_us(week.since)} AND us < {to_us(week.until)}"
    )


def _texts(tables: Tables, week: Week) -> list[Text]:
    scores = ", ".join(f"json_extract_string(properties, '$.{scale}')" for scale in FEEDBACK_SCALES)
    rows = tables.db.execute(
        f"SELECT key, trim(json_extract_string(properties, '$.text')) AS said, {scores} "
        f"FROM {_of_week(tables, week, 'feedback')} AND said <> '' ORDER BY said, key"
    ).fetchall()
    return [Text(key, text, _score(answers)) for key, text, *answers in rows]


def _score(answers: Sequence[str | None]) -> str:
    return ", ".join(
        f"{scale.upper()} {given}" for scale, given in zip(FEEDBACK_SCALES, answers, strict=True) if given is not None
    )


def _answers(tables: Tables, week: Week) -> list[Answers]:
    found = []
    for scale, (lowest, highest) in FEEDBACK_SCALES.items():
        rows = tables.db.execute(
            f"SELECT TRY_CAST(json_extract_string(properties, '$.{scale}') AS INTEGER) AS given, count(*) "
            f"FROM {_of_week(tables, week, 'feedback')} AND given IS NOT NULL GROUP BY 1"
        ).fetchall()
        counts = dict(rows)
        if counts:
            found.append(Answers(scale, tuple((at, counts.get(at, 0)) for at in range(lowest, highest + 1))))
    return found


def _reasons(tables: Tables, week: Week) -> dict[tuple[str, str], int]:
    """(event type, reason) -> people; written alike but for case and space is the same reason."""
    rows = tables.db.execute(
        "SELECT event_type, lower(trim(json_extract_string(properties, '$.reason'))) AS reason, count(DISTINCT key) "
        f"FROM {_of_week(tables, week, *REASONED)} AND reason <> '' GROUP BY 1, 2 ORDER BY 1, 2"
    ).fetchall()
    return {(str(kind), str(reason)): int(n) for kind, reason, n in rows}


def _quotes(tables: Tables, texts: Sequence[Text], counted: Mapping[str, int], most: int) -> list[Quoted]:
    """Those that use the words that many used; of different people, and no two alike."""
    allowed = [one for one in texts if len(one.text) <= LONGEST and names_nobody(one.text) and words(one.text)]
    ids = _ids_among(tables, frozenset(token for one in allowed for token in tokens(one.text))) if most else frozenset()
    safe = [one for one in allowed if not tokens(one.text) & ids]

    def speaks_for(one: Text) -> float:
        used = words(one.text)
        return sum(counted[word] for word in used) / len(used)

    found: list[Quoted] = []
    taken: set[str] = set()
    for one in sorted(safe, key=lambda one: (-speaks_for(one), one.text, one.person)):
        if len(found) < most and not taken & {one.person, one.text.casefold()}:
            taken |= {one.person, one.text.casefold()}
            found.append(Quoted(" ".join(one.text.split()), one.score))
    return found


def _ids_among(tables: Tables, pieces: frozenset[str]) -> frozenset[str]:
    """Pieces that are the id of a customer, or of an anonymous visitor, whatever their case."""
    rows = tables.db.execute(
        "SELECT DISTINCT lower(trim(customer_id, chr(31))) FROM events WHERE lower(trim(customer_id, chr(31))) IN "
        "(SELECT unnest($1))",
        [[piece.lower() for piece in pieces]],
    ).fetchall()
    known = {str(row[0]) for row in rows}
    return frozenset(piece for piece in pieces if piece.lower() in known)
