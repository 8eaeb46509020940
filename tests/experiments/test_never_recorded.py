"""A metric whose events nobody writes down is not known in experiments, as it is not in the digest."""

from __future__ import annotations

from datetime import timedelta

import pytest

from experiments.analysis import analyse
from experiments.digest.measures import Data, why_not
from experiments.happened import never_recorded, recorded_types
from experiments.metrics import METRICS
from features.data_settings import DataSettings
from features.events import to_us
from features.experiment import Experiment, Guardrail, Variant
from tests.experiments.worlds import START, day, event, exposure, world

TWO = (Variant(name="control", weight=0.5, is_control=True), Variant(name="variant", weight=0.5))
EXPOSED = [exposure(f"u{i}", ("control", "variant")[i % 2], i % 5) for i in range(400)]


def analysed(metric, events=(), **more):
    asked = Experiment(
        experiment_id="e", hypothesis="h", variants=TWO, primary_metric=metric, planned_units=400, status="running",
        started_at=START, **more,
    )  # fmt: skip
    with world(list(events), EXPOSED) as tables:
        return analyse(asked, tables, day(60))


@pytest.mark.parametrize(
    ("metric", "missing"),
    [
        ("opt_out_rate", "opt_out"),
        ("customer_engagement", "visit"),
        ("revenue_per_customer", "purchase"),
        ("nps", "feedback"),
    ],
)
def test_without_a_single_event_of_a_metric_there_is_no_effect_and_a_reason(metric, missing):
    found = analysed(metric)
    (effect,) = found.metrics[0].effects
    assert (effect.absolute, effect.p_value, effect.estimate_control) == (None, None, None)
    assert effect.flags == (f"no {missing} was ever recorded",)
    assert all(look.low is None and look.z is None for look in found.paths[0].looks)
    assert found.verdict.decision == "keep running"
    (reason,) = found.verdict.reasons
    assert reason.endswith(f"could not be computed: no {missing} was ever recorded")


def test_churn_is_not_everybody_where_no_activity_is_written_down():
    (effect,) = analysed("churn_rate").metrics[0].effects
    assert not effect.known
    assert effect.flags[0] == f"no {' or '.join(DataSettings().churn.activity)} was ever recorded"
    visits = [event(f"u{i}", "visit", 6) for i in range(0, 400, 3)]
    (known,) = analysed("churn_rate", visits).metrics[0].effects
    assert known.known
    assert known.estimate_control == pytest.approx(133 / 200)  # 67 of the 134 who came are of control


def test_one_event_of_somebody_else_makes_none_of_the_units_a_zero():
    found = analysed("opt_out_rate", [event("stranger", "opt_out", 1)])
    (effect,) = found.metrics[0].effects
    assert effect.absolute == 0
    assert effect.absolute_low < 0 < effect.absolute_high
    assert found.paths[0].looks[-1].low is None or found.paths[0].looks[-1].low < 0


def test_guardrails_and_days_say_so_too():
    found = analysed("opt_out_rate", guardrails=(Guardrail(metric="dismissal_rate", max_relative=0.1),))
    assert found.guardrails[0].state == "unknown"
    assert "no impression was ever recorded" in found.guardrails[0].flags[0]
    assert not any(effect.known for effect in found.novelty[0].effects)


def test_the_digest_gives_the_same_reason():
    with world([event("a", "visit", 1)]) as tables:
        types = recorded_types(tables, to_us(day(2)))
        assert types == {"visit"}
        assert recorded_types(tables, to_us(day(1))) == set()
        data = Data(to_us(START), to_us(day(2)), types)
        for metric in METRICS.values():
            why = never_recorded(metric, tables.settings, types)
            assert why == why_not(metric, START + timedelta(days=1), data, tables.settings)
