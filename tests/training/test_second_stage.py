"""The second stage: what it learns is what was planted, from nothing that came later, and it serves what it learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInput, NotTrainable
from features.events import US_PER_DAY
from tests.training.builders import START_US, blend_scorer, offer
from training.blending import add_part
from training.fold_in import folded_in
from training.interactions import Interactions
from training.models import RECOMMENDERS
from training.models.blend_fit import Choices, balanced, learn_weights, ndcg
from training.models.blend_terms import OFFER_TERMS, OWN_TERMS, offer_terms, own_terms, past_of
from training.models.second_stage import FIRST_STAGES, SecondStageSettings, choices_of, fit_second_stage, lessons_of
from training.scorers import read_scorer, scorer_files

DAYS = 80
OFFERS = ("o0", "o1", "o2")


def log(rows, n_customers, n_offers):
    """Rows (customer, offer, day) in any order."""
    rows = sorted(rows, key=lambda row: row[2])
    customer, taken, day = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions(
        customers=tuple(f"c{i:03}" for i in range(n_customers)),
        offers=tuple(offer(f"o{i:02}", "all") for i in range(n_offers)),
        profiles=[{}] * n_customers,
        customer=customer.astype(np.int32),
        offer=taken.astype(np.int32),
        weight=np.ones(len(rows), np.float32),
        occurred_us=START_US + (day * US_PER_DAY).astype(np.int64),
    )


def until(past):
    return int(past.occurred_us[-1]) + 1


def fashion(seed=0, n_customers=120, n_offers=40):
    """Everybody takes what was begun to be taken lately, whatever they took before."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(n_customers):
        for day in rng.uniform(0, DAYS, 10):
            now = int(day / DAYS * (n_offers - 6))
            rows.append((customer, now + int(rng.integers(6)), day))
    return log(rows, n_customers, n_offers)


def habit(seed=0, n_customers=120, n_offers=40):
    """Everybody takes the own two offers again and again, and now and then any other."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(n_customers):
        mine = rng.choice(n_offers, 2, replace=False)
        for day in rng.uniform(0, DAYS, 12):
            taken = rng.choice(mine) if rng.random() < 0.8 else rng.integers(n_offers)
            rows.append((customer, int(taken), day))
    return log(rows, n_customers, n_offers)


def second_stage(past, seed=0, **params):
    return RECOMMENDERS["second_stage"].fit(past, until(past), params, seed)


def test_where_fashion_rules_it_recommends_what_is_new_and_says_so():
    past = fashion()
    scorer = second_stage(past)
    side = scorer.prepare(past.offers)
    best = np.argsort(-scorer.many(past.customers, past.profiles, side), axis=1)[:, :5]
    assert (best >= 25).mean() > 0.9  # of 40 offers the last ones are those of the last weeks
    assert scorer.learned_from >= 100
    assert scorer.weights()["known"]["popular_7d"] > 0


def test_where_habit_rules_it_recommends_what_was_taken_most():
    past = habit()
    scorer = second_stage(past, repeats=True)
    side = scorer.prepare(past.offers)
    pairs, times = past.pairs(until(past), None)
    counts = np.zeros((len(past.customers), len(past.offers)))
    counts[np.divmod(pairs, len(past.offers))] = times
    first = scorer.many(past.customers, past.profiles, side).argmax(axis=1)
    assert (counts[np.arange(len(first)), first] >= 3).mean() > 0.9
    assert set(OWN_TERMS) < set(scorer.weights()["known"])


def test_what_happens_after_a_window_begins_changes_no_term_of_it():
    past = fashion()
    stage = SecondStageSettings(parts=("item_knn",))
    lesson = lessons_of(past, until(past), stage, 0)[0][0]
    later = past.occurred_us >= lesson.until_us
    other = replace(past, offer=np.where(later, past.offer[::-1], past.offer))
    found = []
    for log_ in (past, other):
        one = lessons_of(log_, until(log_), stage, 0)[0][0]
        scorer = RECOMMENDERS["item_knn"].fit(one.past, one.until_us, {"repeats": True}, 0)
        same = one._replace(judged=lesson.judged)
        found.append(choices_of(same, [scorer], stage, with_own=False)[0].terms)
    np.testing.assert_array_equal(found[0], found[1])
    assert lesson.past.occurred_us.max() < lesson.until_us <= past.occurred_us[later].min()


def test_without_times_it_learns_from_hidden_halves():
    past = replace(fashion(), occurred_us=np.full(1200, START_US))
    lessons, by_time = lessons_of(past, until(past), SecondStageSettings(), 0)
    assert not by_time
    for lesson in lessons:
        start, relevant = lesson.judged.relevant
        had, taken = lesson.past.taken()
        for at, row in enumerate(lesson.judged.rows.tolist()):
            hidden, given_ = relevant[start[at] : start[at + 1]], taken[had[row] : had[row + 1]]
            assert not set(hidden.tolist()) & set(given_.tolist())
            assert 0 <= len(hidden) - len(given_) <= 1  # the larger half is hidden
    assert second_stage(past).learned_from >= 30


def test_with_too_few_to_learn_from_the_weights_are_the_stated_prior():
    past = habit(n_customers=10)
    scorer = second_stage(past, repeats=True)
    assert scorer.learned_from == 0
    assert scorer.weights()["known"]["ease"] == pytest.approx(0.3)
    assert scorer.weights()["known"]["popular_30d"] == pytest.approx(0.3)


def test_a_part_that_cannot_be_fitted_is_left_out(monkeypatch):
    def refuses(past, until_us, params, seed):
        raise NotTrainable("ease", "too many offers")

    monkeypatch.setitem(FIRST_STAGES, "ease", replace(FIRST_STAGES["ease"], fit=refuses))
    assert second_stage(fashion(n_customers=60), parts=("ease", "item_knn")).names == ("item_knn",)
    with pytest.raises(NotTrainable, match="too many offers"):
        second_stage(fashion(n_customers=60), parts=("ease",))


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"parts": ()}, "parts"),
        ({"parts": ("ease", "ease")}, "parts"),
        ({"parts": ("oracle",)}, "parts"),
        ({"part_params": {"oracle": {}}}, "parts"),
        ({"part_params": {"ease": {"l3": 1}}}, "l3"),
        ({"window_days": 0}, "window_days"),
        ({"window_days": float("nan")}, "window_days"),
        ({"n_windows": -1}, "n_windows"),
        ({"l2": float("inf")}, "l2"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(params, field):
    with pytest.raises(BadInput) as error:
        second_stage(fashion(n_customers=20), **params)
    assert error.value.field == field


def test_terms_of_offers_are_as_counted_by_hand():
    # o0: c0 100 days ago, c1 today; o1: c0 twice, 10 and 30 days ago; o2: nobody
    past = log([(0, 0, 0.0), (0, 1, 70.0), (0, 1, 90.0), (1, 0, 100.0)], 2, 3)
    found = offer_terms(past_of(past, START_US + 100 * US_PER_DAY))
    by = dict(zip(OFFER_TERMS, found.T.tolist(), strict=True))
    assert by["popular"] == pytest.approx([np.log(2.5), np.log(1.5), np.log(0.5)])
    assert by["popular_30d"] == pytest.approx(
        [np.log(0.5 ** (100 / 30) + 1.5), np.log(0.5 ** (1 / 3) + 0.5), -np.log(2)]
    )
    assert by["age"] == pytest.approx([np.log(101), np.log(31), 0.0])
    assert by["rest"] == pytest.approx([0.0, np.log(11), np.log(101)])


def test_terms_of_the_own_past_are_as_counted_by_hand():
    # c0 came on days 0, 70 (two offers at once), 90 and 95; c1 once
    past = log([(0, 0, 0.0), (0, 1, 70.0), (0, 2, 70.0), (0, 1, 90.0), (0, 2, 95.0), (1, 0, 99.0)], 2, 3)
    counted = past_of(past, START_US + 100 * US_PER_DAY)
    found = own_terms(counted, offer_terms(counted))
    by = dict(zip(OWN_TERMS, found.T, strict=True))
    at = list(zip(counted.customer.tolist(), counted.offer.tolist(), strict=True)).index((0, 1))
    assert by["own_times"][at] == pytest.approx(np.log(2))
    assert by["own_rate"][at] == pytest.approx(np.log(2.3 / 5))
    assert by["own_age"][at] == pytest.approx(np.log(11))
    assert by["own_visits_since"][at] == pytest.approx(np.log(2))
    assert by["own_overdue"][at] == pytest.approx(np.log1p(10 / 20))
    assert by["own_fading"][at] == pytest.approx(np.log1p(0.5 ** (30 / 90) + 0.5 ** (10 / 90)))
    assert by["own_again"][at] == pytest.approx(np.log(2 / 6))  # one took it, and took it again


def choices(seed=0, n=400, weights=(1.5, -1.0, 0.0)):
    """One offer of eight taken, drawn from the softmax of the planted weights."""
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(n, 8, len(weights))).astype(np.float32)
    scores = terms @ np.array(weights) + rng.gumbel(size=(n, 8))
    taken = np.arange(8) == scores.argmax(axis=1)[:, None]
    return Choices(terms, np.ones((n, 8), bool), taken, np.ones(n, np.int64))


def test_planted_weights_are_found():
    found = learn_weights([choices(0, 1500), choices(1, 1500)], np.zeros(3), 1e-4)
    np.testing.assert_allclose(found.weights, (1.5, -1.0, 0.0), atol=0.12)  # 3 standard errors of 3,000 choices


def test_a_large_l2_leaves_the_prior():
    prior = np.array([0.1, 0.2, 0.3])
    found = learn_weights([choices()], prior, 1e6)
    np.testing.assert_allclose(found.weights * found.spread, prior, atol=1e-4)


def test_groups_are_weighed_for_the_head_of_the_list_and_never_for_worse():
    some = choices()
    learned = learn_weights([some], np.zeros(3), 1e-3)
    spoilt = learned._replace(weights=learned.weights * np.array([1.0, 0.0, 0.0]) + np.array([0, 0, 2.0]))
    mended = balanced([some], spoilt, [slice(0, 2), slice(2, 3)])
    before, after = (ndcg(some.terms @ one.weights, some, 10).mean() for one in (spoilt, mended))
    assert after > before
    assert mended.weights[2] == 0.0  # the term that says nothing is dropped


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_ndcg_is_that_of_scikit_learn(data):
    from sklearn.metrics import ndcg_score

    n, k = data.draw(st.integers(2, 12)), data.draw(st.integers(1, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    scores, taken = rng.normal(size=(3, n)), rng.random((3, n)) < 0.4
    taken[:, 0] = True
    of = Choices(np.zeros((3, n, 1), np.float32), np.ones((3, n), bool), taken, taken.sum(axis=1))
    expected = [ndcg_score([t], [s], k=k) for t, s in zip(taken.astype(float), scores, strict=True)]
    np.testing.assert_allclose(ndcg(scores, of, k), expected)


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, -3.0, 1e30, -1e30]) | st.floats(-1e6, 1e6, width=32), max_size=8),
    linear=st.floats(-3, 3, width=32),
    root=st.floats(-3, 3, width=32),
)
def test_a_part_counts_in_standard_deviations_whatever_its_scale(scores, linear, root):
    scores = np.array(scores, np.float32)
    out = np.zeros(len(scores), np.float32)
    add_part(out, scores, np.float32(linear), np.float32(root))
    assert np.isfinite(out).all()
    mean, spread = (scores.astype(np.float64).mean(), scores.astype(np.float64).std()) if len(scores) else (0, 0)
    if spread > 1e-5 * abs(mean) and spread > 0:
        z = (scores - mean) / spread
        np.testing.assert_allclose(out, linear * z + root * np.sign(z) * np.sqrt(np.abs(z)), atol=1e-3)
    elif len(set(scores.tolist())) <= 1:
        assert not out.any()


def test_the_parts_the_offers_and_the_own_past_add_up():
    # item–item of c000: popularity (.5 × 1, 0, 2) and 3 for o0; o1, which nobody took, between its likes; all by hand
    scorer = blend_scorer(repeats=True)
    offers = tuple(offer(name, "blue") for name in OFFERS)
    side = scorer.prepare(offers)
    parts = [part.taste("c000", {}, of).astype(np.float64) for part, of in zip(scorer.scorers, side.parts, strict=True)]
    z = [(of - of.mean()) / of.std() for of in parts]
    expected = z[0] + 0.5 * np.sign(z[0]) * np.sqrt(np.abs(z[0])) + 0.5 * z[1] + np.array([0.1, 0.2, 0.3 + 7.0])
    np.testing.assert_allclose(scorer.affinity("c000", {}, side), expected, rtol=1e-5)
    stranger = (parts[1] - parts[1].mean()) / parts[1].std() + np.array([3.0, 2.0, 1.0])
    np.testing.assert_allclose(scorer.affinity("nobody", {}, side), stranger, rtol=1e-5)


def test_a_new_offer_gets_the_usual_score_of_its_category():
    scores, rows = blend_scorer().of_offers((offer("new", "blue"), offer("other", "red"), offer("o1", "blue")))
    np.testing.assert_allclose(scores, [[0.25, 0.2, 0.2], [1.5, 2.0, 2.0]], rtol=1e-6)
    assert rows.tolist() == [-1, 2, -1]


def test_another_history_folded_in_is_scored_as_if_it_had_been_known():
    past = fashion()
    unfading = {name: {"half_life_days": None} for name in ("item_knn", "rp3beta")}
    scorer = second_stage(past, parts=tuple(unfading), part_params=unfading)
    side = scorer.prepare(past.offers)
    same = folded_in(scorer, replace(past, customers=tuple(f"x{name}" for name in past.customers)))
    found = same.many([f"x{name}" for name in past.customers], past.profiles, side)
    np.testing.assert_allclose(found, scorer.many(past.customers, past.profiles, side), rtol=1e-4, atol=1e-4)
    assert scorer_files(read_scorer(scorer_files(same), "", same.offer_map)) == scorer_files(same)


def test_histories_of_another_catalogue_are_refused():
    past = fashion()
    scorer = second_stage(past, parts=("item_knn",))
    with pytest.raises(BadInput) as error:
        folded_in(scorer, replace(past, offers=past.offers[::-1]))
    assert error.value.field == "offers"
    with pytest.raises(BadInput) as error:
        folded_in(second_stage(past, parts=("item_knn",), repeats=True), past)
    assert error.value.field == "repeats"


def test_the_fit_is_that_of_its_settings():
    past = fashion(n_customers=40)
    settings_ = SecondStageSettings(parts=("item_knn",), n_candidates=10)
    direct = fit_second_stage(past, until(past), settings_, 0)
    assert scorer_files(direct) == scorer_files(second_stage(past, parts=["item_knn"], n_candidates=10))
