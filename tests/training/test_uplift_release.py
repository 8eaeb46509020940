"""Uplift goes with the churn model into a release, and comes back from its folder as it was."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from features.definitions import feature_set
from features.errors import BrokenRelease
from tests.training.builders import churn_scorer, factor_scorer, offer, popularity_scorer
from tests.training.uplift_worlds import COLUMNS, planted
from training import registry
from training.registry import Pins, release_files
from training.scorers import (
    Effect,
    UncalibratedAcceptance,
    UpliftScorer,
    digest,
    json_bytes,
    load_release,
    scorer_files,
)
from training.uplift import BASES, UPLIFT

NAMES = ["o0", "o1", "o2"]
FEATURES = feature_set((1, 7))
ROWS = planted(300).trial.rows


def under(folder, scorer):
    return {f"{folder}/{name}": body for name, body in scorer_files(scorer).items()}


def uplift_scorer(learner="x", base="trees"):
    return UpliftScorer("", COLUMNS, UPLIFT[learner](COLUMNS, planted(2_000).trial, BASES[base], 0), 0.5, 0.01)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The folder of a release whose churn model's artefact has these files more."""

    def make(more):
        kept = {
            "recommender": {
                "offers.json": msgspec.json.encode([offer(name) for name in NAMES]),
                **under("scorer", factor_scorer()),
                **under("popularity", popularity_scorer()),
                **under("prior", UncalibratedAcceptance("", 0.02, 0.0, 1.0)),
            },
            "churn": {**under("scorer", churn_scorer()), **more},
        }
        monkeypatch.setattr(registry, "files_of", lambda client, name, number: kept[name])
        pins = Pins(
            versions={"recommender": "4", "acceptance": None, "churn": "7"}, calibrated=False,
            feature_set_digest=FEATURES.digest, offer_map_sha256=digest(json_bytes(NAMES)), verdicts={}, metrics={},
            not_trainable={}, data_digest="d", as_of="2026-03-04T12:00:00+00:00",
        )  # fmt: skip
        for name, body in release_files(None, "1", pins, FEATURES.to_json()).items():
            path = tmp_path / "1" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        return tmp_path / "1"

    return make


@pytest.mark.parametrize(("learner", "base"), [("t", "logistic"), ("x", "trees"), ("dr", "logistic")])
def test_a_release_has_the_uplift_of_its_churn_model(written, learner, base):
    scorer = uplift_scorer(learner, base)
    release = load_release(written(under("uplift", scorer)))
    assert release.uplift.version == release.versions["churn"] == "7"
    np.testing.assert_array_equal(release.uplift.many(ROWS), scorer.many(ROWS))


def test_a_release_whose_holdout_told_nothing_has_none(written):
    assert load_release(written({})).uplift is None


def test_a_model_that_reads_columns_it_does_not_have_is_refused(written):
    files = scorer_files(uplift_scorer())
    head = msgspec.json.decode(files["scorer.json"])
    files["scorer.json"] = json_bytes({**head, "columns": head["columns"][:1]})
    with pytest.raises(BrokenRelease, match="reads column"):
        load_release(written({f"uplift/{name}": body for name, body in files.items()}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Effect("direct"),
        lambda: Effect("sideways"),
        lambda: UpliftScorer("", COLUMNS, Effect("constant"), 0.0, float("nan")),
    ],
)
def test_an_effect_that_makes_no_sense_is_refused(make):
    with pytest.raises(BrokenRelease):
        make()
