"""Proof of uplift on a real experiment: Hillstrom's e-mails, women's and men's, on visits.

64,000 customers of 2008, a third each got an e-mail about women's clothes, about men's, or none. Every customer is
judged by a model that never saw it, with the learner chosen within the fold; intervals are by bootstrap over customers,
figures are means over seeds. The figure to compare with is a logistic T-learner that was fitted on one half of the
customers and judged on the other (seed 42): 7.3 points in the first 30 %, -0.5 in the last.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from bench.proof import Proof, shared_data
from training.encoder import Column, Encoder
from training.evaluate import Interval
from training.uplift import BASES, UPLIFT, Trial
from training.uplift.curves import alike
from training.uplift.judge import MODEL, RISK, Judged, judge
from training.uplift.learn import UpliftFit, learn_uplift
from training.uplift.report import Words, points, sentence

CONTROL, WOMEN, MEN = "No E-Mail", "Womens E-Mail", "Mens E-Mail"
NUMBERS = ("recency", "history", "mens", "womens", "newbie")
CATEGORIES = ("zip_code", "channel")
TARGET_TOP, TARGET_BOTTOM = 0.073, 0.0
SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)


def uplift(proof: Proof) -> None:
    """Who is moved by each e-mail, with the targets for the women's, and what is known of the men's."""
    print("\n## Uplift: Hillstrom's e-mails, visits within two weeks\n")
    file = shared_data() / "hillstrom" / "hillstrom.csv.gz"
    if not proof.line(file.is_file(), "the data are there"):
        return
    encoder, trials = read(file)
    seeds, n_draws = (QUICK_SEEDS, 200) if proof.quick else (SEEDS, 500)
    found: dict[str, UpliftFit] = {}
    for arm, trial in trials.items():
        started = time.perf_counter()
        found[arm] = learn_uplift(encoder, trial, seeds=seeds, n_draws=n_draws)
        proof.progress(f"{arm}: {time.perf_counter() - started:.0f} s")
    reference = {arm: _one_split(encoder, trial, n_draws) for arm, trial in trials.items()}
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
        f"women's, first 30 %: {points(top)} points, the known figure is {points(known.top[MODEL])}",
    )
    proof.line(
        bottom.estimate <= known.bottom[MODEL].high,
        f"women's, last 30 %: {points(bottom)} points, the known figure is {points(known.bottom[MODEL])}",
    )
    for name, value, target, reached in (
        ("first", top, TARGET_TOP, top.estimate >= TARGET_TOP),
        ("last", bottom, TARGET_BOTTOM, bottom.estimate <= TARGET_BOTTOM),
    ):
        said = "reached" if reached else "not reached"
        print(f"target {said}: {name} 30 % {points(value)} points, the target is {100 * target:+.1f}")
    men = found[MEN].judged
    proof.line(men.average.low > 0.0, f"the men's e-mail moves people: {points(men.average)} points over all")


def read(file: Path) -> tuple[Encoder, dict[str, Trial]]:
    """The columns, and per e-mail its customers with those who got none; each chosen by chance, so with one half."""
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
    return encoder, trials


def _one_split(encoder: Encoder, trial: Trial, n_draws: int) -> Judged:
    """The known figure: fitted on one half, judged on the other."""
    half = np.random.default_rng(42).random(len(trial)) < 0.5
    effect = UPLIFT["t"](encoder, trial.part(half), BASES["logistic"], 0)
    rest = trial.part(~half)
    assert rest.propensity is not None
    predicted = effect(rest.rows)
    outcomes = alike(rest.y, rest.treated, rest.propensity)
    scores = {MODEL: [predicted], RISK: [np.zeros(len(rest))]}
    return judge(outcomes, scores, predicted, np.arange(len(rest)), np.random.default_rng(0), n_draws)


def _table(proof: Proof, found: dict[str, UpliftFit], reference: dict[str, Judged]) -> None:
    rows = []
    for arm, fit in found.items():
        judged = fit.judged
        for name, said in ((MODEL, "predicted uplift"), (RISK, "risk: least likely to visit first")):
            rows.append((arm, said, _plain(judged.qini[name]), points(judged.top[name]), points(judged.bottom[name])))
        average = points(judged.average)
        rows.append((arm, "random", "0", average, average))
        known = reference[arm]
        rows.append(
            (
                arm,
                "logistic T-learner, one half judged",
                _plain(known.qini[MODEL]),
                points(known.top[MODEL]),
                points(known.bottom[MODEL]),
            )
        )
    proof.table(("e-mail", "ranking", "Qini", "first 30 %, points", "last 30 %, points"), rows)


def _plain(of: Interval) -> str:
    return f"{of.estimate:.3f} [{of.low:.3f}, {of.high:.3f}]"
