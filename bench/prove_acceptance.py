"""Acceptance on real data: Starbucks' offers through the whole product, and a bank's calls, against the best known.

Starbucks: learned from receipts of waves 1 to 4, whose outcomes were known when the sixth wave was sent; judged on that
wave, which is read once per candidate. `--wave 5` judges on the fifth instead: that is where settings are tried out.
Bank: 41,188 calls, without `duration`, which is known only after the call; in five folds, and in the order of time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from bench.proof import ROOT, Proof, shared_data
from features.attribution import NEVER, match, windows_us
from features.data_settings import Attribution
from training.encoder import Column, Encoder, numbers
from training.evaluate import Interval, bootstrap, ece, metrics
from training.models.acceptance import AcceptanceTable, learn_acceptance
from training.models.classifier_fit import ClassifierFit
from training.models.classifiers import Part, TreeSettings, fit_forest
from training.scorers import Calibration
from training.split import Split, held_out

NBO = Path(sys.executable).with_name("nbo")
AS_OF = "2018-08-24T18:00:01+00:00"  # a second after the last hour of the data
SHOWN = (("auc", "AUC"), ("brier", "Brier"), ("ece", "ECE"), ("log_loss", "log loss"))
LOWER_IS_BETTER = frozenset({"brier", "ece", "log_loss"})
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Known:
    """The best known figures of one protocol, and the targets."""

    best: dict[str, float]
    target: dict[str, float]


COMPLETED = Known({"auc": 0.877, "brier": 0.141, "ece": 0.020}, {"auc": 0.880, "brier": 0.140, "ece": 0.015})
VIEWED = Known({"auc": 0.822, "brier": 0.163, "ece": 0.015}, {"auc": 0.825, "brier": 0.162, "ece": 0.012})
BANK = Known({"auc": 0.806}, {"auc": 0.806})


def prove(quick: bool) -> Proof:
    """All sections; the proof holds what failed."""
    proof = Proof(quick=quick)
    acceptance(proof)
    return proof


def acceptance(proof: Proof, wave: int = 6, home: Path | None = None) -> None:
    starbucks(proof, wave, home)
    bank(proof)


# Starbucks


def starbucks(proof: Proof, wave: int = 6, kept: Path | None = None) -> None:
    """Completed, and viewed then completed, of one wave."""
    print(f"\n## Starbucks: receipts of wave {wave}, learned from waves before {wave - 1}\n")
    folder = shared_data() / "starbucks_offers"
    if not proof.line(folder.is_dir(), "the data are there"):
        return
    with tempfile.TemporaryDirectory(prefix="nbo-prove-") as scratch:
        home = kept or Path(scratch)
        if not (home / "facts.db").exists():
            _ingested(proof, folder, home)
        table, viewed = _table(proof, home)
    split = _split(table, wave)
    can = np.array([offer.category != "informational" for offer in table.offers])[split.test]
    for title, y, known in (
        ("completed within min(validity, 138 h)", table.y, COMPLETED),
        ("viewed, then completed", table.y & viewed, VIEWED),
    ):
        proof.progress(f"fitting: {title}")
        fit = learn_acceptance(_features(), _catalogue(table), replace(table, y=y), split, seed=0)
        _judged(proof, title, fit, can, table, split, known)


def _ingested(proof: Proof, source: Path, home: Path) -> None:
    environ = {**os.environ, "NBO_HOME": str(home), "NBO_AS_OF": AS_OF}
    for command in (["ingest", "starbucks", "--source", str(source)], ["features", "build"], ["features", "apply"]):
        proof.progress(f"nbo {' '.join(command[:2])}")
        done = subprocess.run([NBO, *command], env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
        proof.line(done.returncode == 0, f"nbo {' '.join(command[:2])}{done.stderr[-500:] if done.returncode else ''}")


def _table(proof: Proof, folder: Path) -> tuple[AcceptanceTable, Mask]:
    """Receipts as training reads them, and which were viewed before they were completed."""
    from features.facts import Facts
    from features.history import customer_features_at, offer_features_at
    from features.home import Home
    from training.dataset import context_of, read_impressions
    from training.steps.inputs import read_inputs

    home = Home(folder)
    facts = Facts(home.facts_db)
    try:
        inputs = read_inputs(home, facts, datetime.fromisoformat(AS_OF).astimezone(UTC), 0)
        found = read_impressions(inputs.log, inputs.offers, inputs.settings, inputs.first_us)
        rows = found.rows
        proof.progress(f"features as of {len(rows):,} receipts")
        moments = pd.to_datetime(rows["us"], unit="us", utc=True)
        customers = customer_features_at(
            home, facts, pd.DataFrame({"customer_id": rows["customer_id"], "event_timestamp": moments})
        )
        offers = offer_features_at(
            home, facts, pd.DataFrame({"offer_id": rows["offer_id"], "event_timestamp": moments})
        )
        viewed = _viewed_first(inputs, rows)
    finally:
        facts.close()
    by_id = {offer.offer_id: offer for offer in inputs.offers}
    table = AcceptanceTable(
        customers=rows["customer_id"].tolist(),
        offers=[by_id[offer_id] for offer_id in rows["offer_id"]],
        us=rows["us"].to_numpy(np.int64),
        customer_features=customers,
        offer_features=offers,
        context=context_of(rows),
        affinity=None,  # offers were sent by lot: popularity is the best recommender, and the offer says as much
        is_new=rows["is_new"].to_numpy(np.bool_),
        y=found.accepted,
        first_us=int(rows["us"].min()),  # the first wave was sent in the log's first hour
    )
    return table, viewed


def _viewed_first(inputs: Any, rows: pd.DataFrame) -> Mask:
    """Whether each receipt was viewed, not later than it was completed; both matched first in, first out."""
    from training.dataset import _touches

    texts = {"who": "customer_id", "offer_id": "offer_id", "decision_id": "decision_id"}
    columns = {
        name: pa.array(rows[of].astype(object).where(rows[of].notna(), None), pa.string()) for name, of in texts.items()
    }
    shown = pa.table({**columns, "us": pa.array(rows["us"], pa.int64())})
    windows, offers = windows_us(list(inputs.offers), inputs.settings.attribution), list(inputs.offers)
    instants = []
    for kind in ("click", "accept"):
        events = inputs.log.table(
            "SELECT who, offer_id, decision_id, us FROM events WHERE event_type = $1 AND offer_id IS NOT NULL "
            "ORDER BY us, event_id",
            kind,
        )
        instants.append(match(*_touches(shown, events, offers), windows, Attribution(matching="fifo")))
    viewed_us, completed_us = instants
    return np.asarray((viewed_us != NEVER) & (viewed_us <= completed_us))


def _split(table: AcceptanceTable, wave: int) -> Split:
    """Waves up to the last but one before `wave`, a fixed quarter of the customers aside for the choice; and `wave`."""
    starts = np.unique(table.us)
    earlier, aside = table.us < starts[wave - 2], held_out(table.customers)
    return Split(earlier & ~aside, earlier & aside, table.us == starts[wave - 1], int(starts[wave - 1]))


def _features() -> Any:
    from features.definitions import feature_set

    kinds = {"age": "number", "became_member_on": "time", "gender": "category", "income": "number"}
    return feature_set((1, 7, 30), kinds, "USD")  # type: ignore[arg-type]


def _catalogue(table: AcceptanceTable) -> list[Any]:
    return list({offer.offer_id: offer for offer in table.offers}.values())


def _judged(
    proof: Proof, title: str, fit: ClassifierFit, can: Mask, table: AcceptanceTable, split: Split, known: Known
) -> None:
    """On the offers that can be completed: informational ones never are, and flatter every figure."""
    y, p, baseline = fit.y[can], fit.p[can], fit.baseline_p[can]
    customers = pd.factorize(np.array(table.customers, dtype=object)[split.test][can])[0].astype(np.int64)
    found = bootstrap(y, p, baseline, customers, np.random.default_rng(0))
    print(f"{title}: {len(y):,} receipts, {y.mean():.4f} positive, mean p {p.mean():.4f}; {fit.chosen.name}, "
          f"calibration {fit.classifier.calibration.kind}")  # fmt: skip
    _table_of(proof, title, found, metrics(y, baseline), known)
    floor = _ece_by_luck(p)
    print(f"ECE of probabilities that are exactly right, on so many rows: {floor:.4f}")
    for note in fit.notes:
        print(f"- {note}")
    _lines(proof, title, found, known)


def _table_of(proof: Proof, title: str, found: dict[str, Interval], beside: dict[str, float], known: Known) -> None:
    proof.table(
        (title, "model", "95 %", "baseline", "best known", "target", ""),
        [
            (
                words, f"{found[name].estimate:.4f}", f"{found[name].low:.4f} … {found[name].high:.4f}",
                f"{beside[name]:.4f}", known.best.get(name, ""), known.target.get(name, ""),
                _reached(name, found[name].estimate, known.target),
            )
            for name, words in SHOWN
        ],
    )  # fmt: skip


def _reached(name: str, value: float, target: dict[str, float]) -> str:
    if name not in target:
        return ""
    reached = value <= target[name] if name in LOWER_IS_BETTER else value >= target[name]
    return "reached" if reached else "below target"


def _lines(proof: Proof, title: str, found: dict[str, Interval], known: Known) -> None:
    for name, best in known.best.items():
        one = found[name]
        holds = one.low <= best if name in LOWER_IS_BETTER else one.high >= best
        proof.line(
            holds, f"{title}: {name} {one.estimate:.4f} [{one.low:.4f}, {one.high:.4f}], not worse than {best:.3f}"
        )


def _ece_by_luck(p: NDArray[np.float64], n: int = 200) -> float:
    """What bins of so few rows show of outcomes that follow exactly these probabilities."""
    rng = np.random.default_rng(0)
    return float(np.mean([ece(rng.random(len(p)) < p, p, np.ones(len(p))) for _ in range(n)]))


# Bank


def bank(proof: Proof) -> None:
    """Accepted after a call: five folds, and trained on the first 80 % of the calls, judged on the last."""
    print("\n## Bank: calls, without their duration\n")
    file = shared_data() / "bank_marketing" / "bank-additional-full.csv.gz"
    if not proof.line(file.is_file(), "the data are there"):
        return
    data = pd.read_csv(file, sep=";")
    y = (data.pop("y") == "yes").to_numpy(np.bool_)
    encoder, rows = _encoded(data.drop(columns="duration").replace({"pdays": {999: np.nan}}))
    settings, n_trees = TreeSettings(learning_rate=0.05, max_leaf_nodes=15, l2=5.0, max_features=0.5), 120
    fold = np.random.default_rng(0).permutation(len(y)) % 5
    p = np.empty(len(y))
    for one in range(5):
        train, test = fold != one, fold == one
        forest = fit_forest(encoder, Part(rows[train], y[train]), settings, n_trees, 0)
        p[test] = Calibration()(forest.raw(rows[test]))
    found = bootstrap(y, p, np.full(len(y), y.mean()), np.arange(len(y)), np.random.default_rng(0))
    _table_of(proof, "five folds", found, metrics(y, np.full(len(y), y.mean())), BANK)
    _lines(proof, "bank, five folds", found, BANK)
    first = np.arange(len(y)) < 0.8 * len(y)
    forest = fit_forest(encoder, Part(rows[first], y[first]), settings, n_trees, 0)
    later, rate = Calibration()(forest.raw(rows[~first])), np.full(int((~first).sum()), y[first].mean())
    in_time = bootstrap(y[~first], later, rate, np.arange(int((~first).sum())), np.random.default_rng(0))
    _table_of(proof, "in the order of time", in_time, metrics(y[~first], rate), Known({}, {}))
    print(f"acceptance was {y[first].mean():.3f} in the first 80 % of the calls and {y[~first].mean():.3f} after: the "
          "bank called fewer people, and others, when the crisis came; folds do not show that")  # fmt: skip


def _encoded(data: pd.DataFrame) -> tuple[Encoder, NDArray[np.float64]]:
    columns = []
    for name in data.columns:
        text = data[name].dtype == object
        columns.append(Column("customer", name, tuple(sorted(data[name].unique())) if text else None))
    encoder = Encoder(tuple(columns))
    codes = [None if c.values is None else {value: float(n) for n, value in enumerate(c.values)} for c in columns]
    return encoder, np.column_stack([numbers(data[c.key], of) for c, of in zip(columns, codes, strict=True)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wave", type=int, choices=(5, 6), default=6, help="which wave to judge on")
    parser.add_argument("--home", type=Path, help="keep the NBO_HOME here, and use it if it is there")
    parser.add_argument("--only", choices=("starbucks", "bank"))
    args = parser.parse_args()
    proof = Proof()
    if args.only != "bank":
        starbucks(proof, args.wave, args.home)
    if args.only != "starbucks":
        bank(proof)
    for failure in proof.failures:
        print(f"FAILED  {failure}")
    return int(bool(proof.failures))


if __name__ == "__main__":
    sys.exit(main())
