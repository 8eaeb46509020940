"""Scorers by hand calculation, and releases that do not add up."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from features.definitions import feature_set
from features.errors import BrokenRelease
from tests.training.builders import (
    acceptance_scorer,
    churn_scorer,
    factor_scorer,
    item_item_scorer,
    offer,
    popularity_scorer,
)
from training.scorers import (
    FORMAT,
    Calibration,
    UncalibratedAcceptance,
    digest,
    json_bytes,
    load_release,
    read_pointer,
    scorer_files,
)

OFFERS = (offer("o2", "blue"), offer("unheard", "red"), offer("o0", "red"))


def test_known_and_unknown_customers_are_scored_as_calculated_by_hand():
    scorer = factor_scorer(repeats=False)
    side = scorer.prepare(OFFERS)
    # offers: o2 3 - 1 = 2 (bias .3); unheard, from its category alone, 1 (bias .25); o0 1 + 1 = 2 (bias .1)
    np.testing.assert_allclose(scorer.affinity("c001", {"taste": "red"}, side), [0.5 * 2 + 0.3, 0.75, 0.5 * 2 + 0.1])
    np.testing.assert_allclose(scorer.affinity("nobody", {"taste": "red"}, side), [2.3, 1.25, 2.1], rtol=1e-6)
    np.testing.assert_allclose(scorer.affinity("nobody", {}, side), [0.3, 0.25, 0.1])


def test_what_was_taken_before_comes_last_or_gains_where_offers_repeat():
    once, again = factor_scorer(repeats=False), factor_scorer(repeats=True)
    # c000 took o2; without that its affinity would be 1.5 * 2 + .3
    found = once.affinity("c000", {"taste": "red"}, once.prepare(OFFERS))
    assert found[0] == found.min()
    np.testing.assert_allclose(again.affinity("c000", {"taste": "red"}, again.prepare(OFFERS))[0], 3.3 + 7.0)


def test_what_was_taken_speaks_for_other_offers_as_calculated_by_hand():
    scorer = item_item_scorer(repeats=True)
    offers = (offer("o2", "blue"), offer("unheard", "red"), offer("o0", "red"), offer("o1", "blue"), offer("bare"))
    side = scorer.prepare(offers)
    # c000: 3 from o2 to o0, and half of popularity; the lowest score is o1's, 0. An offer that nobody took scores half
    # of its likes: the red one of o0, the blue one of o2, one without a category the mean of all three, 4.5 / 3
    np.testing.assert_allclose(scorer.affinity("c000", {}, side), [1.0, 1.75, 3.5, 0.5, 0.75])
    # nobody knows anything but that reds take o0: 1 + 1; o2: 2 - 2
    np.testing.assert_allclose(scorer.affinity("nobody", {"taste": "red"}, side), [0.0, 1.0, 2.0, 0.0, 1.0 / 3])
    once = item_item_scorer(repeats=False)
    np.testing.assert_allclose(once.affinity("c000", {}, side), [0.5, 1.75, 3.5, 0.5, 0.75])


def test_new_offers_get_the_popularity_of_their_category_or_of_all():
    scorer = popularity_scorer()
    side = scorer.prepare((offer("o1"), offer("x", "blue"), offer("y", "green")))
    np.testing.assert_allclose(scorer.affinity("", {}, side), [1.0, 1.5, 0.5])


def test_an_average_offer_gets_the_stated_prior():
    scorer = UncalibratedAcceptance("", prior=0.02, centre=1.0, scale=0.5)
    p = scorer.p_accept({}, {}, np.array([1.0, 1.5, 1e9, -1e9], np.float32), 4)
    np.testing.assert_allclose(p[:3], [0.02, 0.04 / (1 + np.exp(-1)), 0.04])
    assert p[3] > 0


def test_isotonic_calibration_is_flat_outside_its_points():
    calibration = Calibration("isotonic", x=np.array([-1.0, 1.0]), y=np.array([0.2, 0.6]))
    np.testing.assert_allclose(calibration(np.array([-9.0, 0.0, 9.0])), [0.2, 0.4, 0.6])


# Releases


@pytest.fixture
def folder(tmp_path):
    """A whole release, written by hand."""
    target = tmp_path / "7"
    parts = {
        "recommender": factor_scorer(),
        "popularity": popularity_scorer(),
        "acceptance": acceptance_scorer(),
        "churn": churn_scorer(),
    }
    offers = json_bytes(["o0", "o1", "o2"])
    files = {"offers.json": offers, "features.json": feature_set((1, 7)).to_json()}
    for name, scorer in parts.items():
        files |= {f"{name}/{file}": body for file, body in scorer_files(scorer).items()}
    write(target, files, models=sorted(parts), offer_map_sha256=digest(offers))
    return target


def write(target, files, **head):
    for name, body in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(body)
    versions = {"release": "7", "recommender": "3", "acceptance": "5", "churn": "2"}
    manifest = {"format": FORMAT, "release": "7", "versions": versions, "calibrated": True, **head}
    manifest["files"] = {name: digest(body) for name, body in files.items()}
    (target / "manifest.json").write_bytes(json_bytes(manifest))


def rewrite(target, name, body):
    """Change a file and its digest in the manifest."""
    (target / name).write_bytes(body)
    manifest = json.loads((target / "manifest.json").read_bytes())
    manifest["files"][name] = digest(body)
    (target / "manifest.json").write_bytes(json_bytes(manifest))


def test_a_whole_release_is_loaded_with_its_versions(folder):
    release = load_release(folder, digest((folder / "manifest.json").read_bytes()))
    assert (release.number, release.offer_map, release.calibrated) == ("7", ("o0", "o1", "o2"), True)
    assert release.recommender.version == "3"
    assert release.popularity == {"o0": 0.0, "o1": 1.0, "o2": 2.0}
    assert release.feature_set == feature_set((1, 7))


@pytest.mark.parametrize("name", ["offers.json", "features.json", "recommender/offer_factors.npy", "churn/scorer.json"])
def test_a_changed_or_missing_file_is_refused(folder, name):
    body = (folder / name).read_bytes()
    (folder / name).write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(BrokenRelease, match="digest"):
        load_release(folder)
    (folder / name).unlink()
    with pytest.raises(BrokenRelease):
        load_release(folder)


def test_another_manifest_than_the_pointer_names_is_refused(folder):
    with pytest.raises(BrokenRelease, match="pointer"):
        load_release(folder, "0" * 64)


def test_arrays_that_disagree_with_the_offer_map_are_refused(folder):
    offers = json_bytes(["o0", "o1"])
    rewrite(folder, "offers.json", offers)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(json_bytes({**manifest, "offer_map_sha256": digest(offers)}))
    with pytest.raises(BrokenRelease, match="shape"):
        load_release(folder)


def test_an_offer_map_that_the_manifest_does_not_name_is_refused(folder):
    rewrite(folder, "offers.json", json_bytes(["o0", "o1", "o9"]))
    with pytest.raises(BrokenRelease, match="offer map"):
        load_release(folder)


def test_pickled_arrays_are_never_read(folder):
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    rewrite(folder, "recommender/offer_factors.npy", buffer.getvalue())
    with pytest.raises(BrokenRelease, match="allow_pickle"):
        load_release(folder)


def test_a_manifest_cannot_read_outside_of_its_folder(folder):
    (folder.parent / "secret").write_bytes(b"x")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["../secret"] = digest(b"x")
    (folder / "manifest.json").write_bytes(json_bytes(manifest))
    with pytest.raises(BrokenRelease, match="leaves"):
        load_release(folder)


def test_a_release_may_be_without_churn_but_not_without_a_recommender(folder):
    manifest = json.loads((folder / "manifest.json").read_bytes())
    without = {**manifest, "models": [m for m in manifest["models"] if m != "churn"]}
    (folder / "manifest.json").write_bytes(json_bytes(without))
    assert load_release(folder).churn is None
    without["models"].remove("recommender")
    (folder / "manifest.json").write_bytes(json_bytes(without))
    with pytest.raises(BrokenRelease):
        load_release(folder)


def test_before_the_first_promotion_there_is_no_champion(tmp_path):
    assert read_pointer(tmp_path) is None
    (tmp_path / "champion.json").write_text("{")
    with pytest.raises(BrokenRelease):
        read_pointer(tmp_path)


def test_loading_a_release_needs_no_training_library(folder):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from training.scorers import load_release; "
        f"load_release(Path({str(folder)!r})); "
        "print(sorted({'lightfm', 'sklearn', 'mlflow', 'pandas', 'feast', 'duckdb', 'pyarrow'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
    shutil.rmtree(folder)


def test_a_release_of_another_format_says_what_to_do(folder):
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": FORMAT + 1}))
    with pytest.raises(BrokenRelease, match="run `nbo train all`"):
        load_release(folder)
