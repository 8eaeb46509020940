"""One function from a release and the log to a report: what it says, and that it repeats what training found."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from msgspec import structs

from features.data_settings import Recommender
from features.definitions import FeatureSet
from features.errors import NotFound
from features.events import US_PER_DAY, from_us
from features.home import Home
from tests.training.builders import interactions
from training import release_report
from training.models.recipes import Offered, Recipe
from training.models.recommender import cut, learn_from
from training.registry import CHAMPION, Pins, register_release
from training.release_report import report_release
from training.scorers import digest, json_bytes
from training.steps.recommender import logged
from training.tracking import RELEASE, log_model, tracking

RULES = Recommender(repeats=True, validation_days=10, test_days=10, weights={"accept": 1.0})
LATER_DAYS = 12


@pytest.fixture(scope="module")
def log():
    return interactions(n_days=72)


@pytest.fixture(scope="module")
def inputs(log):
    return SimpleNamespace(
        offers=log.offers, tags={}, log=None, settings=None, features=FeatureSet((), "EUR"),
        profiles_at=lambda names, us: [{}] * len(names),
    )  # fmt: skip


@pytest.fixture(scope="module")
def fits(log, inputs):
    """Two trainings, the second of which knows no more than popularity; the log goes on for some days after them."""
    end = int(log.occurred_us[-1]) - LATER_DAYS * US_PER_DAY
    parts = cut(log.before(end), inputs.profiles_at, RULES, end)
    popularity = Recipe("popularity", {"repeats": True})
    return [
        learn_from(parts, Offered(recipes, {}), 0) for recipes in ((popularity, Recipe("own_frequency")), (popularity,))
    ]


@pytest.fixture(scope="module")
def home(fits, inputs, log, tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("home"))
    with tracking(home) as client:
        for fit in fits:
            version = log_model(client, "recommender", logged(fit, inputs))
            pins = Pins(
                versions={"recommender": version, "acceptance": None, "churn": None}, calibrated=False,
                feature_set_digest="", offer_map_sha256=digest(json_bytes(list(log.offer_map))), verdicts={},
                metrics={}, not_trainable={"acceptance": "nothing was shown"}, data_digest="", as_of="",
            )  # fmt: skip
            register_release(client, pins, inputs.features)
        client.set_registered_model_alias(RELEASE, CHAMPION, "2")
    return home


@pytest.fixture(scope="module")
def made():
    """Reports that were made for one test and are read by others."""
    return {}


@pytest.fixture
def reported(home, inputs, log, made, monkeypatch):
    """The report as of so many days after the training, of a log that is read as it was then."""

    def report(release="1", days=0.0, **changes):
        if changes:
            return anew(release, days, **changes)
        if (release, days) not in made:
            made[release, days] = anew(release, days)
        return made[release, days]

    def anew(release, days, **changes):
        end = int(log.occurred_us[-1]) - LATER_DAYS * US_PER_DAY + int(days * US_PER_DAY)
        seen = replace(log.before(end), **changes)
        monkeypatch.setattr(release_report, "read_inputs", lambda *_: replace_offers(inputs, seen.offers))
        monkeypatch.setattr(release_report, "read_interactions", lambda *_: seen)
        return report_release(home, None, release, as_of=from_us(end))

    return report


def replace_offers(inputs, offers):
    return SimpleNamespace(**{**vars(inputs), "offers": offers})


def test_without_later_customers_the_test_part_is_read_again_and_says_what_training_said(reported, fits):
    report = reported()
    found = report.data["recommender"]["metrics"]["release 1"]["ndcg_at_10"]
    trained = fits[0].metrics
    assert report.data["judged"] == "again"
    assert found["estimate"] == pytest.approx(trained["ndcg_at_10"])
    assert (found["low"], found["high"]) == pytest.approx((trained["ndcg_at_10_low"], trained["ndcg_at_10_high"]))
    assert report.data["n_candidates_on_this_test"] == 2
    assert "are fitted again on what was before" in report.markdown


def test_later_customers_judge_the_scorer_that_serves(reported):
    report = reported(days=LATER_DAYS)
    assert report.data["judged"] == "as served"
    assert report.data["n_candidates_on_this_test"] is None
    assert "The scorers that serve are judged on the 1" in report.markdown


def test_a_release_is_beside_popularity_and_the_champion_pair_by_pair(reported):
    report = reported(days=LATER_DAYS)
    of = report.data["recommender"]
    for other in ("popularity", "release 2"):
        gain = of["differences"][other]["ndcg_at_10"]
        means = [of["metrics"][name]["ndcg_at_10"]["estimate"] for name in ("release 1", other)]
        assert gain["estimate"] == pytest.approx(means[0] - means[1])
        assert gain["low"] > 0
        assert any(s.startswith(f"Release 1 is better than {other}: NDCG@10 +") for s in report.data["sentences"])
    assert "release 2" not in reported("2").data["recommender"]["differences"]  # it is the champion itself


def test_a_recipe_like_its_own_leaves_nothing_to_compare_when_both_are_fitted_again(reported):
    again = reported("2").data["sentences"]
    assert again == ["Release 2 has the same recipe as popularity: fitted again, there is nothing to compare."]
    assert all("the same recipe" not in one for one in reported("1").data["sentences"])
    served = reported("2", days=LATER_DAYS).data["sentences"]  # what was learned differs in days, whatever the recipe
    assert all("the same recipe" not in one for one in served)


def test_the_flag_segments_lists_and_missing_models_are_in_the_report(reported):
    report = reported()
    assert report.data["recommender"]["exclude_seen"] is False
    assert "**not excluded**" in report.markdown
    assert {row["value"] for row in report.data["recommender"]["segments"]} >= {"all", "light", "heavy", "old"}
    assert set(report.data["recommender"]["lists"]["release 1"]) >= {"coverage", "gini", "novelty", "diversity"}
    assert "There is none: nothing was shown." in report.markdown
    assert "There is none: it was not trained." in report.markdown


def test_a_catalogue_that_changed_is_told(reported, log):
    changed = (*log.offers[:-1], structs.replace(log.offers[-1], offer_id="o99"))
    report = reported(offers=changed)
    assert "The catalogue has changed since the training: 1 offers are new, 1 are gone." in report.markdown


def test_the_report_is_written_as_markdown_json_and_pictures(reported, tmp_path):
    paths = reported().write(tmp_path / "made")
    assert [path.name for path in paths] == ["report.md", "report.json", "ndcg_by_k.png", "segments.png"]
    assert json.loads(paths[1].read_text())["release"] == "1"
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_a_release_that_is_not_there_is_named(home):
    with pytest.raises(NotFound, match="release '17'"):
        report_release(home, None, "17", as_of=datetime(2026, 1, 1, tzinfo=UTC))
