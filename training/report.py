"""What training found, as text: lines for a terminal and the tables of docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from features.home import Home
from training.pipeline import ModelReport
from training.registry import CHALLENGER, CHAMPION, alias_of, read_pins
from training.tracking import MODELS, RELEASE, tracking

PROBABILITY_ROWS = (
    ("auc", "AUC"), ("log_loss", "log loss"), ("brier", "Brier"), ("ece", "ECE"), ("top_lift", "lift at 10 %"),
)  # fmt: skip
RANKING_ROWS = (
    ("ndcg_at_10", "NDCG@10"), ("recall_at_10", "recall@10"), ("ndcg_at_50", "NDCG@50"), ("recall_at_50", "recall@50"),
    ("new_offers_ndcg_at_10", "NDCG@10, new offers only"), ("new_offers_recall_at_10", "recall@10, new offers only"),
)  # fmt: skip


def model_lines(model: ModelReport) -> list[str]:
    """A few words on one model."""
    if model.version is None:
        return [f"{model.name:<12} not trainable: {model.not_trainable}"]
    m = model.metrics
    if model.name == "recommender":
        figures = (
            f"NDCG@10 {m['ndcg_at_10']:.4f} (baseline {m['baseline_ndcg_at_10']:.4f}), "
            f"recall@10 {m['recall_at_10']:.4f}"
        )
    else:
        figures = (
            f"AUC {m['auc']:.4f}, log loss {m['log_loss']:.4f} (baseline {m['baseline_log_loss']:.4f}), "
            f"Brier {m['brier']:.4f}, ECE {m['ece']:.4f}"
        )
    return [
        f"{model.name:<12} version {model.version}: {model.chosen}, {model.verdict}; {figures}; {model.seconds:.0f} s",
        *(f"{'':<12} {note}" for note in model.notes),
    ]


def results_table(home: Home, release: str | None = None) -> str:
    """Markdown: each model of a release (the champion, else the challenger) on its test part, with its baseline."""
    with tracking(home) as client:
        number = release or alias_of(client, RELEASE, CHAMPION) or alias_of(client, RELEASE, CHALLENGER)
        if number is None:
            return "Nothing has been trained yet.\n"
        pins, _ = read_pins(client, number)
        runs = {
            name: client.get_run(client.get_model_version(name, pinned).run_id).data
            for name, pinned in pins.versions.items()
            if pinned is not None
        }
        candidates = _table(client, "recommender", pins.versions, "candidates")
        slices = _table(client, "acceptance", pins.versions, "slices") if "acceptance" in runs else []
        notes = {name: _notes(client, name, pins.versions) for name in runs}
    parts = []
    for name in MODELS:
        if name not in runs:
            reason = pins.not_trainable.get(name, "it was not trained")
            parts.append(f"**{name}**: not trainable. {reason[:1].upper()}{reason[1:]}.\n")
            continue
        data = runs[name]
        parts.append(_heading(name, data.params, data.tags, data.metrics))
        if name == "recommender":
            parts.append(_ranking(candidates, data.tags["chosen"]))
        else:
            parts.append(_probabilities(data.metrics))
        if name == "acceptance":
            parts.append(_by_category(slices))
        parts.append("".join(f"- {note}\n" for note in notes[name]))
    said = "calibrated" if pins.calibrated else "uncalibrated: `p_accept` is a stated prior times affinity"
    return "\n".join([*parts, f"Release {number}: {said}.\n"])


def _table(client: Any, name: str, versions: Mapping[str, str | None], table: str) -> list[dict[str, Any]]:
    """A table that the run of a pinned model logged."""
    from mlflow.artifacts import load_text

    run = client.get_run(client.get_model_version(name, versions[name]).run_id)
    return list(msgspec.json.decode(load_text(f"{run.info.artifact_uri}/tables/{table}.json")))


def _heading(name: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    rows = "n_judged" if name == "recommender" else "n_test"
    unit = "customers" if name == "recommender" else "rows"
    calibration = f", calibration: {params['calibration']}" if "calibration" in params else ""
    return (
        f"**{name}**: {tags['chosen']} (chosen on the validation part{calibration}), judged on {metrics[rows]:,.0f} "
        f"{unit} of a later time; baseline: {tags['baseline']}; verdict: {tags['verdict']}.\n"
    )


def _ranking(candidates: Sequence[Mapping[str, Any]], chosen: str) -> str:
    tested = [c for c in candidates if c["part"] == "test"]
    lines = [
        "| | " + " | ".join(f"**{c['model']}**" if c["model"] == chosen else c["model"] for c in tested) + " |",
        "|---|" + "---:|" * len(tested),
    ]
    for key, title in RANKING_ROWS:
        lines.append(f"| {title} | " + " | ".join(f"{c[key]:.4f}" for c in tested) + " |")
    return "\n".join(lines) + "\n"


def _probabilities(m: Mapping[str, float]) -> str:
    lines = ["| | model | 95 % interval | baseline |", "|---|---:|---|---:|"]
    for key, title in PROBABILITY_ROWS:
        if key in m:
            interval = f"{m[f'{key}_low']:.4f} … {m[f'{key}_high']:.4f}" if f"{key}_low" in m else ""
            lines.append(f"| {title} | {m[key]:.4f} | {interval} | {m.get(f'baseline_{key}', float('nan')):.4f} |")
    return "\n".join(lines) + "\n"


def _notes(client: Any, name: str, versions: Mapping[str, str | None]) -> list[str]:
    """What a reader of the model's figures must know, as its run says; earlier runs say nothing."""
    run_id = client.get_model_version(name, versions[name]).run_id
    if "tables/notes.json" not in {file.path for file in client.list_artifacts(run_id, "tables")}:
        return []
    return [str(row["note"]) for row in _table(client, name, versions, "notes")]


def _by_category(slices: Sequence[Mapping[str, Any]]) -> str:
    """The model within each category: offers that nobody can accept are easy to tell apart, and flatter the whole."""
    rows = sorted((s for s in slices if s["slice"] == "category"), key=lambda s: str(s["value"]))
    if not rows:
        return ""
    lines = ["| category | rows | accepted | mean p | AUC | Brier | ECE |", "|---|---:|---:|---:|---:|---:|---:|"]
    for s in rows:
        auc = f"{s['auc']:.4f}" if s.get("auc") is not None else "one class"
        lines.append(
            f"| {s['value']} | {s['n_rows']:,} | {s['rate']:.4f} | {s['mean_p']:.4f} | {auc} | {s['brier']:.4f} | "
            f"{s['ece']:.4f} |"
        )
    return "\n".join(lines) + "\n"
