"""What customers said, and that nobody can be told by it."""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import pytest

from experiments.digest.said import Quoted, Reason, said
from experiments.digest.week import Week
from experiments.digest.words import STOP, tokens, words
from tests.experiments.worlds import START, event, world

WEEK = Week(START.date(), ZoneInfo("UTC"))


def feedback(customer, at=1.0, kind="feedback", **properties):
    fields = {"offer_id": "o"} if kind in ("dismiss", "reject") else {}
    return event(customer, kind, at, properties=json.dumps(properties), **fields)


def told(*events, n_quotes=3, **others):
    with world(list(events), **others) as tables:
        return said(tables, WEEK, n_quotes)


def test_a_word_is_told_when_three_people_used_it():
    """`delivery` three people, once thrice over; `slow` two; `late` one who repeats it."""
    found = told(
        feedback("a", text="Delivery was slow"), feedback("b", text="slow delivery!"),
        feedback("c", text="delivery, delivery, delivery"), feedback("d", text="late late late"),
        feedback("d", at=2, text="late again"), feedback("d", at=3, text="late"),
    )  # fmt: skip
    assert [(one.text, one.people) for one in found.words] == [("delivery", 3)]
    assert (found.n_texts, found.n_people) == (6, 4)


@pytest.mark.parametrize(
    ("text", "said_words"),
    [
        ("Die Lieferung war sehr langsam", {"lieferung", "langsam"}),
        ("Le colis n'est pas arrivé", {"colis", "pas", "arrivé"}),
        ("El envío fue muy caro", {"envío", "caro"}),
        ("Call me at +49 170 1234567 or mail jo.doe@example.org, see www.example.org", {"call", "mail", "see"}),
        ("The STRASSE / the Straße", {"strasse"}),
        ("order-4711 never came", {"never", "came"}),
        ("", set()),
        ("👍👍👍 ...!!!", set()),
    ],
)
def test_words_are_those_that_say_something_in_several_languages(text, said_words):
    assert words(text) == said_words


def test_words_that_turn_a_meaning_round_are_counted():
    assert not {"not", "no", "never", "nicht", "kein", "pas", "jamais", "sin", "non", "não", "niet", "geen"} & STOP


NAMING = (
    "my number is 12345", "mail me: jo@example.org", "see example.org/u", "I am @jo", "ask customer anna",
    "ANNA, hello there", "tell v-visitor please", "x" * 141, "so what", "…",
)  # fmt: skip


def test_a_text_that_could_name_somebody_is_not_quoted():
    """`anna` is a customer's id, `v-visitor` an anonymous one's; long texts, and those without a word, wait too."""
    texts = [feedback(f"p{n}", text=text) for n, text in enumerate(NAMING)]
    found = told(*texts, event("anna", "visit", -3), event("\x1fv-visitor", "visit", -3), n_quotes=10)
    assert found.quotes == ()
    assert found.n_texts == len(NAMING)


def test_quotes_are_of_different_people_and_speak_for_many():
    """By hand: `delivery` is of 3 people, `slow` of 2, so that `slow delivery` speaks for 2.5; but b spoke already."""
    found = told(
        feedback("a", text="Slow delivery", nps=3), feedback("b", text="delivery slow", nps=4),
        feedback("b", at=2, text="Delivery"), feedback("c", text="delivery fine", csat=5, ces=6),
        feedback("d", text="Unlike others"), n_quotes=3,
    )  # fmt: skip
    assert found.quotes == (
        Quoted("Delivery", ""),
        Quoted("Slow delivery", "NPS 3"),
        Quoted("delivery fine", "CSAT 5, CES 6"),
    )


def test_no_quotes_when_nobody_wants_them():
    assert told(feedback("a", text="Slow delivery"), n_quotes=0).quotes == ()


def test_reasons_are_counted_by_people_and_rare_ones_only_counted():
    found = told(
        feedback("a", kind="dismiss", reason="Too dear"), feedback("b", kind="dismiss", reason="too dear "),
        feedback("c", kind="dismiss", reason="TOO DEAR"), feedback("a", at=2, kind="dismiss", reason="too dear"),
        feedback("d", kind="opt_out", reason="because of Anna"),
        feedback("e", kind="click", reason="no reason of this kind"),
        feedback("f", at=8, kind="dismiss", reason="too dear"),
    )  # fmt: skip
    assert found.reasons == (Reason("dismiss", "too dear", 3),)
    assert found.n_rare_reasons == 1


def test_answers_are_counted_over_the_whole_scale():
    found = told(feedback("a", csat=5), feedback("b", csat=5), feedback("c", csat=2), feedback("c", at=-2, csat=1))
    (scale,) = found.answers
    assert (scale.scale, scale.counts, scale.n) == ("csat", ((1, 0), (2, 1), (3, 0), (4, 0), (5, 2)), 3)


def test_a_joined_visitor_speaks_as_one_person():
    events = [feedback(name, text="delivery") for name in ("\x1fv", "a", "b")]
    assert told(*events).words[0].people == 3
    assert told(*events, identities=[("\x1fv", "a", 0)]).words == ()


def test_pieces_of_a_text_are_compared_with_ids_as_they_stand_and_without_what_encloses_them():
    assert {"(anna),", "anna", "c-1", "c-1!"} <= tokens("see (anna), and c-1!")
