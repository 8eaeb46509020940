"""Paths over looks, guardrails and the verdict: each decision with the sentence that says why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from experiments.cells import Cell
from experiments.statistics.effect import Effect, compare
from experiments.statistics.group_sequential import boundaries
from experiments.statistics.guardrails import guard
from experiments.statistics.sample_ratio import Counted, sample_ratio
from experiments.statistics.sequential import Seen, path, z_of
from experiments.statistics.verdict import Evidence, in_points, in_words, summary, verdict
from features.experiment import Guardrail

START = datetime(2026, 3, 2, tzinfo=UTC)


def cell(variant, n, mean, var=1.0):
    return Cell(metric="m", variant=variant, n=n, mean_num=mean, var_num=var)


def seen_at(day, n, lift, level=10.0, decides=True, variant="variant"):
    """A look after `day` days with `n` units in each arm and exactly this lift."""
    cells = [cell("control", n, level), cell(variant, n, level + lift)]
    return Seen(START + timedelta(days=day), 2 * n, compare(cells, "m", "control", variant, cuped=False), decides)


def looks(*pairs, **more):
    return [seen_at(day, n, lift, **more) for day, (n, lift) in enumerate(pairs, start=1)]


def evidence(
    seen, planned=10_000, guardrails=(), running=True, days=14.0, counts=(5_000, 5_000), better="higher", **more
):
    split = Counted(
        phase=1,
        weights={"control": 0.5, "variant": 0.5},
        looks=(dict(zip(("control", "variant"), counts, strict=True)),),
    )
    return Evidence(
        title="Revenue per customer",
        share=False,
        path=path(seen, better=better, planned_units=planned),
        sample_ratio=sample_ratio([split]),
        guardrails=tuple(guardrails),
        n_units=sum(counts),
        planned_units=planned,
        running=running,
        days=days,
        **more,
    )


def test_a_path_holds_z_against_its_boundaries():
    found = path(looks((1_000, 0.02), (2_500, 0.02), (5_000, 0.05)), better="higher", planned_units=10_000)
    assert [look.bound for look in found.looks] == pytest.approx(list(boundaries([0.2, 0.5, 1.0])))
    assert found.looks[2].z == pytest.approx(0.05 / np.sqrt(2 / 5_000), rel=1e-3)
    assert (found.outcome, found.decided_at) == ("better", START + timedelta(days=3))
    assert found.decided_by == "group-sequential boundary"
    assert found.complete


def test_an_early_significance_does_not_decide():
    """z = 2.8 at a fifth of the plan: 1.96 is passed, the boundary of 4.88 is not."""
    found = path(looks((1_000, 0.126)), better="higher", planned_units=10_000)
    assert found.looks[0].z > 2.8
    assert found.outcome == "undecided"


def test_the_repeated_interval_excludes_zero_exactly_when_the_boundary_is_passed():
    for lift in (0.05, 0.03):
        (look,) = path([seen_at(5, 5_000, lift)], better="higher", planned_units=10_000).looks
        assert (look.low > 0) == (look.z >= look.bound)


def test_unplanned_looks_spend_nothing_and_decide_nothing():
    planned = looks((1_000, 0.02), (5_000, 0.05))
    extra = [seen_at(1.5, 2_000, 0.3, decides=False)]
    mixed = path([planned[0], *extra, planned[1]], better="higher", planned_units=10_000)
    alone = path(planned, better="higher", planned_units=10_000)
    assert [look.bound for look in mixed.looks] == [alone.looks[0].bound, None, alone.looks[1].bound]
    assert mixed.decided_at == alone.decided_at


def test_small_looks_and_looks_without_new_units_do_not_count():
    found = path(looks((50, 5.0), (1_000, 0.0), (1_000, 0.0)), better="higher", planned_units=10_000)
    assert [look.counts for look in found.looks] == [False, True, False]
    assert found.looks[0].always_low is None


def test_without_a_plan_the_confidence_sequence_decides():
    found = path(looks((1_000, 0.05), (20_000, 0.05)), better="higher")
    assert (found.outcome, found.decided_by) == ("better", "confidence sequence")
    assert found.decided_at == START + timedelta(days=2)


def test_lower_may_be_better():
    assert path(looks((5_000, -0.08)), better="lower", planned_units=10_000).outcome == "better"
    assert path(looks((5_000, -0.08)), better="higher", planned_units=10_000).outcome == "worse"


def test_z_comes_from_the_p_value_and_has_the_effects_sign():
    """Of p = 0.05 it is 1.96, whatever test the p-value is from."""
    made = Effect(metric="m", control="c", variant="v", n_control=9, n_variant=9, absolute=-1.0, p_value=0.05)
    assert z_of(made) == pytest.approx(-1.959964)
    assert z_of(msgspec.structs.replace(made, p_value=None)) is None
    assert z_of(msgspec.structs.replace(made, p_value=0.0, standard_error=0.02)) == pytest.approx(-50)


# Guardrails


@pytest.mark.parametrize(
    ("n", "lift", "state"),
    [(20_000, 0.8, "alarm"), (20_000, 0.0, "safe"), (200, 0.5, "open"), (50, 0.8, "unknown")],
)
def test_a_guardrail_of_five_percent_is_an_alarm_safe_open_or_unknown(n, lift, state):
    (found,) = guard(Guardrail(metric="m", max_relative=0.05), [seen_at(3, n, lift)], planned_units=40_000)
    assert found.state == state


def test_an_alarm_keeps_ringing_and_says_since_when():
    seen = looks((5_000, 2.0), (20_000, 0.0))
    (found,) = guard(Guardrail(metric="m", max_relative=0.05), seen, planned_units=40_000)
    assert (found.state, found.alarm_at) == ("alarm", START + timedelta(days=1))
    assert found.beyond is False


def test_a_guardrail_may_have_two_sides():
    found = guard(Guardrail(metric="m", max_relative=0.05, min_relative=-0.05), looks((20_000, -2.0)))
    assert [(one.side, one.state) for one in found] == [("max", "safe"), ("min", "alarm")]


def test_a_guardrail_without_a_level_says_that_nothing_is_known():
    (found,) = guard(Guardrail(metric="m", max_relative=0.05), [seen_at(1, 500, 0.5, level=0.0)], signed=True)
    assert found.state == "unknown"
    assert found.flags == ("control is not above 0: a relative limit says nothing",)
    nothing = Seen(START, 0, compare([], "m", "control", "variant"))
    assert guard(Guardrail(metric="m", min_relative=0.0), [nothing])[0].flags == ("no data",)


@pytest.mark.parametrize(
    ("opted_out", "state"),
    [((0, 168), "alarm"), ((0, 20), "alarm"), ((0, 1), "open"), ((0, 0), "open"), ((168, 0), "safe")],
)
def test_a_control_of_exactly_zero_does_not_blind_a_guardrail(opted_out, state):
    """0 of 3,000 against 168 (5.6 %) and 20: Fisher's exact p is 8e-53 and 2e-6; against 1 it is 1."""
    cells = [
        Cell(metric="m", variant=name, n=3_000, mean_num=k / 3_000, var_num=k * (3_000 - k) / 3_000 / 2_999)
        for name, k in zip(("control", "variant"), opted_out, strict=True)
    ]
    effect = compare(cells, "m", "control", "variant", kind="proportion")
    seen = [Seen(START, 6_000, effect)]
    (found,) = guard(Guardrail(metric="m", max_relative=0.1), seen, planned_units=10_000)
    assert found.state == state
    if opted_out == (0, 168):
        assert decided(SHIPPED, guardrails=[found]) == (
            "stop",
            "guardrail: m changed by more than its limit of +10.0% (now 0.056 against 0 of control)",
        )


# Verdict

SHIPPED = looks((2_500, 0.08), (5_000, 0.08))
FLAT = looks((2_500, 0.0), (5_000, 0.001))


def decided(*args, **more):
    found = verdict(evidence(*args, **more))
    return found.decision, " / ".join(found.reasons)


def test_a_proven_gain_is_shipped():
    decision, why = decided(SHIPPED)
    assert decision == "ship"
    assert why.startswith("Revenue per customer is better: +0.8% (between +0.4% and +1.2%), decided on 2026-03-0")


def test_the_planned_end_without_a_difference_is_a_stop():
    decision, why = decided(FLAT)
    assert decision == "stop"
    assert "no difference is proven, and all 10,000 planned units are in" in why


def test_before_the_end_it_keeps_running():
    """A fifth of the plan: 4.877 standard errors of sqrt(2 / 5,000) = 0.02 are 0.975 % of 10."""
    assert decided(FLAT, planned=50_000) == (
        "keep running",
        "Revenue per customer +0.0% (between -1.0% and +1.0%): no difference is proven yet; "
        "10,000 of 50,000 planned units are in",
    )
    assert "has no planned size" in decided(FLAT, planned=None)[1]
    assert decided(FLAT, planned=50_000, running=False)[0] == "stop"


def test_between_planned_looks_a_full_experiment_waits_for_the_next():
    full = [seen_at(1, 2_500, 0.01), seen_at(1.5, 6_000, 0.01, decides=False)]
    decision, why = decided(full)
    assert decision == "keep running"
    assert why.endswith("all planned units are in, and the next planned look decides")


def test_harm_stops_at_any_time():
    decision, why = decided(looks((2_500, -0.5)), planned=50_000)
    assert decision == "stop"
    assert "is worse, whenever one looks" in why


def test_a_loss_at_the_boundary_stops():
    decision, why = decided(looks((2_500, 0.0), (5_000, -0.05)))
    assert decision == "stop"
    assert "is worse: -0.5%" in why


def test_an_alarm_stops_a_gain():
    alarm = guard(Guardrail(metric="m", max_relative=0.05), looks((20_000, 1.0)))
    decision, why = decided(SHIPPED, guardrails=alarm)
    assert decision == "stop"
    assert why == "guardrail: m changed by more than its limit of +5.0% (now +10.0%)"


def test_a_limit_that_is_passed_but_not_for_sure_holds_a_gain_back():
    unsure = guard(Guardrail(metric="m", max_relative=0.05), looks((200, 0.55)))
    assert unsure[0].state == "open"
    assert decided(SHIPPED, guardrails=unsure)[0] == "keep running"
    within = guard(Guardrail(metric="m", max_relative=0.05), looks((200, 0.3)))
    assert "not shown to be within their limits, nor beyond: m" in decided(SHIPPED, guardrails=within)[1]


def test_a_gain_waits_for_a_whole_week():
    decision, why = decided(SHIPPED, days=3.0)
    assert decision == "keep running"
    assert "it ran for 3.0 days: let it see a whole week" in why
    decision, why = decided(SHIPPED, days=3.0, running=False)
    assert decision == "do not trust"
    assert "it was stopped after 3.0 days and never saw a whole week" in why


def test_a_wrong_split_is_not_trusted_however_good_the_gain():
    decision, why = decided(SHIPPED, counts=(5_400, 4_600))
    assert decision == "do not trust"
    assert "5,400 control, 4,600 variant units were seen where 5,000 control, 5,000 variant were to be expected" in why


def test_crossed_units_and_mixed_currencies_are_not_trusted():
    assert "200 of 10,200 units met more than one variant" in decided(SHIPPED, n_crossed=200)[1]
    assert decided(SHIPPED, n_crossed=50)[0] == "ship"
    assert "would mix currencies: 300 in USD had to be left out" in decided(SHIPPED, foreign_purchases={"USD": 300})[1]


@pytest.mark.parametrize(("running", "decision"), [(True, "keep running"), (False, "do not trust")])
def test_too_few_say_nothing(running, decision):
    found, why = decided(looks((40, 5.0)), running=running)
    assert found == decision
    assert why == "too few: 40 units in the smaller variant, 100 are the least to say anything"


def test_without_data_there_is_no_verdict_of_no_effect():
    nothing = [Seen(START, 0, compare([], "m", "control", "variant"))]
    assert decided(nothing) == (
        "keep running",
        "too few: 0 units in the smaller variant, 100 are the least to say anything",
    )
    same = compare([cell("control", 500, 0.0, 0.0), cell("variant", 500, 0.0, 0.0)], "m", "control", "variant")
    assert same.flags[0].startswith("not adjusted for the pre-period")  # which is not why
    decision, why = decided([Seen(START, 1_000, same)])
    assert decision == "keep running"
    assert (
        why == "Revenue per customer could not be computed: every unit has the same value: there is nothing to compare"
    )


def test_of_several_variants_the_best_is_shipped_and_distrust_is_for_all():
    better = evidence([seen_at(5, 5_000, 0.2, variant="b")])
    good = evidence(SHIPPED)
    flat = evidence(FLAT)
    both = summary([verdict(good), verdict(better)], [good.path, better.path])
    assert (both.decision, both.variant) == ("ship", "b")
    assert "1 more would be worth shipping" in both.reasons[-1]
    broken = evidence(FLAT, counts=(6_000, 4_000))
    assert summary([verdict(good), verdict(broken)], [good.path, broken.path]).decision == "do not trust"
    waiting = evidence(FLAT, planned=50_000)
    assert summary([verdict(flat), verdict(waiting)], [flat.path, waiting.path]).decision == "keep running"
    assert summary([verdict(flat), verdict(flat)], [flat.path, flat.path]).decision == "stop"


def test_harm_of_one_variant_stops_the_experiment_while_another_is_open():
    waiting, harmful = (
        evidence([seen_at(5, 2_500, lift, variant=name)], planned=50_000) for name, lift in (("b", 0.0), ("c", -0.5))
    )
    found = summary([verdict(waiting), verdict(harmful)], [waiting.path, harmful.path])
    assert (found.decision, found.variant, found.harm) == ("stop", "c", True)
    assert found.reasons[0].startswith("c: Revenue per customer is worse, whenever one looks: -5.0%")
    assert found.reasons[1].startswith("still open: b; a running experiment cannot drop a variant")


def test_beside_a_winner_harm_is_named_and_an_open_variant_is_none():
    good, harmful = evidence(SHIPPED), evidence([seen_at(5, 5_000, -0.05, variant="c")])
    found = summary([verdict(good), verdict(harmful)], [good.path, harmful.path])
    assert (found.decision, found.variant, found.harm) == ("ship", "variant", True)
    assert found.reasons[-1].startswith("c: Revenue per customer is worse")
    alarm = guard(Guardrail(metric="m", max_relative=0.05), looks((20_000, 1.0)))
    assert verdict(evidence(FLAT, planned=50_000, guardrails=alarm)).harm
    assert not verdict(evidence(FLAT, planned=50_000)).harm


TURNED = looks((5_000, 0.2), (5_500, -0.007))  # z = 10 at half the plan of 20,000, then -0.4


def test_a_decision_quotes_the_look_that_decided_and_says_if_it_has_turned_since():
    decision, why = decided(TURNED, planned=20_000)
    assert decision == "ship"
    assert why.startswith("Revenue per customer is better: +2.0% (between +1.4% and +2.6%), decided on 2026-03-03")
    assert "but it has turned since: now -0.1% (between -" in why
    lost = looks((5_000, 0.2), (5_500, 0.01))
    assert "since then less sure: now +0.1% (between -" in decided(lost, planned=20_000)[1]
    assert "since" not in decided(looks((5_000, 0.2), (5_500, 0.2)), planned=20_000)[1]


def test_harm_that_has_turned_since_still_says_what_it_was():
    why = decided(looks((5_000, -0.2), (5_500, 0.01)), planned=20_000)[1]
    assert why.startswith("Revenue per customer is worse, whenever one looks: -2.0%")
    assert "but it has turned since: now +0.1%" in why


def test_winners_are_ranked_by_the_looks_that_decided():
    """b won by 0.2 and is at -0.007 now; the other won by 0.08 and still has it."""
    turned = evidence([seen_at(day, n, lift, variant="b") for day, n, lift in ((1, 5_000, 0.2), (2, 5_500, -0.007))])
    good = evidence(SHIPPED)
    found = summary([verdict(good), verdict(turned)], [good.path, turned.path])
    assert (found.decision, found.variant) == ("ship", "b")


def test_customers_are_a_share_of_all_and_change_in_points():
    effect = Effect(
        metric="m", control="c", variant="v", n_control=200, n_variant=200,
        absolute=0.0001, absolute_low=-0.0075, absolute_high=0.0077,
    )  # fmt: skip
    (look,) = path([Seen(START, 400, effect)], better="higher").looks
    assert in_words(look, in_points("customers")) == "+0.01 points (between -0.75 and +0.77)"
    assert in_words(look, in_points("count")) == "+0.0001 (between -0.0075 and +0.0077)"


def test_a_limit_that_is_passed_but_not_for_sure_is_said_while_it_runs():
    unsure = guard(Guardrail(metric="m", max_relative=0.05), looks((200, 0.55)))
    assert "beyond its limit, though not for sure yet: m" in decided(FLAT, planned=50_000, guardrails=unsure)[1]
