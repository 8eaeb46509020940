"""The report of planted experiments: it says what the analysis found, and nothing that could not be computed."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import msgspec
import pytest

from experiments.analysis import analyse
from experiments.report import amounts
from experiments.report.document import Document, Section, Table, pictures_of
from experiments.report.experiment_pictures import cut_at
from experiments.report.experiment_report import ExperimentReport, alarmed, document_of, report_of
from experiments.report.plots import Interval
from experiments.report.render import render
from experiments.tables import tables_of
from features.experiment import Phase, Variant
from tests.experiments.test_analysis import END, START, TWO, experiment, world

LOOKS = (START + timedelta(days=3), START + timedelta(days=6), END)
PHASE = Phase(number=1, starts_at=START, traffic=1.0, weights={"control": 0.5, "variant": 0.5})


def report(tables, segments=("tier",), **more) -> ExperimentReport:
    made = experiment(phases=(PHASE,), **more)
    with tables_of(**tables) as opened:
        return report_of(made, analyse(made, opened, END, segments=segments, looks=LOOKS), "EUR")


@pytest.fixture(scope="module")
def gained():
    return report(world(lift=0.3))


@pytest.fixture(scope="module")
def told(gained):
    return document_of(gained)


@pytest.fixture(scope="module")
def broken():
    """A fifth of the variant's units got lost, and who was left opted out."""
    return report(world(lift=0.3, share=0.45, opt_out=(0.02, 0.2)))


def table(document: Document, section: str) -> Table:
    found = next(one for one in document.blocks if isinstance(one, Section) and one.id == section)
    return next(one for one in found.blocks if isinstance(one, Table))


def test_the_verdict_comes_first_with_its_reasons(gained, told):
    first = told.blocks[0]
    assert (first.title, first.tone) == ("Ship variant", "good")
    assert first.items[0].startswith("Revenue per customer is better: +27.")
    assert not gained.alarmed


def test_a_lost_fifth_is_not_trusted_and_alarms(broken):
    first = document_of(broken).blocks[0]
    assert (first.title, first.tone) == ("Do not trust", "bad")
    assert broken.alarmed
    (guard,) = table(document_of(broken), "guardrails").rows
    assert (guard[-2].text, guard[-2].tone) == ("alarm", "bad")


def test_a_guardrails_alarm_alone_alarms(gained):
    (guard,) = gained.guardrails
    assert guard.state != "alarm"
    assert alarmed(msgspec.structs.replace(gained, guardrails=(msgspec.structs.replace(guard, state="alarm"),)))


@pytest.mark.parametrize(
    ("state", "beyond", "p", "absolute", "value"),
    [
        ("open", False, 0.001, 0.02, "1 to watch"),
        ("open", True, 0.5, 0.02, "1 to watch"),
        ("unknown", None, 0.001, 0.02, "1 to watch"),
        ("safe", False, 0.001, 0.001, "no alarm"),
        ("open", False, 0.5, 0.02, "no alarm"),
        ("open", False, 0.001, -0.02, "no alarm"),
        ("alarm", True, 0.001, 0.02, "1 alarm"),
    ],
)
def test_no_alarm_is_not_said_beside_a_guardrail_that_got_worse(gained, state, beyond, p, absolute, value):
    """The limit is on more opt-outs."""
    (guard,) = gained.guardrails
    opt_outs = gained.metrics[-1]
    effect = msgspec.structs.replace(opt_outs.effects[0], p_value=p, absolute=absolute)
    made = msgspec.structs.replace(
        gained,
        guardrails=(msgspec.structs.replace(guard, state=state, beyond=beyond),),
        metrics=(*gained.metrics[:-1], msgspec.structs.replace(opt_outs, effects=(effect,))),
    )
    (tile,) = [one for one in document_of(made).blocks[1].tiles if one.label == "Guardrails"]
    assert tile.value == value


def test_every_picture_is_there_and_says_in_words_what_it_shows(gained, told):
    held = pictures_of(told)
    assert list(held) == ["path-1", "effects", "exposures", "segment-1", "novelty-1"]
    effect = gained.metrics[0].effects[0]
    assert (
        f"Revenue per customer\n(primary, higher is better): {amounts.change(effect.relative)}" in held["effects"].alt
    )
    assert re.search(r"1,4\d\d control \(4\d\.\d%\), 1,5\d\d variant", held["exposures"].alt)
    assert all("<text" in one.svg and "DejaVu" not in one.svg for one in held.values())


def test_what_could_not_be_computed_is_said_and_never_zero(told):
    rows = {row[0]: row for row in table(told, "metrics").rows}
    acceptance = rows["Acceptance rate (secondary)"]
    assert acceptance[1:] == (*[amounts.NOT_KNOWN] * 6, amounts.DASH)
    text = render(told, "md").decode()
    assert "**Acceptance rate, variant:** no impression was ever recorded." in text
    assert "nan" not in text


def test_the_primary_metrics_interval_is_the_one_that_holds_at_every_look(gained, told):
    row = table(told, "primary").rows[0]
    last = gained.paths[0].looks[-1]
    wide = re.findall(r"[+−][\d.]+", row[-2])
    one_look = gained.metrics[0].effects[0]
    assert float(wide[0]) < 100 * one_look.relative_low
    assert float(wide[1]) > 100 * one_look.relative_high
    assert last.always_low is not None


def test_an_experiment_that_nobody_met_is_reported_without_pictures_or_figures():
    empty = {name: frame.iloc[:0] for name, frame in world(n=100).items()}
    found = report(empty, segments=())
    document = document_of(found)
    assert pictures_of(document) == {}
    assert found.verdict.decision == "keep running"
    assert not found.alarmed
    assert "- No unit was exposed yet." in render(document, "md").decode()


def test_several_variants_each_have_their_row_and_path_and_a_name_that_looks_like_markup_stays_a_name():
    odd = "<b>x</b>|`y`"
    three = (*TWO[:1], Variant(name="variant", weight=0.25), Variant(name=odd, weight=0.25))
    tables = world(lift=0.3)
    taken = tables["exposures"]["variant"].eq("variant") & (tables["exposures"].index % 2 == 0)
    tables["exposures"].loc[taken, "variant"] = odd
    weights = {"control": 0.5, "variant": 0.25, odd: 0.25}
    made = experiment(variants=three, phases=(msgspec.structs.replace(PHASE, weights=weights),))
    with tables_of(**tables) as opened:
        document = document_of(report_of(made, analyse(made, opened, END, looks=LOOKS), "EUR"))
    assert [row[0] for row in table(document, "variants").rows] == ["variant", odd]
    assert [row[1] for row in table(document, "metrics").rows[:2]] == ["variant", odd]
    assert {"path-1", "path-2", "effects"} <= set(pictures_of(document))
    page = render(document, "html").decode()
    assert "<b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page


def test_one_variant_is_not_named_in_every_row(told):
    assert [column.title for column in table(told, "metrics").columns][:3] == [
        "Metric",
        "control",
        "variant",
    ]


def test_one_wild_interval_does_not_take_the_room_of_the_others():
    def row(reach):
        return Interval(label="", value=0.01, low=-reach, high=reach)

    assert cut_at([row(0.05), row(0.06), row(9.0)]) == pytest.approx(4 * 0.06)  # four times the median
    assert cut_at([row(0.05), row(0.06), row(0.07)]) is None
    assert cut_at([row(0.05), row(9.0)]) is None


def test_json_holds_the_whole_analysis_and_reads_back(gained, told):
    body = render(told, "json")
    assert msgspec.json.decode(body, type=ExperimentReport) == gained
    assert json.loads(body)["verdict"]["decision"] == "ship"


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (None, "share", "not known"),
        (float("nan"), "currency", "not known"),
        (0.0342, "share", "3.42%"),
        (-0.0342, "share", "−3.42%"),
        (1234.5, "currency", "1,234 EUR"),
        (0.00042, "count", "0.000420"),
        (12.0, "ms", "12.0 ms"),
        (0.0, "score", "0"),
    ],
)
def test_amounts_read_as_people_write_them(value, unit, told):
    assert amounts.amount(value, unit, "EUR") == told


@pytest.mark.parametrize(("p", "told"), [(None, "not known"), (1e-9, "< 0.0001"), (0.0049, "0.0049"), (0.31, "0.31")])
def test_p_values_have_as_many_digits_as_they_need(p, told):
    assert amounts.chance(p) == told


def test_pictures_are_drawn_in_colours_that_a_page_can_replace(gained, told):
    page = render(told, "html").decode()
    assert page == render(document_of(gained), "html").decode()  # drawing is the same each time
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawn) == 5
    assert all(not re.findall(r"#[0-9a-f]{6}\b", one) for one in drawn)
