"""Uplift learned and judged on the same units, each judged by a model that never saw it.

Within each fold the learner and its base are chosen anew, so the figures are those of the whole procedure and not of
a lucky choice. What serves is then learned from all units in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.encoder import Encoder
from training.scorers.classifier import Raw, logistic
from training.scorers.uplift import Effect, UpliftScorer
from training.uplift import BASES, UPLIFT, Base
from training.uplift.curves import Numbers, alike
from training.uplift.dr_learner import unit_effects
from training.uplift.judge import MODEL, RISK, Judged, judge
from training.uplift.propensity import with_propensity
from training.uplift.trial import Trial, check_trial, folds

N_FOLDS, N_CHOOSING = 5, 2
CONSTANT = ("constant", "none")


@dataclass(frozen=True)
class Choice:
    """A learner with its base, and how its effects are to be read."""

    learner: str  # of UPLIFT, or constant
    base: str  # of BASES, or none
    slope: float
    intercept: float
    losses: dict[tuple[str, str], float]  # of all that were tried


@dataclass(frozen=True)
class UpliftFit:
    """What was learned, how it was chosen, and what it is worth."""

    scorer: UpliftScorer  # learned from all units; whether it may serve is the verdict's to say
    choice: Choice
    tried: pd.DataFrame  # learner, base, loss; over all folds
    judged: Judged
    known_propensity: bool
    moved_share: float | None  # of estimated propensities that were moved away from 0 and 1
    share_below_zero: float  # units whose predicted uplift is negative
    n_seeds: int


def learn_uplift(
    encoder: Encoder,
    trial: Trial,
    *,
    seeds: Sequence[int] = (0,),
    n_draws: int = 500,
    bases: Mapping[str, Base] = BASES,
    progress: Callable[[str], None] = lambda what: None,
) -> UpliftFit:
    """`NotTrainable` names an arm with too little in it, `BadInput` a field that cannot be used. Pure.

    Each seed deals the units into folds anew; figures are means over the seeds.
    """
    check_trial(trial)
    trial, moved = with_propensity(encoder, trial, seeds[0])
    predicted: list[Numbers] = []
    rankings: dict[str, list[Numbers]] = {MODEL: [], RISK: []}
    tried: list[dict[str, object]] = []
    for seed in seeds:
        progress(f"uplift: folds of seed {seed}")
        found = _out_of_fold(encoder, trial, seed, bases, tried)
        predicted.append(found[0])
        rankings[MODEL].append(found[1])
        rankings[RISK].append(found[2])
    progress("uplift: judging")
    mean = np.mean(predicted, axis=0)
    assert trial.propensity is not None
    outcomes = alike(trial.y, trial.treated, trial.propensity)
    judged = judge(outcomes, rankings, mean, trial.clusters, np.random.default_rng(seeds[0]), n_draws)
    progress("uplift: fitting on all")
    choice = choose(encoder, trial, seeds[0], bases)
    return UpliftFit(
        scorer=_scorer(encoder, fit_effect(encoder, trial, choice, seeds[0]), choice),
        choice=choice,
        tried=pd.DataFrame(tried).groupby(["learner", "base"], as_index=False).mean().sort_values("loss"),
        judged=judged,
        known_propensity=moved is None,
        moved_share=moved,
        share_below_zero=float((mean < 0.0).mean()),
        n_seeds=len(seeds),
    )


def choose(encoder: Encoder, trial: Trial, seed: int, bases: Mapping[str, Base] = BASES) -> Choice:
    """The learner whose effects come nearest to the doubly robust effects of units that it never saw.

    Each candidate is read as intercept + slope x effect, by least squares over those units: most learners find the
    order of effects better than their size. The same effect for all is a candidate, and stays where none is nearer.
    """
    fold = folds(trial.clusters, N_CHOOSING, seed + 1)
    target = unit_effects(encoder, trial, BASES["logistic"], seed + 1, n_folds=N_CHOOSING)
    mean = float(target.mean())
    best, losses = (*CONSTANT, 0.0, mean), {CONSTANT: float(((target - mean) ** 2).mean())}
    for learner, fit in UPLIFT.items():
        for base, of in bases.items():
            effect = np.empty(len(trial))
            for one in range(N_CHOOSING):
                effect[fold == one] = fit(encoder, trial.part(fold != one), of, seed)(trial.rows[fold == one])
            slope, intercept = _line(effect, target)
            losses[learner, base] = float(((target - intercept - slope * effect) ** 2).mean())
            if slope > 0.0 and losses[learner, base] < losses[best[0], best[1]]:
                best = (learner, base, slope, intercept)
    return Choice(*best, losses)


def fit_effect(encoder: Encoder, trial: Trial, choice: Choice, seed: int) -> Effect:
    if (choice.learner, choice.base) == CONSTANT:
        return Effect("constant")
    return UPLIFT[choice.learner](encoder, trial, BASES[choice.base], seed)


def _scorer(encoder: Encoder, effect: Effect, choice: Choice) -> UpliftScorer:
    return UpliftScorer("", encoder, effect, choice.slope, choice.intercept)


def _line(x: Numbers, y: Numbers) -> tuple[float, float]:
    """Slope, at most 1, and intercept of the least squares line; slope 0 where x does not vary."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = min(float(centred @ y) / spread, 1.0) if spread > 1e-12 * len(x) else 0.0
    return slope, float(y.mean() - slope * x.mean())


def _out_of_fold(
    encoder: Encoder, trial: Trial, seed: int, bases: Mapping[str, Base], tried: list[dict[str, object]]
) -> tuple[Numbers, Numbers, Numbers]:
    """Predicted uplift, its rank within the fold, and the rank by risk, each (n,).

    Ranks, as the levels of folds differ by chance, and in the direction that makes a good model look bad: where the
    effect of a fold is high, that of the others, which its models learned, is low.
    """
    fold = folds(trial.clusters, N_FOLDS, seed)
    predicted, rank, risk = np.empty((3, len(trial)))
    for one in range(N_FOLDS):
        mine, rest = fold == one, trial.part(fold != one)
        choice = choose(encoder, rest, seed, bases)
        tried += [{"learner": a, "base": b, "loss": loss} for (a, b), loss in choice.losses.items()]
        scorer = _scorer(encoder, fit_effect(encoder, rest, choice, seed), choice)
        predicted[mine] = scorer.many(trial.rows[mine])
        rank[mine] = _ranks(predicted[mine])
        risk[mine] = _ranks(-_chance_untreated(encoder, rest, seed, trial.rows[mine]))
    return predicted, rank, risk


def _chance_untreated(encoder: Encoder, trial: Trial, seed: int, rows: Numbers) -> Numbers:
    """The chance of the outcome of units that nobody contacts: what ranking by risk goes by."""
    control = trial.part(~trial.treated)
    model: Raw = BASES["logistic"].chance(encoder, control.rows, control.y, seed)
    return logistic(model.raw(rows))


def _ranks(values: Numbers) -> Numbers:
    """In (0, 1), equal values share their mean rank."""
    ranks: Numbers = pd.Series(values).rank(method="average").to_numpy(np.float64)
    return ranks / (len(values) + 1)
