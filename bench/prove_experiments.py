"""What experiments promise, with the tables that the docs quote. `make prove-experiments`.

Each section prints what it did and lines that hold or not; the exit code is 1 when one does not. `--quick` makes a
tenth of the simulations, `--only` names sections. Real data are read from ../shared/data, or from NBO_SHARED_DATA;
without them the sections that need them fail.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.proof import Proof, prove
from bench.prove_asos import asos
from bench.prove_hillstrom import hillstrom
from bench.prove_offpolicy import open_bandit
from bench.prove_sequential import early_decisions, formulas, peeking, split_looks
from bench.prove_simulation import chain_in_process, chain_over_http, common_luck
from bench.prove_starbucks import starbucks
from bench.prove_statistics import false_positives, latency_false_positives, naive_ratio, planted, power

SECTIONS: dict[str, Callable[[Proof], None]] = {
    "aa": false_positives,
    "aa-latency": latency_false_positives,
    "naive": naive_ratio,
    "planted": planted,
    "power": power,
    "formulas": formulas,
    "peeking": peeking,
    "early": early_decisions,
    "split": split_looks,
    "asos": asos,
    "hillstrom": hillstrom,
    "open-bandit": open_bandit,
    "starbucks": starbucks,
    "chain": chain_in_process,
    "chain-http": chain_over_http,
    "common-luck": common_luck,
}


if __name__ == "__main__":
    sys.exit(prove(SECTIONS, __doc__, "a tenth of the simulations"))
