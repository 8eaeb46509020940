"""What was registered and is cut, empty or garbled now ends in one named error, in whichever command meets it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.errors import BrokenRelease
from features.home import Home
from tests.training.test_registry import judged, register
from training import registry
from training.evaluation.kept import judged_from
from training.gates import standing_of
from training.read_back import read_back
from training.release_report import report_release
from training.tracking import tracking

AT = datetime(2026, 3, 5, tzinfo=UTC)
WHOLE = judged(0.3)
DAMAGES = {
    "cut": lambda body: body[: min(50, len(body) // 2)],
    "empty": lambda body: b"",
    "garbage": lambda body: b"\xff\x00garbage" * 9,
}


@pytest.fixture(params=DAMAGES)
def damage(request):
    return DAMAGES[request.param]


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("home"))
    with tracking(home) as client:
        assert register(client) == "1"
    return home


@pytest.fixture
def home(registered, tmp_path):
    """One release, never exported."""

    class Fresh(Home):
        @property
        def releases(self):
            return tmp_path / "releases"

    return Fresh(registered.root)


@pytest.fixture
def damaged(home, damage):
    """Damages every stored file of that name, and puts it back."""
    before: dict[Path, bytes] = {}

    def made(name):
        found = list(home.root.rglob(name))
        assert found, name
        for path in found:
            before[path] = path.read_bytes()
            path.write_bytes(damage(before[path]))

    yield made
    for path, body in before.items():
        path.write_bytes(body)


@pytest.mark.parametrize("body", [
    *(damage(WHOLE) for damage in DAMAGES.values()), WHOLE[:-30], WHOLE.replace(b"metric_ndcg", b"metric_xxxx", 1),
    WHOLE[:60] + b"\x00\x00\x00\x00" + WHOLE[64:],
])  # fmt: skip
def test_figures_of_customers_that_cannot_be_read_name_the_version_and_the_file(body):
    assert judged_from(WHOLE, "recommender 3").customers == ("c0", "c1")
    with pytest.raises(BrokenRelease, match=r"^recommender 3: judged\.npz, as it was registered, cannot be read"):
        judged_from(body, "recommender 3")


def test_a_promotion_whose_kept_figures_are_damaged_says_which(home, damaged):
    damaged("judged.npz")
    with pytest.raises(BrokenRelease, match=r"^recommender 1: judged\.npz, as it was registered, cannot be read"):
        registry.promote(home)
    assert registry.champion_of(home) is None


@pytest.mark.parametrize(("file", "said"), [
    ("slices.json", "recommender 1: tables/slices.json"), ("judged.npz", "recommender 1: judged.npz"),
    ("pins.json", "release 1: pins.json"),
])  # fmt: skip
def test_a_comparison_says_which_file_of_a_run_is_damaged(home, damaged, file, said):
    damaged(file)
    with tracking(home) as client, pytest.raises(BrokenRelease, match=f"{said}, as it was registered"):
        standing_of(client, home.releases / "1", "1")


@pytest.mark.parametrize(("file", "said"), [
    ("offers.json", "^recommender 1: offers.json"), ("scorer.json", "^recommender 1: scorer/scorer.json"),
    ("offer_factors.npy", r"^release 1: one of its files, .*recommender/offer_factors\.npy"),
])  # fmt: skip
def test_an_export_says_which_file_is_damaged_and_leaves_nothing_behind(home, damaged, file, said):
    damaged(file)
    with pytest.raises(BrokenRelease, match=said):
        registry.exported(home, "1")
    assert not [path for path in home.releases.glob("*") if path.is_dir()]


@pytest.mark.parametrize(("file", "said"), [
    ("offers.json", "offers.json"), ("recipe.json", "recipe.json"), ("scorer.json", "scorer"),
    ("offer_factors.npy", "scorer, .*scorer/offer_factors.npy"),
])  # fmt: skip
def test_a_report_says_which_file_is_damaged(home, damaged, file, said):
    damaged(file)
    with pytest.raises(BrokenRelease, match=f"^recommender 1: {said}"):
        report_release(home, None, "1", as_of=AT)


def test_errors_that_say_nothing_of_the_file_pass():
    with pytest.raises(OSError, match="the disk"), read_back("recommender 1", "x.json"):
        raise OSError("the disk")
