"""One recipe on the validation windows: its epochs stopped early, one window after the other, its worth at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from training.evaluation.judged import Judged
from training.evaluation.ranking import RankingReport, evaluate, pooled
from training.evaluation.validation import CUTOFFS, Validation
from training.evaluation.windows import Window
from training.models.recipes import Recipe, fit_recipe, model_of
from training.scorers import FittedRecommender

METRIC, AT = "ndcg", 10  # what recommenders are chosen by
FIGURE = f"{METRIC}_at_{AT}"
EPOCHS = "max_epochs"  # the parameter of a model that can `grow`
PATIENCE = 4  # epochs without a figure that is better by MIN_GAIN
MIN_GAIN = 0.005  # share of the best figure so far
JUDGED_PER_EPOCH = 1_000  # customers, evenly spread

AfterWindow = Callable[[int, RankingReport], None]


@dataclass(frozen=True)
class Tried:
    """A recipe, the number of its epochs settled, and how it did."""

    recipe: Recipe
    report: RankingReport
    by_window: tuple[float, ...]  # NDCG@10, the latest window first
    curve: tuple[float, ...]  # NDCG@10 after each epoch on the latest window; empty where a model has no epochs

    @property
    def figure(self) -> float:
        """NaN if nobody was judged."""
        return self.report.mean(METRIC, AT)


def tried(validation: Validation, recipe: Recipe, after: AfterWindow = lambda window, report: None) -> Tried:
    """Fit and judge in every window, the latest first; `after` each it may raise, to leave a hopeless one."""
    reports: list[RankingReport] = []
    curve: tuple[float, ...] = ()
    for at, (window, judged) in enumerate(zip(validation.windows, validation.judged, strict=True)):
        if at == 0 and model_of(recipe.model).grow is not None:
            scorer, recipe, curve = _grown(window, judged, recipe)
        else:
            scorer = fit_recipe(judged.past, window.cut_us, recipe)
        reports.append(evaluate(scorer, judged, CUTOFFS, describe=False))
        after(at, pooled(reports))
    return Tried(recipe, pooled(reports), tuple(report.mean(METRIC, AT) for report in reports), curve)


def _grown(window: Window, judged: Judged, recipe: Recipe) -> tuple[FittedRecommender, Recipe, tuple[float, ...]]:
    """The epoch after which the figure stopped growing, and a recipe that ends there."""
    grow = model_of(recipe.model).grow
    assert grow is not None
    few = judged.at_most(JUDGED_PER_EPOCH)
    best: Any = None
    best_figure, best_epoch, curve = 0.0, 0, []
    for epoch, scorer in enumerate(grow(judged.past, window.cut_us, recipe.params, recipe.seed), 1):
        curve.append(evaluate(scorer, few, CUTOFFS, describe=False).mean(METRIC, AT))
        if best is None or curve[-1] > best_figure * (1.0 + MIN_GAIN):
            best, best_figure, best_epoch = scorer, curve[-1], epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    return best, msgspec.structs.replace(recipe, params={**recipe.params, EPOCHS: best_epoch}), tuple(curve)
