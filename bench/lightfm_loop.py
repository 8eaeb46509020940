"""What our training of LightFM costs beside a bare loop of LightFM, on Online Retail up to October 2011.

Budget: 1.2 times. Both run the same epochs over the same matrices on one thread; ours also makes the matrices and
tokens, checks the interactions, and ends with a scorer. Processor time, in turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from bench.ranking_data import online_retail
from training.interactions import Interactions
from training.models import RECOMMENDERS
from training.models.lightfm import LightfmSettings, LightfmTraining

BUDGET = 1.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    retail = online_retail()
    past, until_us = retail.everything.before(retail.validation_us), retail.validation_us
    params = {"max_epochs": args.epochs}
    prepared = LightfmTraining(past, until_us, LightfmSettings(**params), 0, repeats=False)
    ratios, ours_s, bare_s = [], [], []
    for _ in range(args.turns):
        bare_s.append(_seconds(lambda: bare(prepared, args.epochs)))
        ours_s.append(_seconds(lambda: RECOMMENDERS["lightfm"].fit(past, until_us, params, 0)))
        ratios.append(ours_s[-1] / bare_s[-1])
    ratio = float(np.median(ratios))
    print(
        f"{len(np.unique(_pairs(past))):,} pairs, {args.epochs} epochs, processor time, median of {args.turns}: ",
        end="",
    )
    print(f"ours {np.median(ours_s):.1f} s, bare {np.median(bare_s):.1f} s, ratio {ratio:.3f} (budget {BUDGET})")
    print(json.dumps({"ours_s": ours_s, "bare_s": bare_s, "ratio": ratio}))
    return int(ratio > BUDGET)


def bare(prepared: LightfmTraining, epochs: int) -> None:
    """What one writes in a notebook: a model, and its epochs."""
    from lightfm import LightFM

    settings = LightfmSettings()
    model = LightFM(
        no_components=settings.n_factors, loss="warp", learning_rate=settings.learning_rate,
        user_alpha=settings.l2, item_alpha=settings.l2, max_sampled=settings.max_sampled,
        random_state=np.random.RandomState(0),
    )  # fmt: skip
    model.fit(
        prepared.positives, user_features=prepared.customer_side, item_features=prepared.offer_side,
        sample_weight=prepared.weights, epochs=epochs, num_threads=1,
    )  # fmt: skip


def _pairs(past: Interactions) -> np.ndarray:
    return past.customer.astype(np.int64) * len(past.offers) + past.offer


def _seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


if __name__ == "__main__":
    raise SystemExit(main())
