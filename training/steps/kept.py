"""What the run of a classifier keeps: parameters, figures, tables, pictures and the artefact that serves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from training.evaluation.judged_rows import judged_rows_bytes
from training.evaluation.kept import JUDGED
from training.frame_scores import decoded, scored_by
from training.models.classifier_fit import ClassifierFit
from training.plots import classifier_figures
from training.scorers import AcceptanceScorer, ChurnScorer, Scorer, json_bytes, scorer_files
from training.steps.inputs import Inputs
from training.tracking import Logged


def logged(name: str, fit: ClassifierFit, inputs: Inputs) -> Logged:
    acceptance = name == "acceptance"
    scorer: Scorer = AcceptanceScorer("", fit.classifier, fit.spread) if acceptance else ChurnScorer("", fit.classifier)
    tried = [
        {"model": t.name, "validation_log_loss": t.validation_log_loss, "params": json_bytes(dict(t.params)).decode()}
        for t in fit.tried
    ]
    calibration = [{"calibration": kind, "log_loss": loss} for kind, loss in fit.calibration_losses.items()]
    example = _example(fit)
    return Logged(
        params={
            "chosen": fit.chosen.name,
            "baseline": fit.baseline.name,
            "calibration": fit.classifier.calibration.kind,
            "n_columns": len(fit.classifier.encoder.columns),
            **fit.chosen.params,
        },
        metrics=fit.metrics,
        tags={**inputs.tags, "verdict": fit.verdict, "chosen": fit.chosen.name, "baseline": fit.baseline.name},
        files={**under("scorer", scorer), **of_judged(fit)},
        tables={
            "candidates": pd.DataFrame(tried),
            "calibration": pd.DataFrame(calibration),
            "slices": fit.slices,
            "reliability": fit.reliability,
            "columns": pd.DataFrame(
                [
                    {"column": c.name, "kind": "number" if c.values is None else "category"}
                    for c in fit.classifier.encoder.columns
                ]
            ),
            **fit.tables,
            **({"notes": pd.DataFrame({"note": fit.notes})} if fit.notes else {}),
        },
        figures=classifier_figures(fit),
        curves={"early_stopping_log_loss": fit.chosen.curve},
        example=example,
        output=scored_by(scorer).of(example),
    )


def of_judged(fit: ClassifierFit) -> dict[str, bytes]:
    """The file of the test part's rows, where they were kept."""
    return {} if fit.judged is None else {JUDGED: judged_rows_bytes(fit.judged)}


def _example(fit: ClassifierFit) -> pd.DataFrame:
    """Rows of the test part, by column name."""
    encoder = fit.classifier.encoder
    return decoded(encoder, np.empty((0, len(encoder.columns))) if fit.example is None else fit.example)


def under(folder: str, scorer: Scorer) -> dict[str, bytes]:
    return {f"{folder}/{name}": body for name, body in scorer_files(scorer).items()}
