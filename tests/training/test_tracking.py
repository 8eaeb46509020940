"""What a training leaves in MLflow: one run with its models nested in it, of the same names, with card and data."""

from __future__ import annotations

import pandas as pd
import pytest

from features.definitions import feature_set
from features.home import Home
from tests.training.builders import acceptance_scorer, churn_scorer
from training.frame_scores import scored_by
from training.pipeline import ModelReport, summary
from training.registry import Pins, register_release
from training.steps.kept import under
from training.tracking import TRAINING, Data, Logged, TrainingRun, log_model, tracking

DATA = Data("events", "ab12" * 16, "/home/lake", 12_345, ("2026-01-01T00:00:00+00:00", "2026-03-04T12:00:00+00:00"))
EXAMPLE = pd.DataFrame({"customer.age": [30.0, float("nan")], "customer.gender": ["F", None]})
FIGURES = {"auc": 0.7, "auc_low": 0.6, "auc_high": 0.8}


def churn() -> Logged:
    return Logged(
        params={"chosen": "logistic", "c": 0.1}, metrics=FIGURES, tags={"verdict": "beats"},
        files=under("scorer", churn_scorer()), texts={"uplift/report.md": "# Uplift"},
        card="# Churn\n", description="Churn.", data=DATA,
        example=EXAMPLE, output=scored_by(churn_scorer()).of(EXAMPLE),
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A training with one model and a release of it, and one that failed after its model was registered."""
    home = Home(tmp_path_factory.mktemp("home"))
    with tracking(home) as client:
        with TrainingRun(client, "to 2026-03-04T12:00", {"data_digest": "d"}, {"which": "churn"}, DATA) as within:
            version = log_model(client, "churn", churn(), within)
            pins = Pins(
                versions={"recommender": None, "acceptance": None, "churn": version}, calibrated=False,
                feature_set_digest="", offer_map_sha256="", verdicts={}, metrics={}, not_trainable={}, data_digest="d",
                as_of="",
            )  # fmt: skip
            within.summarise({"churn.auc": 0.7}, {"churn": "logistic"})
            register_release(client, pins, feature_set((1, 7)), within.began)
        with pytest.raises(KeyError):
            fail(client)
    return home


def fail(client):
    with TrainingRun(client, "failed", {}, {}) as within:
        assert within.run_id
        raise KeyError("a step")


@pytest.fixture
def client(home):
    with tracking(home) as client:
        yield client


def runs(client):
    experiment = client.get_experiment_by_name(TRAINING).experiment_id
    return {run.info.run_name: run for run in client.search_runs([experiment])}


def test_models_are_nested_in_their_training_and_the_release_is_made_by_it(client):
    found = runs(client)
    assert set(found) == {"to 2026-03-04T12:00", "churn: logistic", "failed"}
    parent, child = found["to 2026-03-04T12:00"], found["churn: logistic"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert client.get_model_version("release", "1").run_id == parent.info.run_id
    assert client.get_model_version("churn", "1").run_id == child.info.run_id
    assert client.get_model_version("churn", "1").tags["training_run"] == parent.info.run_id
    assert {run.info.status for run in (parent, child)} == {"FINISHED"}
    assert parent.info.end_time >= child.info.end_time
    assert (parent.data.metrics, parent.data.params["which"]) == ({"churn.auc": 0.7}, "churn")


def test_a_training_that_fails_says_so_and_one_without_a_model_leaves_no_run(client):
    assert runs(client)["failed"].info.status == "FAILED"
    with TrainingRun(client, "nothing", {}, {}) as within:
        within.summarise({"churn.auc": 0.7}, {})
    assert "nothing" not in runs(client)


def test_a_model_without_a_training_has_a_run_among_those_of_its_name(client):
    log_model(
        client, "acceptance", Logged(params={}, metrics=FIGURES, tags={}, files=under("scorer", acceptance_scorer()))
    )
    (run,) = client.search_runs([client.get_experiment_by_name("acceptance").experiment_id])
    assert run.data.metrics == FIGURES
    assert "mlflow.parentRunId" not in run.data.tags


def test_the_card_is_a_file_of_the_run_and_its_short_form_describes_run_and_version(client):
    from mlflow.artifacts import load_text

    run = runs(client)["churn: logistic"]
    assert load_text(f"{run.info.artifact_uri}/card.md") == "# Churn\n"
    assert run.data.tags["mlflow.note.content"] == client.get_model_version("churn", "1").description == "Churn."
    assert load_text(f"{run.info.artifact_uri}/uplift/report.md") == "# Uplift"


def test_the_data_is_listed_with_its_digest_rows_and_period(client):
    import json

    of_training, listed = (
        runs(client)[name].inputs.dataset_inputs[0] for name in ("to 2026-03-04T12:00", "churn: logistic")
    )
    assert of_training.dataset.digest == listed.dataset.digest
    assert DATA.digest.startswith(listed.dataset.digest)
    assert [(tag.key, tag.value) for tag in listed.tags] == [("mlflow.data.context", "training")]
    assert json.loads(listed.dataset.profile) == {
        "num_rows": 12_345, "first": DATA.period[0], "last": DATA.period[1], "digest": DATA.digest,
    }  # fmt: skip


def test_the_signature_names_every_column_and_the_example_is_what_was_given(client):
    import mlflow

    model = mlflow.pyfunc.load_model("models:/churn/1")
    assert {one.name: (one.type.name, one.required) for one in model.metadata.signature.inputs.inputs} == {
        "customer.age": ("double", True), "customer.gender": ("string", True),
    }  # fmt: skip
    assert model.metadata.signature.outputs.input_names() == ["p_churn"]
    example = model.input_example
    assert example["customer.age"].iloc[0] == 30.0
    assert example["customer.gender"].iloc[0] == "F"
    assert len(model.predict(example)) == 2


def test_a_training_shows_each_model_s_figures_under_its_name_and_why_one_is_missing():
    metrics, tags = summary(
        [
            ModelReport("churn", "3", "logistic", "beats", {**FIGURES, "n_train": 5.0}),
            ModelReport("acceptance", None, not_trainable="too few"),
        ]
    )
    assert metrics == {f"churn.{name}": value for name, value in FIGURES.items()}
    assert tags == {"churn": "logistic", "acceptance": "not trained: too few"}
