"""One row at a time and many rows at once are the same rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import US_PER_DAY
from tests.training.builders import START_US as BEGAN_US
from tests.training.builders import encoder, offer
from training.encoder import per_day, relative

OFFERS = (offer("o0", "red", reward=5), offer("o1", "blue", reward=True), offer("new", None))
NUMBER = st.sampled_from([None, float("nan"), 0.0, -1.5, 1e12])
COUNTS = st.dictionaries(st.sampled_from(["red", "blue", "o0", "new", "app", "gone"]), st.floats(1, 9), max_size=3)
CUSTOMER = st.fixed_dictionaries(
    {
        "age": NUMBER,
        "spent_ever": NUMBER,
        "gender": st.sampled_from([None, "F", "M", "unheard"]),
        "seen_by_category": COUNTS,
        "seen_by_offer": COUNTS,
        "engaged_by_channel": COUNTS,
    }
)
CONTEXT = st.fixed_dictionaries(
    {
        "channel": st.sampled_from([None, "app", "web", "fax"]),
        "placement_id": st.just("p"),
        "hour": st.integers(0, 23),
        "weekday": st.integers(0, 6),
        "us": st.sampled_from([None, BEGAN_US - 1, BEGAN_US, BEGAN_US + 90_000_000_000, BEGAN_US + 10**15]),
    }
)


@settings(max_examples=60, deadline=None)
@given(CUSTOMER, CONTEXT, NUMBER)
def test_training_rows_equal_the_rows_that_serving_fills(customer, context, rate):
    affinity = np.array([1.0, 2.0, 4.0])
    rates = {"o0": {"rate": rate}, "o1": {"rate": 0.5}}
    served = encoder().fill(encoder().prepare(OFFERS, rates), customer, context, affinity)
    n = len(OFFERS)
    trained = encoder().rows(
        n,
        pd.DataFrame([customer] * n, dtype=object),
        OFFERS,
        pd.DataFrame({"rate": [rates.get(o.offer_id, {}).get("rate") for o in OFFERS]}, dtype=object),
        {name: [value] * n for name, value in context.items()},
        relative(affinity[None, :])[0],
    )
    np.testing.assert_array_equal(served, trained)


def test_fill_leaves_the_shared_template_alone():
    side = encoder().prepare(OFFERS, {})
    before = side.template.copy()
    encoder().fill(side, {"age": 3.0}, {"hour": 4}, None)
    np.testing.assert_array_equal(side.template, before)


def test_relative_affinity_has_mean_zero_and_spread_one_and_is_zero_without_differences():
    found = relative(np.array([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]]))
    np.testing.assert_allclose(found[0].mean(), 0.0, atol=1e-12)
    np.testing.assert_allclose(found[0].std(), 1.0)
    np.testing.assert_array_equal(found[1], 0.0)


def test_a_rate_is_by_the_days_since_the_log_began_and_unknown_before_one_has_passed():
    """30 in 4 days are 7.5 a day, and 15 in 2; of half a day nothing is said."""
    assert per_day(30.0, BEGAN_US + 4 * US_PER_DAY, BEGAN_US) == 7.5
    assert per_day(15.0, BEGAN_US + 2 * US_PER_DAY, BEGAN_US) == 7.5
    assert np.isnan(per_day(30.0, BEGAN_US + US_PER_DAY // 2, BEGAN_US))
    assert np.isnan(per_day(30.0, None, BEGAN_US))


def test_an_empty_catalogue_has_no_rows():
    side = encoder().prepare((), {})
    assert encoder().fill(side, {}, {}, np.zeros(0)).shape == (0, len(encoder().columns))
