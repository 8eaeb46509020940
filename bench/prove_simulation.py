"""A/A tests and planted effects through the whole service, in process and over HTTP, and what common luck is worth."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scipy.stats import binom

from bench.proof import Proof
from experiments.simulate.compared import MEASURES, compared
from experiments.simulate.planted import CHANCE, Chain, Recovered, table
from features.experiment import Experiment
from serving.settings import Settings
from serving.simulation.arms import arms_of
from serving.simulation.planting import planted_experiments, run_planted
from serving.simulation.policies import live_one
from serving.simulation.shop import OPENING, new_shop

LIFTS = (0.1, 0.25, 0.5, 1.0, -0.3)
N_OFFERS = 16


def chain_in_process(proof: Proof) -> None:
    """20 A/A tests and 6 planted effects at once in each of several worlds."""
    n_worlds, size = (2, (800, 2_400)) if proof.quick else (5, (2_500, 7_500))
    chains = []
    for seed in range(1, n_worlds + 1):
        proof.progress(f"world {seed} of {n_worlds}")
        chains.append(_chain(planted_experiments(20, LIFTS, policy=True), seed, size, http=False))
    _told(proof, chains, "in process")


def chain_over_http(proof: Proof) -> None:
    """The same once, through a real service and its API."""
    size = (600, 1_800) if proof.quick else (3_000, 9_000)
    chain = _chain(planted_experiments(20, LIFTS, policy=True), 11, size, http=True)
    _told(proof, [chain], "over HTTP")


def common_luck(proof: Proof) -> None:
    """How many more customers independent runs would need, for policies that are alike and for those that are not."""
    texts = ("greedy", "epsilon_greedy,epsilon=0.05", "thompson", "random")
    n_visits = 2_000 if proof.quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        shop = new_shop(Path(folder), seed=1, n_customers=n_visits // 5, n_offers=30)
        settings = Settings(home=shop.home)
        found = compared([live_one(shop, arm, settings, n_visits, 1) for arm in arms_of(texts)])
    titles = {one.name: one.title for one in MEASURES}
    shown = [one for one in found.differences if one.measure in ("value_per_visitor", "expected_per_visitor")]
    proof.table(
        ("policy", "minus", "measure", "difference", "common luck", "independent runs", "worth, customers"),
        [
            (one.arm, one.base, titles[one.measure], f"{one.absolute:+.3f}", f"{one.low:+.3f} to {one.high:+.3f}",
             f"{one.independent_low:+.3f} to {one.independent_high:+.3f}", f"{one.worth:.1f} x")
            for one in shown
        ],
    )  # fmt: skip
    alike = next(one for one in shown if one.arm.startswith("epsilon") and one.measure == "value_per_visitor")
    assert alike.worth is not None
    proof.line(
        alike.worth > 4, f"of policies that are alike, a pair tells as much as {alike.worth:.1f} customers apart"
    )
    for arm in found.arms:
        proof.progress(f"{arm}: {found.n_decisions[arm] / found.seconds[arm]:,.0f} decisions a second")


def _chain(wanted: Mapping[str, tuple[Experiment, float]], seed: int, size: tuple[int, int], *, http: bool) -> Chain:
    n_customers, n_visits = size
    now = datetime.now(UTC).replace(microsecond=0) if http else OPENING
    with tempfile.TemporaryDirectory() as folder:
        shop = new_shop(Path(folder), seed=seed, n_customers=n_customers, n_offers=N_OFFERS, now=now)
        return run_planted(shop, Settings(home=shop.home), wanted, n_visits=n_visits, seed=seed, http=http)


def _told(proof: Proof, chains: Sequence[Chain], how: str) -> None:
    header, rows = table(chains[-1])
    proof.table(header, [row for row in rows if not row[0].startswith("aa-")])
    for n, chain in enumerate(chains, 1):
        for claim in chain.claims:
            proof.line(claim.holds, f"{how}, world {n}: {claim.sentence}")
    effects = [one for chain in chains for one in chain.recovered]
    null = [one for one in effects if one.is_null and one.primary]
    wrong = sum(one.p_value is not None and one.p_value < 0.05 for one in null)
    most = int(binom.isf(CHANCE, len(null), 0.05))
    proof.line(wrong <= most, f"{how}: {wrong} of {len(null)} A/A tests are significant at 0.05, at most {most} may be")
    for metric in dict.fromkeys(one.metric for one in effects):
        _coverage(proof, [one for one in effects if one.metric == metric], how, metric)


def _coverage(proof: Proof, effects: Sequence[Recovered], how: str, metric: str) -> None:
    covered, n = sum(bool(one.covered) for one in effects), len(effects)
    least = int(binom.ppf(CHANCE, n, 0.95))
    said = f"{how}: {covered} of {n} 95 % intervals of {metric} hold the truth, at least {least} must"
    proof.line(covered >= least, said)


def main() -> int:
    proof = Proof(quick="--quick" in sys.argv)
    for section in (chain_in_process, chain_over_http, common_luck):
        section(proof)
    return int(bool(proof.failures))


if __name__ == "__main__":
    sys.exit(main())
