"""Ranking metrics against scikit-learn, brute force and hand calculations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nph
from sklearn.metrics import average_precision_score, ndcg_score

from tests.training.builders import interactions
from tests.training.evaluation.test_ranking_protocol import PAST
from training.evaluation.accuracy import ACCURACY, accuracy
from training.evaluation.lists import Catalogue, catalogue_of, coverage, list_metrics
from training.evaluation.top import top_k


def csr(rows):
    start = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return start, np.array([value for row in rows for value in row], np.int32)


NOTHING = csr([[]])


@settings(deadline=None)
@given(nph.arrays(np.float32, (3, 7), elements=st.sampled_from([0.0, 1.0, -1.0, 0.5, 3.4e38, -3.4e38])), st.data())
def test_the_top_is_what_a_stable_sort_gives_without_the_banned(scores, data):
    banned = [sorted(data.draw(st.sets(st.integers(0, 6)))) for _ in range(3)]
    k = data.draw(st.integers(1, 9))
    found = top_k(scores, k, *csr(banned))
    for row in range(3):
        order = [o for o in np.argsort(-scores[row], kind="stable").tolist() if o not in banned[row]][:k]
        assert found[row].tolist() == order + [-1] * (k - len(order))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.permutations(range(n)), st.sets(st.integers(0, n - 1), min_size=1))
    )
)
def test_ndcg_and_average_precision_agree_with_scikit_learn(case):
    order, relevant = case
    n = len(order)
    if n < 2:
        return
    truth = np.array([[float(o in relevant) for o in range(n)]])
    scores = np.empty((1, n))
    scores[0, list(order)] = np.arange(n, 0, -1)
    ks = np.array([1, 3, 5, 20], np.int64)
    found = dict(zip(ACCURACY, accuracy(np.array([order], np.int32), *csr([sorted(relevant)]), ks, n), strict=True))
    for at, k in enumerate(ks):
        assert found["ndcg"][0, at] == pytest.approx(ndcg_score(truth, scores, k=int(k)))
    assert found["map"][0, 3] == pytest.approx(average_precision_score(truth[0], scores[0]))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), unique=True, max_size=10),
    st.sets(st.integers(0, 9), min_size=1),
    st.integers(1, 15),
)
def test_accuracy_is_what_the_definitions_say(order, relevant, k):
    lists = np.array([[*order, *[-1] * (10 - len(order))]], np.int32)
    found = accuracy(lists, *csr([sorted(relevant)]), np.array([k], np.int64), 10)[:, 0, 0]
    hits = [offer in relevant for offer in order[:k]]
    dcg = sum(hit / math.log2(rank + 2) for rank, hit in enumerate(hits))
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(relevant))))
    precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
    expected = {
        "ndcg": dcg / ideal,
        "recall": sum(hits) / len(relevant),
        "precision": sum(hits) / k,
        "map": sum(precisions) / min(k, len(relevant)),
        "mrr": 1 / (hits.index(True) + 1) if True in hits else 0.0,
    }
    np.testing.assert_allclose(found, [expected[name] for name in ACCURACY], atol=1e-12)


def test_ranking_metrics_by_hand():
    # relevant at ranks 1 and 3 of 2 relevant: DCG@3 = 1 + 1/log2(4) = 1.5, ideal = 1 + 1/log2(3);
    # average precision = (1/1 + 2/3) / 2
    found = accuracy(np.array([[7, 5, 3]], np.int32), *csr([[3, 7]]), np.array([1, 3], np.int64), 8)
    by_name = dict(zip(ACCURACY, found[:, 0], strict=True))
    np.testing.assert_allclose(by_name["ndcg"], [1.0, 1.5 / (1 + 1 / np.log2(3))])
    np.testing.assert_allclose(by_name["recall"], [0.5, 1.0])
    np.testing.assert_allclose(by_name["precision"], [1.0, 2 / 3])
    np.testing.assert_allclose(by_name["map"], [1.0, (1 + 2 / 3) / 2])
    np.testing.assert_allclose(by_name["mrr"], [1.0, 1.0])


def test_without_a_relevant_offer_there_is_no_figure():
    assert np.isnan(accuracy(np.array([[0]], np.int32), *NOTHING, np.array([1], np.int64), 1)).all()


def test_what_a_list_is_like_by_hand():
    # PAST: c0 took 0 and 1, c1 took 0, c2 took 4; of 3 customers 2/3, 1/3 and 1/3; 2 and 3 count as taken once
    catalogue = catalogue_of(PAST)
    assert catalogue.head.tolist() == [True, False, False, False, False]  # a fifth of five offers
    found = {
        name: of.tolist() for name, of in list_metrics(np.array([[0, 1, 4], [3, -1, -1]], np.int32), catalogue).items()
    }
    assert found["novelty"] == pytest.approx([(-math.log2(2 / 3) - 2 * math.log2(1 / 3)) / 3, math.log2(3)])
    assert found["popularity"] == pytest.approx([(2 / 3 + 1 / 3 + 1 / 3) / 3, 1 / 3])
    assert found["head_share"] == pytest.approx([1 / 3, 0])
    # cosine of 0 and 1: one customer in common, sizes 2 and 1; 4 has nobody in common with either
    assert found["diversity"][0] == pytest.approx((1 - 1 / math.sqrt(2) + 1 + 1) / 3)
    assert found["category_diversity"][0] == pytest.approx(2 / 3)  # 0 and 4 are even, 1 is odd
    assert np.isnan(found["diversity"][1])
    assert np.isnan(found["category_diversity"][1])


@settings(deadline=None)
@given(st.lists(st.permutations(range(6)).map(lambda p: p[:4]), min_size=1, max_size=4), st.integers(0, 50))
def test_diversity_is_the_mean_over_pairs(rows, seed):
    past = interactions(9, 6, 10, seed)
    catalogue: Catalogue = catalogue_of(past)
    found = list_metrics(np.array(rows, np.int32), catalogue)["diversity"]
    took = [set(past.customer[past.offer == o].tolist()) for o in range(6)]

    def cosine(a, b):
        return len(took[a] & took[b]) / math.sqrt(len(took[a]) * len(took[b])) if took[a] and took[b] else 0.0

    expected = [np.mean([1 - cosine(a, b) for a, b in itertools.combinations(row, 2)]) for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_coverage_and_gini_by_hand():
    # offers 0, 1, 2 are listed 2, 1 and 1 times, 3 never: Gini = Σ(2i − n − 1) x_i / (n Σx) with x = 0, 1, 1, 2
    share, gini = coverage(np.array([[0, 1], [0, 2]], np.int32), 4)
    assert share == 0.75
    assert gini == pytest.approx((-3 * 0 - 1 * 1 + 1 * 1 + 3 * 2) / (4 * 4))
    assert coverage(np.full((2, 2), -1, np.int32), 4)[0] == 0
