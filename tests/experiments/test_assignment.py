"""Assignment: who meets what, for ever; the laws hold for whatever weights, traffic and ids there are."""

from __future__ import annotations

import hashlib
from itertools import combinations, pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from experiments.assignment import (
    N_BUCKETS,
    Entry,
    Plan,
    bucket,
    buckets,
    first_free,
    layer_salt,
    n_buckets,
    n_held,
    together,
    variant_salt,
    variant_table,
    variants_of,
)
from features.experiment import Experiment, Phase, Variant
from tests.conftest import NOW

UNITS = [f"c-{n}" for n in range(2_000)]
ODD_UNITS = st.sampled_from(["", " ", "c-1", "C-1", "\x1fanonymous", "é", "e\u0301", "\U0001f986", "a:b", "1", "01"])


def an_experiment(name="x", weights=(0.5, 0.5), *, ranges=((0, N_BUCKETS),), layer="default", more=(), **changes):
    """Running, with control first; `weights` of the first phase, `more` of the later ones."""
    names = [f"v{i}" for i in range(len(weights))]
    phases = tuple(
        Phase(number=n, starts_at=NOW, traffic=n_held(ranges) / N_BUCKETS, weights=dict(zip(names, each, strict=True)))
        for n, each in enumerate([weights, *more], start=1)
    )
    variants = [
        Variant(name=each, weight=weight, is_control=i == 0)
        for i, (each, weight) in enumerate(zip(names, (*more, weights)[0], strict=True))
    ]
    given = {"variants": tuple(variants), "hypothesis": "h", "primary_metric": "nps", "status": "running", **changes}
    return Experiment(experiment_id=name, layer=layer, phases=phases, buckets=tuple(ranges), **given)


def entries(plan, unit, allowed=lambda experiment: True):
    return plan.assign({"customer": unit, "session": f"s/{unit}"}, allowed).entries


def met(plan, unit):
    return {one.experiment_id: one.variant for one in entries(plan, unit)}


@st.composite
def shares(draw, n=None):
    """Weights that sum to 1, of 2 to 5 variants, in whole ten thousandths and in others."""
    parts = draw(st.lists(st.integers(1, 1000), min_size=n or 2, max_size=n or 5))
    return tuple(part / sum(parts) for part in parts)


def test_a_bucket_is_what_anybodys_sha_256_says():
    # The digest of "abc" as published (FIPS 180-2, appendix B.1).
    assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf8f01cfea414140de5dae2223")
    # `printf 'layer:default:c-1' | sha256sum` begins with 3cd8757a957b9402, modulo 10,000: 1762. The others likewise.
    assert bucket("layer:default", "c-1") == 1762
    assert bucket("experiment:x", "c-1") == 36
    assert bucket("holdout", "é") == 1884


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.lists(ODD_UNITS, max_size=8))
def test_many_at_once_are_each_alone(salt, units):
    assert buckets(salt, units).tolist() == [bucket(salt, unit) for unit in units]


def test_salts_are_independent():
    """15 salts make 105 pairs. Over 100,000 ids each pair's 20 × 20 table has (20 − 1)² = 361 degrees of freedom.

    With 105 looks at a level of 0.001 together, none may pass the quantile 1 − 0.001 ÷ 105 of χ² (Bonferroni).
    """
    ids = [f"customer-{n}" for n in range(100_000)]
    salts = [layer_salt(f"layer-{n}") for n in range(5)] + [variant_salt(f"e-{n}") for n in range(9)] + ["holdout"]
    cells = {salt: buckets(salt, ids) * 20 // N_BUCKETS for salt in salts}
    expected = len(ids) / 400
    found = [
        float(((np.bincount(cells[one] * 20 + cells[other], minlength=400) - expected) ** 2 / expected).sum())
        for one, other in combinations(salts, 2)
    ]
    assert len(found) >= 100
    # the cells of one salt vary too: 399 degrees of freedom against equal counts
    assert max(found) < chi2.ppf(1 - 0.001 / len(found), 399)
    assert min(found) > chi2.ppf(0.001 / len(found), 399)  # nor are they more even than chance


def test_a_salt_that_is_not_independent_would_be_found():
    ids = [f"customer-{n}" for n in range(100_000)]
    one = buckets("layer:a", ids)
    twisted = (one * 3 + 17) % N_BUCKETS
    table = np.bincount(one * 20 // N_BUCKETS * 20 + twisted * 20 // N_BUCKETS, minlength=400)
    assert ((table - 250) ** 2 / 250).sum() > 10 * chi2.ppf(1 - 0.001 / 105, 399)


@settings(deadline=None)
@given(shares())
def test_each_variant_has_its_share_of_the_buckets(weights):
    table = variant_table(an_experiment(weights=weights))
    counts = np.bincount(table, minlength=len(weights))
    assert counts.sum() == N_BUCKETS
    assert [int(n) for n in counts[1:]] == [n_buckets(weight) for weight in weights[1:]]
    assert abs(counts[0] / N_BUCKETS - weights[0]) < len(weights) / N_BUCKETS


@settings(deadline=None)
@given(shares(n=4), st.lists(shares(n=4), max_size=4))
def test_whose_weight_does_not_shrink_keeps_its_units(first, more):
    """From phase to phase; and what a variant gives up goes to control only."""
    tables = [variant_table(an_experiment(weights=first, more=more[:n])) for n in range(len(more) + 1)]
    for (before, old), (after, new) in pairwise(zip(tables, [first, *more], strict=True)):
        for at in (1, 2, 3):
            if n_buckets(new[at]) >= n_buckets(old[at]):
                assert (after[before == at] == at).all()
            else:
                assert set(after[before == at]) <= {at, *_that_grew(old, new), 0}
                assert (before[after == at] == at).all()


def _that_grew(old, new):
    return {at for at in (1, 2, 3) if n_buckets(new[at]) > n_buckets(old[at])}


@settings(deadline=None)
@given(st.floats(0.01, 0.5), st.floats(0.0, 0.5))
def test_a_ramp_up_keeps_the_treated(weight, growth):
    before = an_experiment(weights=(1 - weight, weight))
    after = an_experiment(weights=(1 - weight, weight), more=[(1 - weight - growth, weight + growth)])
    old, new = (variants_of(one, UNITS) for one in (before, after))
    assert (new[old == 1] == 1).all()
    assert (old[new == 0] == 0).all()


@settings(deadline=None)
@given(st.integers(0, 9_999), st.integers(0, 9_999), st.integers(0, 10_000))
def test_more_traffic_moves_nobody_out_nor_to_another_variant(start, n_before, n_after):
    other = ((start, min(start + 1_000, N_BUCKETS)),)
    before = first_free(n_before, [other])
    grown = together(before, first_free(max(n_after - n_held(before), 0), [other, before]))
    old, new = (variants_of(an_experiment(ranges=ranges), UNITS) for ranges in (before, grown))
    assert (new[old >= 0] == old[old >= 0]).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=60))
def test_what_is_taken_was_free_and_is_as_much_as_there_is(moves):
    held = {}
    for n, (size, ends) in enumerate(moves):
        if ends and held:
            held.pop(min(held))
        free = N_BUCKETS // 50 - sum(n_held(ranges) for ranges in held.values())
        rest = ((N_BUCKETS // 50, N_BUCKETS),)  # somebody has nearly all
        taken = first_free(size, [rest, *held.values()])
        assert n_held(taken) == min(size, free)
        held[n] = taken
        places = [place for ranges in held.values() for start, end in ranges for place in range(start, end)]
        assert len(places) == len(set(places))
        assert all(end < begin for (_, end), (begin, _) in pairwise(taken))


@settings(deadline=None)
@given(ODD_UNITS, shares())
def test_a_unit_meets_the_same_whenever_and_beside_whatever_it_is_asked(unit, weights):
    one = an_experiment("one", weights, ranges=((0, 5_000),))
    other = an_experiment("other", layer="another")
    rival = an_experiment("rival", ranges=((5_000, 10_000),))
    alone = met(Plan([one]), unit)
    assert alone == met(Plan([one]), unit)
    assert alone.get("one") == met(Plan([rival, other, one]), unit).get("one")
    expected = int(variants_of(one, [unit])[0])
    assert alone.get("one") == (None if expected < 0 else f"v{expected}")


def test_experiments_of_a_layer_share_nobody_and_those_of_two_layers_meet_independently():
    one, other = an_experiment("one", ranges=((0, 4_000),)), an_experiment("other", ranges=((4_000, 10_000),))
    elsewhere = an_experiment("elsewhere", layer="two", ranges=((0, 5_000),))
    plan = Plan([one, other, elsewhere])
    seen = [frozenset(met(plan, unit)) for unit in UNITS]
    assert not any({"one", "other"} <= each for each in seen)
    assert all(each & {"one", "other"} for each in seen)  # together they hold the whole layer
    # 2,000 units: 40 % × 50 % = 400 in both, standard error 18
    assert abs(sum({"one", "elsewhere"} <= each for each in seen) - 400) < 4 * 18


def test_who_is_held_out_takes_part_in_nothing():
    plan = Plan([an_experiment(), an_experiment("two", layer="two")], holdout_share=0.1, holdout_phase=3)
    n_held_out = 0
    for unit in UNITS:
        assigned = plan.assign({"customer": unit, "session": "s"}, lambda one: True)
        assert assigned.holdout == (bucket("holdout", unit) < 1_000)
        assert assigned.holdout == (assigned.entries == ())
        variant = "holdout" if assigned.holdout else "served"
        assert assigned.holdout_entry == Entry("holdout", variant, 3, assigned.holdout, unit)
        assert assigned.exposures == (*assigned.entries, assigned.holdout_entry)
        n_held_out += assigned.holdout
    assert abs(n_held_out - 200) < 4 * 13.4  # binomial: standard error sqrt(2000 × 0.1 × 0.9) = 13.4


@settings(deadline=None)
@given(st.floats(0, 0.5), st.floats(0, 0.49))
def test_a_holdout_that_grows_keeps_whom_it_held_out(share, more):
    before, after = Plan([], share), Plan([], share + more)
    for unit in UNITS[:200]:
        held_out = before.assign({"customer": unit}, lambda one: True).holdout
        assert not held_out or after.assign({"customer": unit}, lambda one: True).holdout


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_holdout_share_is_below_one(share):
    with pytest.raises(ValueError, match="holdout_share"):
        Plan([], share)


def test_only_running_experiments_are_met():
    states = {name: an_experiment(name, layer=name, status=name) for name in ("draft", "running", "stopped", "decided")}
    assert met(Plan(states.values()), "c-1").keys() == {"running"}
    assert Plan([states["draft"]]).empty
    assert Plan([]).assign({}, lambda one: True).exposures == ()


def test_the_audience_is_asked_only_of_whoever_is_in_the_buckets():
    asked = []

    def allowed(experiment):
        asked.append(experiment.experiment_id)
        return False

    plan = Plan([an_experiment("x", ranges=((0, 5_000),))])
    inside = [unit for unit in UNITS if bucket("layer:default", unit) < 5_000]
    assert not any(entries(plan, unit, allowed) for unit in UNITS)
    assert len(asked) == len(inside)


def test_a_session_is_split_by_its_own_id():
    plan = Plan([an_experiment(unit="session")])
    (one,) = plan.assign({"customer": "c-1", "session": "s-9"}, lambda one: True).entries
    assert one.unit_id == "s-9"
    position = variant_table(an_experiment())[bucket("experiment:x", "s-9")]
    assert one.variant == f"v{position}"


def test_what_is_met_names_policy_release_levers_and_treatments():
    variants = (
        Variant(name="off", weight=0.5, is_control=True, policy="greedy"),
        Variant(name="on", weight=0.5, policy="thompson", release="7", levers=("a",), treatments={"o": "o/b"}),
    )
    one = an_experiment(variants=variants)
    one = msgspec.structs.replace(
        one, phases=(msgspec.structs.replace(one.phases[0], weights={"off": 0.5, "on": 0.5}),)
    )
    other = an_experiment("y", layer="two", ranges=((0, 5_000),))
    other = msgspec.structs.replace(
        other, variants=(other.variants[0], msgspec.structs.replace(other.variants[1], levers=("b",)))
    )
    plan = Plan([one, other])
    for unit in UNITS[:300]:
        assigned = plan.assign({"customer": unit, "session": "s"}, lambda each: True)
        on, b = met(plan, unit)["x"] == "on", met(plan, unit).get("y") == "v1"
        assert (assigned.policy, assigned.release) == (("thompson", "7") if on else ("greedy", None))
        assert assigned.treatments == ({"o": "o/b"} if on else {})
        assert assigned.levers_off == {"a", "b"} - ({"a"} if on else set()) - ({"b"} if b else set())
    stranger = plan.assign({"customer": "c-1", "session": "s"}, lambda each: False)
    assert (stranger.entries, stranger.policy, stranger.levers_off) == ((), None, {"a", "b"})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400)), max_size=8))
def test_the_order_of_experiments_changes_nothing(given_experiments):
    made, held = [], {}
    for n, (layer, size) in enumerate(given_experiments):
        ranges = first_free(size * 10, held.get(layer, []))
        held.setdefault(layer, []).append(ranges)
        made.append(an_experiment(f"e{n}", layer=layer, ranges=ranges))
    for unit in UNITS[:20]:
        assert entries(Plan(made), unit) == entries(Plan(reversed(made)), unit)
