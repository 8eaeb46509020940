"""Proof of churn and customer value: Telco in folds, purchases of a real shop predicted and then counted.

Telco's 7,043 customers go through the product's own encoder, candidates, choice and calibration, 3 times 5 folds, each
judged on customers that no part of it saw. Online Retail's purchases before a day predict those after it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.proof import Proof, shared_data
from features.events import US_PER_DAY
from training.columns import frame_encoder
from training.evaluate import METRICS, Interval
from training.models.churn import baselines_of, candidates_of
from training.models.classifier_fit import Sample, judge_and_choose
from training.models.classifiers import Part
from training.value import judge_value

FOLDS, REPEATS = 5, 3
TARGETS = {"auc": 0.848, "brier": 0.1338, "ece": 0.01}
SEED = 0
Numbers = NDArray[np.float64]


def churn(proof: Proof) -> None:
    """Both sections."""
    telco(proof)
    value(proof)


# Telco


@dataclass(frozen=True)
class Folded:
    """Probabilities of every customer from a model that did not see it, one row per repeat: (n_repeats, n)."""

    p: Numbers
    chosen: tuple[str, ...]

    def intervals(self, y: NDArray[np.bool_], n_draws: int, seed: int) -> dict[str, Interval]:
        """Means over repeats, with 95 % intervals over customers; AUC, Brier score and ECE of all folds together."""
        rng = np.random.default_rng(seed)
        draws = [np.bincount(rng.integers(0, len(y), len(y)), minlength=len(y)).astype(float) for _ in range(n_draws)]
        found = {}
        for name in TARGETS:
            at = [self._mean(name, y, w) for w in draws]
            low, high = np.quantile(at, [0.025, 0.975])
            found[name] = Interval(self._mean(name, y, np.ones(len(y))), float(low), float(high))
        return found

    def _mean(self, name: str, y: NDArray[np.bool_], w: Numbers) -> float:
        return float(np.mean([METRICS[name](y, p, w) for p in self.p]))


def telco(proof: Proof) -> None:
    """Against boosted trees of scikit-learn, the best known single method, in the same folds."""
    print("\n## Telco: churn in folds\n")
    file = shared_data() / "telco_churn_ibm" / "Telco-Customer-Churn.csv.gz"
    if not proof.line(file.is_file(), "the data are there"):
        return
    table = pd.read_csv(file)
    y = (table["Churn"] == "Yes").to_numpy()
    table = table.drop(columns=["customerID", "Churn"])
    table["TotalCharges"] = pd.to_numeric(table["TotalCharges"], errors="coerce")  # blank in the first month
    repeats = 1 if proof.quick else REPEATS
    ours, known = folded(table, y, repeats, product), folded(table, y, repeats, known_trees)
    n_draws = 100 if proof.quick else 300
    of_ours, of_known = ours.intervals(y, n_draws, SEED), known.intervals(y, n_draws, SEED)
    rows = []
    for name, target in TARGETS.items():
        rows.append((name, _said(of_known[name]), _said(of_ours[name]), f"{'≥' if name == 'auc' else '≤'} {target}"))
    proof.table(("", "scikit-learn's trees, tuned", "this project", "target"), rows)
    print("the draws of an interval add noise, which an ECE counts: its interval lies above its estimate")
    print("chosen in the folds: " + ", ".join(f"{n} × {ours.chosen.count(n)}" for n in sorted(set(ours.chosen))))
    proof.line(of_ours["auc"].estimate >= of_known["auc"].low, "AUC is not below the known method's interval")
    proof.line(of_ours["brier"].estimate <= of_known["brier"].high, "nor is the Brier score above its")
    for name, target in TARGETS.items():
        reached = of_ours[name].estimate >= target if name == "auc" else of_ours[name].estimate <= target
        print(f"target  {name} {of_ours[name].estimate:.4f}: {'reached' if reached else 'NOT reached'} ({target})")


def folded(table: pd.DataFrame, y: NDArray[np.bool_], repeats: int, model: Any) -> Folded:
    from sklearn.model_selection import StratifiedKFold

    p, chosen = np.empty((repeats, len(y))), []
    for repeat in range(repeats):
        for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(table, y):
            p[repeat, test], name = model(table, y, train, test, repeat)
            chosen.append(name)
    return Folded(p, tuple(chosen))


def product(
    table: pd.DataFrame, y: NDArray[np.bool_], train: NDArray[np.intp], test: NDArray[np.intp], seed: int
) -> tuple[Numbers, str]:
    """What training does with customers at risk: a quarter of the fold chooses and calibrates."""
    aside = np.zeros(len(y), np.bool_)
    aside[np.random.default_rng(seed).permutation(train)[: len(train) // 4]] = True
    inside = np.zeros(len(y), np.bool_)
    inside[train] = True
    encoder = frame_encoder(table.iloc[np.flatnonzero(inside & ~aside)])
    rows = encoder.rows(len(table), table, (), {}, {}, None)
    judged = np.zeros(len(y), np.bool_)
    judged[test] = True
    parts = {
        name: Sample(Part(rows[m], y[m]), np.arange(int(m.sum())), np.zeros(int(m.sum()), np.int64))
        for name, m in (("train", inside & ~aside), ("validation", aside), ("test", judged))
    }
    of_train, of_validation = parts["train"].part, parts["validation"].part
    candidates = candidates_of(encoder, of_train, of_validation, seed)
    fit = judge_and_choose(encoder, baselines_of(encoder, of_train), candidates, parts, dict, seed)
    back = np.empty(len(y))
    back[judged] = fit.p
    return back[test], fit.chosen.name


def known_trees(
    table: pd.DataFrame, y: NDArray[np.bool_], train: NDArray[np.intp], test: NDArray[np.intp], seed: int
) -> tuple[Numbers, str]:
    """Boosted trees with small leaves and steps, stopped early; the settings that do best of the usual ones."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame = table.apply(lambda c: c.astype("category") if c.dtype == object else c)
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=600, max_leaf_nodes=4, l2_regularization=1.0, early_stopping=True,
        categorical_features="from_dtype", random_state=seed,
    )  # fmt: skip
    found = model.fit(frame.iloc[train], y[train]).predict_proba(frame.iloc[test])[:, 1]
    return found, "trees"


# Customer value


def value(proof: Proof) -> None:
    """BG/NBD on the purchases of the first 70 % of the days, against what came in the last 30 %."""
    print("\n## Online Retail: purchases predicted, then counted\n")
    file = shared_data() / "online_retail" / "online_retail.parquet"
    if not proof.line(file.is_file(), "the data are there"):
        return
    purchases = retail_purchases(str(file))
    customers, us, values = (purchases[name] for name in ("customer", "us", "value"))
    until_us = (int(us.max()) // US_PER_DAY + 1) * US_PER_DAY
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = judge_value(
            customers.tolist(), us.to_numpy(), values.to_numpy(), until_us, n_draws=20 if proof.quick else 100
        )
    rows = [
        (
            r.repeats,
            r.n_customers,
            f"{r.predicted:.2f}",
            f"{r.actual:.2f}",
            f"{r.actual_low:.2f} to {r.actual_high:.2f}",
        )
        for r in found.table.itertuples()
    ]
    proof.table(("repeats before", "customers", "predicted", "came", "95 % interval"), rows)
    print(f"{len(found.before):,} customers, {found.days:.0f} days held out")
    print(f"predicted / actual purchases: {_said(found.total)}; correlation {_said(found.correlation)}")
    print("parameters: " + ", ".join(f"{name} {_said(one)}" for name, one in found.parameters.items()))
    assert found.money is not None
    print(
        f"Gamma-Gamma: mean purchase {found.money.mean:.0f}; size and frequency correlate {found.money.correlation:.2f}"
    )
    spend = found.predicted * found.money.spend(found.before)
    print(f"predicted / actual revenue: {spend.sum() / found.actual_spend.sum():.3f}; "
          f"rank correlation of revenue {_ranks(spend, found.actual_spend):.3f}")  # fmt: skip
    before = found.before
    same_again = before.frequency / np.maximum(before.age, 1.0) * found.days
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(0, len(before), (500, len(before)))
    gains = {}
    for name, power in (("squared", 2), ("absolute", 1)):
        errors = np.abs(same_again - found.actual) ** power - np.abs(found.predicted - found.actual) ** power
        gains[name] = Interval(float(errors.mean()), *np.quantile(errors[drawn].mean(axis=1), [0.025, 0.975]).tolist())
        print(f"going on at the same rate errs more, {name}, by {_said(gains[name])} a customer")
    ranks = [_ranks(found.predicted[d], found.actual[d]) - _ranks(same_again[d], found.actual[d]) for d in drawn[:200]]
    better = _ranks(found.predicted, found.actual) - _ranks(same_again, found.actual)
    gain = Interval(better, *np.quantile(ranks, [0.025, 0.975]).tolist())
    print(f"and it orders customers worse: rank correlation lower by {_said(gain)}")
    proof.line(gains["squared"].high >= 0, "BG/NBD is not told to err more than going on at the same rate, squared")
    proof.line(gain.high >= 0, "nor to order customers worse")
    proof.line(found.correlation.low > 0.5, "and tells customers apart: correlation above .5")


def retail_purchases(file: str) -> pd.DataFrame:
    """The lines that the recipe takes for purchases: of a customer, of a product, not cancelled, not free."""
    import duckdb

    return duckdb.sql(
        f"SELECT CustomerID::VARCHAR AS customer, epoch_us(InvoiceDate) AS us, (Quantity * UnitPrice)::DOUBLE AS value "
        f"FROM read_parquet('{file}') WHERE CustomerID IS NOT NULL AND NOT starts_with(InvoiceNo, 'C') "
        f"AND regexp_full_match(StockCode, '[0-9]{{5}}[A-Za-z]*') AND Quantity > 0 AND UnitPrice > 0"
    ).df()


def _ranks(one: Numbers, other: Numbers) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def _said(one: Interval) -> str:
    return f"{one.estimate:.4f} ({one.low:.4f} to {one.high:.4f})"
