"""`nbo models compare`: the same figures in tables, JSON and pictures, and differences of which it is said how."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.report.document import pictures_of
from experiments.report.render import as_files, render
from features.errors import BrokenRelease
from serving.commands import models_compare
from serving.commands.models_compare import document_of
from serving.commands.models_compare_pictures import pictures
from tests.training.gates.cases import ALIKE, JULY, a_slice, recommender, standing
from training.comparison import Figure, compare
from training.evaluation.judged_rows import judged_rows, judged_rows_bytes, judged_rows_from, paired
from training.gates import ModelRun

RELIABILITY = [{"bin": b, "mean_p": 0.1 * b + 0.05, "rate": 0.1 * b, "n_rows": 100} for b in range(3)]


def classifier(auc=0.80, half=0.02, slices=(), **params):
    metrics = {"auc": auc, "auc_low": auc - half, "auc_high": auc + half, "ece": 0.03}
    tables = {"slices": list(slices), "reliability": RELIABILITY}
    return ModelRun("5", metrics, {"n_columns": "20", **params}, {"chosen": "trees"}, tables)


@pytest.fixture
def both():
    old = standing("1", recommender=recommender(0.30, ndcg_at_1=0.2, ndcg_at_50=0.4), acceptance=classifier(
        slices=[a_slice("web", 900, auc=0.80), a_slice("gone", auc=0.6)]))  # fmt: skip
    new = standing("2", recommender=recommender(0.32, ndcg_at_1=0.25, ndcg_at_50=0.41), acceptance=classifier(
        0.90, slices=[a_slice("web", 1_000, auc=0.85)], learning_rate="0.1"))  # fmt: skip
    return old, new


def compared(both):
    return compare(*both, (ALIKE, msgspec.structs.replace(ALIKE, memory_mb=500.0)))


def metric(found, model, name):
    return next(m for m in found.metrics if (m.model, m.name) == (model, name))


def test_differences_are_the_second_minus_the_first_and_say_what_they_rest_on(both):
    found = compared(both)
    ndcg, auc = metric(found, "recommender", "ndcg_at_10"), metric(found, "acceptance", "auc")
    # hypot(0.01, 0.01) = 0.014142 and hypot(0.02, 0.02) = 0.028284, the half-widths of independent intervals
    assert ndcg.difference.value == pytest.approx(0.02)
    assert (ndcg.difference.low, ndcg.difference.high) == (
        pytest.approx(0.005858, abs=1e-6),
        pytest.approx(0.034142, abs=1e-6),
    )
    assert ndcg.how == "on the same days, unpaired"
    assert auc.difference.low == pytest.approx(0.1 - 0.028284, abs=1e-6)
    assert metric(found, "acceptance", "ece").difference == Figure(0.0)  # no interval is on record


def judged(seed, noise, n=4_000, shift=0):
    """Planted: chances of .1 to .9, five rows of each of n / 5 customers, and log-odds off by as much noise."""
    truth = np.random.default_rng(0)
    z, u = truth.normal(size=n), truth.random(n)
    who = [f"c{i // 5}" for i in range(n)]
    y = u < 1 / (1 + np.exp(-z))
    p = 1 / (1 + np.exp(-z - noise * np.random.default_rng(seed).normal(size=n)))
    return judged_rows(who, np.arange(n) + shift, None, y, p)


def test_classifiers_that_were_judged_on_the_same_rows_are_paired_by_customer(both):
    old, new = (
        replace(one, models={**one.models, "acceptance": replace(one.models["acceptance"], judged=rows)})
        for one, rows in zip(both, (judged(1, 1.0), judged(2, 0.2)), strict=True)
    )
    for one in (old, new):
        one.models["acceptance"].metrics["brier"] = 0.2
    found = compared((old, new))
    auc, brier = metric(found, "acceptance", "auc"), metric(found, "acceptance", "brier")
    assert auc.how == "on the same 4,000 rows, paired by customer"
    assert 0 < auc.difference.low < auc.difference.value < auc.difference.high
    unpaired = metric(compared(both), "acceptance", "auc").difference
    assert auc.difference.high - auc.difference.low < unpaired.high - unpaired.low
    assert brier.lower_is_better
    assert brier.difference.high < 0  # less noise, less error
    drawn = pictures_of(document_of(found, old, new, pictures(found, old, new)))
    assert "acceptance: auc" in drawn["differences"].alt


def test_a_difference_over_the_same_rows_is_exactly_that_of_the_metrics():
    old, new = judged(1, 1.0), judged(2, 0.2)
    n, found = paired(new, old)
    assert n == 4_000
    assert found["auc"].estimate == pytest.approx(roc_auc_score(new.y, new.p) - roc_auc_score(old.y, old.p))
    assert found["brier"].estimate == pytest.approx(((new.p - new.y) ** 2).mean() - ((old.p - old.y) ** 2).mean())


def test_rows_that_only_one_was_judged_on_do_not_count_and_too_few_or_other_outcomes_are_no_pairs():
    old = judged(1, 1.0)
    assert paired(judged(2, 0.2, shift=10_000), old) == (0, {})
    assert paired(replace(judged(2, 0.2), y=~old.y), old) == (0, {})
    few = judged_rows(["c1"] * 3, np.arange(3), None, np.array([True, False, True]), np.full(3, 0.5))
    assert paired(few, few) == (3, {})


def test_rows_are_kept_as_bytes_that_repeat_and_what_is_cut_is_named():
    kept = judged(1, 1.0, n=500)
    body = judged_rows_bytes(kept)
    assert judged_rows_bytes(judged_rows_from(body, "acceptance 3")) == body
    with pytest.raises(BrokenRelease, match=r"acceptance 3: judged\.npz"):
        judged_rows_from(body[:50], "acceptance 3")


def test_of_other_days_the_gains_over_the_baselines_are_compared(both):
    later = standing("2", recommender=recommender(0.5, gain=0.05, window=JULY))
    found = compare(both[0], later, (ALIKE, ALIKE))
    assert metric(found, "recommender", "ndcg_at_10").difference.value == pytest.approx(0.0)
    assert "other days" in metric(found, "recommender", "ndcg_at_10").how


def test_slices_parameters_and_serving_are_those_of_both(both):
    found = compared(both)
    assert [(s.value, s.first, s.second, s.n_first, s.n_second) for s in found.slices] == [
        ("web", 0.8, 0.85, 900, 1000)
    ]
    assert [(p.name, p.first, p.second) for p in found.parameters] == [("learning_rate", None, "0.1")]
    assert [one.memory_mb for one in found.serving] == [300.0, 500.0]


def test_a_model_that_one_of_them_lacks_is_shown_with_why():
    old = standing("1")
    new = without(standing("2"), "acceptance", "one class")
    document = document_of(found := compare(old, new, (ALIKE, ALIKE)), old, new, [])
    assert metric(found, "acceptance", "ece").second == Figure(None)
    assert "| acceptance  | version 1, beats |        one class |" in render(document, "md").decode()


def without(one, model, why):
    models = {name: run for name, run in one.models.items() if name != model}
    return replace(one, models=models, not_trainable={model: why})


def test_the_document_has_every_figure_and_its_pictures(both):
    found = compared(both)
    document = document_of(found, *both, pictures(found, *both))
    files = as_files(document, "comparison")
    assert set(pictures_of(document)) == {"differences", "ranking", "reliability-acceptance", "slices-acceptance"}
    assert {"comparison.html", "comparison.md", "comparison.json", "pictures/ranking.svg"} <= set(files)
    page = files["comparison.md"].decode()
    assert "| recommender: ndcg_at_10 | 0.3000 (0.2900 … 0.3100) | 0.3200 (0.3100 … 0.3300) |" in page
    assert "release 1: NDCG@10 0.3000; release 2: NDCG@10 0.3200" in page
    data = msgspec.json.decode(files["comparison.json"])
    assert data["serving"][1]["p99_ms"] == 1.0
    assert data["metrics"][0]["name"] == "ndcg_at_10"


def test_one_release_beside_itself_is_said_to_be_one(both):
    found = compared((both[0], both[0]))
    assert document_of(found, both[0], both[0], []).lede == (
        "Both are one release, 1: there is nothing to compare, and what differs in time or memory is chance."
    )
    assert "minus" in str(document_of(compared(both), *both, []).lede)


@pytest.mark.parametrize(("given", "there"), [({}, False), ({"format": "html"}, True), ({"out": "made.md"}, True)])
def test_pictures_are_told_of_only_where_they_can_be_looked_at(both, monkeypatch, tmp_path, capsys, given, there):
    found = compared(both)
    document = document_of(found, *both, pictures(found, *both))
    monkeypatch.setattr(models_compare, "load_settings", lambda: None)
    monkeypatch.setattr(models_compare, "made", lambda *_: document)
    where = {"out": tmp_path / given["out"]} if "out" in given else {}
    models_compare.compare("1", "2", **{**given, **where})
    said = where["out"].read_text() if where else capsys.readouterr().out
    assert "NDCG@10 0.3200" in said or not there
    assert ("Picture" in said or "<svg" in said) == there
    assert "0.3200 (0.3100" in said


def test_releases_without_tables_have_no_pictures():
    bare = [standing(n, recommender=ModelRun("1", {}, {}, {}), acceptance=ModelRun("1", {}, {}, {})) for n in "12"]
    found = compare(*bare, (ALIKE, ALIKE))
    assert pictures(found, *bare) == []
    assert "Pictures" not in render(document_of(found, *bare, []), "md").decode()
