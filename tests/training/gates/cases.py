"""Releases as gates see them, made by hand: two that are alike in everything, and what a test changes."""

from __future__ import annotations

from pathlib import Path

from training.gates import Case, Measured, ModelRun, Standing
from training.gates.measure import Lists, Times

NOWHERE = Path("/nowhere")
TIMES, LISTS = Times(0.8, 1.0, 1000, 500), Lists(300, 0.6, 0.9)
ALIKE = Measured([TIMES, TIMES], [LISTS, LISTS], [100.0, 100.0], 300.0)
JUNE = {"test_from_us": "100", "until_us": "200"}
JULY = {"test_from_us": "200", "until_us": "300"}


def recommender(ndcg=0.30, half=0.01, gain=0.05, *, window=JUNE, tables=None, tags=None, per_customer=(), **metrics):
    """A run whose NDCG@10 and gain over its baseline have intervals of plus and minus `half`."""
    figures = {"ndcg_at_10": ndcg, "ndcg_at_10_gain": gain}
    ends = {f"{name}_{end}": value + sign * half for name, value in figures.items()
            for end, sign in (("low", -1), ("high", 1))}  # fmt: skip
    judged = {f"c{i}": value for i, value in enumerate(per_customer)}
    return ModelRun("1", {**figures, **ends, **metrics}, window, tags or {}, tables or {}, judged)


def acceptance(ece=0.01, half=0.002, n_test=5_000, slices=(), reliability=()):
    metrics = {"ece": ece, "ece_low": ece - half, "ece_high": ece + half, "n_test": float(n_test)}
    return ModelRun("1", metrics, {}, {}, {"slices": list(slices), "reliability": list(reliability)})


def a_slice(value="web", n=2_000, rate=0.2, mean_p=None, auc=0.8):
    """A slice of an acceptance model, calibrated unless told otherwise."""
    return {
        "slice": "channel", "value": value, "n_rows": n, "rate": rate,
        "mean_p": rate if mean_p is None else mean_p, "auc": auc,
    }  # fmt: skip


def standing(release="2", verdicts=None, **models):
    given = {"recommender": recommender(), "acceptance": acceptance(), **models}
    return Standing(release, NOWHERE, given, verdicts or dict.fromkeys(given, "beats"))


class MeasuredCase(Case):
    """A case whose files were measured already."""

    def __init__(self, challenger, champion, measured=ALIKE, value=None):
        super().__init__(challenger, champion, value=value)
        self.__dict__["measured"] = measured


def case(challenger=None, champion=None, *, first=False, measured=ALIKE, value=None):
    old = None if first else champion or standing("1")
    return MeasuredCase(challenger or standing("2"), old, measured, value)
