"""Off-policy evaluation on Open Bandit: the published figures again, and a campaign that must be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.proof import Proof, shared_data
from experiments.offpolicy.diagnostics import overlap
from experiments.offpolicy.estimators import ESTIMATORS, Parts, at_cut, shrunk, switched
from experiments.offpolicy.logged import Logged, Numbers
from experiments.offpolicy.reward_models import Fit, Predict, Shown, cross_fitted

PUBLISHED_SEED = 12345
N_PRIOR_DRAWS = 100_000
N_POSITIONS = 3
CUT = 10.0  # of Switch-DR and DRos, the smallest of the published grid
# Saito et al., Open Bandit Dataset and Pipeline (NeurIPS 2021), and the examples of its software, small data set:
PUBLISHED_VALUES = {"IPS": 0.004553, "DM": 0.003545, "DR": 0.004727}
PUBLISHED_ERRORS = {  # mean and deviation of relative errors over 30 bootstrap samples, logistic regression
    "DM": (0.156876, 0.109898),
    "IPS": (0.311082, 0.311170),
    "SNIPS": (0.311795, 0.334736),
    "DR": (0.292464, 0.315485),
    "Switch-DR": (0.258410, 0.160598),
    "DRos": (0.159520, 0.109660),
}


def open_bandit(proof: Proof) -> None:
    """The log of a random policy says what Thompson sampling earned, which was measured too."""
    folder = shared_data() / "open_bandit_sample"
    log, truth = random_to_thompson(folder)
    guessed = cross_fitted(log, _published_model(folder), seed=PUBLISHED_SEED)
    parts = Parts.of(log, guessed)
    found = {name: estimator(parts) for name, estimator in ESTIMATORS.items()}
    seen = overlap(log)
    proof.table(
        ("Random → Bernoulli TS, all items", "value", "published"),
        [("as measured", f"{truth:.6f}", "0.0042")]
        + [(name, f"{one.terms.value:.6f}", PUBLISHED_VALUES.get(name, "")) for name, one in found.items()],
    )
    proof.line(abs(found["IPS"].terms.value - 0.004553) < 5e-7, "IPS is the published figure, to its last digit")
    for name in ("DM", "DR"):
        off = abs(found[name].terms.value / PUBLISHED_VALUES[name] - 1.0)
        proof.line(off < 0.04, f"{name} is the published figure within {off:.1%}: only its folds differ (4 % allowed)")
    proof.line(
        1_630 < seen.effective_rows < 1_650, f"effective sample size {seen.effective_rows:,.0f} of 10,000 (1,641)"
    )
    proof.line(seen.permits, "overlap permits a verdict")
    _published_errors(proof, folder, log, truth)
    _refusals(proof, folder)


def _published_errors(proof: Proof, folder: Path, log: Logged, truth: float) -> None:
    errors: dict[str, list[float]] = {name: [] for name in PUBLISHED_ERRORS}
    n_samples = 10 if proof.quick else 30
    for seed in range(n_samples):
        rows = np.random.RandomState(seed).choice(len(log), size=len(log))
        some = log.take(rows)
        parts = Parts.of(some, cross_fitted(some, _published_model(folder), seed=PUBLISHED_SEED))
        for name in errors:
            terms = {
                "Switch-DR": lambda p=parts: at_cut(p, switched, CUT).terms,
                "DRos": lambda p=parts: at_cut(p, shrunk, CUT).terms,
            }.get(name, lambda n=name, p=parts: ESTIMATORS[n](p).terms)()
            errors[name].append(abs(terms.value / truth - 1.0))
    proof.table(
        (f"relative error, {n_samples} bootstrap samples", "mean", "deviation", "published mean", "deviation"),
        [
            (name, f"{np.mean(found):.3f}", f"{np.std(found, ddof=1):.3f}", f"{mean:.3f}", f"{deviation:.3f}")
            for name, found in errors.items()
            for mean, deviation in (PUBLISHED_ERRORS[name],)
        ],
    )
    for name, (mean, deviation) in PUBLISHED_ERRORS.items():
        allowed = 2.0 * deviation / np.sqrt(n_samples)
        off = abs(float(np.mean(errors[name])) - mean)
        proof.line(
            off <= allowed, f"{name}: {off:.3f} from the published error, Monte-Carlo error allows {allowed:.3f}"
        )


def _refusals(proof: Proof, folder: Path) -> None:
    """The logs of Thompson sampling, asked about a uniform policy."""
    rows = []
    for campaign in ("all", "men", "women"):
        found = overlap(thompson_to_random(folder, campaign))
        rows.append((
            campaign, f"{found.effective_rows:,.0f}", f"{found.largest_weight:,.0f}", f"{found.largest_share:.0%}",
            f"{found.mean_weight:.2f}", "yes" if found.permits else "no",
        ))  # fmt: skip
        if campaign == "women":
            proof.line(not found.permits, f"women's campaign: no verdict, as {'; '.join(found.refusals)}")
            proof.line(round(found.effective_rows) == 2, f"effective sample size {found.effective_rows:.1f} (2)")
            proof.line(round(found.largest_weight) == 21_739, f"largest weight {found.largest_weight:,.0f} (21,739)")
    proof.table(
        ("Bernoulli TS → uniform", "effective rows of 10,000", "largest weight", "its share", "mean weight", "verdict"),
        rows,
    )


def random_to_thompson(folder: Path) -> tuple[Logged, float]:
    """The log with the production policy's chances, and what that policy's clicks came to when it served."""
    import pandas as pd

    log = _bandit_log(folder, "random", "all")
    shares = _thompson_shares(folder, "all")
    position = log["position"].to_numpy() - 1
    users = pd.get_dummies(log.filter(like="user_feature"), drop_first=True).to_numpy(np.float64)
    return _logged(log, shares.T[position], np.column_stack([position, users])), _clicks(folder, "bts", "all")


def thompson_to_random(folder: Path, campaign: str) -> Logged:
    log = _bandit_log(folder, "bts", campaign)
    n_offers = len(_items(folder, campaign))
    return _logged(log, np.full((len(log), n_offers), 1.0 / n_offers), None)


def _logged(log: Any, chances: Numbers, context: Numbers | None) -> Logged:
    return Logged(
        offers=tuple(map(str, range(chances.shape[1]))),
        action=log["item_id"].to_numpy(np.int64),
        probability=log["propensity_score"].to_numpy(np.float64),
        reward=log["click"].to_numpy(np.float64),
        chances=chances,
        context=context,
    )


def _bandit_log(folder: Path, policy: str, campaign: str) -> Any:
    import pandas as pd

    log = pd.read_csv(folder / f"{policy}__{campaign}__{campaign}.csv.gz", index_col=0)
    return log.sort_values("timestamp")


def _items(folder: Path, campaign: str) -> Any:
    import pandas as pd

    return pd.read_csv(folder / f"random__{campaign}__item_context.csv.gz", index_col=0)


def _clicks(folder: Path, policy: str, campaign: str) -> float:
    return float(_bandit_log(folder, policy, campaign)["click"].mean())


def _thompson_shares(folder: Path, campaign: str) -> Numbers:
    """How often the production policy shows each item in each position, (n_items, 3): the best three of each draw."""
    import yaml

    prior = yaml.safe_load((folder / "prior_bts.yaml").read_text())[campaign]
    alpha, beta = np.array(prior["alpha"]), np.array(prior["beta"])
    rng = np.random.RandomState(PUBLISHED_SEED)
    shares = np.zeros((len(alpha), N_POSITIONS))
    for _ in range(10):
        drawn = rng.beta(alpha, beta, size=(N_PRIOR_DRAWS // 10, len(alpha)))
        best = np.argsort(-drawn, axis=1)[:, :N_POSITIONS]
        for position in range(N_POSITIONS):
            shares[:, position] += np.bincount(best[:, position], minlength=len(alpha))
    return shares / N_PRIOR_DRAWS


def _published_model(folder: Path) -> Fit:
    """Logistic regression on users and items, one per position, as the published examples fit it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import LabelEncoder

    items = _items(folder, "all")
    coded = items[[f"item_feature_{i}" for i in (1, 2, 3)]].apply(LabelEncoder().fit_transform)
    of_item = np.column_stack([coded, items["item_feature_0"]])

    def fit(shown: Shown) -> Predict:
        models = []
        for position in range(N_POSITIONS):
            at = shown.context[:, 0] == position
            model = LogisticRegression(C=100, max_iter=10_000, random_state=PUBLISHED_SEED)
            models.append(
                model.fit(np.column_stack([shown.context[at, 1:], of_item[shown.action[at]]]), shown.outcome[at])
            )

        def predict(context: Numbers, estimate: Numbers | None) -> Numbers:
            found = np.empty((len(context), len(of_item)))
            for position, model in enumerate(models):
                at = context[:, 0] == position
                users, slopes = context[at, 1:], model.coef_[0]
                score = (
                    model.intercept_[0]
                    + (users @ slopes[: users.shape[1]])[:, None]
                    + of_item @ slopes[users.shape[1] :]
                )
                found[at] = 1.0 / (1.0 + np.exp(-score))
            return found

        return predict

    return fit
