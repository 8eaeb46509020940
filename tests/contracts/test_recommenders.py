"""What every recommender promises: pure fits, finite answers for everybody, clear words about data it cannot take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import BadInput, NotTrainable
from features.events import US_PER_DAY
from tests.training.builders import START_US, interactions, offer
from training import batch
from training.interactions import Interactions
from training.models import RECOMMENDERS
from training.scorers import RECOMMENDER_KINDS, read_scorer, scorer_files

QUICK = {
    "lightfm": {"n_factors": 8, "max_epochs": 4},
    "als": {"n_factors": 8, "iterations": 4},
}
SAME_FOR_ALL = {"popularity", "recent_popularity"}
OF_OTHERS = sorted(set(RECOMMENDERS) - SAME_FOR_ALL - {"own_frequency"})
PAST = interactions(40, 12, 60)
UNTIL = int(PAST.occurred_us[-1]) + 1
ASKED = (["c000", "nobody", "c001", "c000", ""], [{"taste": "even"}, {"taste": "odd"}, {}, {"taste": float("nan")}, {}])
CATALOGUE = (offer("new", "even", reward=3), *PAST.offers[::-1], offer("bare"))
ODD = [None, float("nan"), float("inf"), -float("inf"), 1e300, "text", True, -3, [1, 2], {"a": 1}]


def fitted(name, past=PAST, until_us=UNTIL, seed=0, **params):
    return RECOMMENDERS[name].fit(past, until_us, {**QUICK.get(name, {}), **params}, seed)


@pytest.fixture(scope="module", params=sorted(RECOMMENDERS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def scorer(name):
    return fitted(name)


def answers(scorer, catalogue=CATALOGUE):
    side = scorer.prepare(catalogue)
    return np.array([scorer.affinity(*one, side) for one in zip(*ASKED, strict=True)])


def test_a_recommender_goes_by_its_name_and_serves_in_a_kind_that_a_release_takes(name, scorer):
    assert RECOMMENDERS[name].name == name
    assert isinstance(scorer, RECOMMENDER_KINDS)
    assert scorer.offer_map == PAST.offer_map


def test_unknown_customers_and_offers_get_finite_answers(scorer):
    found = answers(scorer)
    assert found.shape == (len(ASKED[0]), len(CATALOGUE))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_many_at_once_are_answered_as_each_alone(scorer):
    together = scorer.many(*ASKED, scorer.prepare(CATALOGUE))
    np.testing.assert_allclose(together, answers(scorer), rtol=2e-5, atol=1e-5)


def test_the_best_of_many_are_the_best_of_each(scorer, monkeypatch):
    monkeypatch.setattr(batch, "NUMBERS", 2 * len(CATALOGUE))  # blocks of two customers, on two threads
    best = batch.top_k(scorer, *ASKED, CATALOGUE, 4)
    alone = answers(scorer)
    np.testing.assert_allclose(best.scores, -np.sort(-alone, axis=1)[:, :4], rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(alone, best.rows, axis=1), best.scores, rtol=2e-5, atol=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_a_fit_in_between_leaves_nothing(name, scorer):
    other = interactions(15, 6, 20, seed=5)
    fitted(name, other, int(other.occurred_us[-1]) + 1, seed=3)
    assert scorer_files(fitted(name)) == scorer_files(scorer)


def test_a_fit_does_not_change_what_it_learns_from(name):
    before = [PAST.customer.copy(), PAST.offer.copy(), PAST.weight.copy(), PAST.occurred_us.copy()]
    fitted(name)
    for one, other in zip(before, (PAST.customer, PAST.offer, PAST.weight, PAST.occurred_us), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_second_fit_learns_anew_from_what_it_is_given(name):
    other = replace(PAST, offer=(PAST.offer + 1) % len(PAST.offers))
    assert scorer_files(fitted(name, other)) != scorer_files(fitted(name))


def test_saved_and_loaded_it_answers_the_same(scorer):
    again = read_scorer(scorer_files(scorer), "", scorer.offer_map)
    assert answers(again).tobytes() == answers(scorer).tobytes()
    assert scorer_files(again) == scorer_files(scorer)


def test_a_catalogue_of_nothing_or_of_one_offer_is_answered(scorer):
    assert answers(scorer, ()).shape == (len(ASKED[0]), 0)
    assert scorer.many(*ASKED, scorer.prepare(())).shape == (len(ASKED[0]), 0)
    assert np.isfinite(answers(scorer, CATALOGUE[:1])).all()


def test_nobody_asked_is_nobody_answered(scorer):
    assert scorer.many([], [], scorer.prepare(CATALOGUE)).shape == (0, len(CATALOGUE))


def test_one_offer_is_enough_to_learn_from(name):
    one = replace(PAST, offers=PAST.offers[:1], offer=np.zeros_like(PAST.offer))
    assert np.isfinite(answers(fitted(name, one))).all()


def test_customers_without_history_and_offers_without_takers_are_no_trouble(name):
    idle = replace(
        PAST,
        customers=(*PAST.customers, "idle"),
        profiles=[*PAST.profiles, {"taste": "even"}],
        offers=(*PAST.offers, offer("zz-shelf", "even")),
    )
    scorer = fitted(name, idle)
    side = scorer.prepare(idle.offers)
    assert np.isfinite(scorer.affinity("idle", {"taste": "even"}, side)).all()


def test_odd_attributes_are_no_trouble(name):
    profiles = [{"taste": "even", "odd": ODD[at % len(ODD)]} for at in range(len(PAST.customers))]
    offers = tuple(offer(o.offer_id, o.category, odd=ODD[at % len(ODD)]) for at, o in enumerate(PAST.offers))
    scorer = fitted(name, replace(PAST, profiles=profiles, offers=offers))
    side = scorer.prepare((offer("new", None, odd=float("inf")), *offers))
    for value in ODD:
        assert np.isfinite(scorer.affinity("nobody", {"odd": value}, side)).all()


def test_attributes_that_are_constant_or_always_missing_are_left_out(name, scorer):
    profiles = [{**of, "same": 1.0, "missing": None, "nan": float("nan")} for of in PAST.profiles]
    offers = tuple(offer(o.offer_id, o.category, same="x", missing=None) for o in PAST.offers)
    again = fitted(name, replace(PAST, profiles=profiles, offers=offers))
    assert answers(again).tobytes() == answers(scorer).tobytes()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"customers": ("c000", *PAST.customers[:-1])}, "customers"),
        ({"offers": (PAST.offers[0], *PAST.offers[:-1])}, "offers"),
        ({"profiles": [{}]}, "profiles"),
        ({"weight": np.full(len(PAST), np.nan, np.float32)}, "weight"),
        ({"weight": np.full(len(PAST), np.inf, np.float32)}, "weight"),
        ({"weight": np.zeros(len(PAST), np.float32)}, "weight"),
        ({"customer": np.full(len(PAST), len(PAST.customers), np.int32)}, "customer"),
        ({"offer": np.full(len(PAST), -1, np.int32)}, "offer"),
        ({"occurred_us": np.full(len(PAST), UNTIL)}, "until_us"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_that_no_log_holds_are_refused_by_name(name, change, field):
    with pytest.raises(BadInput) as error:
        fitted(name, replace(PAST, **change))
    assert error.value.field == field


def test_a_past_without_interactions_is_not_trainable(name):
    with pytest.raises(NotTrainable, match="nobody took"):
        fitted(name, PAST.part(np.zeros(len(PAST), bool)))


def test_a_parameter_that_does_not_exist_is_refused_by_name(name):
    with pytest.raises(BadInput) as error:
        fitted(name, does_not_exist=1)
    assert error.value.field == "does_not_exist"


def test_defaults_are_what_it_fits_without_parameters(name):
    model = RECOMMENDERS[name]
    few = interactions(8, 4, 10)
    until = int(few.occurred_us[-1]) + 1
    plain = model.fit(few, until, {}, 0)
    assert scorer_files(model.fit(few, until, dict(model.defaults), 0)) == scorer_files(plain)


class Drawn:
    """A trial that draws each parameter, its ends on purpose."""

    def __init__(self, draw):
        self.draw = draw

    def suggest_float(self, name, low, high, *, log=False):
        assert low < high
        assert low > 0 or not log
        return self.draw(st.sampled_from([low, high]) | st.floats(low, high), label=name)

    def suggest_int(self, name, low, high, *, log=False):
        assert low < high
        return self.draw(st.sampled_from([low, high]), label=name)

    def suggest_categorical(self, name, choices):
        return self.draw(st.sampled_from(list(choices)), label=name)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_all_that_its_space_suggests_can_be_fitted(name, data):
    few = interactions(6, 5, 10)
    params = {**QUICK.get(name, {}), **RECOMMENDERS[name].space(Drawn(data.draw))}
    scorer = RECOMMENDERS[name].fit(few, int(few.occurred_us[-1]) + 1, params, 0)
    assert np.isfinite(scorer.many(["c000", "nobody"], [{}, {}], scorer.prepare(few.offers))).all()


@st.composite
def logs(draw):
    """Few customers and offers, the same ones again and again, some at the same instant."""
    n_customers, n_offers = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, n_customers - 1),
                st.integers(0, n_offers - 1),
                st.sampled_from([0, 0, 1, 400]),
                st.sampled_from([1.0, 0.3, 1e-6, 1e6]),
            ),
            min_size=1,
            max_size=12,
        )
    )
    rows.sort(key=lambda row: row[2])
    customer, taken, day, weight = zip(*rows, strict=True)
    return Interactions(
        customers=tuple(f"c{i:03}" for i in range(n_customers)),
        offers=tuple(offer(f"o{i}", draw(st.sampled_from([None, "a", "b"]))) for i in range(n_offers)),
        profiles=[{"taste": draw(st.sampled_from(ODD))} for _ in range(n_customers)],
        customer=np.array(customer, np.int32),
        offer=np.array(taken, np.int32),
        weight=np.array(weight, np.float32),
        occurred_us=START_US + np.array(day, np.int64) * US_PER_DAY,
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(past=logs())
def test_any_log_however_small_gives_finite_answers(name, past):
    scorer = fitted(name, past, int(past.occurred_us[-1]) + 1)
    assert np.isfinite(answers(scorer)).all()
    assert np.isfinite(scorer.many(*ASKED, scorer.prepare(CATALOGUE))).all()


@pytest.mark.parametrize("model", sorted(set(RECOMMENDERS) - SAME_FOR_ALL))
def test_what_was_taken_comes_last_unless_it_may_be_repeated(model):
    few = interactions(6, 12, 10)
    scorer = fitted(model, few, int(few.occurred_us[-1]) + 1, repeats=False)
    side = scorer.prepare(few.offers)
    starts, taken = few.taken()
    for row, customer in enumerate(few.customers):
        mine = np.isin(np.arange(len(few.offers)), taken[starts[row] : starts[row + 1]])
        found = scorer.affinity(customer, few.profiles[row], side)
        assert found[mine].max() <= found[~mine].min()


@pytest.mark.parametrize("model", OF_OTHERS)
def test_planted_tastes_are_found_for_customers_known_and_unknown_and_offers_new(model):
    # even customers take even offers; half of each one's are not in the log, and rank above those of the other taste
    some = PAST.part((PAST.customer // 2 + PAST.offer // 2) % 2 == 0)
    scorer = fitted(model, some, **({"max_epochs": 15} if model == "lightfm" else {}))
    side = scorer.prepare((*PAST.offers, offer("yy-even", "even"), offer("yz-odd", "odd")))
    even, odd = np.arange(0, 12, 2), np.arange(1, 12, 2)
    for customer, taste in (("c000", 0), ("c001", 1), ("stranger-0", 0), ("stranger-1", 1)):
        found = scorer.taste(customer, {"taste": ("even", "odd")[taste]}, side)
        mine, others = (even, odd)[:: 1 - 2 * taste]
        assert found[mine].mean() > found[others].mean()
        assert found[12 + taste] > found[13 - taste]


@pytest.mark.parametrize("model", [name for name, one in RECOMMENDERS.items() if one.grow is not None])
def test_grown_epoch_by_epoch_it_is_the_one_fitted_to_that_epoch(model):
    grown = list(RECOMMENDERS[model].grow(PAST, UNTIL, QUICK[model], 0))
    assert len(grown) == QUICK[model]["max_epochs"]
    for epoch in (1, len(grown)):
        assert scorer_files(grown[epoch - 1]) == scorer_files(fitted(model, max_epochs=epoch))
