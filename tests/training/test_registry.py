"""Registration and promotion: what serves is whole, a crash leaves the old champion, and a lost model is refused."""

from __future__ import annotations

import io
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from features.definitions import feature_set
from features.errors import Conflict, NotFound, PromotionRefused
from features.events import to_us
from features.home import Home
from tests.conftest import NOW
from tests.training.builders import acceptance_scorer, churn_scorer, factor_scorer, offer, popularity_scorer
from training import registry
from training.evaluation.judged_rows import judged_rows, judged_rows_bytes
from training.gates import Passage, case, standing_of
from training.registry import (
    CHALLENGER,
    CHAMPION,
    Pins,
    Shadowing,
    alias_history,
    alias_of,
    list_models,
    shadow,
)
from training.releases import champion_of
from training.scorers import (
    UncalibratedAcceptance,
    digest,
    json_bytes,
    load_champion,
    load_release,
    read_pointer,
    scorer_files,
)
from training.steps.release import pin_release
from training.tracking import Logged, files_of, log_model, log_report, tracking

FEATURES = feature_set((1, 7))
ROWS = judged_rows(["c0", "c1"], np.array([5, 5]), ["o0", "o1"], np.array([True, False]), np.array([0.7, 0.2]))
OFFERS = [offer(name) for name in ("o0", "o1", "o2")]


def under(folder, scorer):
    return {f"{folder}/{name}": body for name, body in scorer_files(scorer).items()}


def logged(files, verdict="beats", **metrics):
    return Logged(
        params={"chosen": "x"}, metrics={"auc": 0.7, **metrics}, tags={"verdict": verdict}, files=files,
        tables={"slices": pd.DataFrame({"slice": ["channel"], "value": ["web"], "auc": [0.6]})},
        example=pd.DataFrame({"customer_id": ["c000"]}), output=np.zeros(1),
    )  # fmt: skip


def register(client, verdict="beats", acceptance=True, ndcg=0.3, known=None):
    """A release of hand-made models, whose NDCG@10 is known to ±0.01; `known` versions are pinned as they are."""
    import msgspec

    recommender = {
        "offers.json": msgspec.json.encode(OFFERS),
        "judged.npz": judged(ndcg),
        "recipe.json": b'{"model": "als"}',
        **under("scorer", factor_scorer()),
        **under("popularity", popularity_scorer()),
        **under("prior", UncalibratedAcceptance("", 0.02, 0.0, 1.0)),
    }
    made = {
        "recommender": lambda: log_model(client, "recommender", logged(recommender, **ranked(ndcg))),
        "acceptance": lambda: log_model(
            client,
            "acceptance",
            logged({**under("scorer", acceptance_scorer()), "judged.npz": judged_rows_bytes(ROWS)}),
        ),
        "churn": lambda: log_model(client, "churn", logged(under("scorer", churn_scorer()))),
    }
    known = {**(known or {}), **({} if acceptance else {"acceptance": None})}
    versions = {name: known[name] if name in known else log() for name, log in made.items()}
    pins = Pins(
        versions=versions, calibrated=acceptance, feature_set_digest=FEATURES.digest,
        offer_map_sha256=digest(json_bytes(["o0", "o1", "o2"])), verdicts={"churn": verdict}, metrics={},
        not_trainable={}, data_digest="d", as_of="2026-03-04T12:00:00+00:00",
    )  # fmt: skip
    return registry.register_release(client, pins, FEATURES)


def judged(ndcg):
    """As `training.evaluation.kept` writes it, of two customers."""
    body = io.BytesIO()
    values = np.array([[0.9, ndcg - 0.1], [0.9, ndcg + 0.1]], np.float32)
    np.savez(body, customers=np.array(["c0", "c1"]), cutoffs=[1, 10], exclude_seen=True, metric_ndcg=values)
    return body.getvalue()


def ranked(ndcg):
    names = ("ndcg_at_10", "ndcg_at_10_gain")
    return {f"{name}{end}": ndcg + by for name in names for end, by in (("", 0.0), ("_low", -0.01), ("_high", 0.01))}


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A home with three releases: fit to serve, lost to its baseline, without acceptance. Making it takes a while."""
    home = Home(tmp_path_factory.mktemp("home"))
    with tracking(home) as client:
        numbers = [register(client), register(client, "lost"), register(client, acceptance=False)]
    assert numbers == ["1", "2", "3"]
    return home


@pytest.fixture
def home(registered, tmp_path):
    """The registered home with its own folder of releases and an empty champion alias."""
    with tracking(registered) as client:
        for name in ("release", "recommender", "acceptance", "churn"):
            if alias_of(client, name, CHAMPION):
                client.delete_registered_model_alias(name, CHAMPION)

    class Fresh(Home):
        @property
        def releases(self):
            return tmp_path / "releases"

    return Fresh(registered.root)


@pytest.fixture
def measured_once(monkeypatch):
    """A process measures the same files once: it takes seconds."""
    measure = cache(case.measure)
    monkeypatch.setattr(case, "measure", lambda folders, offers: measure(tuple(folders), offers))


def promote(home, release=CHALLENGER, *, judge=lambda *asked: (), **given):
    """Without asking gates, which have tests of their own."""
    return registry.promote(home, release, judge=judge, **given)


def test_a_promoted_release_serves_with_the_versions_it_pins(home):
    done = promote(home, "1", who="ada", reason="first")
    release = load_champion(home.releases)
    assert (done.release, done.before) == ("1", None)
    assert release.versions == {"release": "1", "recommender": "1", "acceptance": "1", "churn": "1"}
    assert release.recommender.version == release.acceptance.version == "1"
    assert release.calibrated
    assert release.feature_set == FEATURES
    assert not list(home.releases.glob("*.tmp"))
    line = alias_history(home)[0]
    assert {k: line[k] for k in ("from", "to", "who", "why")} == {"from": None, "to": "1", "who": "ada", "why": "first"}


def test_without_an_acceptance_model_the_release_says_uncalibrated(home):
    promote(home, "challenger")  # the newest is 3
    release = load_champion(home.releases)
    assert release.number == "3"
    assert not release.calibrated
    assert release.versions["acceptance"] is None
    assert isinstance(release.acceptance, UncalibratedAcceptance)


def test_promoting_twice_changes_nothing(home):
    promote(home, "1")
    before = {path: path.read_bytes() for path in home.releases.rglob("*") if path.is_file()}
    assert promote(home, "1").before == "1"
    assert {path: path.read_bytes() for path in home.releases.rglob("*") if path.is_file()} == before
    assert len(alias_history(home)) == 1


def test_a_model_that_lost_to_its_baseline_is_refused_unless_forced_with_a_reason(home, measured_once):
    with pytest.raises(PromotionRefused, match="release 2: baseline: churn lost to the baseline; --force") as refusal:
        registry.promote(home, "2")
    assert {one.gate: one.passage for one in refusal.value.gates} == {
        "baseline": "refused", "ranking": "not asked", "calibration": "no verdict", "slices": "not asked",
        "coverage": "passed", "latency": "passed", "size": "passed", "off_policy": "not asked",
    }  # fmt: skip
    with pytest.raises(PromotionRefused, match="reason"):
        registry.promote(home, "2", force=True)
    assert read_pointer(home.releases) is None
    done = registry.promote(home, "2", force=True, reason="a test")
    assert done.forced
    (line,) = alias_history(home)
    assert line["forced"]
    assert [one["gate"] for one in line["gates"]] == [one.gate for one in done.gates]


def test_a_gate_may_refuse_who_follows_the_champion_unless_it_is_forced(home):
    asked = []

    def judge(client, home, challenger, champion):
        asked.append((challenger, champion))
        return [Passage("off_policy", "passed" if champion is None else "refused", "it is worth less")]

    promote(home, "1", judge=judge)
    with pytest.raises(PromotionRefused, match="release 3: off_policy: it is worth less; --force needs a --reason"):
        promote(home, "3", judge=judge)
    assert asked == [("1", None), ("3", "1")]
    assert load_champion(home.releases).number == "1"
    assert promote(home, "3", force=True, reason="new assortment", judge=judge).forced
    assert [line["forced"] for line in alias_history(home)] == [False, True]
    assert not promote(home, "3", judge=judge).forced  # itself again: nothing to ask
    assert len(asked) == 3


@pytest.fixture
def first_damaged(home):
    """The figures that the first training kept are cut, until the test ends: others read them too."""
    kept = min(home.root.rglob("judged.npz"), key=lambda path: path.stat().st_mtime_ns)
    body = kept.read_bytes()
    kept.write_bytes(body[:40])
    yield
    kept.write_bytes(body)


def test_what_is_damaged_of_the_champion_is_a_refusal_that_names_it_and_can_be_forced(
    home, first_damaged, measured_once
):
    promote(home, "1")
    with pytest.raises(PromotionRefused, match=r"record: the champion's recommender 1: judged\.npz") as refusal:
        registry.promote(home, "3")
    assert {one.gate for one in refusal.value.gates} > {
        "record",
        "latency",
        "size",
    }  # the others were asked all the same
    assert champion_of(home) == "1"
    done = registry.promote(home, "3", force=True, reason="the file is lost")
    assert (done.release, done.before, done.forced) == ("3", "1", True)
    line = alias_history(home)[-1]
    assert line["forced"]
    assert "judged.npz" in next(one["said"] for one in line["gates"] if one["gate"] == "record")


def test_a_promotion_gives_way_to_who_was_quicker(home):
    promote(home, "1")

    def judge(client, home, challenger, champion):
        promote(home, "2")
        return ()

    with pytest.raises(Conflict, match="release 2 became champion while the gates of 3 were asked"):
        promote(home, "3", judge=judge)
    assert load_champion(home.releases).number == "2"


def test_what_gates_judge_by_is_read_back_from_the_runs(home):
    with tracking(home) as client:
        found, first = (standing_of(client, home.releases / number, number) for number in ("3", "1"))
    assert (found.release, found.verdicts, found.data_digest) == ("3", {"churn": "beats"}, "d")
    assert set(found.models) == {"recommender", "churn"}
    recommender = found.models["recommender"]
    assert recommender.per_customer == {"c0": pytest.approx(0.2), "c1": pytest.approx(0.4)}
    assert (recommender.version, recommender.metrics["ndcg_at_10_low"]) == ("3", pytest.approx(0.29))
    assert recommender.params["chosen"] == "x"
    assert found.models["churn"].tables == {"slices": [{"slice": "channel", "value": "web", "auc": 0.6}]}
    assert found.models["churn"].per_customer == {}
    rows = first.models["acceptance"].judged
    assert (rows.y.tolist(), rows.p.tolist()) == (ROWS.y.tolist(), ROWS.p.tolist())
    assert found.models["churn"].judged is None  # as before rows were kept


def test_each_training_is_in_the_history_with_what_it_trained(home):
    log = SimpleNamespace(digest="d")
    inputs = SimpleNamespace(home=home, features=FEATURES, log=log, as_of_us=to_us(NOW))
    with tracking(home) as client:
        number, _ = pin_release(client, inputs, {"recommender": "1", "churn": "1"}, {})
        (line,) = alias_history(home)
        client.delete_model_version("release", number)
        for name, back in (("release", "3"), ("recommender", "3"), ("churn", "3")):
            client.set_registered_model_alias(name, CHALLENGER, back)
    found = {name: line[name] for name in ("alias", "kind", "from", "to", "why", "at")}
    assert found == {
        "alias": "challenger", "kind": "training", "from": "3", "to": number, "why": "trained recommender, churn",
        "at": NOW.isoformat(),
    }  # fmt: skip
    assert champion_of(home) is None


def test_a_report_is_kept_beside_the_releases(home):
    from mlflow.artifacts import load_text

    with tracking(home) as client:
        run_id = log_report(client, "off-policy: greedy", {"release": "1"}, {"dr_value": 0.5}, {"report.md": b"# it"})
        run = client.get_run(run_id)
        assert run.info.experiment_id == client.get_experiment_by_name("release").experiment_id
        assert (run.data.metrics["dr_value"], run.data.tags["release"]) == (0.5, "1")
        assert load_text(f"{run.info.artifact_uri}/report.md") == "# it"


def test_a_release_that_does_not_exist_is_not_found(home):
    with pytest.raises(NotFound):
        promote(home, "99")


@pytest.mark.parametrize("step", ["load_release", "_move_aliases", "point"])
def test_a_crash_before_the_pointer_leaves_the_old_champion_serving(home, monkeypatch, step):
    promote(home, "1")

    def crash(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(registry, step, crash)
        with pytest.raises(KeyboardInterrupt):
            promote(home, "3")
    assert load_champion(home.releases).number == "1"
    assert promote(home, "3").before == "1"
    assert load_champion(home.releases).number == "3"


def test_the_same_release_is_exported_to_the_same_bytes(home, tmp_path):
    with tracking(home) as client:
        pins, features = registry.read_pins(client, "1")
        once, again = (registry.release_files(client, "1", pins, features) for _ in range(2))
    assert once == again


def test_going_back_to_an_older_release_moves_all_aliases_back(home):
    promote(home, "1")
    promote(home, "3")
    with tracking(home) as client:
        assert alias_of(client, "acceptance", CHAMPION) is None
    promote(home, "1")
    with tracking(home) as client:
        assert [alias_of(client, name, CHAMPION) for name in ("release", "recommender", "acceptance")] == [
            "1",
            "1",
            "1",
        ]
        assert alias_of(client, "release", CHALLENGER) == "3"
    assert [line["to"] for line in alias_history(home)] == ["1", "3", "1"]


def test_every_version_is_listed_with_metrics_and_aliases(home):
    promote(home, "1")
    rows = list_models(home)
    assert [row["version"] for row in rows if row["model"] == "release"] == ["3", "2", "1"]
    first = next(row for row in rows if row["model"] == "churn" and row["version"] == "1")
    assert first["aliases"] == ["champion"]
    assert first["metrics"]["auc"] == 0.7


def test_a_registered_model_answers_as_pyfunc_without_unpickling(home):
    with tracking(home) as client:
        import mlflow

        model = mlflow.pyfunc.load_model("models:/recommender/1")
        found = model.predict(pd.DataFrame({"customer_id": ["c000", "nobody"]}))
        assert [set(row) for row in found["offers"]] == [{"o0", "o1", "o2"}] * 2
        assert not [name for name in files_of(client, "recommender", "1") if name.endswith((".pkl", ".pickle"))]


def test_a_shadow_is_pointed_at_beside_the_champion_remembered_and_ended(home):
    promote(home, "1")
    champion = (home.releases / "champion.json").read_bytes()
    assert shadow(home, "challenger", who="ada", reason="a look") == Shadowing("3", None)  # the newest is 3
    pointer = read_pointer(home.releases, "shadow")
    assert pointer.release == "3"
    assert load_release(home.releases / "3", pointer.sha256).number == "3"
    assert {row["version"]: row["aliases"] for row in list_models(home) if row["model"] == "release"}["3"] == [
        CHALLENGER, "shadow",
    ]  # fmt: skip
    assert shadow(home, "2") == Shadowing("2", "3")  # nobody is shown it, so no verdict is asked
    assert shadow(home, None) == Shadowing(None, "2")
    assert shadow(home, None) == Shadowing(None, None)
    assert read_pointer(home.releases, "shadow") is None
    assert (home.releases / "champion.json").read_bytes() == champion
    lines = [line for line in alias_history(home) if line["alias"] == "shadow"]
    assert [(line["from"], line["to"], line["why"]) for line in lines] == [
        (None, "3", "a look"), ("3", "2", None), ("2", None, None),
    ]  # fmt: skip


def test_a_shadow_that_is_not_registered_leaves_the_one_there_is(home):
    shadow(home, "3")
    with pytest.raises(NotFound):
        shadow(home, "99")
    assert read_pointer(home.releases, "shadow").release == "3"
    shadow(home, None)
