"""Proof of uplift on a real experiment: Hillstrom's e-mails, women's and men's, on visits.

64,000 customers of 2008, a third each got an e-mail about women's clothes, about men's, or none. Every customer is
judged by a model that never saw it, with the learner chosen within the fold; intervals are by bootstrap over customers,
figures are means over seeds. The method to compare with is scikit-learn's logistic regression as T-learner, out of the
same folds. The target is what it once had on one half of the customers; the proof says what it has on twenty halves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.proof import Proof, shared_data
from training.encoder import Column, Encoder
from training.evaluate import Interval
from training.uplift import Trial
from training.uplift.curves import Outcomes, alike, band_effect, order_by, sums
from training.uplift.judge import MODEL, RISK, SHARE, Judged, judge
from training.uplift.learn import N_FOLDS, UpliftFit, learn_uplift
from training.uplift.report import Words, points, sentence
from training.uplift.trial import folds

CONTROL, WOMEN, MEN = "No E-Mail", "Womens E-Mail", "Mens E-Mail"
NUMBERS = ("recency", "history", "mens", "womens", "newbie")
CATEGORIES = ("zip_code", "channel")
TARGET_TOP, TARGET_BOTTOM = 0.073, 0.0
SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)
SEED, N_SPLITS = 7, 20


def uplift(proof: Proof) -> None:
    """Who is moved by each e-mail, with the targets for the women's, and what is known of the men's."""
    print("\n## Uplift: Hillstrom's e-mails, visits within two weeks\n")
    file = shared_data() / "hillstrom" / "hillstrom.csv.gz"
    if not proof.line(file.is_file(), "the data are there"):
        return
    data, encoder, trials = read(file)
    seeds, n_draws = (QUICK_SEEDS, 200) if proof.quick else (SEEDS, 500)
    found: dict[str, UpliftFit] = {}
    for arm, trial in trials.items():
        started = time.perf_counter()
        found[arm] = learn_uplift(encoder, trial, seeds=seeds, n_draws=n_draws)
        proof.progress(f"{arm}: {time.perf_counter() - started:.0f} s")
    reference = {arm: known_method(data, trial, arm, seeds, n_draws) for arm, trial in trials.items()}
    _table(proof, found, reference)
    for arm, fit in found.items():
        print(f"{arm}: {sentence(fit.judged, Words('visited', 'the e-mail', 'none'))}\n")
        print(fit.tried.to_string(index=False), "\n")
    women, known = found[WOMEN].judged, reference[WOMEN]
    proof.line(women.verdict == "orders", f"the women's e-mail can be targeted: Qini {_plain(women.qini[MODEL])}")
    proof.line(women.qini_gain.low > 0.0, f"by uplift better than by risk: Qini {_plain(women.qini_gain)} more")
    top, bottom = women.top[MODEL], women.bottom[MODEL]
    proof.line(
        top.estimate >= known.top[MODEL].low,
        f"women's, first 30 %: {points(top)} points, the known method has {points(known.top[MODEL])}",
    )
    proof.line(
        bottom.estimate <= known.bottom[MODEL].high,
        f"women's, last 30 %: {points(bottom)} points, the known method has {points(known.bottom[MODEL])}",
    )
    for name, value, target, reached in (
        ("first", top, TARGET_TOP, round(top.estimate, 3) >= TARGET_TOP),
        ("last", bottom, TARGET_BOTTOM, round(bottom.estimate, 3) <= TARGET_BOTTOM),
    ):
        said = "reached" if reached else "not reached"
        print(f"target {said}: {name} 30 % {points(value)} points, the target is {100 * target:+.1f}")
    splits = np.array([one_split(data, trials[WOMEN], WOMEN, seed) for seed in range(N_SPLITS)])
    for name, of in zip(("first", "last"), splits.T, strict=True):
        print(
            f"the known method's {name} 30 % by {N_SPLITS} halves: {of.mean():+.1f}, {of.min():+.1f} to {of.max():+.1f}"
        )
    men = found[MEN].judged
    proof.line(men.average.low > 0.0, f"the men's e-mail moves people: {points(men.average)} points over all")
    false_claims(proof)


def false_claims(proof: Proof) -> None:
    """How often something is claimed of a contact that does nothing, in an order that means nothing."""
    n_trials, n = 50 if proof.quick else 200, 1_000
    rng = np.random.default_rng(SEED)
    said = []
    for _ in range(n_trials):
        y, treated, score = rng.random(n) < 0.5, rng.random(n) < 0.5, rng.random(n)
        of = alike(y, treated, np.full(n, 0.5))
        judged = judge(of, {MODEL: [score], RISK: [-score]}, score, np.arange(n), rng, n_draws=200)
        said.append(judged.verdict)
    orders, effects = said.count("orders") / n_trials, said.count("alike") / n_trials
    most = 3.0 * (0.05 * 0.95 / n_trials) ** 0.5
    proof.line(orders <= 0.025 + most, f"an order that means nothing is claimed in {orders:.1%} of {n_trials} trials")
    proof.line(effects <= 0.05 + most, f"an effect that does not exist is claimed in {effects:.1%} of them")


def read(file: Path) -> tuple[pd.DataFrame, Encoder, dict[str, Trial]]:
    """The table, the columns, and per e-mail its customers with those who got none, chosen by an even chance."""
    data = pd.read_csv(file)
    values = {name: tuple(sorted(data[name].unique())) for name in CATEGORIES}
    encoder = Encoder(
        (
            *(Column("customer", name) for name in NUMBERS),
            *(Column("customer", name, of) for name, of in values.items()),
        )
    )
    features = data[[*NUMBERS, *CATEGORIES]].rename(columns=str)
    rows = encoder.rows(len(data), {name: features[name].to_numpy() for name in features}, (), {}, {}, None)
    trials = {}
    for arm in (WOMEN, MEN):
        mine = data["segment"].isin([arm, CONTROL]).to_numpy()
        n = int(mine.sum())
        trials[arm] = Trial(
            rows=rows[mine],
            y=data["visit"].to_numpy()[mine] == 1,
            treated=(data["segment"] == arm).to_numpy()[mine],
            clusters=np.arange(n),
            propensity=np.full(n, 0.5),
        )
    return data, encoder, trials


def known_method(data: pd.DataFrame, trial: Trial, arm: str, seeds: Sequence[int], n_draws: int) -> Judged:
    """scikit-learn's logistic regression as T-learner, out of the same folds as ours."""
    design = pd.get_dummies(_features(data[_of_arm(data, arm)]), dtype=float).to_numpy()
    scores = []
    for seed in seeds:
        fold, score = folds(trial.clusters, N_FOLDS, seed), np.empty(len(trial))
        for one in range(N_FOLDS):
            predicted = _t_learner(design, trial, fold != one, fold == one)
            score[fold == one] = predicted.argsort().argsort() / len(predicted)
        scores.append(score)
    return _judged(trial, scores, n_draws)


def one_split(data: pd.DataFrame, trial: Trial, arm: str, seed: int) -> tuple[float, float]:
    """Points in the first and in the last 30 % of one half, of the known method fitted on the other: what luck does."""
    design = pd.get_dummies(_features(data[_of_arm(data, arm)]), dtype=float).to_numpy()
    half = np.random.default_rng(seed).random(len(trial)) < 0.5
    score = _t_learner(design, trial, half, ~half)
    rest = trial.part(~half)
    s = sums(order_by(score), Outcomes(rest.y, rest.treated, np.ones(len(rest))))
    return 100 * band_effect(s, 0.0, SHARE), 100 * band_effect(s, 1.0 - SHARE, 1.0)


def _t_learner(
    design: NDArray[np.float64], trial: Trial, learned: NDArray[np.bool_], asked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = np.zeros(int(asked.sum()))
    for treated, sign in ((True, 1.0), (False, -1.0)):
        rows = learned & (trial.treated == treated)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)).fit(design[rows], trial.y[rows])
        found += sign * model.predict_proba(design[asked])[:, 1]
    return found


def _of_arm(data: pd.DataFrame, arm: str) -> NDArray[np.bool_]:
    return np.asarray(data["segment"].isin([arm, CONTROL]))


def _features(data: pd.DataFrame) -> pd.DataFrame:
    return data[[*NUMBERS, *CATEGORIES]]


def _judged(trial: Trial, scores: Sequence[NDArray[np.float64]], n_draws: int) -> Judged:
    assert trial.propensity is not None
    of, nothing = alike(trial.y, trial.treated, trial.propensity), np.zeros(len(trial))
    given = {MODEL: scores, RISK: [nothing]}
    return judge(of, given, scores[0], trial.clusters, np.random.default_rng(0), n_draws)


def _table(proof: Proof, found: dict[str, UpliftFit], reference: dict[str, Judged]) -> None:
    rows = []
    for arm, fit in found.items():
        judged = fit.judged
        rows.append((arm, "predicted uplift", *_figures(judged, MODEL)))
        rows.append((arm, "risk: least likely to visit first", *_figures(judged, RISK)))
        average = points(judged.average)
        rows.append((arm, "random", "0", average, average))
        rows.append((arm, "known: logistic T-learner", *_figures(reference[arm], MODEL)))
    proof.table(("e-mail", "ranking", "Qini", "first 30 %, points", "last 30 %, points"), rows)


def _figures(judged: Judged, name: str) -> tuple[str, str, str]:
    return _plain(judged.qini[name]), points(judged.top[name]), points(judged.bottom[name])


def _plain(of: Interval) -> str:
    return f"{of.estimate:.3f} [{of.low:.3f}, {of.high:.3f}]"
