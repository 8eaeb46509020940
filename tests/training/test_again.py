"""A release prepared for a catalogue that follows another is, to the last bit, the one prepared anew."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.training.builders import blend_scorer, encoder, factor_scorer, item_item_scorer, offer, popularity_scorer
from tests.training.test_for_offers import MODELS
from training.again import Moved, acceptance_again, recommender_again
from training.scorers import AcceptanceScorer, Calibration, Classifier

FEATURES = {"o0": {"rate": 0.5}, "o1": {"rate": float("nan")}, "o7": {"rate": 0.125}}
CALIBRATION = Calibration("platt", 1.0, 0.0, np.zeros(0), np.zeros(0))
CUSTOMER = {"age": 40.0, "gender": "F", "taste": "red", "seen_by_category": {"red": 3.0}, "seen_by_offer": {"o1": 2.0}}
CONTEXT = {"channel": "app", "hour": 7}


def catalogues(rng, n):
    """Each with some offers of the one before, some others, and some changed."""
    offers = {}
    for _ in range(n):
        offers = {name: one for name, one in offers.items() if rng.random() < 0.8}
        for at in rng.sample(range(12), rng.randint(0, 4)):
            reward = rng.choice([5, True, 1e300, -2.5, "much", rng.random()])
            offers[f"o{at}"] = offer(f"o{at}", rng.choice([None, "red", "blue", "green"]), reward=reward)
        yield tuple(offers[name] for name in sorted(offers))


def moved(offers, before):
    origin = np.array([next((i for i, old in enumerate(before) if old is one), -1) for one in offers], np.intp)
    return Moved(origin, np.flatnonzero(origin < 0).tolist())


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("seed", range(4))
def test_what_the_acceptance_model_knows_of_offers_that_stayed_is_taken_over(model, seed):
    scorer = AcceptanceScorer("1", Classifier("linear", encoder(), model, CALIBRATION))
    before, side = (), scorer.prepare((), FEATURES, 0)
    for offers in catalogues(random.Random(seed), 8):
        side = acceptance_again(scorer, offers, FEATURES, 0, side, moved(offers, before))
        anew = scorer.prepare(offers, FEATURES, 0)
        affinity = np.linspace(-1, 1, len(offers), dtype=np.float32)
        for found in (side, anew):
            assert found.side.template.shape[0] == len(offers)
        assert side.raw(CUSTOMER, CONTEXT, affinity).tobytes() == anew.raw(CUSTOMER, CONTEXT, affinity).tobytes()
        assert side.side.row_of == anew.side.row_of
        before = offers


@pytest.mark.parametrize(
    "scorer",
    [factor_scorer(repeats=True), item_item_scorer(), popularity_scorer(), blend_scorer(repeats=True)],
    ids=["factors", "item_item", "popularity", "blend"],
)
@pytest.mark.parametrize("seed", range(4))
def test_what_the_recommender_knows_of_offers_that_stayed_is_taken_over(scorer, seed):
    before, side = (), scorer.prepare(())
    for offers in catalogues(random.Random(seed), 8):
        side = recommender_again(scorer, offers, side, moved(offers, before))
        anew = scorer.prepare(offers)
        for customer in ("c000", "c001", "nobody"):
            found, other = (scorer.affinity(customer, CUSTOMER, one) for one in (side, anew))
            assert found.tobytes() == other.tobytes()
        before = offers


def test_only_offers_that_are_others_now_are_encoded_again(monkeypatch):
    scorer = AcceptanceScorer("1", Classifier("linear", encoder(), MODELS["linear"], CALIBRATION))
    offers = tuple(offer(f"o{n}", "red") for n in range(50))
    side = scorer.prepare(offers, FEATURES, 0)
    asked = []
    monkeypatch.setattr("training.encoder.offer_fields", lambda one: asked.append(one.offer_id) or {})
    now = (*offers[:3], offer("o3", "blue"), *offers[4:])
    acceptance_again(scorer, now, FEATURES, 0, side, moved(now, offers))
    assert asked == ["o3"]
