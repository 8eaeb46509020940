"""Each gate: what it lets pass, what it refuses, and when it says nothing. Expected figures are counted by hand."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.gates.cases import (
    ALIKE,
    JULY,
    JUNE,
    LISTS,
    TIMES,
    a_slice,
    acceptance,
    case,
    recommender,
    standing,
)  # fmt: skip
from training.gates import GATES, Bounds, Check, Valued, asked, bounds_of, table
from training.gates.passage import passage_of

replace = msgspec.structs.replace


def said(gate, of, **bounds):
    """What one gate says."""
    return next(one for one in asked(of, bounds_of({gate: bounds})) if one.gate == gate)


def words(of, **tables):
    return {one.gate: one.passage for one in asked(of, bounds_of(tables))}


def test_a_release_like_the_champion_passes_every_gate_that_has_something_to_judge():
    assert words(case()) == {
        "baseline": "passed", "ranking": "passed", "calibration": "passed", "slices": "no verdict",
        "coverage": "passed", "latency": "passed", "size": "passed", "off_policy": "no verdict",
    }  # fmt: skip


def test_the_first_champion_is_held_to_what_needs_no_other():
    found = words(case(first=True))
    assert {name for name, word in found.items() if word == "not asked"} == {"ranking", "slices", "off_policy"}
    assert all(GATES[name].against_champion == (word == "not asked") for name, word in found.items())


def test_a_gate_that_is_switched_off_is_not_asked():
    lost = standing(verdicts={"churn": "lost"})
    assert said("baseline", case(lost)).passage == "refused"
    found = said("baseline", case(lost), enabled=False)
    assert (found.passage, found.said) == ("not asked", "baseline.enabled is false")


def test_no_verdict_refuses_where_it_is_told_to():
    found = said("off_policy", case(), no_verdict="refuses")
    assert found.passage == "refused"
    assert "off_policy.no_verdict" in found.said


@pytest.mark.parametrize(("verdict", "word"), [("beats", "passed"), ("undecided", "passed"), ("lost", "refused"),
                                               ("is the baseline", "passed")])  # fmt: skip
def test_only_a_model_that_lost_to_its_baseline_is_refused(verdict, word):
    assert said("baseline", case(standing(verdicts={"churn": verdict}))).passage == word


# Ranking


def test_of_the_same_days_ndcg_is_compared_and_a_credible_loss_is_refused():
    # differences of 0.02 and 0.01; the half-width is hypot(0.01, 0.01) = 0.0141
    worse, alike = (case(standing(recommender=recommender(0.30 - by))) for by in (0.02, 0.01))
    refused, passed = said("ranking", worse), said("ranking", alike)
    assert (refused.passage, passed.passage) == ("refused", "passed")
    assert refused.figure == pytest.approx(-0.02)
    assert "on the same days, unpaired -0.0200 [-0.0341, -0.0059]" in refused.said
    assert said("ranking", worse, max_drop=0.02).passage == "passed"  # 0.0059 is less than 2 % of 0.30


def test_of_other_days_gains_over_the_own_baselines_are_compared():
    """July was harder for everybody: the model lost 0.1, its baseline too."""
    harder = standing(recommender=recommender(0.20, gain=0.05, window=JULY))
    found = said("ranking", case(harder))
    assert found.passage == "passed"
    assert "of other days, so gains over the baselines compare +0.0000" in found.said
    assert said("ranking", case(standing(recommender=recommender(0.40, gain=0.01, window=JULY)))).passage == "refused"


def test_customers_whom_both_judged_are_paired_and_a_small_loss_of_all_is_seen():
    rng = np.random.default_rng(0)
    old = rng.uniform(0, 1, 400)
    new = old - 0.01 + rng.normal(0, 0.01, 400)
    runs = [recommender(float(v.mean()), half=0.03, per_customer=v.tolist()) for v in (new, old)]
    found = said("ranking", case(standing(recommender=runs[0]), standing("1", recommender=runs[1])))
    d = new - old
    half = 1.959964 * d.std(ddof=1) / math.sqrt(400)  # the textbook's paired interval
    assert found.passage == "refused"
    assert f"on the same customers {d.mean():+.4f} [{d.mean() - half:+.4f}, {d.mean() + half:+.4f}]" in found.said


def test_few_customers_in_common_are_not_paired():
    runs = [recommender(0.30, per_customer=values) for values in ([0.3] * 10, [0.3] * 20)]
    assert "unpaired" in said("ranking", case(standing(recommender=runs[0]), standing("1", recommender=runs[1]))).said


def test_where_both_were_judged_beside_popularity_gains_over_it_are_compared():
    """Own baselines differ: one release had own frequency to beat, the other popularity."""

    def run(gain, over_popularity, window):
        name = "ndcg_at_10_gain_over_popularity"
        more = {f"{name}{end}": over_popularity + by for end, by in (("", 0.0), ("_low", -0.01), ("_high", 0.01))}
        return recommender(0.3, gain=gain, window=window, **more)

    better = case(standing(recommender=run(0.01, 0.12, JULY)), standing("1", recommender=run(0.10, 0.10, JUNE)))
    found = said("ranking", better)
    assert found.passage == "passed"
    assert "gains over popularity compare +0.0200" in found.said


def test_a_release_judged_with_repeats_is_not_compared_with_one_without():
    new, old = (recommender(v, window={**JUNE, "exclude_seen": seen}) for v, seen in ((0.1, "True"), (0.4, "False")))
    assert said("ranking", case(standing(recommender=new), standing("1", recommender=old))).passage == "no verdict"


def test_what_the_training_measured_against_this_champion_goes_first():
    gain = {"champion_ndcg_at_10_gain": -0.03, "champion_ndcg_at_10_gain_low": -0.05,
            "champion_ndcg_at_10_gain_high": -0.01}  # fmt: skip
    new = recommender(0.5, window=JULY, tags={"champion_release": "1"}, **gain)
    assert said("ranking", case(standing(recommender=new))).passage == "refused"
    other = recommender(0.5, window=JULY, tags={"champion_release": "9"}, **gain)
    assert said("ranking", case(standing(recommender=other))).passage == "passed"


@pytest.mark.parametrize("gone", ["ndcg_at_10", "ndcg_at_10_low"])
def test_without_figures_or_intervals_there_is_no_verdict_on_ranking(gone):
    whole = recommender()
    metrics = {name: value for name, value in whole.metrics.items() if name != gone}
    part = type(whole)("1", metrics, JUNE, {}, {})
    assert said("ranking", case(standing(recommender=part))).passage == "no verdict"
    assert said("ranking", case(standing(recommender=recommender(math.nan)))).passage == "no verdict"


# Calibration


@pytest.mark.parametrize(("run", "word"), [
    (acceptance(0.05, half=0.04), "passed"), (acceptance(0.0501), "refused"),
    (acceptance(0.06, n_test=499), "no verdict"), (acceptance(math.nan), "no verdict"),
])  # fmt: skip
def test_probabilities_that_are_off_on_average_are_refused(run, word):
    assert said("calibration", case(standing(acceptance=run), first=True)).passage == word


@pytest.mark.parametrize(("ece", "word"), [(0.101, "passed"), (0.102, "refused")])
def test_what_chance_makes_of_a_calibrated_model_on_few_rows_is_allowed_for(ece, word):
    """Ten bins of 50 rows at p = 0.3: √(2 × 0.3 × 0.7 / (π × 50)) = 0.0517 is expected of chance alone."""
    bins = [{"mean_p": 0.3, "rate": 0.3, "n_rows": 50}] * 10
    run = acceptance(ece, n_test=500, reliability=bins)
    found = said("calibration", case(standing(acceptance=run), first=True))
    assert (found.passage, found.figure) == (word, ece)
    assert "0.0517 of it expected by chance" in found.said


def test_calibrated_models_are_rarely_refused_whatever_the_number_of_rows():
    rng = np.random.default_rng(2)
    for n in (500, 5_000):
        p = np.sort(rng.uniform(0.05, 0.6, n)).reshape(10, -1)
        refused = 0
        for _ in range(100):
            rate = (rng.random(p.shape) < p).mean(axis=1)
            bins = [{"mean_p": float(a), "rate": float(b), "n_rows": n // 10}
                    for a, b in zip(p.mean(axis=1), rate, strict=True)]  # fmt: skip
            run = acceptance(float(np.abs(p.mean(axis=1) - rate).mean()), n_test=n, reliability=bins)
            refused += said("calibration", case(standing(acceptance=run), first=True)).passage == "refused"
        assert refused <= 1


def test_an_error_beyond_both_intervals_of_the_champions_is_refused():
    """0.036 − 0.002 is 0.022 above 0.010 + 0.002."""
    assert said("calibration", case(standing(acceptance=acceptance(0.036)))).passage == "refused"
    assert said("calibration", case(standing(acceptance=acceptance(0.033)))).passage == "passed"


def test_a_slice_whose_probabilities_are_off_beyond_chance_is_refused_by_name():
    off = a_slice("app", n=2_000, rate=0.2, mean_p=0.35)  # error 0.0089; 0.15 − 1.96 × 0.0089 is above 0.1
    found = said("calibration", case(standing(acceptance=acceptance(slices=[off]))))
    assert found.passage == "refused"
    assert found.said == "acceptance, channel app: mean probability 0.350, rate 0.200 on 2,000 rows"
    small = {**off, "n_rows": 499}
    assert said("calibration", case(standing(acceptance=acceptance(slices=[small])))).passage == "passed"
    by_chance = a_slice("app", n=600, rate=0.5, mean_p=0.62)  # 1.96 × 0.0204 = 0.04, so less than 0.1 is sure
    assert said("calibration", case(standing(acceptance=acceptance(slices=[by_chance])))).passage == "passed"


# Slices


def both(new, old):
    return case(standing(acceptance=acceptance(slices=new)), standing("1", acceptance=acceptance(slices=old)))


def test_a_slice_that_is_ranked_far_worse_than_by_the_champion_is_refused_by_name():
    found = said("slices", both([a_slice(auc=0.68)], [a_slice(auc=0.80)]))
    assert found.passage == "refused"
    assert found.said == "acceptance, channel web: AUC 0.6800, champion 0.8000"
    assert said("slices", both([a_slice(auc=0.74)], [a_slice(auc=0.80)])).passage == "passed"  # within chance of 0.05


def test_a_slice_that_only_one_release_has_is_not_compared():
    assert said("slices", both([a_slice("new", auc=0.5)], [a_slice("old", auc=0.9)])).passage == "no verdict"


def test_slices_too_small_to_judge_are_counted():
    rows = [a_slice("web", 500), a_slice("app", 499), a_slice("shop", 12)]
    assert said("slices", both(rows, rows)).said == (
        "1 slices of both releases were compared; 2 more, of fewer than 500 rows, were not judged"
    )
    one_is_small = both([a_slice("web", 500)], [a_slice("web", 499)])
    found = said("slices", one_is_small)
    assert (found.passage, found.said) == (
        "no verdict", "no slice of both releases has 500 rows; 1, of fewer than 500 rows, were not judged",
    )  # fmt: skip
    assert said("slices", both(rows[:1], rows[:1])).said == "1 slices of both releases were compared"


def test_many_slices_that_only_chance_moves_refuse_in_few_of_many_trials():
    """Equal releases, 20 slices: whether any is refused is asked at 5 % at most; no drop is allowed for."""
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(200):
        rows = [[a_slice(f"s{i}", n=1_000, auc=float(_auc(rng))) for i in range(20)] for _ in range(2)]
        refused += said("slices", both(*rows), max_auc_drop=0.0).passage == "refused"
    assert refused <= 20  # Binomial(200, 0.05) exceeds 20 with probability 0.0007


def _auc(rng):
    """Of 200 positives and 800 negatives whose true AUC is 0.76: N(1, 1) against N(0, 1)."""
    positive, negative = rng.normal(1, 1, 200), rng.normal(0, 1, 800)
    order = np.argsort(np.concatenate([positive, negative]))
    ranks = np.empty(1_000)
    ranks[order] = np.arange(1, 1_001)
    return (ranks[:200].sum() - 200 * 201 / 2) / (200 * 800)


def test_customers_who_are_served_far_worse_are_refused_by_name():
    rows = [[{"slice": "customer", "value": "new", "n_customers": 5_000, "ndcg_at_10": v}] for v in (0.2, 0.4)]
    runs = [recommender(tables={"slices": of}) for of in rows]
    found = said("slices", case(standing(recommender=runs[0]), standing("1", recommender=runs[1])))
    assert found.passage == "refused"
    assert "recommender, customer new: NDCG@10 0.2000, champion 0.4000" in found.said


@pytest.mark.parametrize(("half", "word"), [(0.03, "refused"), (0.06, "passed")])
def test_slices_of_other_days_are_compared_by_their_gains_and_their_own_intervals(half, word):
    """A gain of 0.02 against 0.16 at an NDCG of 0.4: 0.14 less, of which 0.08 is let pass; the interval's half-width
    is 0.042 or 0.085."""

    def run(ndcg, gain, window):
        row = {"slice": "customers", "value": "new", "n_customers": 5_000, "ndcg_at_10": ndcg}
        gains = {"ndcg_at_10_gain": gain, "ndcg_at_10_gain_low": gain - half, "ndcg_at_10_gain_high": gain + half}
        return recommender(tables={"slices": [{**row, **gains}]}, window=window)

    of = case(standing(recommender=run(0.1, 0.02, JULY)), standing("1", recommender=run(0.4, 0.16, JUNE)))
    assert said("slices", of).passage == word


# Coverage, latency, size, value


@pytest.mark.parametrize(("lists", "word"), [
    (LISTS, "passed"), (replace(LISTS, known=0.4), "refused"), (replace(LISTS, share=0.29), "refused"),
    (replace(LISTS, share=0.31), "passed"),
])  # fmt: skip
def test_a_release_that_knows_or_recommends_little_of_the_catalogue_is_refused(lists, word):
    measured = replace(ALIKE, lists=[lists, LISTS])
    assert said("coverage", case(measured=measured)).passage == word


@pytest.mark.parametrize(("p99_ms", "bounds", "word"), [
    (1.99, {}, "passed"), (2.01, {}, "refused"), (2.01, {"max_times_champion": 3}, "passed"),
    (2.01, {"ignore_below_ms": 2.5}, "passed"), (10.1, {"max_times_champion": 100}, "refused"),
])  # fmt: skip
def test_a_scorer_that_is_slow_or_far_slower_than_the_champions_is_refused(p99_ms, bounds, word):
    measured = replace(ALIKE, times=[replace(TIMES, p99_ms=p99_ms), TIMES])
    assert said("latency", case(measured=measured), **bounds).passage == word


def test_the_first_champions_latency_is_held_to_the_absolute_bound():
    measured = replace(ALIKE, times=[replace(TIMES, p99_ms=9.0)])
    assert said("latency", case(first=True, measured=measured)).passage == "passed"


@pytest.mark.parametrize(("size_mb", "memory_mb", "word"), [
    (299.0, 300.0, "passed"), (301.0, 300.0, "refused"), (100.0, 4_001.0, "refused"),
])  # fmt: skip
def test_a_release_that_is_too_large_is_refused(size_mb, memory_mb, word):
    measured = replace(ALIKE, size_mb=[size_mb, 100.0], memory_mb=memory_mb)
    assert said("size", case(measured=measured)).passage == word


def test_small_files_are_never_too_many_times_the_champions():
    assert said("size", case(measured=replace(ALIKE, size_mb=[40.0, 1.0]))).passage == "passed"


@pytest.mark.parametrize(
    ("passage", "word"), [("passes", "passed"), ("refused", "refused"), ("no verdict", "no verdict")]
)
def test_what_the_log_says_is_taken_over(passage, word):
    value = Valued(passage, "as the log has it", -0.5, -0.9, -0.1)
    found = said("off_policy", case(value=lambda: value))
    assert (found.passage, found.figure) == (word, None if word == "no verdict" else -0.5)
    assert "as the log has it; difference -0.5 [-0.9, -0.1]" in found.said


# The word of a gate


@given(st.lists(st.sampled_from([True, False, None])), st.sampled_from(["passes", "refuses"]))
def test_one_refusal_refuses_and_one_pass_without_refusals_passes(oks, no_verdict):
    found = passage_of("g", [Check(ok, str(ok), 1.0, 2.0) for ok in oks], Bounds(no_verdict=no_verdict)).passage
    if False in oks:
        assert found == "refused"
    elif True in oks:
        assert found == "passed"
    else:
        assert found == {"passes": "no verdict", "refuses": "refused"}[no_verdict]


def test_the_table_shows_figure_and_bound_of_each_gate():
    lines = table(asked(case(standing(recommender=recommender(0.2))), bounds_of({})))
    assert lines[0].split() == ["gate", "verdict", "figure", "bound"]
    assert lines[2].split()[:4] == ["ranking", "refused", "-0.1", "0"]
    assert len(lines) == 1 + len(GATES)
