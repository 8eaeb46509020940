"""The whole digest and its document, of a world with planted effects; expected values by hand unless said."""

from __future__ import annotations

import json
from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from experiments.digest.caused import NONE, caused
from experiments.digest.digest import make_digest
from experiments.digest.document import document_of
from experiments.digest.measures import data_until
from experiments.digest.running import experiments_of
from experiments.digest.week import Week
from experiments.report.render import render
from features.errors import BadInput
from features.experiment import HELD_OUT, HOLDOUT, SERVED, Experiment, Guardrail, Phase, Variant
from tests.experiments.worlds import START, day, event, exposure, offer, world

WEEK = Week(START.date(), ZoneInfo("UTC"))


def phase(number, starts, stops=None, held_out=0.5):
    return Phase(
        number=number,
        starts_at=day(starts),
        traffic=1.0,
        weights={HELD_OUT: held_out, SERVED: 1 - held_out},
        stops_at=None if stops is None else day(stops),
    )


def holdout(*phases):
    last = phases[-1]
    return Experiment(
        experiment_id=HOLDOUT,
        hypothesis="what the service causes",
        variants=(
            Variant(name=HELD_OUT, weight=last.weights[HELD_OUT], is_control=True),
            Variant(name=SERVED, weight=last.weights[SERVED]),
        ),
        primary_metric="revenue_per_customer",
        layer=HOLDOUT,
        status="running",
        phases=phases,
        started_at=phases[0].starts_at,
        stopped_at=last.stops_at,
    )


def bought(customer, at, value):
    return event(customer, "purchase", at, value=value, currency="EUR")


def of_holdout(events, exposed, experiment):
    with world(events, exposed) as tables:
        return caused(tables, experiment, WEEK, data_until(tables, WEEK.until))


def test_what_the_service_caused_is_found_with_its_sum():
    """Planted: 400 held out spend 20 on average, 400 served 26; so 6 each, 2,400 in all."""
    rng = np.random.default_rng(2)
    events, exposed = [event("z", "visit", -30)], []
    for arm, mean in ((HELD_OUT, 20), (SERVED, 26)):
        for i in range(400):
            customer = f"{arm}{i}"
            exposed.append(exposure(customer, arm, -3, experiment=HOLDOUT))
            events += [bought(customer, -2, 500), bought(customer, 1, round(max(1, rng.normal(mean, 5)), 2))]
    found = of_holdout(events, exposed, holdout(phase(1, -10)))
    money = next(one for one in found.week if one.metric == "revenue_per_customer")
    assert (found.n_held_out, found.n_served, found.why) == (400, 400, None)
    assert money.effect.absolute_low < 6 < money.effect.absolute_high
    assert money.total == pytest.approx(400 * money.effect.absolute)
    assert money.effect.p_adjusted < 0.001
    assert money.effect.estimate_control < 100  # what was bought before the week does not count


def test_only_the_phase_at_the_weeks_end_counts_and_who_met_both_arms_is_left_out():
    exposed = [exposure(f"old{i}", SERVED, -20, experiment=HOLDOUT, phase=1) for i in range(5)]
    exposed += [exposure(f"h{i}", HELD_OUT, 1, experiment=HOLDOUT, phase=2) for i in range(3)]
    exposed += [exposure(f"s{i}", SERVED, 1, experiment=HOLDOUT, phase=2) for i in range(4)]
    exposed += [exposure("both", SERVED, 1, experiment=HOLDOUT, phase=2),
                exposure("\x1fboth", HELD_OUT, 2, experiment=HOLDOUT, phase=2)]  # fmt: skip
    events = [bought(f"h{i}", 2, 1 + i) for i in range(3)] + [event("z", "visit", -30)]
    with world(events, exposed, identities=[("\x1fboth", "both", 0)]) as tables:
        found = caused(tables, holdout(phase(1, -30, -5), phase(2, -5)), WEEK, data_until(tables, WEEK.until))
    assert (found.phase, found.n_held_out, found.n_served, found.n_crossed) == (2, 3, 4, 1)


def test_without_a_holdout_it_says_so_and_shows_no_zero():
    assert of_holdout([event("a", "visit", 1)], None, None).why == NONE
    ended = of_holdout([event("a", "visit", 1)], None, holdout(phase(1, -20, -10)))
    assert ended.why == "There was no holdout in 2026-W10, so nobody can say what the service caused in it."
    empty = of_holdout([event("a", "visit", 1)], None, holdout(phase(1, -20)))
    assert empty.why == "Too few customers to say what the service caused: 0 holdout, 0 served."


def experiment(name="e", **fields):
    return Experiment(
        experiment_id=name,
        hypothesis="more is better",
        variants=(Variant(name="control", weight=0.5, is_control=True), Variant(name="on", weight=0.5)),
        primary_metric="revenue_per_customer",
        **{"status": "running", "started_at": day(-3), "phases": (Phase(number=1, starts_at=day(-3), traffic=1.0,
           weights={"control": 0.5, "on": 0.5}),)} | fields,
    )  # fmt: skip


def test_experiments_of_the_week_are_those_that_ran_in_it():
    known = [
        experiment("runs"),
        experiment("later", started_at=day(8)),
        experiment("draft", status="draft", started_at=None),
        experiment("over", status="stopped", stopped_at=day(-1)),
        experiment("just over", status="stopped", stopped_at=day(2)),
    ]
    with world([event("a", "visit", 1)]) as tables:
        found = experiments_of(tables, known, WEEK)
    assert [one.experiment_id for one in found.states] == ["just over", "runs"]
    assert found.n_drafts == 1


def uneven(n_control=150, n_on=300):
    """A sample ratio that cannot be chance at weights of one half."""
    exposed = [exposure(f"c{i}", "control", -2) for i in range(n_control)]
    exposed += [exposure(f"o{i}", "on", -2) for i in range(n_on)]
    return exposed, [bought(one["unit_id"], 1, 5 + i % 3) for i, one in enumerate(exposed)]


def test_a_running_experiment_not_to_be_trusted_is_an_alarm_and_a_stopped_one_is_not():
    exposed, events = uneven()
    with world(events, exposed) as tables:
        running = experiments_of(
            tables, [experiment(guardrails=(Guardrail(metric="opt_out_rate", max_relative=0.1),))], WEEK
        )
        stopped = experiments_of(tables, [experiment(status="stopped", stopped_at=day(6))], WEEK)
    assert running.states[0].verdict == stopped.states[0].verdict == "do not trust"
    assert "150 control, 300 on" in " ".join(running.states[0].alarms)
    assert stopped.states[0].alarms == ()


def test_an_empty_week_is_refused_and_says_what_the_data_hold():
    with (
        world([event("a", "visit", -20)]) as tables,
        pytest.raises(
            BadInput, match="nothing happened in 2026-W10: the data hold events from 2026-02-10 to 2026-02-10"
        ),
    ):
        make_digest(tables, WEEK)
    with world([]) as tables, pytest.raises(BadInput, match="the data hold no event"):
        make_digest(tables, WEEK)


@pytest.fixture(scope="module")
def document():
    exposed, events = uneven()
    events += [event(f"c{i}", "visit", at) for i in range(30) for at in (-6.5, -3, 1, 2, 4)]
    for i in range(30):
        for at, every in ((-6, 3), (2, 2)):  # 10 acceptances the week before, then 15
            kinds = ("impression", "accept") if i % every == 0 else ("impression",)
            events += [event(f"c{i}", kind, at, offer_id="o") for kind in kinds]
    said = json.dumps({"nps": 9, "text": "<b>Great offers | *really*"})
    events += [event(f"c{i}", "feedback", 3, properties=said) for i in range(3)]
    events += [event("foreign", "purchase", 1, value=10, currency="USD")]
    with world(events, exposed, offers=[offer("o")]) as tables:
        digest = make_digest(tables, WEEK, [experiment()], None, names={"o": "Ten & one <off>"})
    return document_of(digest, day(8))


def test_the_documents_order_is_what_to_look_at_first(document):
    titles = [block.title for block in document.blocks if hasattr(block, "title")]
    assert titles == [
        "Somebody should look at this today", "Before you compare", "Engagement", "Lifecycle",
        "From decisions to acceptances", "Offers that moved", "Who likes or rejects what", "What customers said",
        "Experiments", "What the service caused", "How each measure is computed",
    ]  # fmt: skip
    assert document.data.notes[-1] == "1 purchases in USD do not count: money is in EUR"


def test_every_format_holds_the_same_and_no_customers_id(document):
    html, markdown, found = render(document, "html").decode(), render(document, "md").decode(), render(document, "json")
    assert "Ten &amp; one &lt;off&gt; (o)" in html
    assert "&lt;b&gt;Great offers" in html
    assert "No holdout is set" in html
    assert "No holdout is set" in markdown
    data = json.loads(found)
    assert data["week"] == "2026-W10"
    assert data["holdout"]["week"] == []
    assert next(one for one in data["measures"] if one["metric"] == "opt_out_rate")["now"]["value"] is None
    for text in (html, markdown, found.decode()):
        assert "c17" not in text
        assert "foreign" not in text
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html


def test_the_lede_names_the_days_of_the_deployments_calendar(document):
    assert "from Monday 2 March 2026 to Sunday 8 March 2026 (UTC)" in document.lede


def test_a_week_cut_short_or_without_one_before_says_so_first():
    with world([event("a", "visit", 0.5), event("a", "visit", 2)]) as tables:
        digest = make_digest(tables, WEEK)
    assert [note.split(",")[0] for note in digest.notes] == [
        "The last event is of 2026-03-04 00:00 UTC", "The data begin on 2026-03-02",
    ]  # fmt: skip
    assert [one.active for one in digest.days] == [1, 0, 1, None, None, None, None]
    assert digest.movers is None
    assert all(step.before is None for step in digest.funnel)
    assert all(stage.n_before is None for stage in digest.lifecycle)
    assert WEEK.until - WEEK.since == timedelta(days=7)


def test_a_lifecycle_that_the_data_are_too_short_for_is_not_known_and_no_zero():
    """The data begin 16 days before the week ends: that nobody lapsed, and all are new, follows from that alone."""
    with world([event(f"c{n}", "visit", n - 9) for n in range(16)]) as tables:
        digest = make_digest(tables, WEEK)
    stages = {one.stage: one for one in digest.lifecycle}
    assert {name for name, one in stages.items() if one.n is None} == {"lapsed", "at risk", "new", "returned", "active"}
    assert (stages["left"].n, stages["left"].n_before) == (0, 0)
    text = render(document_of(digest, day(8)), "md").decode()
    (row,) = [line for line in text.splitlines() if line.startswith("| lapsed")]
    assert [cell.strip() for cell in row.split("|")[3:-1]] == ["not known"] * 4
    assert "**lapsed** is not known: the data begin 16 days before the end, 90 are needed." in text
