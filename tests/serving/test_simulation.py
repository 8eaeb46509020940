"""Policies in the demo's world: the same visits and luck for all, and what that is good for."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from experiments.simulate.compared import MEASURES, difference
from features.errors import BadInput
from features.events import from_us
from features.experiment import Experiment, Variant
from features.facts import Facts
from features.home import Home
from serving.demo.response import on_offer
from serving.experiment_lifecycle import started
from serving.settings import Settings
from serving.simulation.arms import arms_of, pointer_of
from serving.simulation.in_process import in_process
from serving.simulation.planting import planted_experiments, run_planted
from serving.simulation.policies import live_one, simulate
from serving.simulation.shop import copy_of, demo_shop, is_demo, new_shop, running_in
from serving.simulation.visits import days_of
from tests.serving.releases import write_release

VALUE, EXPECTED, ACCEPTED, REGRET = (next(one for one in MEASURES if one.name == name) for name in (
    "value_per_visitor", "expected_per_visitor", "acceptance_rate", "regret",
))  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return new_shop(tmp_path_factory.mktemp("shop"), seed=4, n_customers=300, n_offers=16)


@pytest.fixture(scope="module")
def settings(shop):
    return Settings(home=shop.home)


def lived(shop, settings, text, n_visits=400, seed=1):
    (arm,) = arms_of([text])
    return live_one(shop, arm, settings, n_visits, seed)


def contents(home):
    """Every file but those that SQLite keeps beside a database that is read."""
    files = (path for path in home.root.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {path: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def lives(shop, settings):
    return {text: lived(shop, settings, text) for text in ("random", "greedy", "epsilon_greedy,epsilon=0.1")}


def test_who_comes_when_and_with_which_luck_depends_on_the_seed_alone(shop):
    def days(seed):
        return list(days_of(shop.world, seed=seed, start_us=shop.start_us, n_visits=700))

    one, again, other = days(1), days(1), days(2)
    rounds = [visits for day in one for visits in day.visits]
    assert np.concatenate([visits.number for visits in rounds]).tolist() == list(range(700))
    for visits in rounds:
        assert len(set(visits.customers.tolist())) == len(visits.customers)
        assert (np.diff(visits.us) >= 0).all()
    for left, right in zip(rounds, (visits for day in again for visits in day.visits), strict=True):
        np.testing.assert_array_equal(left.luck, right.luck)
        np.testing.assert_array_equal(left.us, right.us)
    assert not np.array_equal(one[0].visits[0].us, other[0].visits[0].us)


def test_the_same_policy_lives_the_same_life_twice(shop, settings, lives):
    again = lived(shop, settings, "epsilon_greedy,epsilon=0.1")
    for column, totals in lives["epsilon_greedy,epsilon=0.1"].totals.items():
        np.testing.assert_array_equal(totals, again.totals[column], err_msg=column)


def test_a_policy_that_ranks_by_value_earns_more_than_a_random_draw_and_regrets_less(lives):
    value = difference(lives["greedy"], lives["random"], EXPECTED)
    assert value.low > 0
    regret = difference(lives["greedy"], lives["random"], REGRET)
    assert regret.high < 0
    for one in lives.values():
        assert (one.of("first") <= one.of("first_best") + 1e-9).all()  # nobody beats the oracle
        assert (one.of("accepts") <= one.of("clicks")).all()
        assert (one.of("clicks") <= one.of("impressions")).all()


def test_realised_value_is_what_the_true_chances_promised(lives):
    """Within four standard errors of the difference between what was accepted and what it was expected to be."""
    for one in lives.values():
        gap = one.of("value") - one.of("expected")
        assert abs(gap.mean()) < 4 * gap.std(ddof=1) / len(gap) ** 0.5


def test_common_luck_makes_differences_of_policies_that_are_alike_much_more_certain(shop, settings, lives):
    """Half the width or less: as many pairs tell as four times as many customers in two runs of their own luck."""
    alike = difference(lives["epsilon_greedy,epsilon=0.1"], lives["greedy"], VALUE)
    paired, apart = alike.high - alike.low, alike.independent_high - alike.independent_low
    assert paired < 0.5 * apart
    assert alike.worth == pytest.approx((apart / paired) ** 2)
    assert alike.worth > 4


def test_runs_of_their_own_luck_differ_as_the_wide_interval_says_and_common_ones_as_the_narrow_one(shop, settings):
    """Spread of 6 repeated differences: with common luck well below the spread with independent luck."""
    greedy = [lived(shop, settings, "greedy", 60, seed) for seed in range(6)]
    alike = [lived(shop, settings, "epsilon_greedy,epsilon=0.1", 60, seed) for seed in range(6)]

    def value(one):
        return one.of("value").sum() / one.of("visits").sum()

    common = np.std([value(b) - value(a) for a, b in zip(greedy, alike, strict=True)])
    apart = np.std([value(b) - value(a) for a, b in zip(greedy, alike[1:] + alike[:1], strict=True)])
    assert common < 0.6 * apart


def test_arms_name_policy_release_and_tuning(shop):
    plain, random, tuned = arms_of(["thompson", "random", "softmax@none,temperature=0.5"])
    assert (plain.policy, plain.release) == ("thompson", "champion")
    assert random.is_random
    assert random.environ() == {
        "NBO_POLICY": "epsilon_greedy", "NBO_HOLDOUT": "0", "NBO_EPSILON": "1", "NBO_NEW_OFFER_SHARE": "0",
    }  # fmt: skip
    assert (tuned.release, tuned.tuning) == ("none", {"temperature": 0.5})
    assert tuned.environ() == {"NBO_POLICY": "softmax", "NBO_HOLDOUT": "0", "NBO_TEMPERATURE": "0.5"}
    assert pointer_of(shop.home, tuned) is None


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["greedier"], "'greedier' is no policy; expected one of random, greedy"),
        (["softmax,heat=3"], "sets 'heat'; expected one of epsilon, temperature"),
        (["softmax,temperature=hot"], "sets temperature to 'hot', expected a number"),
        (["greedy", "greedy"], "expected each once"),
    ],
)
def test_arms_that_cannot_be_are_refused_with_what_was_expected(texts, said):
    with pytest.raises(BadInput, match=said):
        arms_of(texts)


def test_a_release_that_is_not_there_is_named_before_anything_runs(shop, settings):
    with pytest.raises(BadInput, match="greedy@7: there is no release 7; nothing was trained"):
        simulate(shop, arms_of(["random", "greedy@7"]), settings, n_visits=10, seed=1)


def test_releases_live_side_by_side_and_the_home_is_left_as_it_was(tmp_path):
    """Release 1 likes all offers alike, so that the most valuable comes first; release 2 likes another one more."""
    shop = new_shop(tmp_path / "home", seed=4, n_customers=60, n_offers=12)
    world = shop.world
    allowed = on_offer(world, np.array([shop.start_us]))[0]
    second, best = np.argsort(np.where(allowed, world.value, 0.0))[-2:]
    loved = world.offer_ids[second]
    liked = dict.fromkeys(shop.world.offer_ids, 1.0)
    write_release(shop.home.releases, "1", liked)
    write_release(shop.home.releases, "2", dict.fromkeys(liked, 0.0) | {loved: 50.0}, champion=False)
    before = contents(shop.home)
    settings = Settings(home=shop.home)
    for text, wanted in (("greedy", best), ("greedy@2", second)):
        (arm,) = arms_of([text])
        (day,) = days_of(world, seed=1, start_us=shop.start_us, n_visits=5)
        with copy_of(shop, arm) as home, in_process(home, world, arm, settings, shop.start_us) as engine:
            assert set(engine.ask(day.visits[0]).offers[:, 0]) == {wanted}
    assert contents(shop.home) == before
    with copy_of(shop, arms_of(["greedy@2"])[0]) as home:
        assert (home.releases / "2" / "manifest.json").is_file()
        assert not (home.releases / "1").exists()
    assert not home.root.exists()


@pytest.fixture
def experimenting(tmp_path):
    """A shop where an experiment sets the policy of everybody, to thompson."""
    shop = new_shop(tmp_path / "home", seed=4, n_customers=60, n_offers=12)
    now = from_us(shop.start_us)
    variants = (
        Variant(name="control", weight=0.5, is_control=True, policy="thompson"),
        Variant(name="same", weight=0.5, policy="thompson"),
    )
    draft = Experiment(experiment_id="sampling", hypothesis="h", variants=variants, primary_metric="acceptance_rate")
    with closing(Facts(shop.home.facts_db)) as facts:
        facts.put(started(draft, [], now), now)
    return shop


def test_policies_are_compared_without_the_experiments_and_the_holdout_of_the_home(experimenting):
    """Else both arms would decide by the experiment's policy, or show the held out anything, and differ by nothing."""
    shop = experimenting
    arms = arms_of(["greedy", "random"])
    plain = new_shop(shop.home.root / "plain", seed=4, n_customers=60, n_offers=12)
    settings = Settings(home=shop.home, holdout=0.9)
    found = simulate(shop, arms, settings, n_visits=120, seed=1)
    alone = simulate(plain, arms, Settings(home=plain.home), n_visits=120, seed=1)
    assert found.estimates == alone.estimates
    assert found.differences[0].absolute != 0
    assert found.switched_off == ("experiment sampling", "holdout of 90.0%")
    assert alone.switched_off == ()
    assert [one.experiment_id for one in running_in(shop.home)] == ["sampling"]  # only copies were changed


def test_the_copy_that_a_service_over_http_gets_has_no_running_experiment_either(experimenting):
    (arm,) = arms_of(["greedy"])
    with copy_of(experimenting, arm) as home:
        assert running_in(home) == ()
    assert arm.environ()["NBO_HOLDOUT"] == "0"


def test_a_home_that_is_no_demo_is_not_taken_for_one(shop, tmp_path):
    assert not is_demo(shop.home)
    assert not is_demo(Home(tmp_path / "nothing"))
    with pytest.raises(BadInput, match="nbo demo --keep"):
        demo_shop(shop.home)


def test_planted_effects_are_found_in_process_and_missed_where_the_world_has_none(shop, settings, monkeypatch):
    """The variant of `ab-01` accepts four times as often; then the world is told to answer all alike."""
    wanted = planted_experiments(1, (3.0,), policy=False)
    found = run_planted(shop, settings, wanted, n_visits=700, seed=2)
    assert found.holds, [one.sentence for one in found.claims]
    assert {one.n_units for one in found.assigned} == {found.n_visitors}
    (four_times,) = [one for one in found.recovered if one.planted == 3.0 and one.primary]
    assert four_times.low > 0
    monkeypatch.setattr("serving.simulation.planting._lift_of", lambda lifts: lambda met: 1.0)
    missed = run_planted(shop, settings, wanted, n_visits=700, seed=2)
    assert [one.sentence for one in missed.claims if not one.holds]
